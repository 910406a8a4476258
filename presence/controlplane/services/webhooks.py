"""Webhooks."""

from dataclasses import dataclass
from uuid import uuid4

from presence.clock import Clock
from presence.controlplane.access import Principal
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.store import presences, webhooks
from presence.controlplane.store.engine import Database
from presence.controlplane.store.presences import Presence
from presence.controlplane.store.webhooks import Webhook
from presence.domain.events import EventType
from presence.domain.template import TemplateError, parse_template


@dataclass(frozen=True, slots=True)
class WebhookView:
    """A webhook with the presence that fires it."""

    webhook: Webhook
    presence: Presence


class Webhooks:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(
        self, principal: Principal, presence_id: str, uri: str, event: EventType, *, is_global: bool, max_age: int
    ) -> WebhookView:
        """An organization-level webhook; `max_age` in seconds.

        Raises Refusal INVALID_URL for a URI that could not be fired, INVALID_PRESENCE for an unknown presence.
        """
        try:
            parse_template(uri)
        except TemplateError as error:
            raise Refusal(Key.INVALID_URL, f"Uri: {error}") from None
        added = Webhook(
            id=str(uuid4()),
            presence_id=presence_id,
            uri=uri,
            event=event.value,
            is_global=is_global,
            asset_group_id=None,
            max_age_seconds=max_age,
            created_at=self._clock.wall(),
        )
        async with self._database.write() as transaction:
            found = await presences.find(transaction, principal.organization_id, [presence_id])
            if presence_id not in found:
                raise Refusal(Key.INVALID_PRESENCE, "PresenceId: there is no such presence")
            await webhooks.add(transaction, principal.organization_id, added)
        return WebhookView(added, found[presence_id])

    async def page(self, principal: Principal, top: int, skip: int) -> list[WebhookView]:
        async with self._database.read() as transaction:
            rows = await webhooks.page(transaction, principal.organization_id, top, skip)
            ids = {row.presence_id for row in rows}
            found = await presences.find(transaction, principal.organization_id, ids)
        return [WebhookView(row, found[row.presence_id]) for row in rows]

    async def count(self, principal: Principal) -> int:
        async with self._database.read() as transaction:
            return await webhooks.count(transaction, principal.organization_id)
