"""The journal's statements: what runs on its connection, in its one writer thread. Each call takes a whole group.

The states and their changes are those of `presence.domain.delivery.JournalState`; each change is one guarded
statement of journal.sql.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from enum import Enum
from itertools import chain
from typing import Any, NamedTuple

from presence.agent.entries import Claimed, LogEntry, Settled, Waiting, host_of
from presence.agent.journal_file import SQL
from presence.agent.journal_time import JournalTime
from presence.agent.tally import Full, Tally
from presence.domain.delivery import FinalState, JournalState
from presence.domain.outcome import Fault, Phase, Reason, TransportFailure, hint_of
from presence.domain.retry import CERTIFICATE_WAIT, LONGEST_RETRY_AFTER, RetryPolicy
from presence.domain.webhook import OnUnknown
from presence.protocol.messages import Fire

LOG_LENGTH = 20
"""Attempts whose record is kept: the first and the latest."""
AT_ONCE = 1000
"""Deliveries that one call ends, erases or forgets at the most."""
LONGEST_MAX_AGE = 30 * 86_400_000
"""The greatest `max_age` that a webhook can have, in milliseconds."""
MEMORY = 25 * 3_600_000
"""How much longer a delivered id is remembered, in milliseconds: a day, the lease (a minute), and some."""

_json = json.JSONEncoder(separators=(",", ":")).encode
_CUT = TransportFailure(Phase.FIRST_BYTE, Fault.INTERRUPTED, sent=True)


class Pending(NamedTuple):
    """A delivery that may be attempted from `due_at` on."""

    id: str
    uri: str
    due_at: int
    attempts: int


class Kept(Enum):
    """A fire that is kept."""

    HERE = "here"
    """From now on, or since it was fired before."""
    AGAIN = "again"
    """It had been cancelled, and is pending from now on."""


class Bounds(NamedTuple):
    """What the settings say. `max_remembered`: deliveries that have not ended and those whose ids are remembered."""

    max_deliveries: int
    max_remembered: int
    retry: RetryPolicy


class Ledger:
    """`tally` counts what is here; the next delivery to end gets the number after its `order`."""

    def __init__(self, time: JournalTime, bounds: Bounds) -> None:
        self._time = time
        self._now = time.now
        self._bounds = bounds
        self.tally = Tally(bounds.max_deliveries, bounds.max_remembered)

    def begin(self) -> None:
        self.tally.begin()

    def keep(self, db: sqlite3.Connection) -> None:
        self._time.keep(db)

    def undo(self) -> None:
        self.tally.undo()

    def count(self, db: sqlite3.Connection) -> None:
        """Counts anew what is here; at the opening."""
        hosts: Counter[str] = Counter()
        for uri, number in db.execute(SQL["unsettled"]):
            hosts[host_of(uri)] += number
        self.tally.set(hosts, *db.execute(SQL["counts"]).fetchone())

    def reserve_epochs(self, db: sqlite3.Connection, epochs: Sequence[int]) -> Sequence[int]:
        db.execute(SQL["reserve_epochs"], (max(epochs),))
        return epochs

    def pause_until(self, db: sqlite3.Connection, asked: Sequence[int | None]) -> Sequence[int | None]:
        """Until when nothing may be attempted; None: there is no pause."""
        db.execute(SQL["pause_until"], (asked[-1],))
        return asked

    def accept(self, db: sqlite3.Connection, batches: Sequence[tuple[Sequence[Fire], int]]) -> list[list[Full | Kept]]:
        self._time.keep(db)
        return [self._take(db, fires, deadline) if fires else [] for fires, deadline in batches]

    def _take(self, db: sqlite3.Connection, fires: Sequence[Fire], deadline: int) -> list[Full | Kept]:
        """What is here already is answered as kept, whatever is full."""
        here = {id for (id,) in db.execute(SQL["here"], (_json([fire.id for fire in fires]),))}
        answers: list[Full | Kept] = []
        rows = []
        for fire in fires:
            if fire.id in here:
                answers.append(self._take_again(db, fire, deadline))
                continue
            host = host_of(fire.uri)
            full = self.tally.full(host)
            if full is None:
                here.add(fire.id)
                self.tally.began(host)
                rows.append(self._row(fire, deadline))
            answers.append(full or Kept.HERE)
        db.executemany(SQL["accept"], rows)
        self.tally.rows += len(rows)
        return answers

    def _take_again(self, db: sqlite3.Connection, fire: Fire, deadline: int) -> Kept:
        """What was reported is reported once more, what was cancelled is wanted again."""
        known = db.execute(SQL["known"], (fire.id,)).fetchone()
        if known is None:
            return Kept.HERE  # twice in one batch
        state, reported_at = known
        if state == JournalState.CANCELLED:
            db.execute(SQL["revive"], self._row(fire, deadline))
            self.tally.unreported -= reported_at is None
            self.tally.began(host_of(fire.uri))
            return Kept.AGAIN
        if reported_at is not None:
            self.tally.order += 1
            db.execute(SQL["report_again"], (self.tally.order, fire.id))
            self.tally.unreported += 1
        else:
            db.execute(SQL["wanted"], (fire.id,))
        return Kept.HERE

    def _row(self, fire: Fire, deadline: int) -> tuple[str | int | None, ...]:
        """The content of the fire, and the times that follow from it."""
        now = self._now()
        born = now - fire.age
        remembered_from = max(now, born + min(fire.max_age, LONGEST_MAX_AGE))
        return (
            fire.id, fire.webhook_id, fire.event, fire.subject_id, fire.uri, fire.method, fire.body, fire.content_type,
            fire.authorization, fire.on_unknown, born, born + min(fire.max_age, deadline), remembered_from + MEMORY,
            now, fire.traceparent,
        )  # fmt: skip

    def claim(self, db: sqlite3.Connection, asked: Sequence[Sequence[str]]) -> list[list[Claimed]]:
        return [self._claim(db, ids) for ids in asked]

    def _claim(self, db: sqlite3.Connection, ids: Sequence[str]) -> list[Claimed]:
        asked = _json(ids)
        claimed = [Claimed._make(row) for row in db.execute(SQL["claim"], (asked, self._now())).fetchall()]
        if len(claimed) < len(ids):
            self._end_old(db, db.execute(SQL["too_old_of"], (asked, self._now())).fetchall())
        return claimed

    def expire(self, db: sqlite3.Connection, asked: Sequence[int]) -> list[list[str]]:
        """Ends what waits and is too old, up to so many; their ids."""
        return [self._end_old(db, db.execute(SQL["too_old"], (self._now(), most)).fetchall()) for most in asked]

    def _end_old(self, db: sqlite3.Connection, old: Sequence[tuple[int, str, str]]) -> list[str]:
        for seq, _, state in old:
            self._end(db, seq, JournalState(state), FinalState.EXPIRED, Reason.TOO_OLD)
        return [id for _, id, _ in old]

    def settle(self, db: sqlite3.Connection, ended: Sequence[tuple[str, LogEntry]]) -> list[None]:
        """Each with its URI."""
        rows = [row for _, row in ended]
        values = {"rows": _json(rows), "order": self.tally.order + 1, "now": self._now(), "length": LOG_LENGTH}
        changed = db.execute(SQL["settle"], values).rowcount
        assert changed == len(rows), f"{len(rows) - changed} deliveries were settled, but were not being delivered"
        self.tally.order += len(rows)
        for uri, row in ended:
            self.tally.ended(host_of(uri), row["state"], row["reason"])
        return [None] * len(rows)

    def retry(self, db: sqlite3.Connection, rows: Sequence[LogEntry]) -> list[bool]:
        """For each whether it waits again."""
        values = {"rows": _json(rows), "now": self._now(), "length": LOG_LENGTH}
        return self._set_back(db, JournalState.PENDING, SQL["retry"], values, rows)

    def hold(self, db: sqlite3.Connection, rows: Sequence[LogEntry]) -> list[bool]:
        """For each whether it is held."""
        values = {"rows": _json(rows), "order": self.tally.order + 1, "length": LOG_LENGTH}
        self.tally.order += len(rows)
        self.tally.held += len(rows)
        return self._set_back(db, JournalState.HELD, SQL["hold"], values, rows)

    def _set_back(
        self, db: sqlite3.Connection, to: JournalState, sql: str, values: LogEntry, rows: Sequence[LogEntry]
    ) -> list[bool]:
        """What was being delivered waits again; what was to be cancelled meanwhile ends."""
        changed = db.execute(sql, values).fetchall()
        assert len(changed) == len(rows), f"{len(rows) - len(changed)} become {to}, but were not being delivered"
        cancelled = {seq for seq, cancelling in changed if cancelling}
        for seq in cancelled:
            self._end(db, seq, to, FinalState.CANCELLED, Reason.CANCELLED)
        return [row["seq"] not in cancelled for row in rows]

    def release(self, db: sqlite3.Connection, asked: Sequence[tuple[str, int | None]]) -> list[str | None]:
        """The URI of each that was held, after so many attempts; None: after however many."""
        return [self._release(db, delivery, attempts) for delivery, attempts in asked]

    def _release(self, db: sqlite3.Connection, delivery: str, attempts: int | None) -> str | None:
        if attempts is None:
            released = db.execute(SQL["release_held"], (self._now(), delivery)).fetchone()
        else:
            released = db.execute(SQL["release"], (self._now(), delivery, attempts)).fetchone()
        if released is None:
            return None
        self.tally.held -= 1
        return str(released[0])

    def cancel(self, db: sqlite3.Connection, batches: Sequence[Sequence[str]]) -> Sequence[None]:
        for delivery in chain.from_iterable(batches):
            for seq, state in db.execute(SQL["cancel"], (delivery,)).fetchall():
                if state != JournalState.DELIVERING:
                    self._end(db, seq, JournalState(state), FinalState.CANCELLED, Reason.CANCELLED)
        return [None] * len(batches)

    def _end(self, db: sqlite3.Connection, seq: int, source: JournalState, state: FinalState, reason: Reason) -> None:
        """Ends what is not being delivered."""
        self.tally.order += 1
        ended = db.execute(SQL["end"], (state, reason, self.tally.order, self._now(), seq, source)).fetchall()
        assert len(ended) == 1, f"delivery {seq} ends as {state}, but was not {source}"
        self.tally.held -= source is JournalState.HELD
        self.tally.ended(host_of(ended[0][0]), state, reason)

    def held(self, db: sqlite3.Connection, asked: Sequence[None]) -> list[tuple[list[str], set[str]]]:
        rows = db.execute(SQL["held"]).fetchall()
        return [([id for id, _ in rows], {id for id, unattempted in rows if unattempted}) for _ in asked]

    def waiting(self, db: sqlite3.Connection, asked: Sequence[tuple[int, int]]) -> list[list[Waiting]]:
        return [[_waiting(row) for row in db.execute(SQL["waiting"], bounds).fetchall()] for bounds in asked]

    def unreported(self, db: sqlite3.Connection, asked: Sequence[tuple[int, int]]) -> list[list[Settled]]:
        return [[_settled(row) for row in db.execute(SQL["unreported"], bounds).fetchall()] for bounds in asked]

    def mark_reported(self, db: sqlite3.Connection, batches: Sequence[Sequence[str]]) -> Sequence[None]:
        marked = db.execute(SQL["mark_reported"], (self._now(), _json(list(chain.from_iterable(batches)))))
        self.tally.unreported -= marked.rowcount
        return [None] * len(batches)

    def tidy(self, db: sqlite3.Connection, retentions: Sequence[int]) -> list[bool]:
        """Erases and forgets some of what is old and done; for each whether there may be more.

        Nothing while nobody knows how long the host was off: what seems old by then is so for certain.
        """
        self._time.keep(db)
        return [not self._time.in_doubt and self._tidy(db, retention) for retention in retentions]

    def _tidy(self, db: sqlite3.Connection, retention: int) -> bool:
        now = self._now()
        erased = db.execute(SQL["erase"], (now - retention, AT_ONCE)).rowcount
        forgotten = db.execute(SQL["forget"], (now, AT_ONCE)).rowcount
        self.tally.rows -= forgotten
        return AT_ONCE in (erased, forgotten)

    def recover(self, db: sqlite3.Connection) -> None:
        """What was being delivered when the process died is tried again or held, with a true entry in its log.

        Not without end: a delivery that has had its attempts has failed. What is to wait longer than any backoff
        does not, and a log that cannot be read begins anew.
        """
        db.execute(SQL["mend_logs"])
        cut = {"at": self._now(), "took": 0, "phase": _CUT.phase, "fault": _CUT.fault, "hint": hint_of(_CUT)}
        retry = self._bounds.retry
        for seq, number, on_unknown, uri in db.execute(SQL["delivering"]).fetchall():
            row = {"seq": seq, "entry": {"number": number, **cut, "unknown": True}}
            if on_unknown == OnUnknown.HOLD:
                self.hold(db, [{**row, "reason": Reason.UNKNOWN}])
            elif number < retry.max_attempts:
                self.retry(db, [{**row, "delay": 0}])
            else:
                self.settle(db, [(uri, {**row, "state": FinalState.FAILED, "reason": Reason.ATTEMPTS_EXHAUSTED})])
        longest = max(retry.maximum, 2 * retry.initial, LONGEST_RETRY_AFTER, CERTIFICATE_WAIT)
        db.execute(SQL["clamp_delays"], {"latest": self._now() + longest})

    def pending(self, db: sqlite3.Connection) -> Iterable[Pending]:
        return [Pending._make(row) for row in db.execute(SQL["pending"])]


def _settled(row: tuple[Any, ...]) -> Settled:
    delivery, state, reason, attempts, log, order, settled_at = row
    return Settled(delivery, FinalState(state), reason, attempts, json.loads(log), order, settled_at)


def _waiting(row: tuple[Any, ...]) -> Waiting:
    delivery, reason, attempts, log, order = row
    return Waiting(delivery, reason, attempts, json.loads(log), order)
