"""The journal: what the agent has accepted, attempted and not yet been acknowledged for. SQLite, WAL, FULL.

What a method returned is on the disk: it survives SIGKILL and a power cut. The states and their changes
are those of `presence.domain.delivery.JournalState`; each change is one guarded statement of journal.sql.
"""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from presence.agent.commits import Commits
from presence.agent.journal_file import SQL, connect, explain
from presence.agent.journal_time import JournalTime
from presence.clock import Clock
from presence.domain.delivery import FinalState, JournalState
from presence.domain.outcome import Fault, Phase, Reason
from presence.errors import JournalError
from presence.protocol.messages import Fire

LOG_LENGTH = 20
"""Attempts whose record is kept: the first and the latest."""

LogEntry = dict[str, Any]


_json = json.JSONEncoder(separators=(",", ":")).encode


class Claimed(NamedTuple):
    """A delivery whose attempt number `attempts` may begin now. Times in the journal's milliseconds."""

    seq: int
    id: str
    webhook_id: str
    event: str
    subject_id: str
    uri: str
    method: str
    born_at: int
    expires_at: int
    attempts: int


class Claim(NamedTuple):
    """What is due, and in how many milliseconds the next one will be (None: nothing waits)."""

    deliveries: list[Claimed]
    next_due: int | None


class Settled(NamedTuple):
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
        self._max_deliveries = max_deliveries
        self._time = JournalTime(connection, clock)
        self.now = self._time.now
        self._commits = Commits(connection, self._time.keep, self._count)
        (self.instance,) = connection.execute(SQL["instance"]).fetchone()
        self._count(connection)

    async def next_epoch(self) -> int:
        """A number greater than every one before it, for the next session of this instance."""
        return await self._commits.submit(self._next_epoch, None)

    def _next_epoch(self, db: sqlite3.Connection, asked: Sequence[None]) -> list[int]:
        return [int(db.execute(SQL["next_epoch"]).fetchone()[0]) for _ in asked]

    async def meet(self, server_time: int) -> None:
        """The control plane's time, in milliseconds since the epoch: after a reboot it tells how long that took."""
        await self._commits.submit(self._meet, server_time)

    def _meet(self, db: sqlite3.Connection, times: Sequence[int]) -> Sequence[int]:
        for server_time in times:
            self._time.meet(db, server_time)
        return times

    async def accept(self, fires: Sequence[Fire], deadline: int) -> list[bool]:
        """Keeps the fires; for each whether it is kept (False: the journal is full).

        A fire that is here already is not attempted twice; if it was reported, it will be reported again; if it was
        cancelled, it is wanted again: another instance had it meanwhile.
        `deadline` is the local limit of age in milliseconds; the smaller of it and the fire's own wins.
        An empty list proves that the journal can be written.
        """
        order = self._order
        kept = await self._commits.submit(self._accept, (fires, deadline))
        self.pending.set()
        if self._order != order:
            self.settled.set()
        return kept

    def _accept(self, db: sqlite3.Connection, batches: Sequence[tuple[Sequence[Fire], int]]) -> list[list[bool]]:
        self._time.keep(db)
        return [self._keep_all(db, fires, deadline) for fires, deadline in batches]

    def _keep_all(self, db: sqlite3.Connection, fires: Sequence[Fire], deadline: int) -> list[bool]:
        if self._unsettled + len(fires) > self._max_deliveries:
            return [self._keep(db, fire, deadline) for fire in fires]
        before = db.total_changes
        db.executemany(SQL["accept"], [self._row(fire, deadline) for fire in fires])
        new = db.total_changes - before
        self._unsettled += new
        return [True] * len(fires) if new == len(fires) else [self._take_again(db, fire, deadline) for fire in fires]

    def _keep(self, db: sqlite3.Connection, fire: Fire, deadline: int) -> bool:
        if self._unsettled < self._max_deliveries and db.execute(SQL["accept"], self._row(fire, deadline)).rowcount:
            self._unsettled += 1
            return True
        return self._take_again(db, fire, deadline)

    def _take_again(self, db: sqlite3.Connection, fire: Fire, deadline: int) -> bool:
        """Whether the delivery is here. What was reported is reported once more, what was cancelled is wanted again."""
        known = db.execute(SQL["known"], (fire.id,)).fetchone()
        if known is None:
            return False
        state, reported_at = known
        if state == JournalState.CANCELLED:
            born = self.now() - fire.age
            times = {"born_at": born, "expires_at": born + min(fire.max_age, deadline), "now": self.now()}
            db.execute(SQL["revive"], {**times, "id": fire.id})
            self._unsettled += 1
        elif reported_at is not None:
            self._order += 1
            db.execute(SQL["report_again"], (self._order, fire.id))
        else:
            db.execute(SQL["wanted"], (fire.id,))
        return True

    def _row(self, fire: Fire, deadline: int) -> tuple[str | int, ...]:
        now = self.now()
        born = now - fire.age
        expires = born + min(fire.max_age, deadline)
        return fire.id, fire.webhook_id, fire.event, fire.subject_id, fire.uri, fire.method, born, expires, now, now

    def _is_known(self, db: sqlite3.Connection, delivery: str) -> bool:
        """Whether the delivery is here; one that was reported already is reported once more."""
        if db.execute(SQL["report_again"], (self._order + 1, delivery)).rowcount:
            self._order += 1
            return True
        return db.execute(SQL["known"], (delivery,)).fetchone() is not None

    async def claim(self, limit: int) -> Claim:
        """Takes up to `limit` due deliveries for an attempt, the longest due first; expires those too old."""
        order = self._order
        claim = await self._commits.submit(self._claim, limit)
        if self._order != order:
            self.settled.set()
        return claim

    def _claim(self, db: sqlite3.Connection, limits: Sequence[int]) -> list[Claim]:
        return [self._take(db, limit) for limit in limits]

    def _take(self, db: sqlite3.Connection, limit: int) -> Claim:
        now = self.now()
        due = [Claimed._make(row) for row in db.execute(SQL["due"], (now, limit)).fetchall()]
        claimed = [delivery for delivery in due if delivery.expires_at > now]
        for delivery in due:
            if delivery.expires_at <= now:
                self._end(db, delivery.seq, JournalState.PENDING, FinalState.EXPIRED, Reason.TOO_OLD)
        if claimed:
            db.execute(SQL["claim"], (_json([delivery.seq for delivery in claimed]),))
        (next_due,) = db.execute(SQL["next_due"]).fetchone() if len(claimed) < limit else (now,)
        return Claim(claimed, None if next_due is None else max(0, next_due - now))

    async def settle(self, claimed: Claimed, entry: LogEntry, state: FinalState, reason: Reason) -> None:
        """The delivery has ended with this attempt."""
        row = {"seq": claimed.seq, "state": state, "reason": reason, "entry": entry}
        await self._commits.submit(self._settle, row)
        self.settled.set()

    def _settle(self, db: sqlite3.Connection, rows: Sequence[LogEntry]) -> Sequence[LogEntry]:
        values = {"rows": _json(rows), "order": self._order + 1, "now": self.now(), "length": LOG_LENGTH}
        changed = db.execute(SQL["settle"], values).rowcount
        assert changed == len(rows), f"{len(rows) - changed} deliveries were settled, but were not being delivered"
        self._order += len(rows)
        self._unsettled -= len(rows)
        return rows

    async def retry(self, claimed: Claimed, entry: LogEntry, delay: int) -> None:
        """The next attempt is due in `delay` milliseconds; a delivery that was cancelled meanwhile ends."""
        await self._commits.submit(self._retry, {"seq": claimed.seq, "delay": delay, "entry": entry})
        self.pending.set()
        self.settled.set()

    def _retry(self, db: sqlite3.Connection, rows: Sequence[LogEntry]) -> Sequence[LogEntry]:
        values = {"rows": _json(rows), "now": self.now(), "length": LOG_LENGTH}
        changed = db.execute(SQL["retry"], values).fetchall()
        assert len(changed) == len(rows), f"{len(rows) - len(changed)} retried, but were not being delivered"
        for seq, cancelling in changed:
            if cancelling:
                self._end(db, seq, JournalState.PENDING, FinalState.CANCELLED, Reason.CANCELLED)
        return rows

    async def cancel(self, deliveries: Sequence[str]) -> None:
        """Prevents the next attempts; one that is under way goes on, and its outcome is the truth."""
        await self._commits.submit(self._cancel, deliveries)
        self.settled.set()

    def _cancel(self, db: sqlite3.Connection, batches: Sequence[Sequence[str]]) -> Sequence[None]:
        for delivery in chain.from_iterable(batches):
            for seq, state in db.execute(SQL["cancel"], (delivery,)).fetchall():
                if state != JournalState.DELIVERING:
                    self._end(db, seq, JournalState(state), FinalState.CANCELLED, Reason.CANCELLED)
        return [None] * len(batches)

    def _end(self, db: sqlite3.Connection, seq: int, source: JournalState, state: FinalState, reason: Reason) -> None:
        """Ends what is not being delivered."""
        self._order += 1
        changed = db.execute(SQL["end"], (state, reason, self._order, self.now(), seq, source)).rowcount
        assert changed == 1, f"delivery {seq} ends as {state}, but was not {source}"
        self._unsettled -= 1

    async def held(self) -> list[str]:
        """Ids of all deliveries that the control plane does not know the end of, oldest first."""
        return await self._commits.submit(self._held, None)

    def _held(self, db: sqlite3.Connection, asked: Sequence[None]) -> list[list[str]]:
        held = [row[0] for row in db.execute(SQL["held"])]
        return [held for _ in asked]

    async def unreported(self, after: int, limit: int) -> list[Settled]:
        """Ended deliveries without acknowledged report, in the order in which they ended, after that order."""
        return await self._commits.submit(self._unreported, (after, limit))

    def _unreported(self, db: sqlite3.Connection, asked: Sequence[tuple[int, int]]) -> list[list[Settled]]:
        return [[_settled(row) for row in db.execute(SQL["unreported"], bounds).fetchall()] for bounds in asked]

    async def mark_reported(self, deliveries: Sequence[str]) -> None:
        """The control plane has acknowledged these; only their ids are remembered, to drop repeats."""
        await self._commits.submit(self._mark_reported, deliveries)

    def _mark_reported(self, db: sqlite3.Connection, batches: Sequence[Sequence[str]]) -> Sequence[None]:
        db.execute(SQL["mark_reported"], (self.now(), _json(list(chain.from_iterable(batches)))))
        return [None] * len(batches)

    async def prune(self, retention: int, memory: int) -> int:
        """Forgets up to 1,000 deliveries reported `retention` and expired `memory` milliseconds ago; how many."""
        return await self._commits.submit(self._prune, (retention, memory))

    def _prune(self, db: sqlite3.Connection, asked: Sequence[tuple[int, int]]) -> list[int]:
        now = self.now()
        return [db.execute(SQL["prune"], (now - retention, now - memory)).rowcount for retention, memory in asked]

    def recover(self, db: sqlite3.Connection, max_attempts: int) -> None:
        """What was being delivered when the process died is tried again, with a true entry in its log.

        Not without end: a delivery that has had its attempts has failed.
        """
        db.execute("BEGIN IMMEDIATE")
        cut = {"at": self.now(), "took": 0, "phase": Phase.FIRST_BYTE, "fault": Fault.INTERRUPTED}
        for seq, number in db.execute(SQL["delivering"]).fetchall():
            row = {"seq": seq, "entry": {"number": number, **cut}}
            if number < max_attempts:
                self._retry(db, [{**row, "delay": 0}])
            else:
                self._settle(db, [{**row, "state": FinalState.FAILED, "reason": Reason.ATTEMPTS_EXHAUSTED}])
        db.execute("COMMIT")

    def _count(self, db: sqlite3.Connection) -> None:
        self._unsettled, self._order = db.execute(SQL["counts"]).fetchone()


@asynccontextmanager
async def open_journal(path: Path, clock: Clock, max_deliveries: int, max_attempts: int) -> AsyncIterator[Journal]:
    """Opens or creates the journal at `path`, for this process alone.

    Attempts that a crash interrupted become pending again, with an `interrupted` entry in their log: the
    target may have got the request. The bounds are those of the settings. Raises JournalError where the
    file cannot be used.
    """
    try:
        connection = connect(path, clock)
        journal = Journal(connection, clock, max_deliveries)
        journal.recover(connection, max_attempts)
    except (sqlite3.Error, OSError) as error:
        raise JournalError(explain(path, error)) from None
    journal._commits.start()
    try:
        yield journal
    finally:
        await journal._commits.close()


def _settled(row: tuple[Any, ...]) -> Settled:
    delivery, state, reason, attempts, log, order, settled_at = row
    return Settled(delivery, FinalState(state), reason, attempts, json.loads(log), order, settled_at)
