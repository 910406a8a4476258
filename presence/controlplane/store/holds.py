"""Deliveries that are held, and how they get free.

Held with the reason `unknown` and an instance: that has it in its journal, and a person decides. Without an
instance: whoever asked has lost its journal. Held with the reason `webhook_paused`: nobody has it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, update
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import Peer
from presence.controlplane.store.chunks import chunks
from presence.controlplane.store.deliveries import change, of
from presence.controlplane.store.tables import UNFINISHED, delivery
from presence.domain.delivery import DeliveryState
from presence.domain.outcome import Reason

WEBHOOK_PAUSED = "webhook_paused"
"""Why a delivery is held that no agent has: no reason that an agent gives."""

_D = DeliveryState


@dataclass(frozen=True, slots=True)
class Waiting:
    """A delivery that waits for a decision after that many attempts. `attempt_log`: a JSON array."""

    id: str
    reason: str
    attempts: int
    attempt_log: str


async def hold(transaction: AsyncConnection, peer: Peer, instance_id: str, waiting: Sequence[Waiting]) -> None:
    """The instance holds them until a person decides; those only that it owns.

    What was decided after another number of attempts is spent. What is held already asks anew.
    """
    if not waiting:
        return
    rows = [{"of": row.id, "why": row.reason, "made": row.attempts, "log": row.attempt_log} for row in waiting]
    mine = (of(peer), delivery.c.instance_id == instance_id, delivery.c.id == bindparam("of"))
    asked: dict[str, Any] = {"reason": bindparam("why"), "attempts": bindparam("made"), "attempt_log": bindparam("log")}
    undecided = delivery.c.released_attempts.is_distinct_from(bindparam("made"))
    first = (
        change(_D.HELD, _D.ACCEPTED).where(*mine, undecided).values(**asked, released_attempts=None, release_said=False)
    )
    again = update(delivery).where(*mine, delivery.c.state == _D.HELD).values(**asked)
    await transaction.execute(first, rows)
    await transaction.execute(again, rows)


async def disown(transaction: AsyncConnection, peer: Peer, instance_id: str, ids: Collection[str]) -> None:
    """The instance does not know them any more: its journal was lost. They still wait for the decision."""
    statement = update(delivery).where(of(peer), delivery.c.state == _D.HELD, delivery.c.instance_id == instance_id)
    for chunk in chunks(ids):
        await transaction.execute(statement.where(delivery.c.id.in_(chunk)).values(instance_id=None))


def _undecided(organization_id: str, delivery_id: str) -> ColumnElement[bool]:
    return and_(
        delivery.c.organization_id == organization_id,
        delivery.c.id == delivery_id,
        delivery.c.reason == Reason.UNKNOWN,
    )


async def release(transaction: AsyncConnection, organization_id: str, delivery_id: str, *, said: bool) -> None:
    """A person said to go on: so does the instance that has it, or else the next one that is given it.

    `said`: the instance that has it is told at once.
    """
    held = _undecided(organization_id, delivery_id)
    await transaction.execute(
        change(_D.ACCEPTED, _D.HELD)
        .where(held, delivery.c.instance_id.is_not(None))
        .values(reason=None, released_attempts=delivery.c.attempts, release_said=said)
    )
    await transaction.execute(
        change(_D.QUEUED, _D.HELD).where(held, delivery.c.instance_id.is_(None)).values(reason=None)
    )


async def say_release(transaction: AsyncConnection, peer: Peer, ids: Collection[str]) -> None:
    """The instance that has them is told what was decided."""
    for chunk in chunks(ids):
        await transaction.execute(update(delivery).where(of(peer), delivery.c.id.in_(chunk)).values(release_said=True))


async def abandon(transaction: AsyncConnection, organization_id: str, delivery_id: str, now: int) -> None:
    """A person said to let it be."""
    await transaction.execute(
        change(_D.CANCELLED, _D.HELD)
        .where(_undecided(organization_id, delivery_id))
        .values(reason=Reason.ABANDONED, settled_at=now)
    )


async def hold_queued(transaction: AsyncConnection, peer: Peer, webhook_ids: Collection[str]) -> int:
    """Holds what is queued of webhooks that are paused. Gives how many there were."""
    changed = await transaction.execute(
        change(_D.HELD, _D.QUEUED).where(of(peer), delivery.c.webhook_id.in_(webhook_ids)).values(reason=WEBHOOK_PAUSED)
    )
    return changed.rowcount


async def hold_of_webhook(transaction: AsyncConnection, organization_id: str, webhook_id: str) -> int:
    """Holds what is queued of a webhook that is paused. Gives how many there were."""
    changed = await transaction.execute(
        change(_D.HELD, _D.QUEUED).where(_of_webhook(organization_id, webhook_id)).values(reason=WEBHOOK_PAUSED)
    )
    return changed.rowcount


async def requeue_paused(transaction: AsyncConnection, organization_id: str, webhook_id: str) -> list[str]:
    """Queues again what was held while the webhook was paused. Gives the presence of each."""
    changed = await transaction.execute(
        change(_D.QUEUED, _D.HELD)
        .where(_of_webhook(organization_id, webhook_id), delivery.c.reason == WEBHOOK_PAUSED)
        .values(reason=None)
        .returning(delivery.c.presence_id)
    )
    return list(changed.scalars())


def _of_webhook(organization_id: str, webhook_id: str) -> ColumnElement[bool]:
    return and_(UNFINISHED, delivery.c.organization_id == organization_id, delivery.c.webhook_id == webhook_id)
