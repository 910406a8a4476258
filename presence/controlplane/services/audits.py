"""The audit log, for those who may read it."""

from presence.controlplane.access import Capability, Principal
from presence.controlplane.odata import ListQuery
from presence.controlplane.services.acting import require
from presence.controlplane.store import audits
from presence.controlplane.store.audits import Audit
from presence.controlplane.store.engine import Database


class Audits:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, principal: Principal, query: ListQuery) -> tuple[list[Audit], int | None]:
        """What concerns asset groups that the principal may enter; with access to all, the organization, too. The
        latest first. Raises Refusal MISSING_CAPABILITIES."""
        require(principal, Capability.VIEW_AUDITS)
        async with self._database.read(principal.organization_id) as transaction:
            return await audits.page(transaction, principal, query)
