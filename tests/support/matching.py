"""Organizations with many webhooks and applications, and the plan by which a database finds those that fire."""

from collections.abc import Mapping, Sequence
from uuid import uuid4

from sqlalchemy import ClauseElement, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.store.tables import application, asset_group, association, presence, webhook
from presence.domain.events import EventType
from presence.domain.scope import Place, Reach

GROUPS = 100
"""Among which the applications of a large organization are divided."""


async def add_groups(transaction: AsyncConnection, organization_id: str, ids: Sequence[str]) -> None:
    """Asset groups, and the presence of all webhooks, which is named as the organization."""
    await transaction.execute(
        insert(asset_group),
        [{"id": id_, "organization_id": organization_id, "name": id_, "created_at": 0} for id_ in ids],
    )
    await transaction.execute(
        insert(presence).values(id=organization_id, organization_id=organization_id, name="p", created_at=0)
    )


async def add_applications(transaction: AsyncConnection, organization_id: str, groups: Mapping[str, str]) -> None:
    """Applications and the asset groups that they are in."""
    rows = [
        {"id": id_, "organization_id": organization_id, "name": id_, "asset_group_id": group_id,
         "created_at": 0, "updated_at": 0, "grouped_at": 0}
        for id_, group_id in groups.items()
    ]  # fmt: skip
    if rows:
        await transaction.execute(insert(application), rows)


async def add_webhooks(transaction: AsyncConnection, organization_id: str, reaches: Mapping[str, Reach]) -> None:
    """Webhooks, each with its associations."""
    webhooks = [
        {"id": id_, "organization_id": organization_id, "presence_id": organization_id, "uri": "http://x/",
         "host": "x:80", "method": "GET", "on_unknown": "fire", "event": reach.event.value,
         "is_global": reach.is_global, "asset_group_id": reach.asset_group_id, "max_age_seconds": 60, "created_at": 0}
        for id_, reach in reaches.items()
    ]  # fmt: skip
    scopes = [
        {"id": str(uuid4()), "organization_id": organization_id, "webhook_id": id_,
         "application_id": scope_id if is_application else None, "asset_group_id": None if is_application else scope_id}
        for id_, reach in reaches.items()
        for is_application, ids in ((True, reach.application_ids), (False, reach.asset_group_ids))
        for scope_id in ids
    ]  # fmt: skip
    for table, rows in ((webhook, webhooks), (association, scopes)):
        if rows:
            await transaction.execute(insert(table), rows)


async def add_large_organization(
    transaction: AsyncConnection, organization_id: str, webhooks: int, applications: int
) -> Place:
    """Applications in `GROUPS` asset groups, and webhooks of every kind; gives an application for whose completed scan
    executions four of these fire: one for each way in which that comes about."""
    scan = EventType.SCAN_EXECUTION_COMPLETED
    groups = [str(uuid4()) for _ in range(GROUPS)]
    apps = [str(uuid4()) for _ in range(applications)]
    await add_groups(transaction, organization_id, groups)
    await add_applications(
        transaction, organization_id, {app: groups[number % GROUPS] for number, app in enumerate(apps)}
    )
    firing = [
        Reach(scan, True),
        Reach(scan, True, groups[0]),
        Reach(scan, False, None, frozenset({apps[0]})),
        Reach(scan, False, None, frozenset(), frozenset({groups[0]})),
    ]
    silent = [_silent(number, groups[1:], apps[1:]) for number in range(webhooks - len(firing))]
    await add_webhooks(transaction, organization_id, {str(uuid4()): reach for reach in [*firing, *silent]})
    return Place(apps[0], groups[0])


def _silent(number: int, groups: Sequence[str], apps: Sequence[str]) -> Reach:
    """A webhook that does not fire for that application."""
    scan, group, app = EventType.SCAN_EXECUTION_COMPLETED, groups[number % len(groups)], apps[number % len(apps)]
    return (
        Reach(EventType.APPLICATION_UPDATED, True),
        Reach(scan, True, group),
        Reach(scan, False, None, frozenset({app})),
        Reach(scan, False, None, frozenset(), frozenset({group})),
        Reach(scan, False),
    )[number % 5]


async def plan(transaction: AsyncConnection, statement: ClauseElement, values: Mapping[str, object]) -> str:
    """How the database would find the rows."""
    compiled = statement.compile(dialect=transaction.dialect)
    bound = compiled.construct_params(dict(values))
    given = tuple(bound[name] for name in compiled.positiontup or ())
    explain = "EXPLAIN" if transaction.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
    rows = await transaction.exec_driver_sql(f"{explain} {compiled}", given)
    return "\n".join(str(row[-1]) for row in rows)
