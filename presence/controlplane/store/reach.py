"""Which webhooks point to a host or did, where their events come from, and who there is in the organization."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Row, Table, and_, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import Principal
from presence.controlplane.store.associations import Association, Scope
from presence.controlplane.store.chunks import chunks
from presence.controlplane.store.roles import capabilities_in
from presence.controlplane.store.tables import (
    application,
    asset_group,
    association,
    delivery,
    membership,
    organization,
    presence,
    role,
    user,
    webhook,
)


@dataclass(frozen=True, slots=True)
class Origin:
    """One scope of a webhook, with its name and the asset group that it is or is in."""

    scope: Association
    name: str
    asset_group_id: str


@dataclass(frozen=True, slots=True)
class Aim:
    """A webhook that can send requests to the host. `origins`: what it is associated with.

    `points_there`: its URI names the host. `has_deliveries`: there are some of it to the host, whatever its URI is now.
    """

    webhook_id: str
    uri: str
    method: str
    event: str
    is_global: bool
    asset_group_id: str | None
    asset_group_name: str | None
    presence_id: str
    presence_name: str
    is_paused: bool
    points_there: bool
    has_deliveries: bool
    origins: tuple[Origin, ...] = ()


@dataclass(frozen=True, slots=True)
class Person:
    """A user with its rights of this moment."""

    principal: Principal
    role_name: str


async def organizations(transaction: AsyncConnection) -> list[tuple[str, str]]:
    """Ids and names, by name."""
    rows = await transaction.execute(select(organization.c.id, organization.c.name).order_by(organization.c.name))
    return [(row[0], row[1]) for row in rows]


async def aims(transaction: AsyncConnection, organization_id: str, host: str, port: int | None) -> list[Aim]:
    """The webhooks whose URI names that host, or whose deliveries do, oldest first. Looks through all deliveries that
    are kept. `host` as `UriTemplate.host` writes it; None: any port."""
    points_there = _names(webhook.c.host, host, port)
    has_deliveries = webhook.c.id.in_(
        select(delivery.c.webhook_id).where(
            delivery.c.organization_id == organization_id, _names(delivery.c.host, host, port)
        )
    )
    query = (
        select(
            webhook.c.id.label("webhook_id"), webhook.c.uri, webhook.c.method, webhook.c.event, webhook.c.is_global,
            webhook.c.asset_group_id, asset_group.c.name.label("asset_group_name"), webhook.c.presence_id,
            presence.c.name.label("presence_name"), _flag(webhook.c.paused_at.is_not(None)).label("is_paused"),
            _flag(points_there).label("points_there"), _flag(has_deliveries).label("has_deliveries"),
        )
        .join_from(webhook, presence, _same(presence, webhook.c.presence_id))
        .outerjoin(asset_group, _same(asset_group, webhook.c.asset_group_id))
        .where(webhook.c.organization_id == organization_id, or_(points_there, has_deliveries))
        .order_by(webhook.c.created_at, webhook.c.id)
    )  # fmt: skip
    rows = (await transaction.execute(query)).all()
    origins = await _origins(transaction, organization_id, [row[0] for row in rows])
    return [_aim(row, origins.get(row[0], ())) for row in rows]


def _aim(row: Row[Any], origins: Iterable[Origin]) -> Aim:
    flags: dict[str, Any] = {name: bool(row._mapping[name]) for name in ("is_paused", "points_there", "has_deliveries")}
    return Aim(**{**row._mapping, **flags}, origins=tuple(origins))


async def people(transaction: AsyncConnection, organization_id: str) -> list[Person]:
    """All users of the organization, by name."""
    memberships = await transaction.execute(
        select(membership.c.user_id, membership.c.asset_group_id).where(membership.c.organization_id == organization_id)
    )
    groups: defaultdict[str, set[str]] = defaultdict(set)
    for user_id, group_id in memberships:
        groups[user_id].add(group_id)
    query = (
        select(user.c.id, user.c.user_name, user.c.role_id, role.c.name, role.c.capabilities)
        .join_from(user, role, and_(role.c.organization_id == user.c.organization_id, role.c.id == user.c.role_id))
        .where(user.c.organization_id == organization_id)
        .order_by(user.c.user_name, user.c.id)
    )
    return [
        Person(
            Principal(
                user_id, user_name, organization_id, role_id, capabilities_in(capabilities), frozenset(groups[user_id])
            ),
            role_name,
        )
        for user_id, user_name, role_id, role_name, capabilities in await transaction.execute(query)
    ]


async def _origins(
    transaction: AsyncConnection, organization_id: str, webhook_ids: Collection[str]
) -> dict[str, list[Origin]]:
    query = (
        select(
            association.c.webhook_id, association.c.application_id, association.c.asset_group_id,
            func.coalesce(application.c.name, asset_group.c.name).label("name"),
            func.coalesce(application.c.asset_group_id, association.c.asset_group_id).label("group_id"),
        )
        .select_from(association)
        .outerjoin(application, _same(application, association.c.application_id))
        .outerjoin(asset_group, _same(asset_group, association.c.asset_group_id))
        .where(association.c.organization_id == organization_id)
        .order_by("name", association.c.id)
    )  # fmt: skip
    found: defaultdict[str, list[Origin]] = defaultdict(list)
    for chunk in chunks(webhook_ids):
        for row in await transaction.execute(query.where(association.c.webhook_id.in_(chunk))):
            webhook_id, application_id, group_id, name, of_group = row
            is_application = application_id is not None
            scope = Association(Scope.APPLICATION if is_application else Scope.ASSET_GROUP, application_id or group_id)
            found[webhook_id].append(Origin(scope, name, of_group))
    return found


def _flag(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return case((condition, 1), else_=0)


def _names(column: Column[Any], host: str, port: int | None) -> ColumnElement[bool]:
    """Whether the column, `host:port`, says that host, and that port if there is one."""
    written = f"[{host}]" if ":" in host else host
    # A range: all that begins with `host:`.
    return and_(column >= f"{written}:", column < f"{written};") if port is None else column == f"{written}:{port}"


def _same(table: Table, reference: Column[Any]) -> ColumnElement[bool]:
    """The row of the table that the reference names."""
    return and_(table.c.organization_id == reference.table.c.organization_id, table.c.id == reference)
