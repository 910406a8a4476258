"""The sliding window: never more than the limit, never longer than it must, for a bounded number of callers."""

from hypothesis import given
from hypothesis import strategies as st

from presence.controlplane.limits import SLOTS, SlidingWindow

LIMIT, SECONDS = 5, 60.0
MARGIN = 1e-6

steps = st.lists(st.tuples(st.floats(0, 90), st.integers(1, 7), st.sampled_from("ab")), min_size=1, max_size=60)


@given(steps)
def test_no_window_admits_more_than_the_limit(steps: list[tuple[float, int, str]]) -> None:
    window, now = SlidingWindow(LIMIT, SECONDS), 1000.0
    admitted: dict[str, list[tuple[float, int]]] = {"a": [], "b": []}
    for wait, amount, caller in steps:
        now += wait
        if window.admit(caller, now, amount) == 0:
            admitted[caller].append((now, min(amount, LIMIT)))
    for history in admitted.values():
        for start, _ in history:
            assert sum(amount for at, amount in history if start <= at < start + SECONDS) <= LIMIT


@given(steps)
def test_who_waits_as_long_as_told_is_admitted(steps: list[tuple[float, int, str]]) -> None:
    window, now = SlidingWindow(LIMIT, SECONDS), 1000.0
    for wait, amount, caller in steps:
        now += wait
        told = window.admit(caller, now, amount)
        if told:
            assert 0 < told <= SECONDS + SECONDS / SLOTS + MARGIN
            now += told + MARGIN
            assert window.admit(caller, now, amount) == 0


def test_a_refusal_counts_nothing() -> None:
    window = SlidingWindow(2, SECONDS)
    assert [window.admit("a", 0.0), window.admit("a", 0.0)] == [0, 0]
    assert all(window.admit("a", second) > 0 for second in range(60))
    assert window.admit("a", 62.0) == 0


def test_callers_do_not_disturb_each_other() -> None:
    window = SlidingWindow(1, SECONDS)
    assert [window.admit(caller, 0.0) for caller in "abc"] == [0, 0, 0]
    assert window.admit("a", 0.0) > 0


def test_the_one_that_asked_least_recently_is_forgotten_for_a_new_one() -> None:
    window = SlidingWindow(1, SECONDS, most=2)
    assert [window.admit(caller, 0.0) for caller in ("old", "busy")] == [0, 0]
    assert window.admit("old", 1.0) > 0
    assert window.admit("new", 1.0) == 0
    assert window.admit("old", 1.0) > 0
    assert window.admit("busy", 1.0) == 0
