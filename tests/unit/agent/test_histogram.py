"""What is counted is in the bucket of its bound, and in all above it."""

from hypothesis import given
from hypothesis import strategies as st

from presence.agent.histogram import Histogram

BOUNDS = (0.001, 0.1, 1)


def test_a_value_at_a_bound_is_below_it() -> None:
    histogram = Histogram(BOUNDS)
    for seconds in (0.0, 0.001, 0.0011, 1, 1.1):
        histogram.add(seconds)
    assert histogram.buckets == [("0.001", 2), ("0.1", 3), ("1", 4), ("+Inf", 5)]


@given(st.lists(st.floats(0, 10)))
def test_each_bucket_holds_all_that_is_not_above_its_bound(values: list[float]) -> None:
    histogram = Histogram(BOUNDS)
    for seconds in values:
        histogram.add(seconds)
    assert [count for _, count in histogram.buckets] == [
        *(sum(value <= bound for value in values) for bound in BOUNDS),
        len(values),
    ]
    assert histogram.sum == sum(values)
