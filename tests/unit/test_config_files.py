"""`config/*.toml` hold every option, with its true default."""

import re
import tomllib
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from presence.agent.settings import AgentSettings
from presence.agent.target_settings import Target
from presence.controlplane.settings import ControlPlaneSettings

CONFIG = Path(__file__).parents[2] / "config"
FILES = [("agent.toml", AgentSettings), ("control-plane.toml", ControlPlaneSettings)]
# Their defaults depend on the machine, or there is none: the file shows an example.
EXAMPLES = {
    "control_plane.url",
    "control_plane.key",
    "control_plane.key_file",
    "control_plane.proxy",
    "control_plane.proxy_credentials_file",
    "control_plane.ca_file",
    "control_plane.ca_directory",
    "control_plane.client_cert",
    "control_plane.client_key",
    "journal.path",
    "control.socket",
    "server.public_url",
    "server.agent_package",
    "server.tls_certificate",
    "server.tls_key",
    "auth.encryption_keys_file",
    "database.url",
    "database.password_file",
    "database.owner_url",
    "database.owner_password_file",
    "delivery.rate",
    "tracing.url",
    *(f"targets.{key}" for key in Target.model_fields if key != "proxy_resolves"),
}


def active(file: str) -> dict[str, Any]:
    """What the file says when every option in it is made active."""
    text = (CONFIG / file).read_text()
    return tomllib.loads(re.sub(r"^#(?=[a-z_]+ = |\[\[[a-z_]+\]\]$)", "", text, flags=re.M))


def options(file: str) -> dict[str, Any]:
    """The same by "section.key"; a list of tables stands there as its only one."""
    tables = {name: table[0] if isinstance(table, list) else table for name, table in active(file).items()}
    return {f"{name}.{key}": value for name, table in tables.items() for key, value in table.items()}


def section(annotation: Any) -> type[BaseModel] | None:
    """The model of a table, or of the tables in a list."""
    if get_origin(annotation) is tuple:
        annotation = get_args(annotation)[0]
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def fields(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    found = {}
    for name, field in model.model_fields.items():
        inner = section(field.annotation)
        if inner is not None:
            found |= fields(inner, f"{name}.")
        else:
            found[prefix + name] = field.get_default(call_default_factory=True)
    return found


@pytest.mark.parametrize(("file", "model"), FILES)
def test_the_file_holds_every_option_and_no_other(file: str, model: type[BaseModel]) -> None:
    assert set(options(file)) == set(fields(model))


@pytest.mark.parametrize(("file", "model"), FILES)
def test_the_defaults_are_true(file: str, model: type[BaseModel]) -> None:
    shown = options(file)
    for key, default in fields(model).items():
        if key not in EXAMPLES:
            value = shown[key]
            assert (tuple(value) if isinstance(value, list) else value) == default, key


@pytest.mark.parametrize(("file", "model"), FILES)
def test_the_file_as_it_is_changes_nothing(file: str, model: type[BaseModel]) -> None:
    assert all(keys == {} for keys in tomllib.loads((CONFIG / file).read_text()).values())


def test_the_examples_are_valid() -> None:
    values = active("agent.toml")
    values["control_plane"].pop("key")
    settings = AgentSettings.model_validate(values)
    assert settings.control_plane.url is not None
    assert [target.host for target in settings.targets] == ["https://jenkins.corp:8443"]
    assert ControlPlaneSettings.model_validate(active("control-plane.toml")).server.port == 8480


def test_the_examples_in_the_words_are_valid() -> None:
    text = (CONFIG / "agent.toml").read_text()
    allow = re.search(r"^# Example: (allow = .*)$", text, flags=re.M)
    lifted = re.search(r"Example: (\[.*\])\n#dangerously_lift", text)
    assert allow is not None
    assert lifted is not None
    written = f"[egress]\n{allow[1]}\ndangerously_lift = {lifted[1]}\n"
    policy = AgentSettings.model_validate(tomllib.loads(written)).egress.policy()
    assert len(policy.allow) == 3
    assert policy.lifted
