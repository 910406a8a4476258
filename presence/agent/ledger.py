"""The journal's statements: what runs on its connection, in its one writer thread. Each call takes a whole group.

The states and their changes are those of `presence.domain.delivery.JournalState`; each change is one guarded
statement of journal.sql.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from enum import Enum
from itertools import chain
from typing import Any, NamedTuple

from presence.agent.entries import Claimed, LogEntry, Settled, Waiting
from presence.agent.journal_file import SQL
from presence.agent.journal_time import JournalTime
from presence.domain.delivery import FinalState, JournalState
from presence.domain.outcome import Fault, Phase, Reason, TransportFailure, hint_of
from presence.domain.webhook import OnUnknown
from presence.protocol.messages import Fire

LOG_LENGTH = 20
"""Attempts whose record is kept: the first and the latest."""

_json = json.JSONEncoder(separators=(",", ":")).encode
_CUT = TransportFailure(Phase.FIRST_BYTE, Fault.INTERRUPTED, sent=True)


class Pending(NamedTuple):
    """A delivery that may be attempted from `due_at` on."""

    id: str
    uri: str
    due_at: int
    attempts: int


class Taken(Enum):
    """What became of a fire."""

    NOT = "not"
    """The journal is full."""
    HERE = "here"
    """It is kept, now or since it was fired before."""
    AGAIN = "again"
    """It had been cancelled, and is pending from now on."""


class Ledger:
    """`unsettled` counts what has not ended, `order` what has: the next one to end gets the next number."""

    def __init__(self, time: JournalTime, max_deliveries: int) -> None:
        self._time = time
        self._now = time.now
        self._max_deliveries = max_deliveries
        self.unsettled = 0
        self.order = 0

    def count(self, db: sqlite3.Connection) -> None:
        """After opening, and after something was undone. An order is never given again: somebody may have read it."""
        self.unsettled, order = db.execute(SQL["counts"]).fetchone()
        self.order = max(self.order, order)

    def next_epoch(self, db: sqlite3.Connection, asked: Sequence[None]) -> list[int]:
        return [int(db.execute(SQL["next_epoch"]).fetchone()[0]) for _ in asked]

    def meet(self, db: sqlite3.Connection, times: Sequence[int]) -> Sequence[int]:
        for server_time in times:
            self._time.meet(db, server_time)
        return times

    def accept(self, db: sqlite3.Connection, batches: Sequence[tuple[Sequence[Fire], int]]) -> list[list[Taken]]:
        self._time.keep(db)
        return [self._keep_all(db, fires, deadline) for fires, deadline in batches]

    def _keep_all(self, db: sqlite3.Connection, fires: Sequence[Fire], deadline: int) -> list[Taken]:
        if self.unsettled + len(fires) > self._max_deliveries:
            return [self._keep(db, fire, deadline) for fire in fires]
        before = db.total_changes
        db.executemany(SQL["accept"], [self._row(fire, deadline) for fire in fires])
        new = db.total_changes - before
        self.unsettled += new
        if new == len(fires):
            return [Taken.HERE] * new
        return [self._take_again(db, fire, deadline) for fire in fires]

    def _keep(self, db: sqlite3.Connection, fire: Fire, deadline: int) -> Taken:
        if self.unsettled < self._max_deliveries and db.execute(SQL["accept"], self._row(fire, deadline)).rowcount:
            self.unsettled += 1
            return Taken.HERE
        return self._take_again(db, fire, deadline)

    def _take_again(self, db: sqlite3.Connection, fire: Fire, deadline: int) -> Taken:
        """What was reported is reported once more, what was cancelled is wanted again."""
        known = db.execute(SQL["known"], (fire.id,)).fetchone()
        if known is None:
            return Taken.NOT
        state, reported_at = known
        if state == JournalState.CANCELLED:
            born = self._now() - fire.age
            times = {"born_at": born, "expires_at": born + min(fire.max_age, deadline), "now": self._now()}
            db.execute(SQL["revive"], {**times, "id": fire.id, "authorization": fire.authorization})
            self.unsettled += 1
            return Taken.AGAIN
        if reported_at is not None:
            self.order += 1
            db.execute(SQL["report_again"], (self.order, fire.id))
        else:
            db.execute(SQL["wanted"], (fire.id,))
        return Taken.HERE

    def _row(self, fire: Fire, deadline: int) -> tuple[str | int | None, ...]:
        now = self._now()
        born = now - fire.age
        return (
            fire.id, fire.webhook_id, fire.event, fire.subject_id, fire.uri, fire.method, fire.body, fire.content_type,
            fire.authorization, fire.on_unknown, born, born + min(fire.max_age, deadline), now, now,
        )  # fmt: skip

    def claim(self, db: sqlite3.Connection, asked: Sequence[Sequence[str]]) -> list[list[Claimed]]:
        return [self._claim(db, ids) for ids in asked]

    def _claim(self, db: sqlite3.Connection, ids: Sequence[str]) -> list[Claimed]:
        claimed = [Claimed._make(row) for row in db.execute(SQL["claim"], (_json(ids), self._now())).fetchall()]
        if len(claimed) < len(ids):
            self._expire(db)
        return claimed

    def expire(self, db: sqlite3.Connection, asked: Sequence[None]) -> list[int]:
        return [self._expire(db) for _ in asked]

    def _expire(self, db: sqlite3.Connection) -> int:
        """Ends what waits and is too old, up to 1,000; how many."""
        old = db.execute(SQL["too_old"], (self._now(),)).fetchall()
        for seq, state in old:
            self._end(db, seq, JournalState(state), FinalState.EXPIRED, Reason.TOO_OLD)
        return len(old)

    def settle(self, db: sqlite3.Connection, rows: Sequence[LogEntry]) -> Sequence[LogEntry]:
        values = {"rows": _json(rows), "order": self.order + 1, "now": self._now(), "length": LOG_LENGTH}
        changed = db.execute(SQL["settle"], values).rowcount
        assert changed == len(rows), f"{len(rows) - changed} deliveries were settled, but were not being delivered"
        self.order += len(rows)
        self.unsettled -= len(rows)
        return rows

    def retry(self, db: sqlite3.Connection, rows: Sequence[LogEntry]) -> list[bool]:
        """For each whether it waits for its next attempt: one that was to be cancelled has ended."""
        values = {"rows": _json(rows), "now": self._now(), "length": LOG_LENGTH}
        ended = self._set_back(db, JournalState.PENDING, db.execute(SQL["retry"], values).fetchall(), len(rows))
        return [row["seq"] not in ended for row in rows]

    def hold(self, db: sqlite3.Connection, rows: Sequence[LogEntry]) -> Sequence[LogEntry]:
        values = {"rows": _json(rows), "order": self.order + 1, "length": LOG_LENGTH}
        self.order += len(rows)
        self._set_back(db, JournalState.HELD, db.execute(SQL["hold"], values).fetchall(), len(rows))
        return rows

    def _set_back(
        self, db: sqlite3.Connection, to: JournalState, changed: list[tuple[int, int]], expected: int
    ) -> set[int]:
        """What was being delivered waits again; what was to be cancelled meanwhile ends, and is returned."""
        assert len(changed) == expected, f"{expected - len(changed)} set back to {to}, but were not being delivered"
        ended = {seq for seq, cancelling in changed if cancelling}
        for seq in ended:
            self._end(db, seq, to, FinalState.CANCELLED, Reason.CANCELLED)
        return ended

    def release(self, db: sqlite3.Connection, asked: Sequence[tuple[str, int]]) -> list[str | None]:
        return [self._release(db, delivery, attempts) for delivery, attempts in asked]

    def _release(self, db: sqlite3.Connection, delivery: str, attempts: int) -> str | None:
        released = db.execute(SQL["release"], (self._now(), delivery, attempts)).fetchone()
        return released[0] if released is not None else None

    def cancel(self, db: sqlite3.Connection, batches: Sequence[Sequence[str]]) -> Sequence[None]:
        for delivery in chain.from_iterable(batches):
            for seq, state in db.execute(SQL["cancel"], (delivery,)).fetchall():
                if state != JournalState.DELIVERING:
                    self._end(db, seq, JournalState(state), FinalState.CANCELLED, Reason.CANCELLED)
        return [None] * len(batches)

    def _end(self, db: sqlite3.Connection, seq: int, source: JournalState, state: FinalState, reason: Reason) -> None:
        """Ends what is not being delivered."""
        self.order += 1
        changed = db.execute(SQL["end"], (state, reason, self.order, self._now(), seq, source)).rowcount
        assert changed == 1, f"delivery {seq} ends as {state}, but was not {source}"
        self.unsettled -= 1

    def held(self, db: sqlite3.Connection, asked: Sequence[None]) -> list[list[str]]:
        held = [row[0] for row in db.execute(SQL["held"])]
        return [held for _ in asked]

    def waiting(self, db: sqlite3.Connection, asked: Sequence[tuple[int, int]]) -> list[list[Waiting]]:
        return [[_waiting(row) for row in db.execute(SQL["waiting"], bounds).fetchall()] for bounds in asked]

    def unreported(self, db: sqlite3.Connection, asked: Sequence[tuple[int, int]]) -> list[list[Settled]]:
        return [[_settled(row) for row in db.execute(SQL["unreported"], bounds).fetchall()] for bounds in asked]

    def mark_reported(self, db: sqlite3.Connection, batches: Sequence[Sequence[str]]) -> Sequence[None]:
        db.execute(SQL["mark_reported"], (self._now(), _json(list(chain.from_iterable(batches)))))
        return [None] * len(batches)

    def prune(self, db: sqlite3.Connection, asked: Sequence[tuple[int, int]]) -> list[int]:
        now = self._now()
        return [db.execute(SQL["prune"], (now - retention, now - memory)).rowcount for retention, memory in asked]

    def recover(self, db: sqlite3.Connection, max_attempts: int) -> None:
        """What was being delivered when the process died is tried again or held, with a true entry in its log.

        Not without end: a delivery that has had its attempts has failed.
        """
        cut = {"at": self._now(), "took": 0, "phase": _CUT.phase, "fault": _CUT.fault, "hint": hint_of(_CUT)}
        for seq, number, on_unknown in db.execute(SQL["delivering"]).fetchall():
            row = {"seq": seq, "entry": {"number": number, **cut, "unknown": True}}
            if on_unknown == OnUnknown.HOLD:
                self.hold(db, [{**row, "reason": Reason.UNKNOWN}])
            elif number < max_attempts:
                self.retry(db, [{**row, "delay": 0}])
            else:
                self.settle(db, [{**row, "state": FinalState.FAILED, "reason": Reason.ATTEMPTS_EXHAUSTED}])

    def pending(self, db: sqlite3.Connection) -> Iterable[Pending]:
        return [Pending._make(row) for row in db.execute(SQL["pending"])]


def _settled(row: tuple[Any, ...]) -> Settled:
    delivery, state, reason, attempts, log, order, settled_at = row
    return Settled(delivery, FinalState(state), reason, attempts, json.loads(log), order, settled_at)


def _waiting(row: tuple[Any, ...]) -> Waiting:
    delivery, reason, attempts, log, order = row
    return Waiting(delivery, reason, attempts, json.loads(log), order)
