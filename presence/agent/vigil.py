"""Watches time itself: a host that slept or whose clock was set has connections that only seem to live.

A connection does not notice that its host was suspended; its peer, and every NAT on the way, has long given it up.
"""

import asyncio
from typing import NamedTuple

from presence.clock import Clock

LOOK_EVERY = 2.0
SLEPT, JUMPED = 10_000, 30_000
"""Milliseconds beyond which a suspend, and a jump of the wall clock, is told."""


class Reading(NamedTuple):
    """The host's three clocks at one moment, in milliseconds."""

    elapsed: int
    awake: int
    wall: int


def leap(before: Reading, now: Reading) -> str | None:
    """What happened to time between two readings, in words; None: it just passed."""
    passed = now.elapsed - before.elapsed
    slept = passed - (now.awake - before.awake)
    jumped = now.wall - before.wall - passed
    events = []
    if slept > SLEPT:
        events.append(f"the host was suspended for {slept // 1000} s")
    if abs(jumped) > JUMPED:
        events.append(f"the host's clock was set {abs(jumped) // 1000} s {'forward' if jumped > 0 else 'back'}")
    return " and ".join(events) or None


def clock_offset(server_time: int, wall: int, round_trip: int) -> int:
    """What is to be added to the host's wall clock to get the server's, in milliseconds.

    `server_time` was read while the answer was made: half of the round trip ago, as far as one can know.
    """
    return server_time + round_trip // 2 - wall


class Vigil:
    """Compares each look with the one before, whoever waits between them. `every`: seconds between two looks."""

    def __init__(self, clock: Clock, every: float = LOOK_EVERY) -> None:
        self._clock = clock
        self._every = every
        self._last = self._read()

    async def leapt(self) -> str:
        """Returns when time has leapt, with what happened."""
        while True:
            before, self._last = self._last, self._read()
            event = leap(before, self._last)
            if event is not None:
                return event
            await asyncio.sleep(self._every)

    def _read(self) -> Reading:
        return Reading(self._clock.elapsed(), self._clock.awake(), self._clock.wall())
