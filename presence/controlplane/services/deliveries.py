"""The delivery log, and what people decide about deliveries that wait for them."""

from enum import StrEnum

from presence.clock import Clock
from presence.controlplane.access import Principal
from presence.controlplane.bus import Bus
from presence.controlplane.connections import Connections
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.store import delivery_log, holds
from presence.controlplane.store.delivery_log import Delivery
from presence.controlplane.store.engine import Database
from presence.controlplane.store.holds import WEBHOOK_PAUSED
from presence.domain.delivery import DeliveryState
from presence.domain.outcome import Reason
from presence.logs import get_logger
from presence.protocol.messages import Cancel, Release

_log = get_logger(__name__)


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

    async def page(self, principal: Principal, top: int, skip: int) -> list[Delivery]:
        """Newest first."""
        async with self._database.read(principal.organization_id) as transaction:
            return await delivery_log.page(transaction, principal.organization_id, top, skip)

    async def count(self, principal: Principal) -> int:
        async with self._database.read(principal.organization_id) as transaction:
            return await delivery_log.count(transaction, principal.organization_id)

    async def resolve(self, principal: Principal, delivery_id: str, action: Action) -> Delivery:
        """Carries out the decision about a held delivery, and gives what has become of it.

        The agent that holds it is told at once if it is connected, else when it next states what it holds. Raises
        Refusal RESOURCE_NOT_FOUND, DELIVERY_NOT_HELD or DELIVERY_WEBHOOK_PAUSED.
        """
        organization_id = principal.organization_id
        async with self._database.write(principal.organization_id) as transaction:
            held = await delivery_log.find(transaction, organization_id, delivery_id)
            if held is None:
                raise Refusal(Key.RESOURCE_NOT_FOUND, "there is no such delivery")
            _require_undecided(held)
            is_heard = held.instance_id is not None and self._connections.hears(
                held.presence_id, held.instance_id, Release if action is Action.FIRE else Cancel
            )
            if action is Action.FIRE:
                await holds.release(transaction, organization_id, delivery_id, said=is_heard)
            else:
                await holds.abandon(transaction, organization_id, delivery_id, self._clock.wall())
            resolved = await delivery_log.find(transaction, organization_id, delivery_id)
        assert resolved is not None, "it was found in the same transaction"
        _log.info("delivery resolved", delivery=delivery_id, action=action, user=principal.user_id)
        if is_heard or resolved.instance_id is None:
            self._tell(resolved, action)
        return resolved

    def _tell(self, resolved: Delivery, action: Action) -> None:
        if resolved.instance_id is not None:
            message = (
                Release(id=resolved.id, attempts=resolved.attempts) if action is Action.FIRE else Cancel(id=resolved.id)
            )
            self._connections.tell(resolved.presence_id, resolved.instance_id, message)
        elif action is Action.FIRE:
            self._bus.wake(resolved.presence_id)


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
