"""The Dockerfile and the compose example, as far as they can be judged unbuilt; `tests/image` builds and runs them."""

import json
import re
import subprocess
import sysconfig
from pathlib import Path, PurePath
from typing import Any

import click
import pytest
import yaml

from presence import __version__
from presence.agent.keys import STORED
from presence.agent.settings import AgentSettings, Delivery
from presence.cli import cli
from presence.configuration import variables
from presence.controlplane.settings import PREFIX, ControlPlaneSettings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "config" / "compose.yaml").read_text())
SETTINGS = {name for name, _ in (*variables(AgentSettings, "PRESENCE_"), *variables(ControlPlaneSettings, PREFIX))}


def lists(instruction: str) -> list[list[str]]:
    """The arguments of each such instruction in its exec form."""
    joined = DOCKERFILE.replace("\\\n", " ")
    found = re.findall(rf"^(?:HEALTHCHECK [^\[]*?)?{instruction} (\[.*\])$", joined, re.MULTILINE)
    return [json.loads(arguments) for arguments in found]


def known(arguments: list[str]) -> click.Command:
    """The command of the command line that these arguments choose. Fails if there is none."""
    command: click.Command = cli
    context = click.Context(cli)
    for word in arguments:
        if not isinstance(command, click.Group):
            break
        found = command.get_command(context, word)
        assert found is not None, f"presence {' '.join(arguments)}: there is no '{word}'"
        command = found
    assert not isinstance(command, click.Group)
    return command


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    found = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (found.stdout, found.returncode) == ("", 0)


def test_every_start_and_check_is_a_list_of_words_for_which_no_shell_is_needed() -> None:
    assert lists("ENTRYPOINT") == [["presence"]]
    start, check = lists("CMD"), DOCKERFILE.count("HEALTHCHECK")
    assert check == 2
    assert len(start) == DOCKERFILE.count("CMD") == 4
    for arguments in start:
        if arguments[0].startswith("/"):
            continue  # the control plane's check is Python's
        known(arguments[1:] if arguments[0] == "presence" else arguments)


def test_the_image_says_its_version() -> None:
    assert f'org.opencontainers.image.version="{__version__}"' in DOCKERFILE


def test_the_image_runs_as_a_user_with_a_fixed_number_and_its_state_in_a_volume() -> None:
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["10001:10001"]
    assert re.findall(r"^VOLUME (.*)$", DOCKERFILE, re.MULTILINE) == ["/var/lib/presence"]
    assert re.findall(r"^STOPSIGNAL (.*)$", DOCKERFILE, re.MULTILINE) == ["SIGTERM"]


def test_the_agent_is_what_is_built_by_default() -> None:
    assert re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE)[-1] == "agent"


@pytest.mark.parametrize("service", COMPOSE["services"])
def test_the_services_have_no_privilege_and_write_nowhere(service: str) -> None:
    settings = COMPOSE["services"][service]
    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in settings


@pytest.mark.parametrize("service", COMPOSE["services"])
def test_the_services_name_what_there_is(service: str) -> None:
    settings = COMPOSE["services"][service]
    assert f"AS {settings['build']['target']}\n" in DOCKERFILE
    assert set(settings["networks"]) <= COMPOSE["networks"].keys()
    assert {volume.split(":")[0] for volume in settings.get("volumes", [])} <= COMPOSE["volumes"].keys()
    assert set(settings.get("environment", {})) <= SETTINGS


def test_the_agent_is_on_an_internal_network_alone_and_has_its_grace_period() -> None:
    agent = COMPOSE["services"]["agent"]
    assert [COMPOSE["networks"][name]["internal"] for name in agent["networks"]] == [True]
    assert Delivery().grace < float(agent["stop_grace_period"].removesuffix("s"))


def test_the_agents_key_is_in_its_volume_under_a_name_that_no_rotated_key_has() -> None:
    agent = COMPOSE["services"]["agent"]
    key = PurePath(agent["environment"]["PRESENCE_CONTROL_PLANE__KEY_FILE"])
    assert agent["volumes"] == [f"agent:{key.parent}"]
    assert key.name != STORED


def test_the_commands_in_the_compose_files_head_exist() -> None:
    head = (ROOT / "config" / "compose.yaml").read_text().partition("\nname:")[0]
    init, enroll = re.findall(r"compose run --rm (?:control-plane|agent) (.*?)(?: +#.*)?$", head, re.MULTILINE)
    known(init.split())
    known(enroll.split())
    for services in re.findall(r"up --detach (.*)", head):
        assert set(services.split()) <= COMPOSE["services"].keys()


def test_the_demo_target_is_a_program() -> None:
    (program,) = COMPOSE["services"]["target"]["command"]
    compile(program, "compose.yaml", "exec")
