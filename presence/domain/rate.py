"""A limit of the rate at which attempts start."""

from math import ceil


class TokenBucket:
    """Lets `rate` attempts start each second, and as many at once after a pause (at least one).

    No token is counted: the bucket knows the time at which it will be full. Times in milliseconds.
    """

    __slots__ = ("_full_at", "_interval", "_spare")

    def __init__(self, rate: float) -> None:
        if not rate > 0:
            raise ValueError(f"a rate must be more than 0, not {rate}")
        self._interval = 1000 / rate
        self._spare = (max(1.0, rate) - 1) * self._interval
        self._full_at = 0.0

    def wait(self, now: int) -> int:
        """How long until one may start."""
        return max(0, ceil(self._full_at - self._spare - now))

    def take(self, now: int) -> None:
        """One starts now; the caller has asked `wait`."""
        self._full_at = max(self._full_at, now) + self._interval

    def is_full(self, now: int) -> bool:
        """Whether the bucket remembers nothing: a new one would answer the same."""
        return self._full_at <= now
