"""Who gets which delivery."""

from dataclasses import dataclass, field

from presence.controlplane.dispatch import assign
from presence.controlplane.store.deliveries import Due


@dataclass
class Unanswered:
    unanswered: set[str] = field(default_factory=set)


@dataclass
class Seat:
    session: Unanswered
    free_credit: int


def seat(credit: int, unanswered: int = 0) -> Seat:
    return Seat(Unanswered({str(number) for number in range(unanswered)}), credit)


def due(name: str, *, suspect: bool = False) -> Due:
    return Due(
        name, "w", "ScanExecutionCompleted", "s", "http://x/", "GET", None, None, "fire", 0, 1, suspect, paused=False
    )


def plan(deliveries: list[Due], *seats: Seat) -> list[list[str]]:
    given = {id(seat): [delivery.id for delivery in batch] for seat, batch in assign(deliveries, seats)}  # type: ignore[type-var]
    return [given.get(id(seat), []) for seat in seats]


def test_within_the_credit_and_in_order() -> None:
    assert plan([due("a"), due("b"), due("c")], seat(2)) == [["a", "b"]]
    assert plan([due("a")], seat(0)) == [[]]
    assert plan([], seat(9)) == [[]]


def test_the_least_unanswered_first() -> None:
    assert plan([due("a"), due("b"), due("c")], seat(9, unanswered=1), seat(9)) == [["b"], ["a", "c"]]


def test_a_full_seat_passes_on() -> None:
    assert plan([due("a"), due("b"), due("c")], seat(1), seat(9, unanswered=5)) == [["a"], ["b", "c"]]


def test_a_suspect_goes_alone() -> None:
    assert plan([due("x", suspect=True), due("a")], seat(9)) == [["x"]]
    assert plan([due("x", suspect=True), due("y", suspect=True)], seat(9)) == [["x"]]
    assert plan([due("x", suspect=True), due("a")], seat(9), seat(9)) == [["x"], ["a"]]


def test_a_suspect_waits_for_a_seat_to_become_free_and_keeps_it_clear() -> None:
    assert plan([due("x", suspect=True), due("a")], seat(9, unanswered=1)) == [[]]
    assert plan([due("x", suspect=True), due("a")], seat(9, unanswered=1), seat(9, unanswered=2)) == [[], ["a"]]
