"""`config/*.toml` hold every option, with its true default."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from presence.agent.settings import AgentSettings
from presence.controlplane.settings import ControlPlaneSettings

CONFIG = Path(__file__).parents[2] / "config"
FILES = [("agent.toml", AgentSettings), ("control-plane.toml", ControlPlaneSettings)]
# Their defaults depend on the machine, or there is none: the file shows an example.
EXAMPLES = {
    "control_plane.url",
    "control_plane.key",
    "control_plane.key_file",
    "journal.path",
    "server.public_url",
    "database.url",
}


def options(file: str) -> dict[str, Any]:
    """What the file says when every option in it is made active."""
    text = (CONFIG / file).read_text()
    return tomllib.loads(re.sub(r"^#(?=[a-z_]+ = )", "", text, flags=re.M))


def fields(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    found = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= fields(field.annotation, f"{name}.")
        else:
            found[prefix + name] = field.get_default(call_default_factory=True)
    return found


@pytest.mark.parametrize(("file", "model"), FILES)
def test_the_file_holds_every_option_and_no_other(file: str, model: type[BaseModel]) -> None:
    shown = {f"{section}.{key}" for section, keys in options(file).items() for key in keys}
    assert shown == set(fields(model))


@pytest.mark.parametrize(("file", "model"), FILES)
def test_the_defaults_are_true(file: str, model: type[BaseModel]) -> None:
    shown = {f"{section}.{key}": value for section, keys in options(file).items() for key, value in keys.items()}
    for key, default in fields(model).items():
        if key not in EXAMPLES:
            value = shown[key]
            assert (tuple(value) if isinstance(value, list) else value) == default, key


@pytest.mark.parametrize(("file", "model"), FILES)
def test_the_file_as_it_is_changes_nothing(file: str, model: type[BaseModel]) -> None:
    assert all(keys == {} for keys in tomllib.loads((CONFIG / file).read_text()).values())


def test_the_examples_are_valid() -> None:
    values = options("agent.toml")
    values["control_plane"].pop("key")
    assert AgentSettings.model_validate(values).control_plane.url is not None
    assert ControlPlaneSettings.model_validate(options("control-plane.toml")).server.port == 8480
