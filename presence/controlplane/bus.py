"""Wake-ups: which presences may have new work. Only a hint, never the truth: the database is."""

import asyncio


class Bus:
    """Wake-ups by presence, inside this process. Repeated ones melt into one until they are taken."""

    def __init__(self) -> None:
        self._woken: set[str] = set()
        self._news = asyncio.Event()

    def wake(self, presence_id: str) -> None:
        """Says that a delivery of this presence may be ready to go. Call it after the commit."""
        self._woken.add(presence_id)
        self._news.set()

    async def wait(self, timeout: float) -> set[str]:
        """Takes what was woken since the last call; waits for at most `timeout` seconds, then it is empty."""
        try:
            async with asyncio.timeout(timeout):
                await self._news.wait()
        except TimeoutError:
            return set()
        self._news.clear()
        woken, self._woken = self._woken, set()
        return woken
