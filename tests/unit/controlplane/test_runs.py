"""Programs that start again, and programs that share a journal."""

from hypothesis import given
from hypothesis import strategies as st

from presence.controlplane.runs import CONFLICT_LASTS, FORMER, Runs, follow, is_fresh


def told(*hellos: tuple[str, str]) -> tuple[Runs, list[bool]]:
    """What is known after these (run, host) have said Hello, a second apart, and which of them were conflicts."""
    runs: Runs | None = None
    conflicts = []
    for number, (run, host) in enumerate(hellos):
        runs, is_conflict = follow(runs, run, host, number * 1000)
        conflicts.append(is_conflict)
    assert runs is not None
    return runs, conflicts


def test_a_program_that_reconnects_is_itself() -> None:
    runs, conflicts = told(("1", "a"), ("1", "a"), ("1", "b"))
    assert not any(conflicts)
    assert (runs.host, runs.former) == ("b", {})


@given(st.integers(1, 50))
def test_a_program_that_starts_again_and_again_is_no_conflict(starts: int) -> None:
    runs, conflicts = told(*((str(number), "a") for number in range(starts)))
    assert not any(conflicts)
    assert len(runs.former) == min(FORMER, starts - 1)


def test_two_programs_that_take_turns_are_a_conflict_and_both_are_named() -> None:
    runs, conflicts = told(("1", "a"), ("2", "b"), ("1", "a"), ("2", "b"))
    assert conflicts == [False, False, True, True]
    assert (runs.conflict_at, runs.conflict_hosts) == (3000, ("a", "b"))
    assert runs.former == {"1": "a"}


def test_a_third_program_is_named_too() -> None:
    runs, conflicts = told(("1", "a"), ("2", "b"), ("1", "a"), ("3", "c"), ("1", "a"))
    assert conflicts == [False, False, True, False, True]
    assert runs.conflict_hosts == ("a", "b", "c")


def test_one_of_two_that_starts_again_is_found_out_as_well() -> None:
    _, conflicts = told(("1", "a"), ("2", "b"), ("3", "a"), ("2", "b"))
    assert conflicts == [False, False, False, True]


def test_a_conflict_is_over_after_an_hour() -> None:
    assert not is_fresh(None, 0)
    assert is_fresh(1000, 1000 + CONFLICT_LASTS - 1)
    assert not is_fresh(1000, 1000 + CONFLICT_LASTS)
    assert not is_fresh(10 * CONFLICT_LASTS, 0), "the wall clock was set back"


def test_hosts_of_an_old_conflict_are_not_named_any_more() -> None:
    known = Runs("1", "a", {"2": "b"}, conflict_at=0, conflict_hosts=("x", "y"))
    runs, is_conflict = follow(known, "2", "b", CONFLICT_LASTS)
    assert is_conflict
    assert runs.conflict_hosts == ("a", "b")
