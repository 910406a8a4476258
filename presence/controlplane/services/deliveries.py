"""The delivery log, and what people decide about deliveries.

Seen are those of webhooks that the principal may see; what was deleted since counts with what its deliveries say.
Deciding about them takes the right to change the webhook.
"""

from enum import StrEnum
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from presence.clock import Clock
from presence.controlplane.access import Capability, Principal
from presence.controlplane.bus import Bus
from presence.controlplane.connections import Connections
from presence.controlplane.odata import ListQuery
from presence.controlplane.services.acting import writing
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.store import cancellation, deliveries, delivery_log, holds, webhook_actions
from presence.controlplane.store.audits import Activity, Entity, record
from presence.controlplane.store.deliveries import NewDelivery
from presence.controlplane.store.delivery_log import Delivery
from presence.controlplane.store.engine import Database
from presence.controlplane.store.holds import WEBHOOK_PAUSED
from presence.controlplane.store.webhook_actions import Target
from presence.domain.delivery import DeliveryState, FinalState
from presence.domain.outcome import Reason
from presence.logs import get_logger
from presence.protocol.messages import Cancel, Release

_log = get_logger(__name__)
_FINAL = frozenset(FinalState)


class Action(StrEnum):
    """What a person may decide about a delivery whose last attempt's outcome is unknown."""

    FIRE = "Fire"
    ABANDON = "Abandon"


class Deliveries:
    def __init__(self, database: Database, clock: Clock, bus: Bus, connections: Connections) -> None:
        self._database = database
        self._clock = clock
        self._bus = bus
        self._connections = connections

    async def page(self, principal: Principal, query: ListQuery) -> tuple[list[Delivery], int | None]:
        """Newest first, unless something else is asked for."""
        async with self._database.read(principal.organization_id) as transaction:
            return await delivery_log.page(transaction, principal, query)

    async def find(self, principal: Principal, delivery_id: str) -> Delivery:
        """Raises Refusal RESOURCE_NOT_FOUND."""
        async with self._database.read(principal.organization_id) as transaction:
            return await _visible(transaction, principal, delivery_id)

    async def resolve(self, principal: Principal, delivery_id: str, action: Action) -> Delivery:
        """Carries out the decision about a held delivery, and gives what has become of it.

        The agent that holds it is told at once if it is connected, else when it next states what it holds. Raises
        Refusal RESOURCE_NOT_FOUND, MISSING_CAPABILITIES, DELIVERY_NOT_HELD or DELIVERY_WEBHOOK_PAUSED.
        """
        organization_id, now = principal.organization_id, self._clock.wall()
        async with writing(self._database, principal) as (transaction, principal):
            held = await _changeable(transaction, principal, delivery_id)
            _require_undecided(held)
            is_heard = held.instance_id is not None and self._connections.hears(
                held.presence_id, held.instance_id, Release if action is Action.FIRE else Cancel
            )
            if action is Action.FIRE:
                await holds.release(transaction, organization_id, delivery_id, said=is_heard)
            else:
                await holds.abandon(transaction, organization_id, delivery_id, now)
            resolved = await _visible(transaction, principal, delivery_id)
            await _audit(transaction, principal, now, Activity.RESOLVE, held, Action=action.value)
        _log.info("delivery resolved", delivery=delivery_id, action=action, user=principal.user_id)
        if is_heard or resolved.instance_id is None:
            self._tell(resolved, action)
        return resolved

    async def cancel(self, principal: Principal, delivery_id: str) -> Delivery:
        """Prevents the delivery's next attempt, and gives what has become of it; what is under way is not interrupted.

        Without effect where it is being cancelled already. Raises Refusal RESOURCE_NOT_FOUND, MISSING_CAPABILITIES or
        DELIVERY_FINISHED.
        """
        organization_id, now = principal.organization_id, self._clock.wall()
        async with writing(self._database, principal) as (transaction, principal):
            found = await _changeable(transaction, principal, delivery_id)
            if found.state in _FINAL:
                raise Refusal(Key.DELIVERY_FINISHED, "the delivery has ended: it is {0}", found.state)
            holders = await cancellation.cancel_delivery(transaction, organization_id, delivery_id, now)
            cancelled = await _visible(transaction, principal, delivery_id)
            if cancelled.state != found.state:
                await _audit(transaction, principal, now, Activity.CANCEL, found)
        for holder in holders:
            self._connections.tell(holder.presence_id, holder.instance_id, Cancel(id=holder.delivery_id))
        _log.info("delivery cancelled", delivery=delivery_id, state=cancelled.state, user=principal.user_id)
        return cancelled

    async def redeliver(self, principal: Principal, delivery_id: str) -> Delivery:
        """A new delivery of the same request, linked to the finished one; gives the new one.

        It goes by the presence that the webhook has now. Raises Refusal RESOURCE_NOT_FOUND, MISSING_CAPABILITIES,
        DELIVERY_NOT_FINISHED or DELIVERY_WEBHOOK_DELETED.
        """
        organization_id, now = principal.organization_id, self._clock.wall()
        async with writing(self._database, principal) as (transaction, principal):
            found = await _changeable(transaction, principal, delivery_id)
            if found.state not in _FINAL:
                raise Refusal(
                    Key.DELIVERY_NOT_FINISHED, "the delivery is {0}; redeliver it when it has ended", found.state
                )
            target = await webhook_actions.find(transaction, principal, found.webhook_id)
            if target is None:
                raise Refusal(
                    Key.DELIVERY_WEBHOOK_DELETED,
                    "the delivery's webhook was deleted, so nothing is fired for it any more",
                )
            again = _again(found, target, now)
            await deliveries.add(transaction, organization_id, [again])
            made = await _visible(transaction, principal, again.id)
            await _audit(transaction, principal, now, Activity.REDELIVER, found, Redelivery=again.id)
        _log.info("redelivery asked for", delivery=again.id, redelivery_of=delivery_id, user=principal.user_id)
        self._bus.wake(again.presence_id)
        return made

    def _tell(self, resolved: Delivery, action: Action) -> None:
        if resolved.instance_id is not None:
            message = (
                Release(id=resolved.id, attempts=resolved.attempts) if action is Action.FIRE else Cancel(id=resolved.id)
            )
            self._connections.tell(resolved.presence_id, resolved.instance_id, message)
        elif action is Action.FIRE:
            self._bus.wake(resolved.presence_id)


async def _visible(transaction: AsyncConnection, principal: Principal, delivery_id: str) -> Delivery:
    found = await delivery_log.find(transaction, principal, delivery_id)
    if found is None:
        raise Refusal(Key.RESOURCE_NOT_FOUND, "there is no such delivery")
    return found


async def _changeable(transaction: AsyncConnection, principal: Principal, delivery_id: str) -> Delivery:
    found = await _visible(transaction, principal, delivery_id)
    if not principal.changes_webhook(found.asset_group_id):
        raise Refusal.missing(Capability.CREATE_MODIFY_WEBHOOKS)
    return found


async def _audit(
    transaction: AsyncConnection, principal: Principal, now: int, activity: Activity, found: Delivery, **after: str
) -> None:
    """What was done to the delivery, and how it stood before."""
    await record(
        transaction, principal, now, activity, Entity.DELIVERY, found.id,
        before={"State": found.state, "Reason": found.reason}, after=after or None, asset_group_id=found.asset_group_id,
    )  # fmt: skip


def _again(found: Delivery, target: Target, now: int) -> NewDelivery:
    """The same request as it was stored, by the webhook's presence."""
    return NewDelivery(
        id=str(uuid4()),
        webhook_id=target.id,
        asset_group_id=found.asset_group_id,
        presence_id=target.presence_id,
        event_id=found.event_id,
        event_type=found.event_type,
        subject=found.subject,
        uri=found.uri,
        host=found.host,
        method=found.method,
        body=found.body,
        content_type=found.content_type,
        on_unknown=found.on_unknown,
        created_at=now,
        expires_at=now + target.max_age_seconds * 1000,
        reason=None if target.paused_at is None else WEBHOOK_PAUSED,
        redelivery_of=found.id,
    )


def _require_undecided(found: Delivery) -> None:
    if found.state == DeliveryState.HELD and found.reason == WEBHOOK_PAUSED:
        raise Refusal(
            Key.DELIVERY_WEBHOOK_PAUSED,
            "the delivery waits because its webhook is paused; POST /api/v4/Webhooks/{0}/Resume queues it again",
            found.webhook_id,
        )
    if found.state != DeliveryState.HELD or found.reason != Reason.UNKNOWN:
        raise Refusal(
            Key.DELIVERY_NOT_HELD,
            "the delivery is {0}; only one that is held because its outcome is unknown can be resolved",
            found.state,
        )
