"""A database whose transactions are measured."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.metrics import Metrics
from presence.controlplane.store.engine import Database


class MeasuredDatabase(Database):
    """Does what the other one does, and tells the metrics how long each transaction took, the wait for it included."""

    def __init__(self, database: Database, metrics: Metrics) -> None:
        self._database = database
        self._metrics = metrics

    @asynccontextmanager
    async def write(self, organization_id: str) -> AsyncIterator[AsyncConnection]:
        with self._metrics.transaction("write"):
            async with self._database.write(organization_id) as transaction:
                yield transaction

    @asynccontextmanager
    async def read(self, organization_id: str) -> AsyncIterator[AsyncConnection]:
        with self._metrics.transaction("read"):
            async with self._database.read(organization_id) as transaction:
                yield transaction
