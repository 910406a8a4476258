"""The journal's statements on a real file: every state against every call, and what each row keeps."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from presence.agent.entries import Claimed
from presence.agent.journal_file import SQL, connect
from presence.agent.journal_time import JournalTime
from presence.agent.ledger import LOG_LENGTH, Bounds, Kept, Ledger
from presence.agent.tally import Full
from presence.domain.delivery import JOURNAL_TRANSITIONS, FinalState, JournalState
from presence.domain.outcome import Reason
from presence.domain.retry import RetryPolicy
from presence.protocol.messages import Fire
from tests.support.clock import ManualClock
from tests.support.control_plane import DAY, fire

URI = "http://10.0.0.1/{SubjectId}"
SECRET = "Bearer canary-secret"
ENTRY = {"number": 1, "at": 0, "took": 3, "status": 503}
MOST = 1000
States = JournalState


def bounds(most: int = MOST, attempts: int = 50) -> Bounds:
    return Bounds(most, 10 * most, RetryPolicy(attempts, 1000, 5000, DAY))


class Book:
    """A ledger with its connection. Every call is one group of one item, committed at once."""

    def __init__(self, file: Path, clock: ManualClock, most: int = MOST) -> None:
        self.db = connect(file, clock)
        self.clock = clock
        self.ledger = Ledger(JournalTime(self.db, clock), bounds(most))
        self.ledger.count(self.db)

    def accept(self, *fires: Fire, deadline: int = DAY) -> list[Kept | Full]:
        (taken,) = self.ledger.accept(self.db, [(fires, deadline)])
        return taken

    def new(self, **fields: Any) -> Fire:
        message = fire(URI, **{"authorization": SECRET, **fields})
        assert self.accept(message) == [Kept.HERE]
        return message

    def claim(self, *ids: str) -> list[Claimed]:
        (claimed,) = self.ledger.claim(self.db, [ids])
        return claimed

    def settle(self, seq: int, state: FinalState = FinalState.SUCCEEDED) -> None:
        row = {"seq": seq, "state": state, "reason": Reason.DELIVERED, "entry": ENTRY}
        self.ledger.settle(self.db, [(URI, row)])

    def retry(self, seq: int, delay: int = 1000) -> bool:
        (waits,) = self.ledger.retry(self.db, [{"seq": seq, "delay": delay, "entry": ENTRY}])
        return waits

    def hold(self, seq: int) -> None:
        self.ledger.hold(self.db, [{"seq": seq, "reason": Reason.UNKNOWN, "entry": ENTRY}])

    def release(self, delivery: str, attempts: int) -> str | None:
        (uri,) = self.ledger.release(self.db, [(delivery, attempts)])
        return uri

    def cancel(self, delivery: str) -> None:
        self.ledger.cancel(self.db, [[delivery]])

    def expire(self) -> int:
        (ended,) = self.ledger.expire(self.db, [1000])
        return len(ended)

    def row(self, delivery: str) -> dict[str, Any]:
        self.db.row_factory = sqlite3.Row
        try:
            return dict(self.db.execute("SELECT * FROM delivery WHERE id = ?", (delivery,)).fetchone())
        finally:
            self.db.row_factory = None

    def in_state(self, state: JournalState) -> Fire:
        """A delivery that has come into that state as deliveries do."""
        message = self.new()
        if state in (States.EXPIRED, States.CANCELLED):
            self.cancel(message.id) if state is States.CANCELLED else self._let_expire(message)
        elif state is not States.PENDING:
            (claimed,) = self.claim(message.id)
            if state is States.HELD:
                self.hold(claimed.seq)
            elif state is not States.DELIVERING:
                self.settle(claimed.seq, FinalState(state.value))
        assert self.row(message.id)["state"] == state
        return message

    def _let_expire(self, message: Fire) -> None:
        self.db.execute("UPDATE delivery SET expires_at = 0 WHERE id = ?", (message.id,))
        assert self.expire() == 1


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def book(tmp_path: Path, clock: ManualClock) -> Iterator[Book]:
    book = Book(tmp_path / "journal.db", clock)
    with closing(book.db):
        yield book


def too_old(book: Book, message: Fire) -> None:
    book.clock.pass_time(2 * DAY)
    book.expire()


Call = Callable[[Book, Fire], object]
CALLS: dict[str, Call] = {
    "claim": lambda book, message: book.claim(message.id),
    "settle": lambda book, message: book.settle(book.row(message.id)["seq"]),
    "retry": lambda book, message: book.retry(book.row(message.id)["seq"]),
    "hold": lambda book, message: book.hold(book.row(message.id)["seq"]),
    "release": lambda book, message: book.release(message.id, book.row(message.id)["attempts"]),
    "cancel": lambda book, message: book.cancel(message.id),
    "expire": too_old,
    "fire again": lambda book, message: book.accept(message),
    "recover": lambda book, _message: book.ledger.recover(book.db),
    "report": lambda book, message: book.ledger.mark_reported(book.db, [[message.id]]),
}
CHANGES = {
    ("claim", States.PENDING): States.DELIVERING,
    ("settle", States.DELIVERING): States.SUCCEEDED,
    ("retry", States.DELIVERING): States.PENDING,
    ("hold", States.DELIVERING): States.HELD,
    ("release", States.HELD): States.PENDING,
    ("cancel", States.PENDING): States.CANCELLED,
    ("cancel", States.HELD): States.CANCELLED,
    ("expire", States.PENDING): States.EXPIRED,
    ("expire", States.HELD): States.EXPIRED,
    ("fire again", States.CANCELLED): States.PENDING,
    ("recover", States.DELIVERING): States.PENDING,
}
"""Every change of state that a call makes; in any other state it changes none."""
DEMANDING = {"settle", "retry", "hold"}
"""Called for anything but what is being delivered, these are a defect of ours."""


@pytest.mark.parametrize("state", States)
@pytest.mark.parametrize("name", CALLS)
def test_every_call_in_every_state(book: Book, name: str, state: JournalState) -> None:
    message = book.in_state(state)
    expected = CHANGES.get((name, state), state)
    if name in DEMANDING and state is not States.DELIVERING:
        book.ledger.begin()
        with pytest.raises(AssertionError, match="not being delivered"):
            CALLS[name](book, message)
        book.ledger.undo()
    else:
        CALLS[name](book, message)
    assert book.row(message.id)["state"] == expected
    tally = book.ledger.tally
    assert tally.unsettled == (expected in (States.PENDING, States.DELIVERING, States.HELD))
    rows, _, held, unreported = book.db.execute(SQL["counts"]).fetchone()
    assert (tally.rows, tally.held, tally.unreported) == (rows, held, unreported)
    assert sum(tally.ends.values()) == (1 if expected in set(FinalState) else state is States.CANCELLED)


def test_every_change_is_one_that_the_states_allow() -> None:
    for (_, source), target in CHANGES.items():
        assert target in JOURNAL_TRANSITIONS[source]


@pytest.mark.parametrize("state", States)
def test_the_secret_is_kept_only_until_the_end(book: Book, state: JournalState) -> None:
    message = book.in_state(state)
    ended = state not in (States.PENDING, States.DELIVERING, States.HELD)
    assert book.row(message.id)["authorization"] == (None if ended else SECRET)
    if ended:
        (settled,) = book.ledger.unreported(book.db, [(0, 10)])[0]
        assert settled.id == message.id
        assert "canary" not in repr(settled)


def test_the_secret_comes_back_with_a_delivery_that_is_wanted_again(book: Book) -> None:
    message = book.in_state(States.CANCELLED)
    book.accept(message)
    (claimed,) = book.claim(message.id)
    assert claimed.authorization == SECRET
    assert "canary" not in repr(claimed)


def test_the_secret_of_what_is_known_is_not_taken_again(book: Book) -> None:
    message = book.in_state(States.SUCCEEDED)
    book.ledger.mark_reported(book.db, [[message.id]])
    book.accept(message)
    assert book.row(message.id)["authorization"] is None


@pytest.mark.parametrize(
    "change",
    [
        "state = 'succeeded'",
        "state = 'lost'",
        "settled_at = 1, settled_order = 1, reason = 'x'",
        "reported_at = 1",
        "state = 'failed', settled_at = 1, settled_order = 1, reason = 'x'",
        "cancelling = 2",
        "on_unknown = 'ask'",
    ],
)
def test_the_file_refuses_a_row_that_cannot_be(book: Book, change: str) -> None:
    message = book.new()
    with pytest.raises(sqlite3.IntegrityError):
        book.db.execute(f"UPDATE delivery SET {change} WHERE id = ?", (message.id,))


class TestAccept:
    """What is fired, and fired again."""

    def test_everything_that_is_fired_is_in_the_claim(self, book: Book) -> None:
        message = fire(
            URI, method="POST", body="b", content_type="text/plain", authorization=SECRET, on_unknown="hold", age=5
        )
        assert book.accept(message, deadline=700) == [Kept.HERE]
        (claimed,) = book.claim(message.id)
        given = message.model_dump(exclude={"type", "age", "max_age"})
        assert {name: getattr(claimed, name) for name in given} == given
        assert (claimed.attempts, claimed.expires_at - claimed.born_at) == (1, 700)
        assert book.row(message.id)["accepted_at"] - claimed.born_at == 5

    def test_new_and_known_ones_together(self, book: Book) -> None:
        known, gone, new = book.new(), book.in_state(States.CANCELLED), fire(URI)
        assert book.accept(known, gone, new, new) == [Kept.HERE, Kept.AGAIN, Kept.HERE, Kept.HERE]
        assert book.ledger.tally.unsettled == 3
        assert len(book.claim(known.id, gone.id, new.id)) == 3

    def test_a_full_journal_takes_nothing_new(self, tmp_path: Path, clock: ManualClock) -> None:
        book = Book(tmp_path / "small.db", clock, most=2)
        with closing(book.db):
            first, second, third = [fire(f"http://10.0.0.{host}/") for host in (1, 2, 3)]
            assert book.accept(first, second, third, first) == [Kept.HERE, Kept.HERE, Full.JOURNAL, Kept.HERE]
            book.cancel(first.id)
            assert book.accept(third) == [Kept.HERE]

    def test_fired_again_a_waiting_retry_waits_on(self, book: Book) -> None:
        message = book.new()
        (claimed,) = book.claim(message.id)
        book.retry(claimed.seq, 900_000)
        due_at = book.row(message.id)["due_at"]
        assert book.accept(message) == [Kept.HERE]
        assert book.row(message.id)["due_at"] == due_at

    def test_fired_again_what_was_cancelled_begins_anew(self, book: Book) -> None:
        message = book.in_state(States.CANCELLED)
        book.ledger.mark_reported(book.db, [[message.id]])
        book.clock.pass_time(5000)
        assert book.accept(message) == [Kept.AGAIN]
        row = book.row(message.id)
        assert (row["attempts"], row["log"], row["reported_at"], row["reason"]) == (0, "[]", None, None)
        assert row["due_at"] == row["born_at"] == row["accepted_at"]

    def test_fired_again_what_was_reported_is_reported_once_more(self, book: Book) -> None:
        message = book.in_state(States.FAILED)
        book.ledger.mark_reported(book.db, [[message.id]])
        assert book.accept(message) == [Kept.HERE]
        assert [settled.id for settled in book.ledger.unreported(book.db, [(1, 10)])[0]] == [message.id]


class TestClaim:
    """Only what is pending and not too old."""

    def test_takes_those_that_are_named_and_pending(self, book: Book) -> None:
        pending, other, held = book.new(), book.new(), book.in_state(States.HELD)
        assert [claimed.id for claimed in book.claim(pending.id, held.id, "unknown")] == [pending.id]
        assert book.row(other.id)["attempts"] == 0
        assert book.claim(pending.id) == []

    def test_ends_what_is_too_old(self, book: Book) -> None:
        old, young, held = book.new(max_age=1000), book.new(max_age=5000), book.in_state(States.HELD)
        book.clock.pass_time(1000)
        assert [claimed.id for claimed in book.claim(old.id, young.id)] == [young.id]
        row = book.row(old.id)
        assert (row["state"], row["reason"], row["attempts"]) == ("expired", "too_old", 0)
        assert book.row(held.id)["state"] == "held"

    def test_expires_up_to_a_thousand_at_once(self, book: Book) -> None:
        book.ledger = Ledger(JournalTime(book.db, book.clock), bounds(10_000))
        book.accept(*[fire(URI, max_age=1) for _ in range(1500)])
        book.clock.pass_time(1)
        assert [book.expire(), book.expire(), book.expire()] == [1000, 500, 0]


class TestHold:
    """What waits for a person."""

    def test_is_told_in_the_order_in_which_it_was_held(self, book: Book) -> None:
        first, second, third = book.new(), book.new(), book.new()
        for message in (second, third, first):
            (claimed,) = book.claim(message.id)
            book.hold(claimed.seq)
        (everything,) = book.ledger.waiting(book.db, [(0, 10)])
        assert [waiting.id for waiting in everything] == [second.id, third.id, first.id]
        assert {(waiting.reason, waiting.attempts) for waiting in everything} == {("unknown", 1)}
        assert everything[0].log == [ENTRY]
        (later,) = book.ledger.waiting(book.db, [(everything[0].order, 1)])
        assert [waiting.id for waiting in later] == [third.id]

    def test_is_released_by_the_number_of_its_attempts(self, book: Book) -> None:
        message = book.in_state(States.HELD)
        assert [book.release(message.id, attempts) for attempts in (0, 2)] == [None, None]
        assert book.release(message.id, 1) == URI
        assert book.release(message.id, 1) is None
        (claimed,) = book.claim(message.id)
        assert claimed.attempts == 2
        assert book.ledger.waiting(book.db, [(0, 10)]) == [[]]

    def test_two_held_at_once_have_an_order(self, book: Book) -> None:
        rows = []
        for message in (book.new(), book.new()):
            (claimed,) = book.claim(message.id)
            rows.append({"seq": claimed.seq, "reason": Reason.UNKNOWN, "entry": ENTRY})
        book.ledger.hold(book.db, rows)
        (waiting,) = book.ledger.waiting(book.db, [(0, 10)])
        assert len({each.order for each in waiting}) == 2
        assert book.ledger.tally.order == waiting[-1].order

    def test_cancelled_while_it_was_under_way_it_ends(self, book: Book) -> None:
        message = book.new()
        (claimed,) = book.claim(message.id)
        book.cancel(message.id)
        book.hold(claimed.seq)
        row = book.row(message.id)
        assert (row["state"], row["reason"], row["authorization"]) == ("cancelled", "cancelled", None)


class TestRetry:
    """What waits for its next attempt."""

    def test_says_whether_it_waits(self, book: Book) -> None:
        kept, cancelled = book.new(), book.new()
        claimed = {each.id: each.seq for each in book.claim(kept.id, cancelled.id)}
        book.cancel(cancelled.id)
        rows = [{"seq": claimed[each.id], "delay": 5, "entry": ENTRY} for each in (cancelled, kept)]
        assert book.ledger.retry(book.db, rows) == [False, True]
        assert book.row(kept.id)["due_at"] == book.row(kept.id)["accepted_at"] + 5
        assert book.row(cancelled.id)["state"] == "cancelled"

    def test_the_log_keeps_the_first_and_the_latest_attempts(self, book: Book) -> None:
        message = book.new()
        for number in range(1, LOG_LENGTH + 6):
            (claimed,) = book.claim(message.id)
            row = {"seq": claimed.seq, "delay": 0, "entry": ENTRY | {"number": number}}
            book.ledger.retry(book.db, [row])
        (claimed,) = book.claim(message.id)
        book.settle(claimed.seq)
        ((settled,),) = book.ledger.unreported(book.db, [(0, 10)])
        numbers = [entry["number"] for entry in settled.log]
        assert (len(numbers), numbers[0], numbers[-2], settled.attempts) == (LOG_LENGTH, 1, LOG_LENGTH + 5, 26)


class TestRecover:
    """What a crash interrupted."""

    @pytest.mark.parametrize(
        ("on_unknown", "most", "state"),
        [("fire", 2, "pending"), ("fire", 1, "failed"), ("hold", 2, "held"), ("hold", 1, "held")],
    )
    def test_is_tried_again_or_held_or_has_failed(self, book: Book, on_unknown: str, most: int, state: str) -> None:
        message = book.new(on_unknown=on_unknown)
        book.claim(message.id)
        book.ledger = Ledger(JournalTime(book.db, book.clock), bounds(attempts=most))
        book.ledger.count(book.db)
        book.ledger.recover(book.db)
        row = book.row(message.id)
        assert (row["state"], row["attempts"]) == (state, 1)
        assert '"fault":"interrupted"' in row["log"]
        assert '"unknown":true' in row["log"]

    def test_cancelled_before_the_crash_it_ends(self, book: Book) -> None:
        messages = [book.new(on_unknown=on_unknown) for on_unknown in ("fire", "hold")]
        for message in messages:
            book.claim(message.id)
            book.cancel(message.id)
        book.ledger.recover(book.db)
        assert [book.row(message.id)["state"] for message in messages] == ["cancelled"] * 2

    def test_what_is_pending_is_told_with_its_time(self, book: Book) -> None:
        first, retried = book.new(), book.new()
        book.in_state(States.HELD)
        book.in_state(States.SUCCEEDED)
        (claimed,) = book.claim(retried.id)
        book.retry(claimed.seq, 5000)
        rows = {row["id"]: row["due_at"] for row in (book.row(first.id), book.row(retried.id))}
        pending = [(each.id, each.uri, each.due_at, each.attempts) for each in book.ledger.pending(book.db)]
        assert pending == [(first.id, URI, rows[first.id], 0), (retried.id, URI, rows[retried.id], 1)]
