"""Local maintenance: for a time no attempt starts. What is fired meanwhile is kept, and shown as held back.

The journal keeps it, so that it lasts through a restart, and measures it by its own time. Afterwards what has waited
starts at a set rate: targets that were just maintained are not run over.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from presence.agent.journal import Journal
from presence.agent.outage import Unwritable
from presence.agent.pulse import REST, Pulse
from presence.logs import get_logger
from presence.protocol.messages import Paused

log = get_logger(__name__)

FOREVER = 2**53 - 1
"""A time of the journal's that never comes: until further notice."""
TURN_SECONDS = 30.0


class Pause:
    """`begin` and `end` are a person's; `run` ends it when its time has come. `drain_rate`: deliveries per second.

    `tell` is called with what the control plane should know, and whenever the pause begins or ends.
    """

    def __init__(self, journal: Journal, drain_rate: float, tell: Callable[[Paused], None]) -> None:
        self.drain_rate = drain_rate
        self.pulse = Pulse("pause")
        self._journal = journal
        self._tell = tell
        self._changed = asyncio.Event()

    @property
    def remaining(self) -> int | None:
        """Milliseconds; None: until further notice, or there is no pause."""
        until = self._journal.paused_until
        return None if until is None or until == FOREVER else max(1, until - self._journal.now())

    def message(self) -> Paused | None:
        """What there is to say of it now; None: there is no pause."""
        return Paused(remaining=self.remaining) if self._journal.is_paused else None

    async def begin(self, seconds: float | None) -> None:
        """For so long from now on; None: until further notice. Raises Unwritable."""
        until = FOREVER if seconds is None else self._journal.now() + int(seconds * 1000)
        await self._journal.pause_until(until)
        self._changed.set()
        self._tell(Paused(remaining=self.remaining))
        log.warning("paused", effect="no attempt starts", for_s=seconds)

    async def end(self) -> bool:
        """Whether there was one. Raises Unwritable."""
        if self._journal.paused_until is None:
            return False
        await self._journal.pause_until(None)
        waiting = len(self._journal.backlog)
        self._journal.backlog.ease(self.drain_rate, self._journal.now())
        self._changed.set()
        self._tell(Paused(remaining=0))
        log.warning("resumed", waiting=waiting, rate=self.drain_rate)
        return True

    async def run(self) -> None:
        while True:
            self.pulse.promise(REST + TURN_SECONDS)
            self._changed.clear()
            left = self.remaining
            with suppress(TimeoutError):
                async with asyncio.timeout(REST if left is None else min(REST, left / 1000)):
                    await self._changed.wait()
            until = self._journal.paused_until
            if until is not None and self._journal.now() >= until:
                await self._end_in_time()

    async def _end_in_time(self) -> None:
        try:
            await self.end()
        except Unwritable:
            await asyncio.sleep(1)
