"""The settings as they count on this host: with what is found rather than set, with sources, without secrets."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from presence.agent.control_path import DEFAULT_FILE
from presence.agent.keys import STORED
from presence.agent.setting_names import PREFIX
from presence.agent.settings import CREDENTIAL, DEFAULT_KEY_FILE, AgentSettings, ControlPlane
from presence.agent.target_settings import Target
from presence.agent.targets import Targets
from presence.agent.trust import trust
from presence.configuration import DEFAULT, Setting, effective
from presence.errors import ConfigurationError


def effective_settings(settings: AgentSettings, config: Path | None) -> list[Setting]:
    """Every option in the order of the file, with its value and where that comes from; secrets are masked."""
    return [
        _found(setting, settings) for setting in effective(settings, prefix=PREFIX, config=config, default=DEFAULT_FILE)
    ]


def _found(setting: Setting, settings: AgentSettings) -> Setting:
    """What is not set, but is found by the program."""
    file = settings.control_plane.credential_file()
    match setting:
        case Setting("control_plane.key_file", None) if file == DEFAULT_KEY_FILE:
            return setting._replace(value=str(file))
        case Setting("control_plane.key_file", None) if file is not None:
            return setting._replace(value=str(file), source=f"systemd's credential {CREDENTIAL}")
        case Setting("journal.path", None):
            return setting._replace(value=str(settings.journal.location()))
        case Setting("control.socket", None):
            return setting._replace(value=str(settings.control_socket()))
        case _:
            return setting


def stored_key(settings: AgentSettings) -> Path:
    """The file of the key that the control plane gave over the link."""
    return settings.journal.location().with_name(STORED)


def faults_of_files(settings: AgentSettings, config: Path | None) -> list[str]:
    """What is wrong with the files that the settings name.

    Each line says where that stands, which setting it is, which file, what is wrong with it and what to do.
    """
    control_plane = settings.control_plane
    readers: list[Callable[[], object]] = [partial(trust, control_plane)]
    if control_plane.key is not None or control_plane.credential_file() is not None:
        readers.append(partial(_read_key, control_plane))
    if control_plane.url is not None:
        readers.append(control_plane.link_proxy)
    readers += [partial(Targets, _only(settings, number)) for number in range(len(settings.targets))]
    faults = [fault for reader in readers if (fault := _fault_of(reader)) is not None]
    sources = {row.key: row.source for row in effective_settings(settings, config)} if faults else {}
    return [_placed(fault, sources) for fault in faults]


def _placed(fault: str, sources: Mapping[str, str]) -> str:
    """The fault, which begins with the setting's name, after the place where that is set."""
    setting = fault.partition(": ")[0].partition(" ")[0]
    source = next((sources[key] for key in (setting, setting.rpartition(".")[0]) if key in sources), DEFAULT)
    return fault if source == DEFAULT else f"{source}: {fault}"


def _only(settings: AgentSettings, number: int) -> AgentSettings:
    """The settings with that table of targets in its place, and nothing to be read before it."""
    before = (Target(host="localhost"),) * number
    return settings.model_copy(update={"targets": (*before, settings.targets[number])})


def _read_key(settings: ControlPlane) -> None:
    try:
        settings.read_key()
    except ConfigurationError as error:
        raise ConfigurationError(f"control_plane.key_file: {error}") from None


def _fault_of(reader: Callable[[], object]) -> str | None:
    try:
        reader()
    except ConfigurationError as error:
        return str(error)
    return None
