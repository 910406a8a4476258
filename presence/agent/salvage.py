"""A damaged journal is set aside under another name, and what is readable of it goes on in a new one.

The new file is complete before anything is renamed, so that a crash at any moment leaves either the damaged journal
where it was or the new one where it will be looked for.
"""

import contextlib
import fcntl
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from presence.agent.journal_file import SQL, Damaged, connect
from presence.agent.pages import Row, Value, rows
from presence.clock import Clock
from presence.domain.delivery import FinalState
from presence.domain.ids import is_uuid
from presence.errors import JournalError
from presence.logs import get_logger

log = get_logger(__name__)

EPOCHS = 1000
"""How much greater the next epoch is than the one that was read: a later one may have been lost."""

_FINAL = frozenset(state.value for state in FinalState)


class Kept(NamedTuple):
    """What went into the new journal. `lost`: records that were found and cannot be used; others were not found."""

    deliveries: int
    unreported: int
    lost: int
    same_instance: bool


def open_sound(path: Path, clock: Clock) -> sqlite3.Connection:
    """As `connect`, but a damaged journal is set aside, loudly, and the connection is to what could be kept of it."""
    if _salvaged(path).exists():
        _set_aside(path, clock)
    try:
        return connect(path, clock)
    except Damaged as error:
        log.error("journal", state="damaged", reason=str(error), effect="what is readable is kept; this may take long")
    with _locked(path):
        kept = _salvage(path, clock)
        aside = _set_aside(path, clock)
    remedy = "remove it once nobody needs it: it may hold credentials"
    log.error("journal", state="set aside", file=str(aside), remedy=remedy, **kept._asdict())
    return connect(path, clock)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """SQLite's own lock needs a sound file; this one lasts as long as the file, whatever its name."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalError(f"{path}: another presence agent is saving what is readable of this journal") from None
        yield


def _salvaged(path: Path) -> Path:
    """The name of a new journal that is complete, until it takes the place of the damaged one."""
    return path.with_name(f"{path.name}.salvaged")


def _wal(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _salvage(path: Path, clock: Clock) -> Kept:
    """Makes the new journal out of what is readable. Raises sqlite3.Error, OSError."""
    begun = path.with_name(f"{path.name}.salvaging")
    for left_over in (begun, _wal(begun)):
        left_over.unlink(missing_ok=True)
    database, wal = path.read_bytes(), _wal(path).read_bytes() if _wal(path).exists() else b""
    with contextlib.closing(connect(begun, clock)) as new:
        new.execute("BEGIN IMMEDIATE")
        kept = _copy(rows(database, wal), new)
        new.execute("COMMIT")
        new.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    begun.replace(_salvaged(path))
    _sync(path.parent)
    return kept


def _set_aside(path: Path, clock: Clock) -> Path:
    """Renames the damaged journal, and the new one in its place; the new name of the damaged one."""
    stamp = datetime.fromtimestamp(clock.wall() / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    if path.exists():
        number = 1
        while aside.exists():
            number += 1
            aside = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    for old, new in ((_wal(path), _wal(aside)), (path, aside), (_salvaged(path), path)):
        if old.exists():
            old.replace(new)
    _sync(path.parent)
    return aside


def _copy(found: Iterable[Row], new: sqlite3.Connection) -> Kept:
    """Puts into the new journal what belongs there."""
    names = _columns(new, "delivery")
    lost, identity = 0, False
    for rowid, values in found:
        match values:
            case None, str(instance), int(), *_ if is_uuid(instance):
                identity = _restore(dict(zip(_columns(new, "journal"), values, strict=False)), new)
            case None, str(delivery), None | str(), *_ if is_uuid(delivery):
                lost += not _keep(dict(zip(names, values, strict=False)) | {"seq": rowid}, new)
    if not identity:
        new.execute(SQL["not_before"])
    new.execute(SQL["skip_epochs"], (EPOCHS,))
    (deliveries, unreported) = new.execute("SELECT count(*), count(*) - count(reported_at) FROM delivery").fetchone()
    return Kept(deliveries, unreported, lost, identity)


def _keep(fields: dict[str, Value], new: sqlite3.Connection) -> bool:
    """Whether the delivery is in the new journal. Of two copies of one the one that has ended counts."""
    there = new.execute("SELECT seq, state FROM delivery WHERE id = ?", (fields["id"],)).fetchone()
    if there is not None:
        if there[1] in _FINAL or fields["state"] not in _FINAL:
            return True
        new.execute("DELETE FROM delivery WHERE seq = ?", (there[0],))
    if new.execute("SELECT 1 FROM delivery WHERE seq = ?", (fields["seq"],)).fetchone():
        fields["seq"] = None
    fields["log"] = _readable(fields.get("log"))
    columns, marks = ", ".join(fields), ", ".join("?" * len(fields))
    try:
        new.execute(f"INSERT INTO delivery ({columns}) VALUES ({marks})", list(fields.values()))  # noqa: S608 - names
    except sqlite3.IntegrityError:
        return False
    return True


def _readable(attempts: Value) -> str:
    try:
        return str(attempts) if isinstance(json.loads(str(attempts)), list) else "[]"
    except ValueError:
        return "[]"


def _restore(known: dict[str, Value], new: sqlite3.Connection) -> bool:
    """Who the journal is of, and its time. Whether it could be taken over."""
    del known["one"]
    try:
        new.execute(f"UPDATE journal SET {', '.join(f'{name} = ?' for name in known)}", list(known.values()))  # noqa: S608 - names
    except sqlite3.IntegrityError:
        return False
    return True


def _columns(new: sqlite3.Connection, table: str) -> list[str]:
    return [name for _, name, *_ in new.execute(f"PRAGMA table_info({table})")]


def _sync(directory: Path) -> None:
    """Makes the renames last."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
