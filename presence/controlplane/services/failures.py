"""How often somebody failed lately, for a bounded number of names. Pure."""

from collections import OrderedDict, deque
from typing import Final

MAX_NAMES: Final = 10_000
"""The one that failed least recently is forgotten for a new one."""


class Failures:
    """Who failed `limit` times within `seconds` has to wait until the first of these is that long ago. Times are of
    any clock that never goes back, in seconds."""

    def __init__(self, limit: int, seconds: float, most: int = MAX_NAMES) -> None:
        self._limit = limit
        self._seconds = seconds
        self._most = most
        self._names: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, name: str, now: float) -> float:
        """The seconds that it has to wait; 0.0: none. Counts nothing."""
        times = self._names.get(name)
        if times is None or len(times) < self._limit:
            return 0.0
        return max(0.0, times[0] + self._seconds - now)

    def note(self, name: str, now: float) -> None:
        """It failed."""
        if name not in self._names and len(self._names) >= self._most:
            self._names.popitem(last=False)
        self._names.setdefault(name, deque(maxlen=self._limit)).append(now)
        self._names.move_to_end(name)
