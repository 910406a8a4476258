"""Scans of applications."""

from dataclasses import dataclass
from uuid import uuid4

from presence.clock import Clock
from presence.controlplane.access import Capability, Principal
from presence.controlplane.odata import ListQuery
from presence.controlplane.services.acting import require, writing
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.store import applications, executions, scans
from presence.controlplane.store.audits import Activity, Entity, record
from presence.controlplane.store.engine import Database
from presence.controlplane.store.executions import Execution
from presence.controlplane.store.scans import Scan


@dataclass(frozen=True, slots=True)
class ScanView:
    """A scan with its newest execution."""

    scan: Scan
    latest: Execution | None


class Scans:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def page(self, principal: Principal, query: ListQuery) -> tuple[list[ScanView], int | None]:
        """Those of the applications that the principal may see, newest first."""
        async with self._database.read(principal.organization_id) as transaction:
            found, count = await scans.page(transaction, principal, query)
            latest = await executions.latest(transaction, principal, [scan.id for scan in found])
        return [ScanView(scan, latest.get(scan.id)) for scan in found], count

    async def create(self, principal: Principal, name: str, application_id: str, technology: str) -> ScanView:
        """Raises Refusal MISSING_CAPABILITIES or APPLICATION_NO_ACCESS."""
        now = self._clock.wall()
        async with writing(self._database, principal) as (transaction, principal):
            require(principal, Capability.MANAGE_SCANS)
            application = await applications.find(transaction, principal, application_id, locked=True)
            if application is None:
                raise Refusal(Key.APPLICATION_NO_ACCESS, "{0}: there is no such application", "AppId")
            made = Scan(
                id=str(uuid4()),
                name=name,
                technology=technology,
                application_id=application_id,
                application_name=application.name,
                asset_group_id=application.asset_group_id,
                created_by=principal.user_name,
                created_at=now,
            )
            await scans.add(transaction, principal.organization_id, made)
            await record(
                transaction, principal, now, Activity.CREATE, Entity.SCAN, made.id,
                after={"Name": name, "AppId": application_id, "Technology": technology},
                asset_group_id=application.asset_group_id,
            )  # fmt: skip
        return ScanView(made, None)
