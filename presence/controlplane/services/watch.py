"""For whoever watches over the service: whether it can work, and what it counts."""

import asyncio
from collections.abc import Callable
from time import monotonic

from presence.clock import Clock
from presence.controlplane.access import EVERY_ORGANIZATION
from presence.controlplane.connections import Connections
from presence.controlplane.metrics import Backlog, Metrics
from presence.controlplane.store.backlog import backlog, touch
from presence.controlplane.store.engine import Database
from presence.errors import DatabaseError

PROBE_SECONDS = 5.0
"""How long the database may take."""
FRESH_SECONDS = 1.0
"""For how long an answer stands, so that asking often costs nothing."""


class Watch:
    """`is_dispatching`: whether what fires deliveries is alive."""

    def __init__(
        self, database: Database, clock: Clock, connections: Connections, is_dispatching: Callable[[], bool],
        metrics: Metrics,
    ) -> None:  # fmt: skip
        self.metrics = metrics
        self._database = database
        self._clock = clock
        self._connections = connections
        self._is_dispatching = is_dispatching
        self._asking = asyncio.Lock()
        self._probed_at = self._counted_at = float("-inf")
        self._is_writable = False
        self._backlog = Backlog({}, 0.0)

    async def faults(self) -> list[str]:
        """Why the service cannot work now; empty where it can."""
        async with self._asking:
            if monotonic() - self._probed_at > FRESH_SECONDS:
                self._is_writable = await self._probe()
                self._probed_at = monotonic()
        faults = [] if self._is_writable else ["the database cannot be written"]
        return faults if self._is_dispatching() else [*faults, "the dispatcher does not turn"]

    async def page(self, accept: str) -> tuple[str, bytes]:
        """The metrics in the form that a scraper accepts: content type and text. Raises DatabaseError."""
        async with self._asking:
            if monotonic() - self._counted_at > FRESH_SECONDS:
                async with self._database.read(EVERY_ORGANIZATION) as transaction:
                    self._backlog = await backlog(transaction, self._clock.wall())
                self._counted_at = monotonic()
        return self.metrics.page(len(self._connections.all()), self._backlog, accept)

    async def _probe(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_SECONDS), self._database.write(EVERY_ORGANIZATION) as transaction:
                await touch(transaction)
        except (DatabaseError, TimeoutError):
            return False
        return True
