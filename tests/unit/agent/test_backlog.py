"""The backlog: against a naive model in any order of events, and each rule alone."""

import tracemalloc
from collections import Counter
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from presence.agent.backlog import IDLE_HOSTS, IDLE_KEPT, Backlog, HostLimits
from presence.domain.circuit import CLOSED, FAILURES, Circuit, CircuitState
from presence.domain.rate import TokenBucket

NEVER = 2**60


def limits(max_in_flight: int = 100, rate: float | None = None) -> Callable[[str], HostLimits]:
    return lambda _: HostLimits(max_in_flight, rate)


def filled(backlog: Backlog, host: str, number: int, *, first: bool = True, due_at: int = 0) -> list[str]:
    ids = [f"{host}{'' if first else 'r'}{n}" for n in range(number)]
    for id in ids:
        backlog.add(id, host, due_at, first=first)
    return ids


def failed(backlog: Backlog, host: str, times: int = FAILURES, now: int = 0) -> Circuit | None:
    """The circuit's change after that many attempts that got no answer."""
    changed = None
    for number in range(times):
        backlog.add(f"{host}-failed{number}", host, now, first=True)
        assert backlog.take(now) == [f"{host}-failed{number}"]
        changed = backlog.finished(f"{host}-failed{number}", now, False)
    return changed


# In any order of events


class Entry(NamedTuple):
    due_at: int
    order: int
    id: str
    host: str
    first: bool


class Place:
    """What the model knows of a host."""

    def __init__(self, limits: HostLimits) -> None:
        self.most = limits.max_in_flight
        self.bucket = TokenBucket(limits.rate) if limits.rate else None
        self.circuit = CLOSED


def retries_of(places: int) -> int:
    return max(1, int(places * 0.75))


class Machine(RuleBasedStateMachine):
    """The backlog beside a list of entries that is searched from end to end."""

    hosts = st.sampled_from("abcde")

    @initialize(
        most=st.integers(1, 8),
        rate=st.sampled_from([None, None, 0.5, 5.0]),
        hosts=st.fixed_dictionaries(
            {
                name: st.builds(HostLimits, st.integers(1, 5), st.sampled_from([None, None, 0.7, 3.0]))
                for name in "abcde"
            }
        ),
    )
    def begin(self, most: int, rate: float | None, hosts: dict[str, HostLimits]) -> None:
        self.backlog = Backlog(most, hosts.__getitem__, rate, jitter=lambda: 0.0)
        self.most = most
        self.bucket = TokenBucket(rate) if rate else None
        self.places = {name: Place(host) for name, host in hosts.items()}
        self.waiting: dict[str, Entry] = {}
        self.in_flight: list[Entry] = []
        self.again: dict[str, tuple[str, int]] = {}
        self.now = 1_000
        self.order = 0

    @rule(host=hosts, delay=st.sampled_from([0, 0, 0, 1, 500, 20_000]), first=st.booleans(), times=st.integers(1, 4))
    def add(self, host: str, delay: int, first: bool, times: int) -> None:
        for _ in range(times):
            self._add(f"{host}{self.order}", host, self.now + delay, first)

    @precondition(lambda self: self.waiting)
    @rule(choice=st.integers(0), host=hosts, delay=st.sampled_from([-5, 0, 700]), first=st.booleans())
    def add_again(self, choice: int, host: str, delay: int, first: bool) -> None:
        self._add(sorted(self.waiting)[choice % len(self.waiting)], host, self.now + delay, first)

    @precondition(lambda self: self.in_flight)
    @rule(choice=st.integers(0), host=hosts, delay=st.sampled_from([0, 700]))
    def add_for_a_retry(self, choice: int, host: str, delay: int) -> None:
        entry = self.in_flight[choice % len(self.in_flight)]
        self.again[entry.id] = (host, self.now + delay)
        self.backlog.add(entry.id, host, self.now + delay, first=False)

    def _add(self, id: str, host: str, due_at: int, first: bool) -> None:
        self.order += 1
        self.backlog.add(id, host, due_at, first=first)
        self.waiting[id] = Entry(due_at, self.order, id, host, first)

    @precondition(lambda self: self.waiting)
    @rule(choice=st.integers(0))
    def discard(self, choice: int) -> None:
        id = sorted(self.waiting)[choice % len(self.waiting)]
        self.backlog.discard(id)
        del self.waiting[id]

    @rule()
    def discard_what_is_not_here(self) -> None:
        self.backlog.discard("z")

    @rule(time=st.sampled_from([1, 100, 1_000, 10_000]))
    def pass_time(self, time: int) -> None:
        self.now += time

    @precondition(lambda self: self.in_flight)
    @rule(choice=st.integers(0), reached=st.sampled_from([True, False, False, False, None]))
    def finish(self, choice: int, reached: bool | None) -> None:
        self._finish(self.in_flight[choice % len(self.in_flight)], reached)

    @precondition(lambda self: self.in_flight)
    @rule(host=hosts)
    def lose(self, host: str) -> None:
        for entry in [entry for entry in self.in_flight if entry.host == host]:
            self._finish(entry, False)

    def _finish(self, entry: Entry, reached: bool | None) -> None:
        self.in_flight.remove(entry)
        place = self.places[entry.host]
        before, place.circuit = place.circuit, place.circuit.ended(reached, self.now, 0.0)
        changed = self.backlog.finished(entry.id, self.now, reached)
        assert changed == (place.circuit if place.circuit.state is not before.state else None)
        if entry.id in self.again:
            host, due_at = self.again.pop(entry.id)
            self.order += 1
            self.waiting[entry.id] = Entry(due_at, self.order, entry.id, host, first=False)

    @rule()
    def take(self) -> None:
        expected = self.backlog.next_due(self.now)
        due = self._earliest()
        taken = self.backlog.take(self.now)
        if expected != 0:
            assert not taken
        if due is not None and due <= self.now:
            assert taken
        for id in taken:
            self._start(self.waiting.pop(id))
        # whatever is left cannot start, and the backlog neither oversleeps nor spins
        due, announced = self._earliest(), self.backlog.next_due(self.now)
        assert due is None or due > self.now
        assert announced is None or announced > 0
        assert due is None or (announced is not None and self.now + announced <= due)

    def _start(self, entry: Entry) -> None:
        assert self._start_of(entry) <= self.now
        place = self.places[entry.host]
        earlier = [other for other in self.waiting.values() if other.host == entry.host and other < entry]
        if place.circuit.state is CircuitState.OPEN:
            place.circuit = place.circuit.started()
            assert entry.first or not any(other.first and other.due_at <= self.now for other in earlier)
        assert not any(other.first is entry.first for other in earlier)
        if place.bucket:
            place.bucket.take(self.now)
        if self.bucket:
            self.bucket.take(self.now)
        self.in_flight.append(entry)

    def _start_of(self, entry: Entry) -> int:
        """When the entry may start if nothing but time passes."""
        place = self.places[entry.host]
        own = [other for other in self.in_flight if other.host == entry.host]
        if len(self.in_flight) >= self.most or len(own) >= place.most:
            return NEVER
        if not entry.first:
            if sum(not other.first for other in self.in_flight) >= retries_of(self.most):
                return NEVER
            if sum(not other.first for other in own) >= retries_of(place.most):
                return NEVER
        start = max(entry.due_at, self.now)
        match place.circuit.state:
            case CircuitState.HALF_OPEN:
                return NEVER
            case CircuitState.OPEN:
                start = max(start, NEVER if own else place.circuit.probe_at)
        for bucket in (place.bucket, self.bucket):
            if bucket:
                start = max(start, self.now + bucket.wait(self.now))
        return start

    def _earliest(self) -> int | None:
        start = min(map(self._start_of, self.waiting.values()), default=NEVER)
        return start if start < NEVER else None

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.backlog) == len(self.waiting)
        counts = Counter(entry.host for entry in self.waiting.values())
        for name in "abcde":
            assert self.backlog.waiting(name) == counts[name]
        unclosed = {
            name: place.circuit for name, place in self.places.items() if place.circuit.state is not CircuitState.CLOSED
        }
        assert self.backlog.circuits() == unclosed

    def teardown(self) -> None:
        """When every host answers, everything is taken."""
        if not hasattr(self, "backlog"):
            return
        steps = 0
        while self.waiting or self.in_flight:
            for entry in list(self.in_flight):
                self._finish(entry, True)
            self.take()
            if not self.in_flight and self.waiting:
                announced = self.backlog.next_due(self.now)
                assert announced is not None
                self.now += announced
            steps += 1
            assert steps < 10_000
        assert self.backlog.next_due(self.now) is None or not self.backlog.take(self.now)


TestAgainstTheModel = Machine.TestCase
TestAgainstTheModel.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


# Order


def test_the_longest_due_of_a_host_goes_first_and_equals_in_their_order() -> None:
    backlog = Backlog(10, limits())
    for id, due_at in [("late", 30), ("b", 20), ("a", 20), ("early", 10), ("later", 40)]:
        backlog.add(id, "host", due_at, first=True)
    assert backlog.take(30) == ["early", "b", "a", "late"]
    assert backlog.next_due(30) == 10


def test_first_attempts_and_retries_of_a_host_are_merged_by_their_times() -> None:
    backlog = Backlog(10, limits())
    for id, due_at, first in [("r1", 10, False), ("f2", 20, True), ("r3", 30, False), ("f4", 40, True)]:
        backlog.add(id, "host", due_at, first=first)
    assert backlog.take(100) == ["r1", "f2", "r3", "f4"]


def test_hosts_take_turns_however_long_their_queues_are() -> None:
    backlog = Backlog(6, limits())
    filled(backlog, "a", 1_000)
    filled(backlog, "b", 1)
    filled(backlog, "c", 2)
    assert backlog.take(0) == ["a0", "b0", "c0", "a1", "c1", "a2"]


def test_turns_go_on_where_they_ended() -> None:
    backlog = Backlog(1, limits())
    for host in "abc":
        filled(backlog, host, 3)
    taken = []
    while backlog:
        (id,) = backlog.take(0)
        taken.append(id)
        backlog.finished(id, 0, True)
    assert taken == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]


def test_a_host_at_its_bound_is_passed_over() -> None:
    backlog = Backlog(10, limits(2))
    filled(backlog, "a", 5)
    filled(backlog, "b", 5)
    assert backlog.take(0) == ["a0", "b0", "a1", "b1"]
    assert backlog.next_due(0) is None
    assert backlog.finished("b0", 0, True) is None
    assert backlog.next_due(0) == 0
    assert backlog.take(0) == ["b2"]


def test_at_the_bound_of_all_nothing_is_due_until_one_has_finished() -> None:
    backlog = Backlog(2, limits())
    filled(backlog, "a", 3)
    assert backlog.take(0) == ["a0", "a1"]
    assert backlog.next_due(0) is None
    assert backlog.take(10) == []
    backlog.finished("a0", 10, True)
    assert backlog.take(10) == ["a2"]


@pytest.mark.parametrize("first", [True, False])
def test_each_end_at_a_full_host_makes_room_for_one(first: bool) -> None:
    backlog = Backlog(10, limits(4))
    ids = filled(backlog, "a", 8, first=first)
    taken = backlog.take(0)
    assert taken == ids[: 4 if first else 3]
    backlog.finished(taken[0], 0, True)
    assert backlog.take(0) == [ids[len(taken)]]


def test_what_is_added_for_a_full_host_makes_nothing_due() -> None:
    backlog = Backlog(10, limits(1))
    filled(backlog, "a", 1)
    backlog.take(0)
    backlog.add("late", "a", 0, first=True)
    assert backlog.next_due(0) is None


# Retries


@pytest.mark.parametrize(("places", "expected"), [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6), (64, 48)])
@pytest.mark.parametrize("per_host", [True, False])
def test_retries_hold_three_quarters_of_the_places_at_most(places: int, expected: int, per_host: bool) -> None:
    backlog = Backlog(1_000 if per_host else places, limits(places if per_host else 1_000))
    filled(backlog, "a", 100, first=False)
    assert len(backlog.take(0)) == expected
    assert backlog.next_due(0) is None
    filled(backlog, "a", 100)
    assert len(backlog.take(0)) == places - expected


def test_a_wave_of_retries_leaves_room_for_a_first_attempt() -> None:
    backlog = Backlog(64, limits(8))
    for number in range(1_000):
        filled(backlog, f"host{number}", 2, first=False)
    assert len(backlog.take(0)) == 48
    backlog.add("first", "host999", 1, first=True)
    assert backlog.take(1) == ["first"]


def test_hosts_whose_retries_wait_for_a_place_take_turns() -> None:
    backlog = Backlog(2, limits())
    for host in "abc":
        filled(backlog, host, 2, first=False)
    taken = backlog.take(0)
    while backlog:
        backlog.finished(taken[-1], 0, True)
        taken += backlog.take(0)
    assert taken == ["ar0", "br0", "cr0", "ar1", "br1", "cr1"]


def test_a_retry_does_not_starve_behind_an_endless_stream_of_first_attempts() -> None:
    backlog = Backlog(4, limits(4))
    ids = (f"f{number}" for number in count())
    for _ in range(50):
        backlog.add(next(ids), "a", 0, first=True)
    backlog.add("retry", "a", 5, first=False)
    for now in range(60):
        backlog.add(next(ids), "a", now, first=True)
        taken = backlog.take(now)
        if "retry" in taken:
            return
        for id in taken[:1]:
            backlog.finished(id, now, True)
    pytest.fail("the retry was due before most of the stream")


def test_a_place_for_a_retry_goes_to_the_host_that_has_lined_up_first() -> None:
    backlog = Backlog(8, limits())
    filled(backlog, "wave", 6, first=False)
    assert len(backlog.take(0)) == 6
    backlog.add("early", "single", 1, first=False)
    assert backlog.take(1) == []
    backlog.add("late", "mixed", 0, first=False)
    filled(backlog, "mixed", 100, due_at=2)
    assert backlog.take(2) == ["mixed0", "mixed1"]
    for number, expected in enumerate(["early", "late", "mixed2"]):
        backlog.finished(f"waver{number}", 2, True)
        assert backlog.take(2) == [expected]


# Circuits


def test_a_host_that_does_not_answer_gives_nothing_until_its_probe() -> None:
    backlog = Backlog(10, limits(), jitter=lambda: 0.0)
    filled(backlog, "a", 5)
    filled(backlog, "b", 3, due_at=50)
    assert len(backlog.take(0)) == 5
    for number in range(4):
        assert backlog.finished(f"a{number}", 0, False) is None
    opened = backlog.finished("a4", 0, False)
    assert opened is not None
    assert opened.state is CircuitState.OPEN
    assert backlog.circuits() == {"a": opened}
    filled(backlog, "a", 3)
    assert backlog.take(50) == ["b0", "b1", "b2"]
    assert backlog.next_due(50) == opened.probe_at - 50 == 4_950
    backlog.add("a3", "a", 50, first=True)
    assert backlog.next_due(50) == 4_950
    assert backlog.take(4_999) == []
    assert backlog.take(5_000) == ["a0"]
    assert backlog.circuits()["a"].state is CircuitState.HALF_OPEN
    assert backlog.next_due(5_000) is None
    closed = backlog.finished("a0", 5_100, True)
    assert closed is CLOSED
    assert backlog.circuits() == {}
    assert backlog.take(5_100) == ["a1", "a2", "a3"]


def test_a_failed_probe_opens_it_for_longer() -> None:
    backlog = Backlog(10, limits(), jitter=lambda: 0.0)
    opened = failed(backlog, "a")
    filled(backlog, "a", 3)
    assert opened is not None
    assert backlog.take(opened.probe_at) == ["a0"]
    again = backlog.finished("a0", 30_000, False)
    assert again is not None
    assert again.state is CircuitState.OPEN
    assert backlog.next_due(30_000) == again.probe_at - 30_000 == 10_000


def test_no_probe_starts_while_an_earlier_attempt_is_under_way() -> None:
    backlog = Backlog(10, limits(), jitter=lambda: 0.0)
    filled(backlog, "a", 8)
    backlog.take(0)
    for number in range(FAILURES):
        backlog.finished(f"a{number}", 0, False)
    filled(backlog, "a", 2)
    assert backlog.take(100_000) == []
    assert backlog.next_due(100_000) is None
    for number in range(FAILURES, 8):
        backlog.finished(f"a{number}", 100_000, False)
    assert backlog.take(100_000) == ["a0"]


def test_an_answer_to_an_earlier_attempt_closes_it() -> None:
    backlog = Backlog(10, limits(), jitter=lambda: 0.0)
    filled(backlog, "a", 8)
    backlog.take(0)
    for number in range(FAILURES):
        backlog.finished(f"a{number}", 0, False)
    filled(backlog, "a", 2)
    assert backlog.finished("a7", 10, True) is CLOSED
    assert backlog.take(10) == ["a0", "a1"]


def test_the_probe_is_a_first_attempt_rather_than_a_retry() -> None:
    backlog = Backlog(10, limits(), jitter=lambda: 0.0)
    opened = failed(backlog, "a")
    assert opened is not None
    filled(backlog, "a", 2, first=False)
    filled(backlog, "a", 2, due_at=100)
    assert backlog.take(opened.probe_at) == ["a0"]


def test_without_a_first_attempt_the_probe_is_the_retry_that_is_due_longest() -> None:
    backlog = Backlog(10, limits(), jitter=lambda: 0.0)
    opened = failed(backlog, "a")
    assert opened is not None
    backlog.add("later", "a", 20, first=False)
    backlog.add("longest", "a", 10, first=False)
    backlog.add("not-due", "a", 10**6, first=True)
    assert backlog.take(opened.probe_at) == ["longest"]


def test_a_probe_that_did_not_ask_the_host_makes_room_for_the_next() -> None:
    backlog = Backlog(10, limits(), jitter=lambda: 0.0)
    opened = failed(backlog, "a")
    assert opened is not None
    filled(backlog, "a", 2)
    assert backlog.take(opened.probe_at) == ["a0"]
    backlog.finished("a0", 6_000, None)
    assert backlog.take(6_000) == ["a1"]


def test_failures_are_remembered_while_nothing_of_the_host_waits() -> None:
    backlog = Backlog(10, limits())
    assert failed(backlog, "a", FAILURES - 1) is None
    assert failed(backlog, "a", 1, now=IDLE_KEPT - 1) is not None


# Rates


def test_the_rate_of_a_host_delays_only_that_host() -> None:
    slow = {"a": HostLimits(10, 2.0), "b": HostLimits(10, None)}
    backlog = Backlog(10, slow.__getitem__)
    filled(backlog, "a", 4)
    filled(backlog, "b", 4)
    assert backlog.take(0) == ["a0", "b0", "a1", "b1", "b2", "b3"]
    assert backlog.next_due(0) == 500
    assert backlog.take(499) == []
    assert backlog.take(500) == ["a2"]


def test_the_overall_rate_is_shared_in_turns() -> None:
    backlog = Backlog(10, limits(), rate=2)
    for host in "ab":
        filled(backlog, host, 4)
    assert backlog.take(0) == ["a0", "b0"]
    assert backlog.next_due(0) == 500
    assert backlog.take(499) == []
    assert backlog.take(1_000) == ["a1", "b1"]


def test_the_overall_rate_delays_what_is_due_earlier() -> None:
    backlog = Backlog(10, limits(), rate=2)
    filled(backlog, "a", 2)
    filled(backlog, "b", 1, due_at=100)
    assert backlog.take(0) == ["a0", "a1"]
    assert backlog.next_due(0) == 500


# Entries that change or go


def test_an_entry_that_is_added_again_is_replaced() -> None:
    backlog = Backlog(10, limits())
    backlog.add("x", "a", 1_000, first=False)
    backlog.add("x", "b", 0, first=True)
    assert (len(backlog), backlog.waiting("a"), backlog.waiting("b")) == (1, 0, 1)
    assert backlog.take(0) == ["x"]
    backlog.finished("x", 0, True)
    assert backlog.take(1_000) == []
    assert backlog.next_due(1_000) is None


def test_an_entry_in_flight_may_be_added_for_its_retry() -> None:
    backlog = Backlog(10, limits())
    backlog.add("x", "a", 0, first=True)
    assert backlog.take(0) == ["x"]
    backlog.add("x", "b", 7, first=False)
    assert "x" in backlog
    assert backlog.take(7) == []
    backlog.finished("x", 7, True)
    assert (backlog.waiting("a"), backlog.waiting("b")) == (0, 1)
    assert backlog.take(7) == ["x"]


def test_an_entry_in_flight_that_is_discarded_does_not_come_back() -> None:
    backlog = Backlog(10, limits())
    backlog.add("x", "a", 0, first=True)
    assert backlog.take(0) == ["x"]
    backlog.add("x", "a", 0, first=False)
    backlog.discard("x")
    backlog.finished("x", 0, True)
    assert "x" not in backlog
    assert backlog.take(0) == []


def test_it_contains_what_waits_and_what_is_in_flight() -> None:
    backlog = Backlog(1, limits())
    filled(backlog, "a", 2)
    backlog.take(0)
    assert ("a0" in backlog, "a1" in backlog, "a2" in backlog) == (True, True, False)
    backlog.finished("a0", 0, True)
    assert "a0" not in backlog


def test_a_discarded_entry_is_not_taken() -> None:
    backlog = Backlog(10, limits())
    filled(backlog, "a", 3)
    backlog.discard("a0")
    backlog.discard("a0")
    backlog.discard("unknown")
    assert backlog.take(0) == ["a1", "a2"]


def test_a_discarded_entry_is_not_waited_for() -> None:
    backlog = Backlog(10, limits())
    backlog.add("x", "a", 1_000, first=False)
    backlog.discard("x")
    assert backlog.take(0) == []
    assert backlog.next_due(0) is None


def test_a_host_that_is_forgotten_leaves_the_line_for_retries() -> None:
    backlog = Backlog(2, limits())
    filled(backlog, "a", 1, first=False)
    filled(backlog, "b", 1, first=False)
    assert backlog.take(0) == ["ar0"]
    backlog.discard("br0")
    assert backlog.take(0) == []
    backlog.finished("ar0", 0, True)
    assert backlog.take(0) == []
    filled(backlog, "b", 1, first=False)
    assert backlog.take(0) == ["br0"]


@pytest.mark.parametrize("comes_back", [False, True])
def test_a_host_whose_retry_in_line_was_discarded_is_forgotten_once(comes_back: bool) -> None:
    backlog = Backlog(2, lambda host: HostLimits(8, 0.5 if host == "b" else None))
    filled(backlog, "a", 1, first=False)
    assert backlog.take(0) == ["ar0"]
    filled(backlog, "b", 1, first=False)
    filled(backlog, "b", 1, due_at=1)
    assert backlog.take(1) == ["b0"]
    backlog.discard("br0")
    backlog.finished("b0", 2, True)
    backlog.finished("ar0", 9_000, True)
    assert backlog.take(10_000) == []
    if comes_back:
        backlog.add("again", "b", 10_000, first=True)
        assert backlog.take(10_000) == ["again"]
    assert backlog.take(10_000 + 2 * IDLE_KEPT) == []
    if comes_back:
        backlog.finished("again", 10_000 + 2 * IDLE_KEPT, True)


def test_a_host_of_which_nothing_is_worth_knowing_is_forgotten_at_once() -> None:
    asked: list[str] = []

    def told(host: str) -> HostLimits:
        asked.append(host)
        return HostLimits(10, None)

    backlog = Backlog(10, told)
    for _ in range(3):
        filled(backlog, "a", 1)
        backlog.take(0)
        backlog.finished("a0", 0, True)
    backlog.add("b", "b", 1_000, first=True)
    backlog.discard("b")
    backlog.take(0)
    backlog.add("b", "b", 1_000, first=True)
    assert asked == ["a", "a", "a", "b", "b"]


def test_an_open_circuit_of_an_idle_host_is_forgotten_after_a_while() -> None:
    backlog = Backlog(10, limits())
    failed(backlog, "a")
    backlog.take(IDLE_KEPT - 1)
    assert list(backlog.circuits()) == ["a"]
    backlog.take(IDLE_KEPT)
    assert backlog.circuits() == {}


def test_a_host_that_has_something_again_is_not_forgotten() -> None:
    backlog = Backlog(10, limits())
    failed(backlog, "a")
    backlog.add("x", "a", 10 * IDLE_KEPT, first=True)
    backlog.take(2 * IDLE_KEPT)
    assert list(backlog.circuits()) == ["a"]


def test_a_used_rate_is_remembered() -> None:
    backlog = Backlog(10, limits(rate=1.0))
    filled(backlog, "a", 1)
    backlog.take(0)
    backlog.finished("a0", 0, True)
    filled(backlog, "a", 1)
    assert backlog.take(0) == []
    assert backlog.take(1_000) == ["a0"]


def test_idle_hosts_are_bounded_in_number() -> None:
    backlog = Backlog(1, limits(), jitter=lambda: 0.0)
    failed(backlog, "first")
    for number in range(IDLE_HOSTS):
        failed(backlog, f"host{number}", 1)
    assert backlog.circuits() == {}


@pytest.mark.parametrize("change", ["discard", "replace"])
def test_entries_that_are_gone_take_no_memory(change: str) -> None:
    backlog = Backlog(10, limits())
    backlog.add("stays", "a", 10**9, first=True)

    def turn(number: int) -> None:
        backlog.add("x", "a", 10**9 - number, first=False)
        backlog.take(0)
        if change == "discard":
            backlog.discard("x")
        backlog.take(0)

    tracemalloc.start()
    try:
        for number in range(1_000):
            turn(number)
        before, _ = tracemalloc.get_traced_memory()
        for number in range(1_000, 20_000):
            turn(number)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after < before + 40_000
    assert backlog.waiting("a") == len(backlog) == (1 if change == "discard" else 2)


# One dead host beside others


def served(dead: str, most: int = 64, per_host: int = 4) -> dict[str, int]:
    """When each delivery's first attempt started: ten hosts, a hundred deliveries a second each for three seconds.

    An attempt takes 20 ms, at a dead host 30 s, and is repeated a second later.
    """
    backlog = Backlog(most, limits(per_host), jitter=lambda: 0.5)
    order = count()
    events = [
        (10 * number + host, next(order), f"{host}/{number}", True) for number in range(300) for host in range(10)
    ]
    heapify(events)
    started: dict[str, int] = {}
    while events and events[0][0] < 300_000:
        now, _, id, arrives = heappop(events)
        host = id.partition("/")[0]
        if arrives:
            backlog.add(id, host, now, first=id not in started)
        else:
            backlog.finished(id, now, host != dead)
            if host == dead:
                heappush(events, (now + 1_000, next(order), id, True))
        for taken in backlog.take(now):
            started.setdefault(taken, now)
            lasts = 30_000 if taken.startswith(f"{dead}/") else 20
            heappush(events, (now + lasts, next(order), taken, False))
    return started


def test_a_dead_host_delays_no_other() -> None:
    undisturbed, disturbed = served("none"), served("3")
    others = {id: at for id, at in undisturbed.items() if not id.startswith("3/")}
    assert len(others) == 9 * 300
    assert {id: disturbed[id] for id in others} == others
    assert sum(id.startswith("3/") for id in disturbed) < 10


# After a pause, and with other limits


def test_what_has_waited_starts_at_the_set_rate_and_then_nothing_is_held_back_any_more() -> None:
    backlog = Backlog(1000, limits())
    filled(backlog, "a", 10)
    filled(backlog, "b", 10)
    backlog.ease(2, now=0)
    assert len(backlog.take(0)) == 2
    assert backlog.next_due(0) == 500
    assert len(backlog.take(500)) == 1
    assert len(backlog.take(9_999)) <= 2
    filled(backlog, "c", 100)
    assert len(backlog.take(10_000)) == 100 + 20 - 5


def test_to_ease_an_empty_backlog_changes_nothing() -> None:
    backlog = Backlog(1000, limits())
    backlog.ease(1, now=0)
    filled(backlog, "a", 10)
    assert len(backlog.take(0)) == 10


def test_the_lower_of_both_rates_counts_after_a_pause() -> None:
    backlog = Backlog(1000, limits(), rate=1)
    filled(backlog, "a", 10)
    backlog.ease(100, now=0)
    assert len(backlog.take(0)) == 1
    assert backlog.next_due(0) == 1000


def test_other_limits_hold_at_once_for_the_hosts_that_are_known() -> None:
    backlog = Backlog(1000, limits(2))
    filled(backlog, "a", 20)
    assert len(backlog.take(0)) == 2
    assert backlog.take(0) == []
    backlog.limit(limits(5), None)
    taken = backlog.take(0)
    assert len(taken) == 3
    backlog.limit(limits(1), None)
    for id in taken:
        backlog.finished(id, 0, True)
        assert backlog.take(0) == []
    backlog.limit(limits(100), 1)
    assert len(backlog.take(0)) == 1


def test_a_circuit_stays_open_whatever_the_limits_become() -> None:
    backlog = Backlog(1000, limits(), jitter=lambda: 0.0)
    failed(backlog, "a")
    filled(backlog, "a", 3)
    backlog.limit(limits(7), None)
    assert backlog.take(0) == []
    assert backlog.circuits()["a"].state is CircuitState.OPEN
