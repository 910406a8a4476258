"""Scans: each is of one application, and seen by whoever sees that."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import Principal
from presence.controlplane.odata import ListQuery
from presence.controlplane.store import odata
from presence.controlplane.store.tables import application, scan
from presence.controlplane.store.visibility import visible


@dataclass(frozen=True, slots=True)
class Scan:
    """A scan and its application. Milliseconds since the Unix epoch."""

    id: str
    name: str
    technology: str
    application_id: str
    application_name: str
    asset_group_id: str
    created_by: str | None
    created_at: int


async def page(transaction: AsyncConnection, principal: Principal, query: ListQuery) -> tuple[list[Scan], int | None]:
    """Those that the principal may see, newest first."""
    statement = _SCANS.where(visible(principal, application))
    rows, count = await odata.page(transaction, statement, query, COLUMNS, [scan.c.created_at.desc(), scan.c.id])
    return [Scan(*row) for row in rows], count


async def find(
    transaction: AsyncConnection, principal: Principal, scan_id: str, *, locked: bool = False
) -> Scan | None:
    """The scan of that id, if the principal may see it. `locked`: nobody deletes it meanwhile."""
    statement = _SCANS.where(visible(principal, application), scan.c.id == scan_id)
    if locked:
        statement = statement.with_for_update(read=True, key_share=True, of=scan)
    row = (await transaction.execute(statement)).first()
    return Scan(*row) if row else None


async def add(transaction: AsyncConnection, organization_id: str, added: Scan) -> None:
    await transaction.execute(
        insert(scan).values(
            id=added.id,
            organization_id=organization_id,
            application_id=added.application_id,
            name=added.name,
            technology=added.technology,
            created_by=added.created_by,
            created_at=added.created_at,
        )
    )


OF_APPLICATION: Final = (application.c.organization_id == scan.c.organization_id) & (
    application.c.id == scan.c.application_id
)
_SCANS: Select[Any] = select(
    scan.c.id,
    scan.c.name,
    scan.c.technology,
    scan.c.application_id,
    application.c.name,
    application.c.asset_group_id,
    scan.c.created_by,
    scan.c.created_at,
).join_from(scan, application, OF_APPLICATION)

COLUMNS: Final[Mapping[str, ColumnElement[Any]]] = {
    "Id": scan.c.id,
    "Name": scan.c.name,
    "Technology": scan.c.technology,
    "AppId": scan.c.application_id,
    "AppName": application.c.name,
    "AssetGroupId": application.c.asset_group_id,
    "CreatedBy": scan.c.created_by,
    "CreatedAt": scan.c.created_at,
}
"""What lists are filtered and ordered by, by the API's names."""
