"""The journal's file: opened for one process alone, durable, sound and of the right version; its statements by name."""

import contextlib
import re
import sqlite3
import uuid
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from presence.agent.pages import PAGE
from presence.clock import Clock
from presence.errors import JournalError

LARGEST_WAL = 16 * 1024 * 1024
"""Bytes that the write-ahead log keeps once what it holds is in the file itself."""


class Damaged(JournalError):
    """The file is no journal, or not a whole one."""


def _statements() -> dict[str, str]:
    text = files("presence.agent").joinpath("journal.sql").read_text(encoding="utf-8")
    named = (block.partition("\n") for block in text.split("-- name: ")[1:])
    return {name.strip(): body.strip() for name, _, body in named}


SQL = _statements()
SCHEMA = tuple(SQL[name] for name in SQL if re.fullmatch(r"schema \d+", name))
"""Number N, counted from one, makes version N of the file out of the version before; an empty file is version 0."""


def connect(path: Path, clock: Clock, schema: Sequence[str] = SCHEMA) -> sqlite3.Connection:
    """The journal at `path`, made if need be, locked for this process.

    Raises Damaged, sqlite3.Error, OSError (see `explain`) or another JournalError.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    wal = path.with_name(f"{path.name}-wal")
    if not path.stat().st_size and wal.exists() and wal.stat().st_size:
        # SQLite would take it for a new file, and throw away what the log holds.
        raise Damaged(f"{path}: the journal is empty, but its write-ahead log is not")
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1, cached_statements=64)
    try:
        _configure(connection, path)
        _refuse_newer(connection, path, len(schema))
        _check(connection, path)
        migrate(connection, schema)
        if connection.execute("SELECT count(*) FROM journal").fetchone() == (0,):
            connection.execute(SQL["create"], (str(uuid.uuid4()), clock.boot_id(), clock.elapsed()))
    except BaseException as error:
        with contextlib.suppress(sqlite3.Error):
            connection.close()
        if is_damage(error):
            raise Damaged(f"{path}: the journal is damaged: {error}") from None
        raise
    return connection


def _configure(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    # Of a new file: what was freed can be given back to the disk. An old one keeps what it has.
    connection.execute(f"PRAGMA page_size = {PAGE}")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.execute("PRAGMA synchronous = FULL")
    # What is erased is gone from the file as well: credentials must be.
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute(f"PRAGMA journal_size_limit = {LARGEST_WAL}")
    (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    if (mode, synchronous) != ("wal", 2):
        raise JournalError(f"{path}: the file system does not support SQLite's WAL (mode is {mode}); use a local disk")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """The whole check, on every start: about a second for 100,000 deliveries, and most of that is reading them."""
    (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise Damaged(f"{path}: the journal is damaged: {' '.join(verdict.split())[:200]}")


def _refuse_newer(connection: sqlite3.Connection, path: Path, known: int) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > known:
        raise JournalError(
            f"{path}: the journal is of a newer version ({version}) than this program knows ({known}); upgrade it"
        )


def migrate(connection: sqlite3.Connection, schema: Sequence[str] = SCHEMA) -> None:
    """Makes the newest version of the file; each step is one transaction."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for number, step in enumerate(schema[version:], version + 1):
        try:
            connection.executescript(f"BEGIN IMMEDIATE; {step}; PRAGMA user_version = {number}; COMMIT;")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def shrink(connection: sqlite3.Connection) -> None:
    """Empties the write-ahead log, so that what was erased is in no file any more; gives back what is free.

    A quarter of the file may be free: it is filled again by and by. At most 16 MiB are given back at once.
    """
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    if free > 256 + pages // 4:
        # As a script: execute() would stop after the first page.
        connection.executescript("PRAGMA incremental_vacuum(4096)")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def is_damage(error: BaseException) -> bool:
    """Whether SQLite says that the file is not a whole database."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    return isinstance(error, sqlite3.Error) and code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def explain(path: Path, error: sqlite3.Error | OSError) -> str:
    """What is wrong with the file, and what to do."""
    if "locked" in str(error):
        return f"{path}: another presence agent is using this journal; stop it, or set journal.path for this one"
    reason = error.strerror if isinstance(error, OSError) else error
    return f"{path}: the journal cannot be opened: {reason}; check journal.path, its permissions and the disk's space"
