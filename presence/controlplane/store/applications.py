"""Applications: each is in one asset group, whose members see it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic.alias_generators import to_pascal
from sqlalchemy import ColumnElement, Select, bindparam, delete, func, select, update

# SQLite understands what this one writes.
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import Principal
from presence.controlplane.odata import ListQuery
from presence.controlplane.store import odata
from presence.controlplane.store.tables import (
    APPLICATION_COUNTERS,
    APPLICATION_STATUSES,
    application,
    asset_group,
    association,
    execution,
    scan,
    webhook,
)
from presence.controlplane.store.visibility import visible
from presence.domain.scope import Place

Figure = int | str | bool | None
"""A counter, or a status."""


@dataclass(frozen=True, slots=True)
class Application:
    """An application. `figures`: its counters and statuses by their columns. `attributes`: texts by the API's names.
    `technologies`: those of its scans.

    Milliseconds since the Unix epoch.
    """

    id: str
    name: str
    asset_group_id: str
    asset_group_name: str
    business_impact: str
    figures: Mapping[str, Figure]
    attributes: Mapping[str, str]
    created_by: str | None
    created_at: int
    updated_at: int
    grouped_by: str | None
    grouped_at: int
    scans: int
    executions: int
    technologies: frozenset[str]


@dataclass(frozen=True, slots=True)
class Dissociated:
    """An association that was removed: the webhook that had it, and the asset group of that."""

    webhook_id: str
    webhook_group_id: str | None
    application_id: str


FIGURES: Final = (*APPLICATION_COUNTERS, *APPLICATION_STATUSES)


async def page(
    transaction: AsyncConnection, principal: Principal, query: ListQuery
) -> tuple[list[Application], int | None]:
    """Those that the principal may see, by name."""
    statement = _APPLICATIONS.where(visible(principal, application))
    rows, count = await odata.page(transaction, statement, query, COLUMNS, [application.c.name, application.c.id])
    return [_application(row) for row in rows], count


async def find(
    transaction: AsyncConnection, principal: Principal, application_id: str, *, locked: bool = False
) -> Application | None:
    """The application of that id, if the principal may see it. `locked`: nobody else changes it meanwhile."""
    statement = _APPLICATIONS.where(visible(principal, application), application.c.id == application_id)
    if locked:
        statement = statement.with_for_update(of=application)
    row = (await transaction.execute(statement)).first()
    return _application(row) if row else None


async def place(transaction: AsyncConnection, principal: Principal, application_id: str) -> Place | None:
    """The application and the asset group that it is in, if the principal may see them."""
    return await _place(transaction, principal, _PLACE, application_id)


async def place_of_execution(transaction: AsyncConnection, principal: Principal, execution_id: str) -> Place | None:
    """The application of that scan execution, likewise."""
    return await _place(transaction, principal, _PLACE_OF_EXECUTION, execution_id)


async def _place(transaction: AsyncConnection, principal: Principal, statement: Select[Any], id_: str) -> Place | None:
    asked = {"organization_id": principal.organization_id, "id": id_}
    row = (await transaction.execute(statement, asked)).first()
    return Place(*row) if row and principal.enters(row[1]) else None


async def has_group(transaction: AsyncConnection, principal: Principal, asset_group_id: str) -> bool:
    """Whether the principal may put applications into the group, which nobody deletes until the transaction ends."""
    mine = (asset_group.c.organization_id == principal.organization_id, asset_group.c.id == asset_group_id)
    statement = select(asset_group.c.id).where(*mine).with_for_update(read=True, key_share=True)
    return (await transaction.execute(statement)).first() is not None and principal.enters(asset_group_id)


async def add(transaction: AsyncConnection, organization_id: str, values: Mapping[str, object]) -> bool:
    """Stores an application unless the organization has one of that name; says whether it did."""
    statement = insert(application).on_conflict_do_nothing(index_elements=["organization_id", "name"])
    added: Any = await transaction.execute(statement, {"organization_id": organization_id, **values})
    return bool(added.rowcount)


async def change(
    transaction: AsyncConnection, organization_id: str, application_id: str, values: Mapping[str, object]
) -> None:
    """Sets these columns. Raises IntegrityError where the name is another application's."""
    await transaction.execute(update(application).where(_of(organization_id, application_id)).values(values))


async def remove(transaction: AsyncConnection, organization_id: str, application_id: str) -> None:
    """Deletes it with its scans and associations."""
    await transaction.execute(delete(application).where(_of(organization_id, application_id)))


async def dissociate(
    transaction: AsyncConnection, organization_id: str, asset_group_id: str, application_id: str | None = None
) -> list[Dissociated]:
    """Removes the associations that applications in that asset group may not have: those with webhooks of other
    groups. Of one application, or of all in the group. Gives what was removed."""
    disallowed = _ASSOCIATIONS.where(
        association.c.organization_id == organization_id,
        application.c.asset_group_id == asset_group_id,
        webhook.c.asset_group_id != asset_group_id,
    )
    if application_id is not None:
        disallowed = disallowed.where(association.c.application_id == application_id)
    found = (await transaction.execute(disallowed)).all()
    if found:
        mine = (association.c.organization_id == organization_id, association.c.id == bindparam("of"))
        await transaction.execute(delete(association).where(*mine), [{"of": row[0]} for row in found])
    return [Dissociated(*row[1:]) for row in found]


async def associated(transaction: AsyncConnection, organization_id: str, application_id: str) -> list[Dissociated]:
    """The associations that would go with the application."""
    mine = (association.c.organization_id == organization_id, association.c.application_id == application_id)
    return [Dissociated(*row[1:]) for row in await transaction.execute(_ASSOCIATIONS.where(*mine))]


def _of(organization_id: str, application_id: str) -> ColumnElement[bool]:
    return (application.c.organization_id == organization_id) & (application.c.id == application_id)


def _application(row: Any) -> Application:
    shown = dict(row._mapping)
    figures = {name: shown.pop(name) for name in FIGURES}
    technologies = frozenset((shown.pop("technologies") or "").split(",")) - {""}
    shown["attributes"] = json.loads(shown["attributes"])
    return Application(**shown, figures=figures, technologies=technologies)


_SCANS = (
    select(func.count())
    .select_from(scan)
    .where(scan.c.organization_id == application.c.organization_id, scan.c.application_id == application.c.id)
    .correlate(application)
    .scalar_subquery()
)
_EXECUTIONS = (
    select(func.count())
    .select_from(execution)
    .join(scan, (scan.c.organization_id == execution.c.organization_id) & (scan.c.id == execution.c.scan_id))
    .where(scan.c.organization_id == application.c.organization_id, scan.c.application_id == application.c.id)
    .correlate(application)
    .scalar_subquery()
)
_EACH_TECHNOLOGY = (
    select(scan.c.technology)
    .where(scan.c.organization_id == application.c.organization_id, scan.c.application_id == application.c.id)
    .correlate(application)
    .distinct()
    .subquery()
)
_TECHNOLOGIES = select(func.aggregate_strings(_EACH_TECHNOLOGY.c.technology, ",")).scalar_subquery()
_IN_GROUP = (asset_group.c.organization_id == application.c.organization_id) & (
    asset_group.c.id == application.c.asset_group_id
)
_OWN: Final = (
    *("id", "name", "asset_group_id", "business_impact", "attributes", *FIGURES),
    *("created_by", "created_at", "updated_at", "grouped_by", "grouped_at"),
)
_APPLICATIONS: Select[Any] = select(
    *(application.c[name] for name in _OWN),
    asset_group.c.name.label("asset_group_name"),
    _SCANS.label("scans"),
    _EXECUTIONS.label("executions"),
    _TECHNOLOGIES.label("technologies"),
).join_from(application, asset_group, _IN_GROUP)

_ASSOCIATIONS = (
    select(association.c.id, webhook.c.id, webhook.c.asset_group_id, association.c.application_id)
    .select_from(association)
    .join(
        application,
        (application.c.organization_id == association.c.organization_id)
        & (application.c.id == association.c.application_id),
    )
    .join(
        webhook,
        (webhook.c.organization_id == association.c.organization_id) & (webhook.c.id == association.c.webhook_id),
    )
)

# Built once: they run for every event.
_PLACE = select(application.c.id, application.c.asset_group_id).where(
    application.c.organization_id == bindparam("organization_id"), application.c.id == bindparam("id")
)
_PLACE_OF_EXECUTION = (
    select(application.c.id, application.c.asset_group_id)
    .select_from(execution)
    .join(scan, (scan.c.organization_id == execution.c.organization_id) & (scan.c.id == execution.c.scan_id))
    .join(
        application,
        (application.c.organization_id == scan.c.organization_id) & (application.c.id == scan.c.application_id),
    )
    .where(execution.c.organization_id == bindparam("organization_id"), execution.c.id == bindparam("id"))
)

COLUMNS: Final[Mapping[str, ColumnElement[Any]]] = {
    **{to_pascal(name): application.c[name] for name in ("id", "name", "asset_group_id", "business_impact", *FIGURES)},
    "AssetGroupName": asset_group.c.name,
    "CreatedBy": application.c.created_by,
    "DateCreated": application.c.created_at,
    "LastUpdated": application.c.updated_at,
    "AddedToAssetGroupBy": application.c.grouped_by,
    "AddedToAssetGroupAt": application.c.grouped_at,
    "TotalScans": _SCANS,
    "NScanExecutions": _EXECUTIONS,
}
"""What lists are filtered and ordered by, by the API's names."""
