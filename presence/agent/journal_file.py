"""The journal's file: opened for one process alone, durable, sound and of the right version; its statements by name."""

import contextlib
import re
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

from presence.agent.pages import PAGE
from presence.clock import Clock
from presence.errors import JournalError

LARGEST_WAL = 16 * 1024 * 1024
"""Bytes that the write-ahead log keeps once what it holds is in the file itself."""


LAST_VERSION = 1000
"""No program will ever know a later version: such a number is damage."""

_MAY_PASS = frozenset(
    {
        sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED,
    }
)  # fmt: skip


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
        with _damage_named(path):
            _configure(connection, path)
            version = _version(connection, path, len(schema))
            _check(connection, path, version)
        migrate(connection, schema)
        with _damage_named(path):
            if connection.execute("SELECT count(*) FROM journal").fetchone() == (0,):
                connection.execute(SQL["create"], (str(uuid.uuid4()), clock.boot_id(), clock.elapsed()))
            # What cannot be read here could not be attempted or reported either.
            for _ in connection.execute(SQL["unreported_rows"]):
                pass
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.close()
        raise
    return connection


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Our own statements are right: what SQLite or its texts' encoding has against the file is damage."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        if may_pass(error):
            raise
        raise Damaged(f"{path}: the journal is damaged: {words(error)}") from None


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


def _check(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """The whole check, on every start: about a second for 100,000 deliveries, and most of that is reading them."""
    (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise Damaged(f"{path}: the journal is damaged: {' '.join(verdict.split())[:200]}")
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if bool(tables) is not bool(version):
        raise Damaged(f"{path}: the journal is damaged: {tables} tables and indices of version {version}")


def _version(connection: sqlite3.Connection, path: Path, known: int) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if not 0 <= version <= LAST_VERSION:
        raise Damaged(f"{path}: the journal is damaged: it is of version {version}")
    if version > known:
        raise JournalError(
            f"{path}: the journal is of a newer version ({version}) than this program knows ({known}); upgrade it"
        )
    return int(version)


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


def may_pass(error: Exception) -> bool:
    """Whether it is not the file that is wrong, but the disk or the permissions, or another program that has it."""
    return _code(error) in _MAY_PASS


def is_damage(error: Exception) -> bool:
    """Whether SQLite says that the file is not a whole database."""
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def words(error: Exception) -> str:
    """What SQLite says of it. Python's own words repeat what they could not decode, which may be a secret."""
    return str(error)[:200] if hasattr(error, "sqlite_errorcode") else "a text in it is no text"


def _code(error: Exception) -> int:
    """SQLite's primary result code."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF


def explain(path: Path, error: sqlite3.Error | OSError) -> str:
    """What is wrong with the file, and what to do."""
    if "locked" in str(error):
        return f"{path}: another presence agent is using this journal; stop it, or set journal.path for this one"
    reason = error.strerror if isinstance(error, OSError) else error
    return f"{path}: the journal cannot be opened: {reason}; check journal.path, its permissions and the disk's space"
