"""What webhooks that are not Global are associated with: applications and, at organization level, asset groups."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple
from uuid import uuid4

from sqlalchemy import ColumnElement, and_, case, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import Principal
from presence.controlplane.odata import ListQuery
from presence.controlplane.store import odata
from presence.controlplane.store.tables import application, asset_group, association
from presence.controlplane.store.visibility import in_groups, visible


class Scope(StrEnum):
    """The values are those of AppScan on Cloud's API v4."""

    APPLICATION = "Application"
    ASSET_GROUP = "AssetGroup"


class Association(NamedTuple):
    scope: Scope
    scope_id: str


FIELDS: Final[Mapping[str, ColumnElement[Any]]] = {
    "Scope": case((association.c.application_id.is_not(None), Scope.APPLICATION.value), else_=Scope.ASSET_GROUP.value),
    "ScopeId": func.coalesce(association.c.application_id, association.c.asset_group_id),
}


def _of(organization_id: str, webhook_id: str) -> ColumnElement[bool]:
    return and_(association.c.organization_id == organization_id, association.c.webhook_id == webhook_id)


def _with(scope: Association) -> ColumnElement[bool]:
    match scope:
        case Association(Scope.APPLICATION, scope_id):
            return association.c.application_id == scope_id
        case Association(_, scope_id):
            return association.c.asset_group_id == scope_id


async def page(
    transaction: AsyncConnection, organization_id: str, webhook_id: str, query: ListQuery
) -> list[Association]:
    """Those of a webhook. Who may see the webhook may see them: they are in groups that it may enter."""
    statement = select(*(column.label(name) for name, column in FIELDS.items())).where(_of(organization_id, webhook_id))
    order = [FIELDS["Scope"], FIELDS["ScopeId"]]
    rows, _ = await odata.page(transaction, statement, query, FIELDS, order)
    return [Association(Scope(row.Scope), row.ScopeId) for row in rows]


async def count(transaction: AsyncConnection, organization_id: str, webhook_id: str) -> int:
    query = select(func.count()).select_from(association).where(_of(organization_id, webhook_id))
    return (await transaction.execute(query)).scalar_one()


async def group_of_scope(transaction: AsyncConnection, principal: Principal, scope: Association) -> str | None:
    """The asset group that the scope is or, for an application, is in; None where the principal may not enter it.

    It is not deleted or moved until the transaction ends.
    """
    match scope:
        case Association(Scope.APPLICATION, scope_id):
            query = (
                select(application.c.asset_group_id)
                .where(visible(principal, application), application.c.id == scope_id)
                .with_for_update(read=True)
            )
        case Association(_, scope_id):
            query = (
                select(asset_group.c.id)
                .where(
                    asset_group.c.organization_id == principal.organization_id,
                    in_groups(principal, asset_group.c.id),
                    asset_group.c.id == scope_id,
                )
                .with_for_update(read=True, key_share=True)
            )
    return (await transaction.execute(query)).scalar()


async def exists(transaction: AsyncConnection, organization_id: str, webhook_id: str, scope: Association) -> bool:
    query = select(association.c.id).where(_of(organization_id, webhook_id), _with(scope))
    return (await transaction.execute(query)).first() is not None


async def add(transaction: AsyncConnection, organization_id: str, webhook_id: str, scope: Association) -> None:
    await transaction.execute(
        insert(association).values(
            id=str(uuid4()),
            organization_id=organization_id,
            webhook_id=webhook_id,
            application_id=scope.scope_id if scope.scope is Scope.APPLICATION else None,
            asset_group_id=scope.scope_id if scope.scope is Scope.ASSET_GROUP else None,
        )
    )


async def remove(transaction: AsyncConnection, organization_id: str, webhook_id: str, scope: Association) -> bool:
    """Whether there was such an association."""
    removed = await transaction.execute(delete(association).where(_of(organization_id, webhook_id), _with(scope)))
    return removed.rowcount > 0
