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
        self._probing: asyncio.Task[bool] | None = None
        self._backlog = Backlog({}, 0.0)

    async def faults(self) -> list[str]:
        """Why the service cannot work now; empty where it can."""
        faults = [] if await self._probe() else ["the database cannot be written"]
        return [*faults, *self._standstill()]

    async def hanging(self) -> list[str]:
        """What makes no progress. A database that says why it takes nothing does not hang: a restart would not help."""
        faults = [] if await self._probe() is not None else [f"the database has not answered for {PROBE_SECONDS:g} s"]
        return [*faults, *self._standstill()]

    async def close(self) -> None:
        """Gives up a write that is under way, before the database is closed."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])

    async def page(self, accept: str) -> tuple[str, bytes]:
        """The metrics in the form that a scraper accepts: content type and text. Raises DatabaseError."""
        async with self._asking:
            if monotonic() - self._counted_at > FRESH_SECONDS:
                async with self._database.read(EVERY_ORGANIZATION) as transaction:
                    self._backlog = await backlog(transaction, self._clock.wall())
                self._counted_at = monotonic()
        return self.metrics.page(len(self._connections.all()), self._backlog, accept)

    def _standstill(self) -> list[str]:
        return [] if self._is_dispatching() else ["the dispatcher does not turn"]

    async def _probe(self) -> bool | None:
        """Whether the database takes a write, as of just now; None: it has not answered for `PROBE_SECONDS`.

        One write at a time: a thread that hangs must not be asked more and more.
        """
        probing = self._probing
        if probing is None or (probing.done() and monotonic() - self._probed_at > FRESH_SECONDS):
            probing = self._probing = asyncio.create_task(self._write(), name="probe")
        await asyncio.wait([probing], timeout=PROBE_SECONDS)
        return probing.result() if probing.done() else None

    async def _write(self) -> bool:
        """Whether the database takes a write."""
        try:
            async with self._database.write(EVERY_ORGANIZATION) as transaction:
                await touch(transaction)
        except DatabaseError:
            return False
        finally:
            self._probed_at = monotonic()
        return True
