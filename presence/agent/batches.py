"""A queue that is taken in batches: stages share one commit for what came together."""

import asyncio
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class Batches(Generic[T]):
    """Bounded by those who put: they ask for `room` first. One taker."""

    def __init__(self) -> None:
        self._items: list[T] = []
        self._filled = asyncio.Event()
        self._taken = asyncio.Event()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        self._items.append(item)
        self._filled.set()

    def clear(self) -> None:
        """Throws away what nobody has taken."""
        self._items.clear()
        self._filled.clear()
        self._taken.set()

    async def take(self, most: int, patience: float | None = None) -> list[T]:
        """Waits until there is something; then up to `most` of it, the oldest first.

        Nothing if nothing came within `patience` seconds; None: that is waited for without end.
        """
        with suppress(TimeoutError):
            while not self._items:
                self._filled.clear()
                async with asyncio.timeout(patience):
                    await self._filled.wait()
        taken, self._items = self._items[:most], self._items[most:]
        self._taken.set()
        return taken

    async def room(self, most: int) -> None:
        """Waits until fewer than `most` items wait: whoever puts, and does not want to fill the memory, asks before."""
        while len(self._items) >= most:
            self._taken.clear()
            await self._taken.wait()
