"""Whether the journal is sound and has room. Read-only: a running agent is not disturbed."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from presence.agent.finding import Finding, failed, ok, warning
from presence.agent.journal_file import SCHEMA, words

LITTLE, TOO_LITTLE = 512 * 1024 * 1024, 32 * 1024 * 1024
"""Bytes of free space: a journal with a million remembered deliveries has 180 MB, a salvaged one as much again."""


def check_journal(path: Path) -> list[Finding]:
    """Integrity and free space."""
    return [_check_integrity(path), _check_space(path)]


def _check_integrity(path: Path) -> Finding:
    name = "journal"
    if not path.exists():
        return ok(name, f"{path}: not there yet; the agent makes it at its first start")
    try:
        with closing(_opened(path)) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                return _damaged(path, " ".join(verdict.split())[:200])
            if version > len(SCHEMA):
                text = f"{path}: of a newer version ({version}) than this program knows ({len(SCHEMA)})"
                return failed(name, text, "upgrade this program")
            (waiting,) = db.execute("SELECT count(*) FROM delivery WHERE reported_at IS NULL").fetchone()
    except sqlite3.Error as error:
        return _unreadable(path, error)
    except UnicodeDecodeError as error:
        return _damaged(path, words(error))
    return ok(name, f"{path}: sound; {waiting} deliveries that the control plane does not know the end of")


def _opened(path: Path) -> sqlite3.Connection:
    """Without a write-ahead log nobody has it open: then nothing needs to be made beside it, either."""
    alone = not path.with_name(f"{path.name}-wal").exists()
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' * alone}", uri=True, timeout=1)


def _unreadable(path: Path, error: sqlite3.Error) -> Finding:
    if "locked" in str(error):
        return ok("journal", f"{path}: in use by an agent, which checked it when it started")
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(path, words(error))
    remedy = "run this as the agent's user or as root; check the permissions and the disk's space"
    return failed("journal", f"{path}: cannot be read: {words(error)}", remedy)


def _damaged(path: Path, what: str) -> Finding:
    remedy = "start the agent: it sets the file aside and keeps what is readable; then look at the disk's health"
    return failed("journal", f"{path}: damaged: {what}", remedy)


def _check_space(path: Path) -> Finding:
    directory = next(parent for parent in path.absolute().parents if parent.exists())
    free = shutil.disk_usage(directory).free
    text = f"{directory}: {free / 1024 / 1024:,.0f} MiB free"
    if free < TOO_LITTLE:
        return failed(
            "disk space", text, "make room, or set journal.path to another disk: a full disk takes no deliveries"
        )
    if free < LITTLE:
        return warning("disk space", text, "make room, or set journal.path to another disk")
    return ok("disk space", text)
