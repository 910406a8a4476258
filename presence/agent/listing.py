"""What the journal shows to a person: sums and single deliveries. Reads only; runs on any connection to the file.

Credentials and bodies are never part of it, nor what a URI's query holds. All times in seconds.
"""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from presence.agent.journal_file import SQL, words
from presence.agent.journal_time import JournalTime
from presence.clock import SystemClock
from presence.domain.delivery import JournalState
from presence.errors import JournalError, PresenceError

Entry = dict[str, object]

_COLUMNS = (
    "seq", "id", "state", "reason", "webhook_id", "event", "subject_id", "uri", "method", "body_characters",
    "has_authorization", "cancelling", "attempts", "accepted_at", "due_at", "expires_at", "settled_at", "reported_at",
    "log",
)  # fmt: skip


class Sums(NamedTuple):
    """What the control plane does not know the end of. `oldest`: when the oldest was accepted, None: there is none."""

    pending: int
    delivering: int
    held: dict[str, int]
    unreported: int
    oldest: int | None


class Page(NamedTuple):
    """Deliveries to show: after that number, at the most so many; `state`: of that one only.

    `all`: those as well whose report was acknowledged. `now`: the journal's time.
    """

    now: int
    after: int = 0
    most: int = 100
    state: str | None = None
    all: bool = False


def sums(db: sqlite3.Connection, asked: Sequence[None]) -> list[Sums]:
    held: dict[str, int] = {}
    counted = dict.fromkeys(JournalState, 0)
    oldest: int | None = None
    for state, reason, count, first in db.execute(SQL["sums"]):
        counted[JournalState(state)] += count
        oldest = first if oldest is None else min(oldest, first)
        if state == JournalState.HELD:
            held[reason or "unknown"] = count
    waiting = (JournalState.PENDING, JournalState.DELIVERING, JournalState.HELD)
    ended = sum(count for state, count in counted.items() if state not in waiting)
    found = Sums(counted[JournalState.PENDING], counted[JournalState.DELIVERING], held, ended, oldest)
    return [found] * len(asked)


def oldest(db: sqlite3.Connection, asked: Sequence[None]) -> list[int | None]:
    """When the oldest was accepted whose end the control plane does not know; None: there is none.

    One that was cancelled and fired again counts since then, but keeps its place: what is behind it is not looked at.
    """
    row = db.execute(SQL["oldest"]).fetchone()
    return [row[0] if row is not None else None] * len(asked)


def listed(db: sqlite3.Connection, asked: Sequence[Page]) -> list[list[Entry]]:
    """The oldest first, without their attempts."""
    return [[_entry(row, page.now, whole=False) for row in db.execute(SQL["listed"], page._asdict())] for page in asked]


def shown(db: sqlite3.Connection, asked: Sequence[tuple[str, int]]) -> list[Entry | None]:
    """Each delivery by its id, with its attempts; None: it is not here."""
    return [_shown(db, delivery, now) for delivery, now in asked]


def _shown(db: sqlite3.Connection, delivery: str, now: int) -> Entry | None:
    row = db.execute(SQL["shown"], (delivery,)).fetchone()
    return None if row is None else _entry(row, now, whole=True)


class JournalFile:
    """The journal of an agent that does not run, read-only. `with closing(...)`. Raises PresenceError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.exists():
            raise PresenceError(f"no agent runs here, and {path} does not exist; name its settings with --config")
        try:
            self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1, isolation_level=None)
            self._now = JournalTime(self._db, SystemClock()).now()
        except sqlite3.Error as error:
            raise self._explained(error) from None

    def close(self) -> None:
        self._db.close()

    def listed(self, after: int, most: int, state: str | None, all: bool) -> list[Entry]:
        try:
            return listed(self._db, [Page(self._now, after, most, state, all)])[0]
        except sqlite3.Error as error:
            raise self._explained(error) from None

    def shown(self, delivery: str) -> Entry | None:
        try:
            return _shown(self._db, delivery, self._now)
        except sqlite3.Error as error:
            raise self._explained(error) from None

    def _explained(self, error: sqlite3.Error) -> PresenceError:
        if "locked" in str(error):
            return JournalError(
                f"{self._path}: an agent uses this journal, but does not answer at its control socket;"
                " give the --config that it runs with, or look into its log"
            )
        return JournalError(f"{self._path}: cannot be read: {words(error)}; run this as the agent's user or as root")


def journal_file(path: Path) -> "closing[JournalFile]":
    """`with journal_file(path) as journal:`."""
    return closing(JournalFile(path))


def _entry(row: tuple[object, ...], now: int, *, whole: bool) -> Entry:
    values = dict(zip(_COLUMNS, row, strict=True))
    entry: Entry = {name: values[name] for name in ("id", "seq", "state", "reason", "attempts")}
    entry["target"], entry["method"] = _without_query(values["uri"]), values["method"]
    entry["event"], entry["webhook_id"] = values["event"], values["webhook_id"]
    for name, at in (("age_s", "accepted_at"), ("ended_ago_s", "settled_at"), ("reported_ago_s", "reported_at")):
        entry[name] = _seconds(now, values[at])
    waits = values["state"] in (JournalState.PENDING, JournalState.HELD)
    entry["due_in_s"] = _seconds(values["due_at"], now) if values["state"] == JournalState.PENDING else None
    entry["expires_in_s"] = _seconds(values["expires_at"], now) if waits else None
    if whole:
        entry |= {name: values[name] for name in ("subject_id", "body_characters")}
        entry |= {name: bool(values[name]) for name in ("has_authorization", "cancelling")}
        entry["log"] = [_attempt(attempt, now) for attempt in json.loads(str(values["log"]))]
    return entry


def _attempt(attempt: dict[str, object], now: int) -> Entry:
    return {"ago_s": _seconds(now, attempt["at"]), **{name: attempt[name] for name in attempt if name != "at"}}


def _without_query(uri: object) -> str | None:
    """The query of a URI often holds a token."""
    if not isinstance(uri, str):
        return None
    before, question, _ = uri.partition("?")
    return before + ("?..." if question else "")


def _seconds(later: object, earlier: object) -> float | None:
    if not isinstance(later, int) or not isinstance(earlier, int):
        return None
    return round(max(0, later - earlier) / 1000, 3)
