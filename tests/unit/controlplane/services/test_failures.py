"""Failures are counted within a window, for a bounded number of names."""

from hypothesis import given
from hypothesis import strategies as st

from presence.controlplane.services.failures import Failures


def test_who_failed_too_often_waits_for_the_first_failure_to_pass() -> None:
    failures = Failures(limit=3, seconds=60)
    for now in (0.0, 10.0, 20.0):
        assert failures.wait("key", now) == 0
        failures.note("key", now)
    assert failures.wait("key", 20.0) == 40
    assert failures.wait("other", 20.0) == 0
    assert failures.wait("key", 60.0) == 0
    failures.note("key", 60.0)
    assert failures.wait("key", 60.0) == 10


# Eighths of a second: sums of them are exact.
@given(st.lists(st.integers(min_value=0, max_value=160).map(lambda eighths: eighths / 8), max_size=60))
def test_in_no_window_are_there_more_failures_than_the_limit(gaps: list[float]) -> None:
    failures, now, seen = Failures(limit=4, seconds=60), 0.0, []
    for gap in gaps:
        now += gap
        if failures.wait("key", now) == 0:
            failures.note("key", now)
            seen.append(now)
        assert sum(1 for at in seen if at > now - 60) <= 4


def test_the_names_are_bounded() -> None:
    failures = Failures(limit=1, seconds=60, most=2)
    for name in ("a", "b", "a", "c"):
        failures.note(name, 1.0)
    assert [failures.wait(name, 1.0) > 0 for name in ("a", "b", "c")] == [True, False, True]
