"""Who gets which delivery, and how many each host is given."""

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from presence.controlplane.fairness import SHARE, assign, in_turn, shares
from presence.controlplane.store.queue import Due

names = st.text("abcdefg", min_size=1, max_size=2)


@dataclass
class Unanswered:
    unanswered: set[str] = field(default_factory=set)


@dataclass
class Seat:
    session: Unanswered
    free_credit: int
    in_flight: int


def seat(credit: int, unanswered: int = 0, in_flight: int = 0) -> Seat:
    return Seat(Unanswered({str(number) for number in range(unanswered)}), credit, in_flight + unanswered)


def due(name: str, *, suspect: bool = False) -> Due:
    return Due(
        name, "w", "ScanExecutionCompleted", "s", "http://x/", "x:80", "GET", None, None, "fire", 0, 1, None, suspect,
        paused=False, authorization=None,
    )  # fmt: skip


def plan(deliveries: list[Due], *seats: Seat) -> list[list[str]]:
    given = {id(seat): [delivery.id for delivery in batch] for seat, batch in assign(deliveries, seats)}  # type: ignore[type-var]
    return [given.get(id(seat), []) for seat in seats]


def test_within_the_credit_and_in_order() -> None:
    assert plan([due("a"), due("b"), due("c")], seat(2)) == [["a", "b"]]
    assert plan([due("a")], seat(0)) == [[]]
    assert plan([], seat(9)) == [[]]


def test_the_least_in_flight_first() -> None:
    assert plan([due("a"), due("b"), due("c")], seat(9, unanswered=1), seat(9)) == [["b"], ["a", "c"]]
    assert plan([due("a"), due("b"), due("c")], seat(9), seat(9, in_flight=2)) == [["a", "b", "c"], []]


def test_a_full_seat_passes_on() -> None:
    assert plan([due("a"), due("b"), due("c")], seat(1), seat(9, unanswered=5)) == [["a"], ["b", "c"]]


def test_a_suspect_goes_alone() -> None:
    assert plan([due("x", suspect=True), due("a")], seat(9)) == [["x"]]
    assert plan([due("x", suspect=True), due("y", suspect=True)], seat(9)) == [["x"]]
    assert plan([due("x", suspect=True), due("a")], seat(9), seat(9)) == [["x"], ["a"]]


def test_a_suspect_goes_where_nothing_is_unanswered_whatever_else_is_in_flight() -> None:
    assert plan([due("x", suspect=True)], seat(9, unanswered=1), seat(9, in_flight=5)) == [[], ["x"]]


def test_a_suspect_waits_for_a_seat_to_become_free_and_keeps_it_clear() -> None:
    assert plan([due("x", suspect=True), due("a")], seat(9, unanswered=1)) == [[]]
    assert plan([due("x", suspect=True), due("a")], seat(9, unanswered=1), seat(9, unanswered=2)) == [[], ["a"]]


def test_hosts_take_turns_at_being_first() -> None:
    assert in_turn(["a", "b", "c"], None) == ["a", "b", "c"]
    assert in_turn(["a", "b", "c"], "b") == ["c", "a", "b"]
    assert in_turn(["a", "b", "c"], "c") == ["a", "b", "c"]
    assert in_turn(["a", "c"], "b") == ["c", "a"]
    assert in_turn([], "b") == []


def test_shares_are_alike() -> None:
    assert shares(["a", "b", "c"], {}, 100, 7) == {"a": 3, "b": 2, "c": 2}
    assert shares(["a", "b", "c"], {}, 100, 2) == {"a": 1, "b": 1, "c": 0}
    assert shares([], {}, 100, 7) == {}
    assert shares(["a"], {}, 0, 7) == {"a": 0}


def test_a_single_host_uses_two_thirds_of_the_credit() -> None:
    assert shares(["a"], {}, 300, 500) == {"a": 200}
    assert shares(["a"], {"a": 200}, 100, 500) == {"a": 0}
    assert shares(["a", "b"], {"a": 200}, 100, 500) == {"a": 0, "b": 67}


def test_a_small_credit_is_used_by_one() -> None:
    assert shares(["a"], {}, 1, 500) == {"a": 1}
    assert shares(["a"], {}, 2, 500) == {"a": 2}


@given(
    st.dictionaries(names, st.integers(0, 50)),
    st.sets(names),
    st.integers(0, 200),
    st.integers(0, 60),
)
def test_shares_never_exceed_and_always_leave_some(
    used: dict[str, int], hosts: set[str], credit: int, limit: int
) -> None:
    given = shares(sorted(hosts), used, credit, limit)
    free = credit - sum(given.values())
    assert given.keys() == hosts
    assert sum(given.values()) <= limit
    assert free >= 0
    for host, share in given.items():
        assert share == 0 or used.get(host, 0) + share - 1 < SHARE * (credit - share + 1)
    # Whoever has less than another was not given less, unless it was by the order of turns.
    for host in given:
        for other in given:
            if used.get(host, 0) <= used.get(other, 0):
                assert given[host] >= given[other] - 1


@given(st.integers(1, 40), st.integers(0, 39), st.lists(st.integers(0, 5), min_size=1, max_size=100))
def test_a_host_that_never_answers_keeps_no_other_from_being_served(
    credit: int, dead: int, arrivals: list[int]
) -> None:
    """However much is queued for it: the others always get some credit, as all they use comes back."""
    used: Counter[str] = Counter()
    last = None
    for _ in arrivals:
        rotation = in_turn(["dead", "live"], last)
        given = shares(rotation, used, credit - used.total(), 500)
        last = next((host for host in rotation if given[host]), last)
        used["dead"] += given["dead"]
        assert given["live"] > 0 or credit < 3
    assert used["dead"] <= -(-SHARE * credit // (SHARE + 1)) + 1


def test_turns_are_fair_when_credit_comes_back_one_by_one() -> None:
    served: Counter[str] = Counter()
    last = None
    for _ in range(300):
        rotation = in_turn(["a", "b", "c"], last)
        given = shares(rotation, {}, 1, 500)
        last = next(host for host in rotation if given[host])
        served.update(given)
    assert set(served.values()) == {100}
