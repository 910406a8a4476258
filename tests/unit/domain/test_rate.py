"""The limit of a rate: never more than the burst and the rate allow, and never less."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presence.domain.rate import TokenBucket

rates = st.floats(0.001, 10_000)


def starts(bucket: TokenBucket, until: int, now: int = 0) -> list[int]:
    """The times at which one that starts whenever it may has started."""
    times = []
    while (now := now + bucket.wait(now)) <= until:
        bucket.take(now)
        times.append(now)
    return times


@pytest.mark.parametrize(
    ("rate", "until", "expected"),
    [
        (2, 2_000, [0, 0, 500, 1_000, 1_500, 2_000]),
        (1, 3_000, [0, 1_000, 2_000, 3_000]),
        (0.5, 4_000, [0, 2_000, 4_000]),
        (2.5, 1_000, [0, 0, 200, 600, 1_000]),
        (3, 1_000, [0, 0, 0, 334, 667, 1_000]),
    ],
)
def test_starts_from_a_full_bucket(rate: float, until: int, expected: list[int]) -> None:
    assert starts(TokenBucket(rate), until) == expected


def test_a_pause_fills_it_again_and_not_further() -> None:
    bucket = TokenBucket(2)
    starts(bucket, 0)
    assert starts(bucket, 100_000, now=100_000) == [100_000, 100_000]


def test_asking_costs_nothing() -> None:
    bucket = TokenBucket(1)
    assert [bucket.wait(0) for _ in range(5)] == [0] * 5
    bucket.take(0)
    assert [bucket.wait(400) for _ in range(5)] == [600] * 5


def test_it_is_full_when_a_new_one_would_answer_the_same() -> None:
    bucket = TokenBucket(2)
    assert bucket.is_full(0)
    bucket.take(0)
    assert not bucket.is_full(499)
    assert bucket.is_full(500)


@pytest.mark.parametrize("rate", [0, -1, -0.5, float("nan")])
def test_a_rate_is_more_than_nothing(rate: float) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        TokenBucket(rate)


@given(rates, st.integers(0, 2**43), st.lists(st.integers(0, 5_000), max_size=50))
def test_after_the_wait_one_may_start(rate: float, now: int, pauses: list[int]) -> None:
    bucket = TokenBucket(rate)
    for pause in pauses:
        now += pause
        now += bucket.wait(now)
        assert bucket.wait(now) == 0
        bucket.take(now)


@given(st.floats(0.01, 200), st.integers(0, 2**43), st.lists(st.integers(0, 3_000), min_size=1, max_size=100))
def test_no_span_of_time_has_more_starts_than_burst_and_rate(rate: float, now: int, pauses: list[int]) -> None:
    bucket = TokenBucket(rate)
    times = []
    for pause in pauses:
        now += pause
        if bucket.wait(now) == 0:
            bucket.take(now)
            times.append(now)
    for first, begin in enumerate(times):
        for last in range(first, len(times)):
            allowed = max(1, rate) + rate * (times[last] - begin) / 1000
            assert last - first + 1 <= allowed + 0.01


@given(st.floats(0.5, 500), st.integers(0, 2**43))
def test_who_starts_whenever_it_may_gets_the_rate(rate: float, now: int) -> None:
    count = len(starts(TokenBucket(rate), now + 10_000, now))
    assert count >= int(10 * rate)
