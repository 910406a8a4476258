"""What a kind of database gives to `engine`."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

READERS = 4
WAIT_SECONDS = 60
"""For a connection."""


@dataclass(frozen=True, slots=True)
class Pools:
    """One connection that writes, and those that only read. `dedicate`: says on whose behalf a transaction runs that
    has not begun yet."""

    writer: AsyncEngine
    reader: AsyncEngine
    dedicate: Callable[[AsyncConnection, str], None]

    async def close(self) -> None:
        await self.reader.dispose()
        await self.writer.dispose()
