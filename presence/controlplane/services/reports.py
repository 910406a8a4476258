"""Reports of how deliveries ended: whose word counts, and what follows from it."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import Peer
from presence.controlplane.store import deliveries, holds, webhooks
from presence.controlplane.store.deliveries import Settled, Standing
from presence.domain.delivery import DeliveryState, FinalState, sources_of
from presence.domain.outcome import Reason
from presence.logs import get_logger
from presence.protocol.messages import AttemptRecord, Report

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class InVain:
    """A delivery that has ended by another's report while this instance has it."""

    delivery_id: str
    instance_id: str


async def settle(
    transaction: AsyncConnection, peer: Peer, instance_id: str, reports: Sequence[Report], now: int
) -> list[InVain]:
    """Writes down what the instance is believed; gives what other instances need not do any more."""
    if not reports:
        return []
    known = await deliveries.standings(transaction, peer, {report.id for report in reports})
    settled = []
    for report in reports:
        if report.id not in known:
            _log.warning("report for an unknown delivery", delivery=report.id, presence=peer.presence_id)
        elif _is_telling(report, known[report.id].instance_id, instance_id):
            settled.append(_settled(report, known[report.id].created_at, now))
        else:
            _log.info(
                "report of an instance that does not own the delivery, not recorded",
                delivery=report.id, state=report.state, presence=peer.presence_id, instance=instance_id,
            )  # fmt: skip
    await deliveries.settle(transaction, peer, instance_id, settled)
    await _pause(transaction, peer, {known[row.id].webhook_id for row in settled if _is_gone(row, known)}, now)
    owners = {row.id: known[row.id].instance_id for row in settled if _ends_now(row, known)}
    return [InVain(id_, owner) for id_, owner in owners.items() if owner is not None and owner != instance_id]


def attempt_log(log: Sequence[AttemptRecord], created_at: int, now: int) -> str:
    """As stored: absolute times in place of the ages, none before the delivery was made."""
    attempts = [
        {"at": max(created_at, now - record.ago), **record.model_dump(exclude={"ago"}, exclude_none=True)}
        for record in log
    ]
    return json.dumps(attempts, separators=(",", ":"))


async def _pause(transaction: AsyncConnection, peer: Peer, webhook_ids: Collection[str], now: int) -> None:
    """Their targets are gone for good: nothing is fired at them until somebody resumes them."""
    if not webhook_ids:
        return
    for webhook_id in await webhooks.pause(transaction, peer.organization_id, webhook_ids, Reason.GONE, now):
        count = await holds.hold_queued(transaction, peer, [webhook_id])
        _log.warning(
            "webhook paused, its target answered 410: change or resume it",
            webhook=webhook_id, presence=peer.presence_id, reason=Reason.GONE.value, held=count,
        )  # fmt: skip


def _is_telling(report: Report, owner: str | None, instance_id: str) -> bool:
    """A success is true whoever says it: the request arrived. Any other end is the owner's alone to say.

    So a former owner cannot end what a new one still attempts. Nobody owns a queued delivery, so nobody
    can fail it: it is fired again, and whoever has it already then says again how it ended, as its owner.
    """
    return report.state is FinalState.SUCCEEDED or owner == instance_id


def _ends_now(settled: Settled, known: Mapping[str, Standing]) -> bool:
    """Whether it had not ended before."""
    return known[settled.id].state in sources_of(DeliveryState(settled.state.value))


def _is_gone(settled: Settled, known: Mapping[str, Standing]) -> bool:
    """Whether the delivery ended now, because its target is gone."""
    return settled.state is FinalState.FAILED and settled.reason == Reason.GONE and _ends_now(settled, known)


def _settled(report: Report, created_at: int, now: int) -> Settled:
    return Settled(
        id=report.id,
        state=report.state,
        reason=report.reason,
        attempts=report.attempts,
        attempt_log=attempt_log(report.log, created_at, now),
        settled_at=max(created_at, now - report.settled_ago),
    )
