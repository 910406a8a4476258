"""Where the running daemon's control socket is: the same answer for the daemon and for the commands that ask it.

`find_control_socket` is for the commands. It is light on purpose: a container's health check starts every few seconds,
and to load all settings takes longer than the question. So only the two that matter are read, with the precedence that
all settings have.
"""

import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
    if config is not None:
        return config
    named = os.environ.get("PRESENCE_CONFIG")
    if named:
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


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
    """As `control_socket`, from the settings as they stand now. Faults in them are for others to tell.

    Who may not write to the service's directory, names no agent and runs none of their own asks there nevertheless.
    """
    configured, journal = _setting(config, "control", "socket"), _setting(config, "journal", "path")
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


def _setting(config: Path | None, section: str, key: str) -> Path | None:
    value = os.environ.get(f"PRESENCE_{section}__{key}".upper())
    file = settings_file(config)
    if value is None and file is not None:
        try:
            value = tomllib.loads(file.read_text(encoding="utf-8")).get(section, {}).get(key)
        except (OSError, ValueError, AttributeError):
            return None
    return Path(value) if isinstance(value, str) else None
