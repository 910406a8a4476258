"""How often something took how long: counted by upper bounds, so that it costs no more than a count."""

from bisect import bisect_left
from itertools import accumulate


class Histogram:
    """Seconds, counted by `bounds`, which ascend. One thread adds; any may read."""

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.sum += seconds

    @property
    def buckets(self) -> list[tuple[str, int]]:
        """Each bound, the last one without end, with how many were not above it; as Prometheus has them."""
        return list(zip([*map(str, self._bounds), "+Inf"], accumulate(self._counts), strict=True))
