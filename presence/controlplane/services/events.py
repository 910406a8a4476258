"""Events: accepted once, matched to webhooks, turned into deliveries in the same transaction.

They are queued; those of a webhook that is paused are held.
"""

from dataclasses import dataclass
from uuid import uuid4

from presence.clock import Clock
from presence.controlplane.access import Principal
from presence.controlplane.bus import Bus
from presence.controlplane.store import deliveries, events, webhooks
from presence.controlplane.store.deliveries import NewDelivery
from presence.controlplane.store.engine import Database
from presence.controlplane.store.events import Event
from presence.controlplane.store.holds import WEBHOOK_PAUSED
from presence.controlplane.store.webhooks import Webhook
from presence.domain.events import EventType
from presence.logs import get_logger

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What came of an event. `repeated`: it had been accepted before, nothing new was made."""

    event_id: str
    deliveries: list[str]
    repeated: bool


class Events:
    def __init__(self, database: Database, clock: Clock, bus: Bus) -> None:
        self._database = database
        self._clock = clock
        self._bus = bus

    async def accept(
        self, principal: Principal, source: str, source_event_id: str, kind: EventType, subject: str,
        occurred_at: int | None,
    ) -> Acceptance:  # fmt: skip
        """Stores the event and its deliveries; on return they are on disk. The subject is checked already.

        `source` and `source_event_id` make it idempotent: a repeat gives what the first call gave.
        """
        now = self._clock.wall()
        event = Event(
            id=str(uuid4()), source=source, source_event_id=source_event_id, type=kind.value, subject=subject,
            occurred_at=now if occurred_at is None else occurred_at, created_at=now,
        )  # fmt: skip
        async with self._database.write(principal.organization_id) as transaction:
            known = await events.find(transaction, principal.organization_id, source, source_event_id)
            if known is not None:
                return Acceptance(known[0], known[1], repeated=True)
            matching = await webhooks.matching(transaction, principal.organization_id, kind)
            made = [_delivery(event, webhook) for webhook in matching]
            await events.add(transaction, principal.organization_id, event)
            await deliveries.add(transaction, principal.organization_id, made)
        for presence_id in {delivery.presence_id for delivery in made}:
            self._bus.wake(presence_id)
        _log.info("event accepted", event_id=event.id, type=event.type, subject=subject, deliveries=len(made))
        return Acceptance(event.id, sorted(delivery.id for delivery in made), repeated=False)


def _delivery(event: Event, webhook: Webhook) -> NewDelivery:
    return NewDelivery(
        id=str(uuid4()),
        webhook_id=webhook.id,
        asset_group_id=webhook.asset_group_id,
        presence_id=webhook.presence_id,
        event_id=event.id,
        event_type=event.type,
        subject=event.subject,
        uri=webhook.uri,
        host=webhook.host,
        method=webhook.method,
        body=webhook.body,
        content_type=webhook.content_type,
        on_unknown=webhook.on_unknown,
        created_at=event.created_at,
        expires_at=event.created_at + webhook.max_age_seconds * 1000,
        reason=None if webhook.paused_at is None else WEBHOOK_PAUSED,
    )
