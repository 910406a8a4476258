"""Where the running daemon's control socket is: the same answer for the daemon and for the commands that ask it.

`find_control_socket` is for the commands. It is light on purpose: a container's health check starts every few seconds,
and to load all settings takes longer than the question. So only the two that matter are read, with the precedence that
all settings have.
"""

import json
import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from presence import setting_sources
from presence.agent.setting_names import FOREIGN, PREFIX, SINGLE, VARIABLES
from presence.errors import ConfigurationError
from presence.setting_sources import misnamed, named_file, text_of

NAME = "control.sock"
RUN = Path("/run/presence")
STATE = Path("/var/lib/presence")
DEFAULT_FILE = Path("/etc/presence/agent.toml")


def state_directory() -> Path:
    """Where the daemon keeps what must survive a restart: systemd's state directory, else the user's own.

    Whoever may write to the service's, as root and its user may, finds it without being started by systemd.
    """
    named = os.environ.get("STATE_DIRECTORY")
    if named:
        return Path(named.partition(":")[0])
    if os.access(STATE, os.W_OK | os.X_OK):
        return STATE
    return Path.home() / ".local" / "state" / "presence"


def settings_file(config: Path | None) -> Path | None:
    """The settings file that counts: the given one, else PRESENCE_CONFIG, else the default one where it exists."""
    return setting_sources.settings_file(PREFIX, config, DEFAULT_FILE)


def control_socket(configured: Path | None, journal: Path | None) -> Path:
    """Where the socket is, by the settings [control] socket and [journal] path."""
    if configured is not None:
        return configured
    runtime = os.environ.get("RUNTIME_DIRECTORY")
    if runtime:
        return Path(runtime.partition(":")[0]) / NAME
    if os.access(RUN, os.W_OK | os.X_OK):
        return RUN / NAME
    return journal.with_name(NAME) if journal is not None else state_directory() / NAME


def find_control_socket(config: Path | None) -> Path:
    """As `control_socket`, from the settings as they stand now.

    Raises ConfigurationError where another agent's socket would be found: for a file that was asked for and cannot be
    read, and for a variable that is no setting. Other faults in the settings are for others to tell.
    Who may not write to the service's directory, names no agent and runs none of their own asks there nevertheless.
    """
    if faults := misnamed(PREFIX, FOREIGN, VARIABLES, SINGLE):
        raise ConfigurationError("\n".join(faults.values()))
    table = _table(config)
    configured, journal = _setting(table, "control", "socket"), _setting(table, "journal", "path")
    found = control_socket(configured, journal)
    is_named = configured or journal or os.environ.get("RUNTIME_DIRECTORY")
    return found if is_named or os.path.exists(found) or not RUN.is_dir() else RUN / NAME


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """A name for a socket's path that is short enough, however long that is (107 bytes are the most)."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _table(config: Path | None) -> dict[str, Any]:
    """What the settings file holds; nothing where it is not TOML, or is the default one and somebody else's."""
    file = settings_file(config)
    try:
        return tomllib.loads(text_of(file)) if file else {}
    except ConfigurationError:
        if named_file(PREFIX, config):
            raise
    except ValueError:
        pass
    return {}


def _setting(table: dict[str, Any], section: str, key: str) -> Path | None:
    """As the variable says, else the whole section's variable, else the file's table."""
    value = os.environ.get(f"{PREFIX}{section}__{key}".upper())
    if value is None:
        try:
            whole = json.loads(os.environ.get(f"{PREFIX}{section}".upper(), "{}"))
            value = {**table.get(section, {}), **whole}.get(key)
        except (ValueError, TypeError):
            return None
    return Path(value) if isinstance(value, str) else None
