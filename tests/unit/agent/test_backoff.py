"""How long the link waits."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presence.agent.backoff import Backoff
from presence.agent.ends import Cause, Failure, Retry


def failure(retry: Retry, not_before: float = 0.0) -> Failure:
    return Failure(Cause.TCP, "because", retry, not_before)


def longest(retry: Retry, times: int) -> list[float]:
    backoff = Backoff()
    return [backoff.next(failure(retry), 1.0) for _ in range(times)]


def test_the_bound_doubles_up_to_a_minute() -> None:
    assert longest(Retry.BACKOFF, 8) == [1, 2, 4, 8, 16, 32, 60, 60]


def test_slow_waits_grow_from_one_minute_to_five() -> None:
    assert longest(Retry.SLOWLY, 4) == [120, 240, 300, 300]
    backoff = Backoff()
    assert [backoff.next(failure(Retry.SLOWLY), 0.0) for _ in range(3)] == [60, 60, 60]


def test_rare_tries_are_five_minutes_apart_and_not_all_at_the_same_time() -> None:
    assert longest(Retry.RARELY, 3) == pytest.approx([330, 330, 330])
    assert Backoff().next(failure(Retry.RARELY), 0.0) == 300


def test_at_once_is_granted_once() -> None:
    assert longest(Retry.AT_ONCE, 3) == [0, 1, 2]


def test_a_reset_starts_anew() -> None:
    backoff = Backoff()
    for retry in (*Retry, *Retry):
        backoff.next(failure(retry), 1.0)
    backoff.reset()
    assert backoff.next(failure(Retry.AT_ONCE), 1.0) == 0.0
    assert backoff.next(failure(Retry.BACKOFF), 1.0) == 1.0
    assert backoff.next(failure(Retry.SLOWLY), 1.0) == 120.0


@given(st.lists(st.tuples(st.sampled_from(Retry), st.floats(0, 300), st.floats(0, 1)), min_size=1))
def test_no_peer_shortens_a_wait_and_none_is_longer_than_what_was_asked_and_five_and_a_half_minutes(
    ends: list[tuple[Retry, float, float]],
) -> None:
    backoff = Backoff()
    waits = [backoff.next(failure(retry, asked), draw) for retry, asked, draw in ends]
    for (_, asked, _), wait in zip(ends, waits, strict=True):
        assert asked <= wait <= asked + 330.1


@given(st.lists(st.sampled_from([Retry.AT_ONCE, Retry.BACKOFF]), min_size=2, max_size=20))
def test_the_bounds_never_shrink_before_a_reset(retries: list[Retry]) -> None:
    backoff = Backoff()
    waits = [backoff.next(failure(retry), 1.0) for retry in retries]
    bounds = [wait for wait in waits if wait]
    assert all(first <= second for first, second in pairwise(bounds))
    assert waits.count(0.0) <= 1
