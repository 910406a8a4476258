"""The journal's file: opened for one process alone, durable, and of the right version; its statements by name."""

import sqlite3
import uuid
from importlib.resources import files
from pathlib import Path

from presence.clock import Clock
from presence.errors import JournalError

SCHEMA_VERSION = 1


def _statements() -> dict[str, str]:
    text = files("presence.agent").joinpath("journal.sql").read_text(encoding="utf-8")
    named = (block.partition("\n") for block in text.split("-- name: ")[1:])
    return {name.strip(): body.strip() for name, _, body in named}


SQL = _statements()


def connect(path: Path, clock: Clock) -> sqlite3.Connection:
    """The journal at `path`, made if need be. Raises sqlite3.Error, OSError (see `explain`) or JournalError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1, cached_statements=64)
    try:
        _prepare(connection, path, clock)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, clock: Clock) -> None:
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.execute("PRAGMA synchronous = FULL")
    (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    if (mode, synchronous) != ("wal", 2):
        raise JournalError(f"{path}: the file system does not support SQLite's WAL (mode is {mode}); use a local disk")
    _migrate(connection, clock)


def _migrate(connection: sqlite3.Connection, clock: Clock) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise JournalError(f"the journal is of a newer version ({version}) than this program knows; upgrade it")
    if version == SCHEMA_VERSION:
        return
    connection.executescript(f"BEGIN IMMEDIATE; {SQL['schema']}; PRAGMA user_version = {SCHEMA_VERSION};")
    connection.execute(SQL["create"], (str(uuid.uuid4()), clock.boot_id(), clock.elapsed()))
    connection.execute("COMMIT")


def explain(path: Path, error: sqlite3.Error | OSError) -> str:
    """What is wrong with the file, and what to do."""
    if "locked" in str(error):
        return f"{path}: another presence agent is using this journal; stop it, or set journal.path for this one"
    if isinstance(error, OSError):
        return f"{path}: the journal cannot be opened: {error.strerror}; check journal.path and its permissions"
    return f"{path}: the journal cannot be opened: {error}; if the file is damaged, move it away and restart"
