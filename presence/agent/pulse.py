"""What a stage promises of its own progress: to be back within so many seconds.

Every wait in a stage's loop is bounded, so that a stage that waits idly comes back as well. Who has promised and is
not back hangs, whatever it waits for.
"""

from time import monotonic

REST = 15.0
"""Seconds after which a stage that has nothing to do comes back nevertheless."""


class Pulse:
    """The promise of one loop. Nothing is promised before the first one, and while it rests."""

    __slots__ = ("_until", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._until: float | None = None

    def promise(self, seconds: float) -> None:
        """The loop is here, and will be again within so many seconds."""
        self._until = monotonic() + seconds

    def rest(self) -> None:
        """The loop has ended, or waits where nothing can be waiting for it: it promises nothing."""
        self._until = None

    @property
    def overdue(self) -> float:
        """Seconds since the promise was broken; 0: it is kept."""
        return 0.0 if self._until is None else max(0.0, monotonic() - self._until)
