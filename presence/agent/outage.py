"""The time during which the journal cannot be written: how long it lasts, and when it is tried again.

The first try is a second after the failure, the next after twice as long, up to 30 seconds. One line in the log when
it begins and one when it is over.
"""

import asyncio
from collections.abc import Callable

from presence.errors import JournalError
from presence.logs import get_logger

log = get_logger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds."""


class Unwritable(JournalError):
    """The journal cannot be written now: the disk is full, read-only or broken. That may pass."""


class Outage:
    """`on_over` is called when it is over."""

    def __init__(self, on_over: Callable[[], None]) -> None:
        self._on_over = on_over
        self._over = asyncio.Event()
        self._over.set()
        self._began = 0.0
        self._pause = 0.0
        self._next_try = 0.0

    @property
    def pause(self) -> float:
        """Seconds until the journal is tried again; 0: it may be written, as far as is known."""
        return 0.0 if self._over.is_set() else max(0.0, self._next_try - _now())

    @property
    def lasts(self) -> bool:
        """Whether the last commit failed."""
        return not self._over.is_set()

    def failed(self, error: Unwritable) -> None:
        """A commit failed."""
        now = _now()
        if self._over.is_set():
            self._over.clear()
            self._began, self._pause = now, FIRST_PAUSE
            log.error("journal", state="failing", reason=str(error), effect="nothing is taken, attempted or lost")
        elif now < self._next_try:
            return
        else:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._next_try = now + self._pause

    def passed(self) -> None:
        """A commit that wrote something succeeded."""
        if not self._over.is_set():
            self._over.set()
            log.warning("journal", state="written again", after_s=round(_now() - self._began, 1))
            self._on_over()

    async def next_try(self) -> None:
        """Returns when a try makes sense; all who wait go on in the same turn of the loop, so that they share it."""
        while self.pause:
            try:
                async with asyncio.timeout_at(self._next_try):
                    await self._over.wait()
            except TimeoutError:
                pass


def _now() -> float:
    return asyncio.get_running_loop().time()
