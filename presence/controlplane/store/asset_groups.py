"""Asset groups: what is in them, and who is a member."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, FromClause, Row, and_, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import Principal
from presence.controlplane.odata import ListQuery
from presence.controlplane.store import odata
from presence.controlplane.store.tables import application, asset_group, association, membership, webhook
from presence.controlplane.store.visibility import in_groups


@dataclass(frozen=True, slots=True)
class AssetGroup:
    """`users_count`: of its members; who may enter all groups need not be one. Milliseconds since the epoch."""

    id: str
    name: str
    description: str | None
    contact_person: str | None
    is_default: bool
    created_by: str | None
    created_at: int
    apps_count: int = 0
    users_count: int = 0


def _count(table: FromClause) -> ColumnElement[int]:
    """How many rows of the table are in the asset group."""
    return (
        select(func.count())
        .select_from(table)
        .where(table.c.organization_id == asset_group.c.organization_id, table.c.asset_group_id == asset_group.c.id)
        .correlate(asset_group)
        .scalar_subquery()
    )


_APPS, _USERS = _count(application), _count(membership)

FIELDS: Final[Mapping[str, ColumnElement[Any]]] = {
    "Id": asset_group.c.id,
    "Name": asset_group.c.name,
    "Description": asset_group.c.description,
    "ContactPerson": asset_group.c.contact_person,
    "IsDefault": asset_group.c.is_default,
    "CreatedBy": asset_group.c.created_by,
    "CreatedAt": asset_group.c.created_at,
    "AppsCount": _APPS,
    "UsersCount": _USERS,
}
_GROUPS = select(
    asset_group.c.id,
    asset_group.c.name,
    asset_group.c.description,
    asset_group.c.contact_person,
    asset_group.c.is_default,
    asset_group.c.created_by,
    asset_group.c.created_at,
    _APPS.label("apps_count"),
    _USERS.label("users_count"),
)


def _visible(principal: Principal) -> ColumnElement[bool]:
    return and_(asset_group.c.organization_id == principal.organization_id, in_groups(principal, asset_group.c.id))


def _named(organization_id: str, asset_group_id: str) -> ColumnElement[bool]:
    return and_(asset_group.c.organization_id == organization_id, asset_group.c.id == asset_group_id)


def _group(row: Row[Any]) -> AssetGroup:
    return AssetGroup(**row._mapping)


async def page(
    transaction: AsyncConnection, principal: Principal, query: ListQuery
) -> tuple[list[AssetGroup], int | None]:
    """Those that the principal may enter: the Default group first, then by name."""
    order = (asset_group.c.is_default.desc(), asset_group.c.name, asset_group.c.id)
    rows, count = await odata.page(transaction, _GROUPS.where(_visible(principal)), query, FIELDS, order)
    return [_group(row) for row in rows], count


async def find(transaction: AsyncConnection, principal: Principal, asset_group_id: str) -> AssetGroup | None:
    """The group, where the principal may enter it."""
    row = (await transaction.execute(_GROUPS.where(_visible(principal), asset_group.c.id == asset_group_id))).first()
    return _group(row) if row else None


async def entered(
    transaction: AsyncConnection, principal: Principal, asset_group_ids: Collection[str]
) -> frozenset[str]:
    """Those of the groups that exist and that the principal may enter; nobody deletes them until the transaction,
    which must be one that writes, ends."""
    query = select(asset_group.c.id).where(_visible(principal), asset_group.c.id.in_(asset_group_ids))
    return frozenset((await transaction.execute(query.with_for_update(read=True, key_share=True))).scalars())


async def close(transaction: AsyncConnection, organization_id: str, asset_group_id: str) -> None:
    """Waits for those who are about to put something into the group, and lets nobody else until the transaction
    ends: what it reads from here on of the group's contents stays true."""
    await transaction.execute(select(asset_group.c.id).where(_named(organization_id, asset_group_id)).with_for_update())


async def default_id(transaction: AsyncConnection, organization_id: str) -> str:
    """The organization's Default group, whoever may enter it."""
    query = select(asset_group.c.id).where(asset_group.c.organization_id == organization_id, asset_group.c.is_default)
    found: str = (await transaction.execute(query)).scalar_one()
    return found


async def is_named(transaction: AsyncConnection, organization_id: str, name: str) -> bool:
    query = select(asset_group.c.id).where(asset_group.c.organization_id == organization_id, asset_group.c.name == name)
    return (await transaction.execute(query)).first() is not None


async def add(transaction: AsyncConnection, organization_id: str, added: AssetGroup) -> None:
    await transaction.execute(
        insert(asset_group).values(
            id=added.id,
            organization_id=organization_id,
            name=added.name,
            description=added.description,
            contact_person=added.contact_person,
            is_default=added.is_default,
            created_by=added.created_by,
            created_at=added.created_at,
        )
    )


async def change(transaction: AsyncConnection, organization_id: str, changed: AssetGroup) -> None:
    """Its name, description and contact person."""
    await transaction.execute(
        update(asset_group)
        .where(_named(organization_id, changed.id))
        .values(name=changed.name, description=changed.description, contact_person=changed.contact_person)
    )


async def remove(transaction: AsyncConnection, organization_id: str, asset_group_id: str) -> None:
    """Deletes a group without applications and webhooks; memberships and associations go with it."""
    await transaction.execute(delete(asset_group).where(_named(organization_id, asset_group_id)))


async def move_applications(
    transaction: AsyncConnection, organization_id: str, source_id: str, target_id: str, moved_by: str, now: int
) -> list[str]:
    """Moves all applications of one group to another one; gives their ids."""
    moved = await transaction.execute(
        update(application)
        .where(application.c.organization_id == organization_id, application.c.asset_group_id == source_id)
        .values(asset_group_id=target_id, grouped_by=moved_by, grouped_at=now)
        .returning(application.c.id)
    )
    return list(moved.scalars())


async def has_member_beside(
    transaction: AsyncConnection, organization_id: str, asset_group_id: str, user_id: str
) -> bool:
    """Whether anybody else is a member of the group."""
    query = select(membership.c.user_id).where(
        membership.c.organization_id == organization_id,
        membership.c.asset_group_id == asset_group_id,
        membership.c.user_id != user_id,
    )
    return (await transaction.execute(query.limit(1))).first() is not None


async def owned_webhooks(transaction: AsyncConnection, organization_id: str, asset_group_id: str) -> list[str]:
    """The ids of the webhooks of the group's own level."""
    query = select(webhook.c.id).where(
        webhook.c.organization_id == organization_id, webhook.c.asset_group_id == asset_group_id
    )
    return list((await transaction.execute(query)).scalars())


async def associated_webhooks(transaction: AsyncConnection, organization_id: str, asset_group_id: str) -> list[str]:
    """The ids of the organization-level webhooks that have the group as a scope."""
    query = select(association.c.webhook_id).where(
        association.c.organization_id == organization_id, association.c.asset_group_id == asset_group_id
    )
    return list((await transaction.execute(query)).scalars())
