"""The journal: what the agent has accepted, attempted and not yet been acknowledged for. SQLite, WAL, FULL.

What a method returned is on the disk: it survives SIGKILL and a power cut. The states and their changes
are those of `presence.domain.delivery.JournalState`; each change is one guarded statement of journal.sql.

**Time.** Rows keep the journal's own time: milliseconds that only pass forward. While the host is up it is the
host's uptime; across a reboot it grows by the wall clock, never backwards. So a retry survives a
restart, and a wall clock set back or forth while the daemon runs changes nothing.
"""

import asyncio
import json
import sqlite3
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from presence.agent.commits import Commits
from presence.clock import Clock
from presence.domain.delivery import FinalState
from presence.domain.outcome import Fault, Phase, Reason
from presence.errors import JournalError
from presence.protocol.messages import Fire

SCHEMA_VERSION = 1
LOG_LENGTH = 20
"""Attempts whose record is kept: the first and the latest."""

LogEntry = dict[str, Any]


def _statements() -> dict[str, str]:
    text = files("presence.agent").joinpath("journal.sql").read_text(encoding="utf-8")
    named = (block.partition("\n") for block in text.split("-- name: ")[1:])
    return {name.strip(): body.strip() for name, _, body in named}


_SQL = _statements()


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery whose attempt number `attempts` may begin now. Times in the journal's milliseconds."""

    id: str
    webhook_id: str
    event: str
    subject_id: str
    uri: str
    method: str
    born_at: int
    expires_at: int
    attempts: int
    log: list[LogEntry]


@dataclass(frozen=True, slots=True)
class Claim:
    """What is due, and in how many milliseconds the next one will be (None: nothing waits)."""

    deliveries: list[Claimed]
    next_due: int | None


@dataclass(frozen=True, slots=True)
class Settled:
    """A delivery that has ended and whose report is not acknowledged."""

    id: str
    state: FinalState
    reason: str
    attempts: int
    log: list[LogEntry]
    order: int
    settled_at: int


class Journal:
    """Open it with `open_journal`. `pending` is set when something may be due, `settled` when something ended."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock, max_deliveries: int) -> None:
        self.pending = asyncio.Event()
        self.settled = asyncio.Event()
        self._clock = clock
        self._max_deliveries = max_deliveries
        self._commits = Commits(connection, self._keep_time, self._count)
        self.instance, self._base, self._base_elapsed = _restore_time(connection, clock)
        self._count(connection)

    def now(self) -> int:
        """The journal's time in milliseconds."""
        return self._base + max(0, self._clock.elapsed() - self._base_elapsed)

    async def next_epoch(self) -> int:
        """A number greater than every one before it, for the next session of this instance."""
        return int(await self._commits.submit(lambda db: db.execute(_SQL["next_epoch"]).fetchone()[0]))

    async def accept(self, fires: Sequence[Fire], deadline: int) -> list[bool]:
        """Keeps the fires; for each whether it is kept (False: the journal is full).

        A fire that is here already changes nothing; if it was reported, it will be reported again.
        `deadline` is the local limit of age in milliseconds; the smaller of it and the fire's own wins.
        An empty list proves that the journal can be written.
        """
        order = self._order
        kept = await self._commits.submit(lambda db: [self._accept(db, fire, deadline) for fire in fires])
        self.pending.set()
        if self._order != order:
            self.settled.set()
        return kept

    def _accept(self, db: sqlite3.Connection, fire: Fire, deadline: int) -> bool:
        if db.execute(_SQL["known"], (fire.id,)).fetchone():
            self._report_again(db, fire.id)
            return True
        if self._unsettled >= self._max_deliveries:
            return False
        now = self.now()
        born = now - fire.age
        expires = born + min(fire.max_age, deadline)
        row = (fire.id, fire.webhook_id, fire.event, fire.subject_id, fire.uri, fire.method, born, expires, now, now)
        db.execute(_SQL["accept"], row)
        self._unsettled += 1
        return True

    def _report_again(self, db: sqlite3.Connection, delivery: str) -> None:
        if db.execute(_SQL["report_again"], (self._order + 1, delivery)).rowcount:
            self._order += 1

    async def claim(self, limit: int) -> Claim:
        """Takes up to `limit` due deliveries for an attempt, the longest due first; expires those too old."""
        claim, expired = await self._commits.submit(lambda db: self._claim(db, limit))
        if expired:
            self.settled.set()
        return claim

    def _claim(self, db: sqlite3.Connection, limit: int) -> tuple[Claim, int]:
        now = self.now()
        expired = db.execute(_SQL["expired"], {"now": now}).fetchall()
        for (delivery,) in expired:
            self._end(db, delivery, "pending", FinalState.EXPIRED, Reason.TOO_OLD, None)
        rows = db.execute(_SQL["claim"], (now, limit)).fetchall()
        claimed = [_claimed(row) for row in rows]
        (due,) = db.execute(_SQL["next_due"]).fetchone()
        return Claim(claimed, None if due is None else max(0, due - now)), len(expired)

    async def settle(self, claimed: Claimed, entry: LogEntry, state: FinalState, reason: Reason) -> None:
        """The delivery has ended with this attempt."""
        log = _dump(claimed.log, entry)
        await self._commits.submit(lambda db: self._end(db, claimed.id, "delivering", state, reason, log))
        self.settled.set()

    async def retry(self, claimed: Claimed, entry: LogEntry, delay: int) -> None:
        """The next attempt is due in `delay` milliseconds; a delivery that was cancelled meanwhile ends."""
        log = _dump(claimed.log, entry)
        await self._commits.submit(lambda db: self._retry(db, claimed.id, log, delay))
        self.pending.set()
        self.settled.set()

    def _retry(self, db: sqlite3.Connection, delivery: str, log: str, delay: int) -> None:
        row = db.execute(_SQL["retry"], {"id": delivery, "log": log, "due_at": self.now() + delay}).fetchone()
        assert row is not None, f"{delivery} is retried, but was not being delivered"
        if row[0]:
            self._end(db, delivery, "pending", FinalState.CANCELLED, Reason.CANCELLED, None)

    async def cancel(self, delivery: str) -> None:
        """Prevents the next attempt; one that is under way goes on, and its outcome is the truth."""
        await self._commits.submit(lambda db: self._cancel(db, delivery))
        self.settled.set()

    def _cancel(self, db: sqlite3.Connection, delivery: str) -> None:
        row = db.execute(_SQL["cancel"], (delivery,)).fetchone()
        if row and row[0] in ("pending", "held"):
            self._end(db, delivery, row[0], FinalState.CANCELLED, Reason.CANCELLED, None)

    def _end(
        self, db: sqlite3.Connection, delivery: str, source: str, state: FinalState, reason: Reason, log: str | None
    ) -> None:
        self._order += 1
        values = {"id": delivery, "source": source, "state": state.value, "reason": reason.value, "log": log}
        changed = db.execute(_SQL["end"], {**values, "order": self._order, "now": self.now()}).rowcount
        assert changed == 1, f"{delivery} ends as {state}, but was not {source}"
        self._unsettled -= 1

    async def held(self) -> list[str]:
        """Ids of all deliveries that the control plane does not know the end of, oldest first."""
        return await self._commits.submit(lambda db: [row[0] for row in db.execute(_SQL["held"])])

    async def unreported(self, after: int, limit: int) -> list[Settled]:
        """Ended deliveries without acknowledged report, in the order in which they ended, after that order."""

        def read(db: sqlite3.Connection) -> list[Settled]:
            return [_settled(row) for row in db.execute(_SQL["unreported"], (after, limit))]

        return await self._commits.submit(read)

    async def mark_reported(self, deliveries: Sequence[str]) -> None:
        """The control plane has acknowledged these; only their ids are remembered, to drop repeats."""
        now = self.now()
        rows = [(now, delivery) for delivery in deliveries]
        await self._commits.submit(lambda db: db.executemany(_SQL["mark_reported"], rows) and None)

    async def prune(self, retention: int, memory: int) -> int:
        """Forgets up to 1,000 deliveries reported `retention` and expired `memory` milliseconds ago; how many."""
        now = self.now()
        return await self._commits.submit(
            lambda db: db.execute(_SQL["prune"], (now - retention, now - memory)).rowcount
        )

    def recover(self, db: sqlite3.Connection) -> None:
        """What was being delivered when the process died is tried again, with a true entry in its log."""
        db.execute("BEGIN IMMEDIATE")
        for delivery, attempts, log in db.execute(_SQL["delivering"]).fetchall():
            entry = {"number": attempts, "at": self.now(), "took": 0}
            entry |= {"phase": Phase.FIRST_BYTE, "fault": Fault.INTERRUPTED}
            self._retry(db, delivery, _dump(json.loads(log), entry), 0)
        db.execute("COMMIT")

    def _count(self, db: sqlite3.Connection) -> None:
        self._unsettled, self._order = db.execute(_SQL["counts"]).fetchone()

    def _keep_time(self, db: sqlite3.Connection) -> None:
        clock = self._clock
        db.execute(_SQL["keep_time"], (clock.boot_id(), clock.elapsed(), clock.wall(), self.now()))


@asynccontextmanager
async def open_journal(path: Path, clock: Clock, max_deliveries: int) -> AsyncIterator[Journal]:
    """Opens or creates the journal at `path`, for this process alone.

    Attempts that a crash interrupted become pending again, with an `interrupted` entry in their log: the
    target may have got the request. Raises JournalError where the file cannot be used.
    """
    try:
        connection = _connect(path)
        _migrate(connection, clock)
        journal = Journal(connection, clock, max_deliveries)
        journal.recover(connection)
    except (sqlite3.Error, OSError) as error:
        raise JournalError(_explain(path, error)) from None
    journal._commits.start()
    try:
        yield journal
    finally:
        await journal._commits.close()


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1, cached_statements=64)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.execute("PRAGMA synchronous = FULL")
    (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    if (mode, synchronous) != ("wal", 2):
        raise JournalError(f"{path}: the file system does not support SQLite's WAL (mode is {mode}); use a local disk")
    return connection


def _migrate(connection: sqlite3.Connection, clock: Clock) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise JournalError(f"the journal is of a newer version ({version}) than this program knows; upgrade it")
    if version == SCHEMA_VERSION:
        return
    connection.executescript(f"BEGIN IMMEDIATE; {_SQL['schema']}; PRAGMA user_version = {SCHEMA_VERSION};")
    connection.execute(_SQL["create"], (str(uuid.uuid4()), clock.boot_id(), clock.elapsed(), clock.wall()))
    connection.execute("COMMIT")


def _restore_time(connection: sqlite3.Connection, clock: Clock) -> tuple[str, int, int]:
    """The instance, the journal's time now, and the uptime that it corresponds to."""
    instance, boot_id, elapsed, wall, now = connection.execute(_SQL["identity"]).fetchone()
    uptime = clock.elapsed()
    passed = uptime - elapsed if boot_id and boot_id == clock.boot_id() else clock.wall() - wall
    return instance, now + max(0, passed), uptime


def _claimed(row: tuple[Any, ...]) -> Claimed:
    return Claimed(*row[:9], log=json.loads(row[9]))  # type: ignore[misc]


def _settled(row: tuple[Any, ...]) -> Settled:
    delivery, state, reason, attempts, log, order, settled_at = row
    return Settled(delivery, FinalState(state), reason, attempts, json.loads(log), order, settled_at)


def _dump(log: list[LogEntry], entry: LogEntry) -> str:
    kept = [*log, entry]
    if len(kept) > LOG_LENGTH:
        kept = [kept[0], *kept[-(LOG_LENGTH - 1) :]]
    return json.dumps(kept, separators=(",", ":"))


def _explain(path: Path, error: sqlite3.Error | OSError) -> str:
    if "locked" in str(error):
        return f"{path}: another presence agent is using this journal; stop it, or set journal.path for this one"
    if isinstance(error, OSError):
        return f"{path}: the journal cannot be opened: {error.strerror}; check journal.path and its permissions"
    return f"{path}: the journal cannot be opened: {error}; if the file is damaged, move it away and restart"
