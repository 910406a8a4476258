"""Who can read and write the agent's files: secrets, settings, state directory, control socket."""

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from presence.agent.control_path import settings_file
from presence.agent.effective import stored_key
from presence.agent.finding import Finding, failed, ok, skipped, unless, warning
from presence.agent.settings import AgentSettings
from presence.agent.target_settings import FromFile

PROBE = b"\0" * 4096


def check_files(settings: AgentSettings, config: Path | None) -> list[Finding]:
    """One finding for each fault, else one for all of that kind."""
    secrets = [*_secret_files(settings)]
    found = [fault for secret in secrets for fault in _secret_faults(secret)]
    fine = f"only their owner can read them: {', '.join(map(str, secrets))}" if secrets else "there are none in files"
    findings = unless(found, ok("secrets", fine))
    return [*findings, *_check_settings_file(config), *_check_state(settings), *_check_socket(settings)]


def _secret_files(settings: AgentSettings) -> Iterator[Path]:
    """The files with secrets that exist, or must."""
    yield from settings.control_plane.secret_files()
    for target in settings.targets:
        yield from (value.file for value in target.headers.values() if isinstance(value, FromFile))
        yield from (file for file in (target.client_key, target.proxy_credentials_file) if file is not None)
    journal = settings.journal.location()
    for own in (stored_key(settings), journal, journal.with_name(f"{journal.name}-wal")):
        if _status(own) is not None:
            yield own


def _secret_faults(file: Path) -> Iterator[Finding]:
    found = _status(file)
    if found is None:
        yield failed("secrets", f"{file}: there is no such file", "name an existing one, or write it")
        return
    if not os.access(file, os.R_OK):
        yield failed("secrets", f"{file}: not readable for {_user(os.geteuid())}", _hand_over(file))
    if found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        yield warning("secrets", f"{file}: others can read it (mode {mode:04o})", f"run: chmod 600 {file}")
    yield from _owner_faults("secrets", file, found)


def _check_settings_file(config: Path | None) -> list[Finding]:
    file = settings_file(config)
    found = _status(file) if file is not None else None
    if file is None or found is None:
        return [skipped("settings file", "there is none: defaults and environment")]
    faults = [*_owner_faults("settings file", file, found)]
    if found.st_mode & 0o022:
        text = f"{file}: others can write it, and so what this agent may reach"
        faults.append(warning("settings file", text, f"run: chmod go-w {file}"))
    return unless(faults, ok("settings file", f"{file}: only its owner can change it"))


def _check_state(settings: AgentSettings) -> list[Finding]:
    name, directory = "state directory", settings.journal.location().parent
    found = _status(directory)
    if found is None:
        above = next(parent for parent in directory.parents if parent.exists())
        if os.access(above, os.W_OK | os.X_OK):
            return [ok(name, f"{directory}: not there yet, can be made")]
        return [failed(name, f"{directory}: not there, and cannot be made in {above}", _hand_over(above))]
    if not stat.S_ISDIR(found.st_mode):
        return [failed(name, f"{directory}: is no directory", "set journal.path to a file in a directory")]
    reason = _unwritable(directory)
    if reason is not None:
        remedy = f"make it writable for {_user(os.geteuid())}, on a disk with space; or set journal.path"
        return [failed(name, f"{directory}: cannot be written: {reason}", remedy)]
    faults = [*_owner_faults(name, directory, found)]
    if found.st_mode & 0o022:
        faults.append(warning(name, f"{directory}: others can write there", f"run: chmod 700 {directory}"))
    return unless(faults, ok(name, f"{directory}: writable"))


def _unwritable(directory: Path) -> str | None:
    """Why nothing can be written there; tried with a file that has no name, and so leaves nothing."""
    try:
        descriptor = os.open(directory, os.O_TMPFILE | os.O_WRONLY, 0o600)
    except IsADirectoryError:  # a file system without such files
        return None if os.access(directory, os.W_OK | os.X_OK) else "permission denied"
    except OSError as error:
        return os.strerror(error.errno or 0).lower()
    with closing(os.fdopen(descriptor, "wb", buffering=0)) as file:
        try:
            file.write(PROBE)
            os.fsync(descriptor)
        except OSError as error:
            return os.strerror(error.errno or 0).lower()
    return None


def _check_socket(settings: AgentSettings) -> list[Finding]:
    socket = settings.control_socket()
    found = _status(socket)
    if found is None:
        return [skipped("control socket", f"{socket}: not there; no agent runs with these settings")]
    if not stat.S_ISSOCK(found.st_mode):
        remedy = "remove it if nobody needs it, or set control.socket"
        return [failed("control socket", f"{socket}: is no socket", remedy)]
    if found.st_mode & 0o077:
        text = f"{socket}: others can use it, to pause the agent and to release deliveries"
        return [warning("control socket", text, f"run: chmod 600 {socket}")]
    return [ok("control socket", f"{socket}: for its owner only")]


def _owner_faults(check: str, file: Path, found: os.stat_result) -> Iterator[Finding]:
    """Whoever owns a file can replace what it holds: that should be root or the agent's user."""
    if found.st_uid not in (0, os.geteuid()) and os.geteuid() != 0:
        yield warning(check, f"{file}: belongs to {_user(found.st_uid)}, who can change it", _hand_over(file))


def _hand_over(file: Path) -> str:
    return f"run: chown {_user(os.geteuid())} {file}, or run this as the agent's user"


def _status(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except OSError:
        return None


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
