"""Removes what has been kept long enough, by and by, while everything else goes on."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from presence.clock import Clock
from presence.controlplane.access import EVERY_ORGANIZATION
from presence.controlplane.settings import Retention
from presence.controlplane.store import retention
from presence.controlplane.store.engine import Database
from presence.errors import DatabaseError
from presence.logs import get_logger

ROUND_SECONDS = 3600.0
PAUSE_SECONDS: Final = 0.05
"""Between two full chunks: whoever else wants to write gets the better part of the time."""
DAY_MS: Final = 86_400_000

Removal = Callable[[AsyncConnection, str], Awaitable[int]]
"""Removes a chunk of an organization's; gives how many that were."""

_log = get_logger(__name__)


class Keeper:
    """`run` is the loop; it ends only by cancellation or by an error that nobody understands."""

    def __init__(self, database: Database, clock: Clock, days: Retention) -> None:
        self._database = database
        self._clock = clock
        self._days = days

    async def run(self) -> None:
        while True:
            try:
                await self.remove_old()
            except DatabaseError as error:
                _log.error("what is too old cannot be removed now", error=str(error))
            await asyncio.sleep(ROUND_SECONDS)

    async def remove_old(self) -> dict[str, int]:
        """One round over all organizations; how many rows of what were removed. Raises DatabaseError."""
        async with self._database.read(EVERY_ORGANIZATION) as transaction:
            organization_ids = await retention.organizations(transaction)
        removed: dict[str, int] = {}
        for organization_id in organization_ids:
            for what, removal in self._removals().items():
                removed[what] = removed.get(what, 0) + await self._exhaust(organization_id, removal)
        if any(removed.values()):
            _log.info("removed what was kept long enough", **removed)
        return removed

    def _removals(self) -> dict[str, Removal]:
        """Deliveries come before the events that they name."""
        now, days = self._clock.wall(), self._days
        deliveries, events, audits = (now - kept * DAY_MS for kept in (days.deliveries, days.events, days.audits))
        return {
            "deliveries": lambda transaction, of: retention.remove_deliveries(transaction, of, deliveries, now),
            "events": lambda transaction, of: retention.remove_events(transaction, of, events),
            "audits": lambda transaction, of: retention.remove_audits(transaction, of, audits),
            "tokens": lambda transaction, of: retention.remove_expired(transaction, of, now),
        }

    async def _exhaust(self, organization_id: str, removal: Removal) -> int:
        """Chunk by chunk, each in a transaction of its own."""
        count = 0
        while True:
            async with self._database.write(organization_id) as transaction:
                found = await removal(transaction, organization_id)
            count += found
            if found < retention.CHUNK:
                return count
            await asyncio.sleep(PAUSE_SECONDS)
