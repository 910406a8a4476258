"""How long the link waits before its next try. Pure: the caller draws the random number."""

from presence.agent.ends import Failure, Retry

FIRST, LONGEST = 1.0, 60.0
"""Seconds: the bound below which the first wait is drawn, and the greatest one."""
SLOW, SLOWEST = 60.0, 300.0
"""Seconds: the least and the greatest wait where trying again is not likely to help."""
STABLE = 60.0
"""Seconds that a session must have lasted for the waits to start anew."""


class Backoff:
    """Full jitter from the first wait on, below a bound that doubles with each; `reset` starts anew."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._bound, self._slow_bound = FIRST, 2 * SLOW
        self._hurried = False

    def next(self, failure: Failure, draw: float) -> float:
        """Seconds to wait. `draw` is random, from 0 to 1.

        Whatever the peer asks for comes on top, so that many who were told the same do not come together; nor can it
        make us come at once twice in a row.
        """
        match failure.retry:
            case Retry.AT_ONCE if not self._hurried:
                self._hurried = True
                wait = 0.0
            case Retry.SLOWLY:
                wait = SLOW + draw * (self._slow_bound - SLOW)
                self._slow_bound = min(self._slow_bound * 2, SLOWEST)
            case Retry.RARELY:
                wait = SLOWEST * (1.0 + draw / 10)
            case Retry.AT_ONCE | Retry.BACKOFF:
                wait = draw * self._bound
                self._bound = min(self._bound * 2, LONGEST)
        return failure.not_before + wait
