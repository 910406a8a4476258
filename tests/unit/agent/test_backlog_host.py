"""What one host may start by itself: when, from which queue, and what an end changes."""

from heapq import heappush

import pytest

from presence.agent.backlog_host import NEVER, Entry, Host, places_for_retries
from presence.domain.circuit import CLOSED, FAILURES, Circuit, CircuitState

OPEN = Circuit(CircuitState.OPEN, 0, 10_000, probe_at=5_000)


def host(*entries: tuple[int, bool], max_in_flight: int = 4, rate: float | None = None) -> Host:
    """A host with entries: when it is due, and whether it is a first attempt. The id is the number in the order."""
    found = Host("a", max_in_flight, rate)
    for order, (due_at, first) in enumerate(entries):
        heappush(found.first if first else found.retries, (due_at, order, str(order), found))
    return found


def start(of: Host, now: int, may_retry: bool = True) -> str | None:
    queue = of.choose(now, may_retry)
    return None if queue is None else of.start(queue, now)


@pytest.mark.parametrize(
    ("entries", "may_retry", "expected"),
    [
        ([], True, NEVER),
        ([(30, True), (20, True)], True, 20),
        ([(30, True), (20, False)], True, 20),
        ([(30, True), (20, False)], False, 30),
        ([(20, False)], False, NEVER),
    ],
)
def test_next_start_is_when_the_first_is_due(entries: list[tuple[int, bool]], may_retry: bool, expected: int) -> None:
    assert host(*entries).next_start(may_retry) == expected


def test_nothing_is_chosen_before_it_is_due() -> None:
    assert start(host((30, True), (20, False)), 19) is None


def test_the_longest_due_is_chosen_of_both_kinds() -> None:
    both = host((30, True), (20, False), (20, True), (10, False))
    assert [start(both, 30) for _ in range(4)] == ["3", "1", "2", "0"]


def test_without_leave_to_retry_first_attempts_start() -> None:
    both = host((30, True), (20, False))
    assert [start(both, 30, may_retry=False) for _ in range(2)] == ["0", None]


def test_a_full_host_starts_nothing_until_one_has_ended() -> None:
    full = host(*[(0, True)] * 3, max_in_flight=2)
    assert [start(full, 0) for _ in range(3)] == ["0", "1", None]
    assert full.next_start(True) == NEVER
    full.end(True, CLOSED, 0)
    assert full.next_start(True) == 0
    assert start(full, 0) == "2"


def test_retries_leave_a_quarter_of_the_places() -> None:
    wave = host(*[(0, False)] * 5, (9, True))
    assert [start(wave, 9) for _ in range(5)] == ["0", "1", "2", "5", None]
    wave.end(True, CLOSED, 9)
    assert wave.next_start(True) == NEVER
    wave.end(False, CLOSED, 9)
    assert start(wave, 9) == "3"


@pytest.mark.parametrize(("places", "expected"), [(1, 1), (2, 1), (3, 2), (4, 3), (5, 3), (64, 48), (1024, 768)])
def test_places_for_retries(places: int, expected: int) -> None:
    assert places_for_retries(places) == expected


def test_an_open_circuit_starts_one_when_its_time_has_come_and_nothing_is_under_way() -> None:
    lost = host(*[(0, False)] * 3, (10, True))
    start(lost, 0), start(lost, 0)
    lost.end(False, OPEN, 0)
    assert lost.next_start(True) == NEVER
    lost.end(False, OPEN, 0)
    assert lost.next_start(True) == 5_000
    assert start(lost, 4_999) is None
    assert start(lost, 5_000) == "3"
    assert lost.circuit.state is CircuitState.HALF_OPEN
    assert lost.next_start(True) == NEVER
    assert start(lost, 10**6) is None
    lost.end(True, CLOSED, 5_100)
    assert start(lost, 5_100) == "2"


def test_a_few_failures_do_not_prefer_first_attempts() -> None:
    shaky = host((0, True), (10, False), (20, True))
    start(shaky, 0)
    shaky.end(True, Circuit(failures=FAILURES - 1), 0)
    assert start(shaky, 20) == "1"


def test_the_rate_sets_the_next_start() -> None:
    slow = host(*[(0, True)] * 3, rate=2.0)
    assert [start(slow, 0) for _ in range(3)] == ["0", "1", None]
    assert slow.next_start(True) == 500
    assert start(slow, 500) == "2"


def test_what_was_removed_neither_counts_nor_starts() -> None:
    some = host((0, True), (1, False), (2, True))
    entries: list[Entry] = sorted(some.first + some.retries)
    some.remove(entries[0])
    some.remove(entries[1])
    assert some.waiting == 1
    assert some.next_start(True) == 2
    assert [start(some, 2) for _ in range(2)] == ["2", None]
    assert some.waiting == 0


def test_an_idle_host_knows_nothing_once_its_circuit_is_closed_and_its_bucket_full() -> None:
    some = host((0, True), rate=1.0)
    assert not some.is_idle()
    start(some, 0)
    assert not some.is_idle()
    some.end(True, Circuit(failures=1), 0)
    assert some.is_idle()
    assert not some.knows_nothing(1_000)
    some.circuit = CLOSED
    assert not some.knows_nothing(999)
    assert some.knows_nothing(1_000)
