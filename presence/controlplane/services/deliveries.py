"""The delivery log."""

from presence.controlplane.access import Principal
from presence.controlplane.store import deliveries
from presence.controlplane.store.deliveries import Delivery
from presence.controlplane.store.engine import Database


class Deliveries:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, principal: Principal, top: int, skip: int) -> list[Delivery]:
        """Newest first."""
        async with self._database.read() as transaction:
            return await deliveries.page(transaction, principal.organization_id, top, skip)

    async def count(self, principal: Principal) -> int:
        async with self._database.read() as transaction:
            return await deliveries.count(transaction, principal.organization_id)
