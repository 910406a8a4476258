"""Executions of scans. The completion of one is an event, in the transaction that makes it, exactly once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import uuid4

from pydantic.alias_generators import to_pascal
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.clock import Clock
from presence.controlplane.access import Capability, Principal
from presence.controlplane.odata import ListQuery
from presence.controlplane.services.acting import require, writing
from presence.controlplane.services.events import EXECUTIONS, Announcer, Taken, bring_about
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.store import executions, scans
from presence.controlplane.store.audits import Activity, Entity, changed, record
from presence.controlplane.store.engine import Database
from presence.controlplane.store.executions import Execution
from presence.domain.events import EventType, Happening
from presence.domain.execution import BEGINNING, FINAL, Report, Standing, Status, advanced, completes


@dataclass(frozen=True, slots=True)
class Update:
    """What a scan engine says. `values`: further columns, those only that it says something about."""

    report: Report
    values: Mapping[str, int | str | bool] = field(default_factory=dict)


class Executions:
    """`with_failed`: one that fails is complete, too."""

    def __init__(self, database: Database, clock: Clock, announcer: Announcer, *, with_failed: bool) -> None:
        self._database = database
        self._clock = clock
        self._announcer = announcer
        self._with_failed = with_failed

    async def page(self, principal: Principal, scan_id: str, query: ListQuery) -> list[Execution]:
        """Those of a scan, newest first. Raises Refusal SCAN_NO_ACCESS."""
        async with self._database.read(principal.organization_id) as transaction:
            if await scans.find(transaction, principal, scan_id) is None:
                raise _no_scan()
            return await executions.page(transaction, principal, scan_id, query)

    async def get(self, principal: Principal, execution_id: str) -> Execution:
        """Raises Refusal RESOURCE_NOT_FOUND."""
        async with self._database.read(principal.organization_id) as transaction:
            return await _require(transaction, principal, execution_id)

    async def start(self, principal: Principal, scan_id: str) -> Execution:
        """A new execution, in the queue. Raises Refusal SCAN_NO_ACCESS or MISSING_CAPABILITIES."""
        now, execution_id = self._clock.wall(), str(uuid4())
        async with writing(self._database, principal) as (transaction, principal):
            scan = await scans.find(transaction, principal, scan_id, locked=True)
            if scan is None:
                raise _no_scan()
            require(principal, Capability.MANAGE_SCANS)
            await executions.add(transaction, principal, scan_id, execution_id, BEGINNING, now)
            await record(
                transaction, principal, now, Activity.CREATE, Entity.EXECUTION, execution_id,
                after={"ScanId": scan_id, "Status": BEGINNING.status.value}, asset_group_id=scan.asset_group_id,
            )  # fmt: skip
            return await _require(transaction, principal, execution_id)

    async def update(self, principal: Principal, execution_id: str, said: Update) -> Execution:
        """Notes what the engine says; where that completes it, it is a ScanExecutionCompleted.

        Raises Refusal RESOURCE_NOT_FOUND, MISSING_CAPABILITIES, or EXECUTION_FINISHED where it has ended already.
        """
        now = self._clock.wall()
        taken: list[Taken] = []
        async with writing(self._database, principal) as (transaction, principal):
            before = await _require(transaction, principal, execution_id, locked=True)
            require(principal, Capability.UPDATE_SCAN_EXECUTIONS)
            standing = advanced(before.standing, said.report)
            if standing is None:
                raise Refusal(
                    Key.EXECUTION_FINISHED,
                    "the execution is {0}: its Status, ExecutionProgress and Progress do not change any more",
                    before.standing.status.value,
                )
            times = _times(before, standing, now)
            await executions.change(
                transaction, principal.organization_id, execution_id, standing, {**said.values, **times}
            )
            after = await _require(transaction, principal, execution_id)
            await _audit(transaction, principal, now, before, after)
            if completes(before.standing.status, standing.status, with_failed=self._with_failed):
                happening = Happening(EXECUTIONS, execution_id, EventType.SCAN_EXECUTION_COMPLETED, execution_id)
                taken = await bring_about(transaction, principal, happening, after.where, now, self._announcer)
        self._announcer.announce(taken)
        return after


def _times(before: Execution, after: Standing, now: int) -> dict[str, int]:
    """When it began and when it ended, as soon as that has happened."""
    times = {}
    if before.executed_at is None and after.status is not Status.IN_QUEUE:
        times["executed_at"] = now
    if before.ended_at is None and after.status in FINAL:
        times["ended_at"] = now
    return times


async def _audit(
    transaction: AsyncConnection, principal: Principal, now: int, before: Execution, after: Execution
) -> None:
    old, new = changed(_shown(before), _shown(after))
    if new:
        await record(
            transaction, principal, now, Activity.MODIFY, Entity.EXECUTION, after.id,
            before=old, after=new, asset_group_id=after.where.asset_group_id,
        )  # fmt: skip


def _shown(execution: Execution) -> dict[str, object]:
    """What of it is audited, by the API's names."""
    return {
        "Status": execution.standing.status.value,
        "ExecutionProgress": execution.standing.stage.value,
        "Progress": execution.standing.progress,
        "Result": execution.result,
        "UserMessage": execution.user_message,
        "Comment": execution.comment,
        "IsPartial": execution.is_partial,
        **{to_pascal(name): count for name, count in execution.counters.items()},
    }


async def _require(
    transaction: AsyncConnection, principal: Principal, execution_id: str, *, locked: bool = False
) -> Execution:
    found = await executions.find(transaction, principal, execution_id, locked=locked)
    if found is None:
        raise Refusal(Key.RESOURCE_NOT_FOUND, "there is no such scan execution")
    return found


def _no_scan() -> Refusal:
    return Refusal(Key.SCAN_NO_ACCESS, "there is no such scan")
