"""Executions of scans."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic.alias_generators import to_pascal
from sqlalchemy import ColumnElement, Select, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import Principal
from presence.controlplane.odata import ListQuery
from presence.controlplane.store import odata
from presence.controlplane.store.scans import OF_APPLICATION
from presence.controlplane.store.tables import EXECUTION_COUNTERS, application, execution, scan
from presence.controlplane.store.visibility import visible
from presence.domain.execution import Stage, Standing, Status
from presence.domain.scope import Place


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution of a scan, and where that belongs. `counters` by their columns. Milliseconds since the epoch."""

    id: str
    scan_id: str
    where: Place
    standing: Standing
    result: str
    counters: Mapping[str, int]
    user_message: str | None
    comment: str | None
    is_partial: bool
    created_by_id: str | None
    created_by: str | None
    created_at: int
    executed_at: int | None
    ended_at: int | None


async def page(transaction: AsyncConnection, principal: Principal, scan_id: str, query: ListQuery) -> list[Execution]:
    """Those of a scan that the principal may see, newest first."""
    statement = _EXECUTIONS.where(visible(principal, application), execution.c.scan_id == scan_id)
    newest = [execution.c.created_at.desc(), execution.c.id]
    rows, _ = await odata.page(transaction, statement, query, COLUMNS, newest)
    return [_execution(row) for row in rows]


async def latest(transaction: AsyncConnection, principal: Principal, scan_ids: Collection[str]) -> dict[str, Execution]:
    """The newest one of each of these scans that has one and that the principal may see."""
    newest = (
        select(
            execution.c.id,
            func.row_number()
            .over(partition_by=execution.c.scan_id, order_by=(execution.c.created_at.desc(), execution.c.id))
            .label("place"),
        )
        .where(execution.c.organization_id == principal.organization_id, execution.c.scan_id.in_(scan_ids))
        .subquery()
    )
    statement = _EXECUTIONS.join(newest, (newest.c.id == execution.c.id) & (newest.c.place == 1))
    rows = await transaction.execute(statement.where(visible(principal, application)))
    return {found.scan_id: found for found in map(_execution, rows)}


async def find(
    transaction: AsyncConnection, principal: Principal, execution_id: str, *, locked: bool = False
) -> Execution | None:
    """The execution of that id, if the principal may see it. `locked`: nobody else changes it meanwhile."""
    statement = _EXECUTIONS.where(visible(principal, application), execution.c.id == execution_id)
    if locked:
        statement = statement.with_for_update(of=execution)
    row = (await transaction.execute(statement)).first()
    return _execution(row) if row else None


async def add(
    transaction: AsyncConnection, principal: Principal, scan_id: str, execution_id: str, standing: Standing, now: int
) -> None:
    """A new execution of the scan, by the principal."""
    await transaction.execute(
        insert(execution).values(
            id=execution_id,
            organization_id=principal.organization_id,
            scan_id=scan_id,
            **_columns(standing),
            created_by_id=principal.user_id,
            created_by=principal.user_name,
            created_at=now,
        )
    )


async def change(
    transaction: AsyncConnection,
    organization_id: str,
    execution_id: str,
    standing: Standing,
    values: Mapping[str, object],
) -> None:
    """Where it stands, and further columns."""
    mine = (execution.c.organization_id == organization_id, execution.c.id == execution_id)
    await transaction.execute(update(execution).where(*mine).values(**_columns(standing), **values))


def _columns(standing: Standing) -> dict[str, object]:
    return {
        "status": standing.status.value,
        "execution_progress": standing.stage.value,
        "progress": standing.progress,
    }


def _execution(row: Any) -> Execution:
    shown = dict(row._mapping)
    where = Place(shown.pop("application_id"), shown.pop("asset_group_id"))
    standing = Standing(Status(shown.pop("status")), Stage(shown.pop("execution_progress")), shown.pop("progress"))
    counters = {name: shown.pop(name) for name in EXECUTION_COUNTERS}
    return Execution(**shown, where=where, standing=standing, counters=counters)


_OWN: Final = (
    *("id", "scan_id", "status", "execution_progress", "progress", "result", *EXECUTION_COUNTERS, "user_message"),
    *("comment", "is_partial", "created_by_id", "created_by", "created_at", "executed_at", "ended_at"),
)
_OF_SCAN = (scan.c.organization_id == execution.c.organization_id) & (scan.c.id == execution.c.scan_id)
_EXECUTIONS: Select[Any] = select(
    *(execution.c[name] for name in _OWN), scan.c.application_id, application.c.asset_group_id
).select_from(execution.join(scan, _OF_SCAN).join(application, OF_APPLICATION))

COLUMNS: Final[Mapping[str, ColumnElement[Any]]] = {
    **{to_pascal(name): execution.c[name] for name in _OWN},
    "ScanEndTime": execution.c.ended_at,
}
"""What lists are filtered and ordered by, by the API's names."""
