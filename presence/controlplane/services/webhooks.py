"""Webhooks: who sees and changes which, and what is true of each that is saved.

A change concerns later events only: deliveries hold copies. The exception is the secret, `authorization`, which is read
when a delivery is fired; it is sent to the host only that the webhook names then.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from presence.clock import Clock
from presence.controlplane.access import Capability, Principal
from presence.controlplane.connections import Connections
from presence.controlplane.odata import ListQuery
from presence.controlplane.sealing import Sealer, place_of
from presence.controlplane.services.acting import require, writing
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.services.webhook_drafts import (
    Draft,
    Stored,
    check,
    draft_of,
    fields_of,
    leaves,
    masked,
    webhook_of,
)
from presence.controlplane.store import asset_groups, associations, audits, cancellation, presences, webhooks
from presence.controlplane.store.audits import Activity, Entity, Fields
from presence.controlplane.store.cancellation import Holder
from presence.controlplane.store.engine import Database
from presence.controlplane.store.presences import Presence
from presence.controlplane.store.webhooks import Shown, Webhook
from presence.logs import get_logger
from presence.protocol.messages import Cancel

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WebhookView:
    """A webhook with the presence that fires it."""

    shown: Shown
    presence: Presence


class Webhooks:
    def __init__(self, database: Database, clock: Clock, connections: Connections, sealer: Sealer) -> None:
        self._database = database
        self._clock = clock
        self._connections = connections
        self._sealer = sealer

    async def page(self, principal: Principal, query: ListQuery) -> tuple[list[WebhookView], int | None]:
        """Those that the principal may see."""
        async with self._database.read(principal.organization_id) as transaction:
            rows, count = await webhooks.page(transaction, principal, query)
            return await _views(transaction, principal, rows), count

    async def create(self, principal: Principal, draft: Draft) -> WebhookView:
        """Raises Refusal MISSING_CAPABILITIES, ASSETGROUP_NO_ACCESS, INVALID_PRESENCE, and INVALID_URL or INVALID_INPUT
        for what no agent could send."""
        webhook_id, now = str(uuid4()), self._clock.wall()
        async with writing(self._database, principal) as (transaction, principal):
            require(principal, Capability.CREATE_MODIFY_WEBHOOKS)
            if draft.asset_group_id is None:
                require(principal, Capability.ALL_ASSET_GROUPS)
            check(draft)
            sealed = self._seal(principal.organization_id, webhook_id, draft.authorization)
            added = webhook_of(draft, webhook_id, now, sealed)
            if draft.asset_group_id is not None and not await asset_groups.entered(
                transaction, principal, [draft.asset_group_id]
            ):
                raise Refusal(Key.ASSETGROUP_NO_ACCESS, "{0}: there is no such asset group", "AssetGroupId")
            await _require_presence(transaction, principal, draft.presence_id)
            await webhooks.add(transaction, principal.organization_id, added)
            await _audit(transaction, principal, now, Activity.CREATE, added, after=fields_of(added))
            view = await _view(transaction, principal, webhook_id)
        _log.info("webhook created", webhook=webhook_id, user=principal.user_id)
        return view

    async def update(self, principal: Principal, webhook_id: str, changes: Mapping[str, Any]) -> WebhookView:
        """Changes fields of the webhook's draft, by their names; event and asset group are not to be among them.

        Raises Refusal as `find_to_change` and `create` do; INVALID_INPUT, too, for what would send the stored secret
        somewhere else, and for making a webhook Global that has associations.
        """
        now = self._clock.wall()
        async with writing(self._database, principal) as (transaction, principal):
            known = await find_to_change(transaction, principal, webhook_id)
            draft = replace(draft_of(known), **changes)
            check(draft)
            await self._require_consistent(transaction, principal, known, draft)
            sealed = known.authorization
            if draft.authorization is not Stored.AS_IT_IS:
                sealed = self._seal(principal.organization_id, webhook_id, draft.authorization)
            wanted = webhook_of(draft, webhook_id, known.created_at, sealed)
            await webhooks.change(transaction, principal.organization_id, wanted)
            before, after = audits.changed(fields_of(known), fields_of(wanted))
            if sealed != known.authorization:
                # Two masks look alike.
                before = {**before, "AuthorizationHeader": masked(known.authorization)}
                after = {**after, "AuthorizationHeader": masked(sealed, "new")}
            if after:
                await _audit(transaction, principal, now, Activity.MODIFY, wanted, before=before, after=after)
            view = await _view(transaction, principal, webhook_id)
        _log.info("webhook changed", webhook=webhook_id, fields=sorted(after), user=principal.user_id)
        return view

    async def delete(self, principal: Principal, webhook_id: str) -> None:
        """Deletes it with its associations, and prevents further attempts of its deliveries. Raises Refusal as
        `find_to_change` does."""
        async with writing(self._database, principal) as (transaction, principal):
            holders = await delete_webhook(transaction, principal, webhook_id, self._clock.wall())
        tell_to_cancel(self._connections, holders)
        _log.info("webhook deleted", webhook=webhook_id, user=principal.user_id)

    def _seal(self, organization_id: str, webhook_id: str, secret: str | Stored | None) -> str | None:
        assert not isinstance(secret, Stored), "it is sealed already"
        if secret is None:
            return None
        if not self._sealer.is_ready:
            raise Refusal(
                Key.GENERAL_ERROR,
                "{0}: this control plane has no encryption keys; its operator makes them with 'presence control-plane"
                " migrate'",
                "AuthorizationHeader",
            )
        return self._sealer.seal(secret, place_of(organization_id, webhook_id))

    async def _require_consistent(
        self, transaction: AsyncConnection, principal: Principal, known: Webhook, draft: Draft
    ) -> None:
        moves = draft.presence_id != known.presence_id
        if known.authorization and draft.authorization is Stored.AS_IT_IS and (moves or leaves(known.uri, draft.uri)):
            raise Refusal(
                Key.INVALID_INPUT,
                "{0}: give the value anew, or null; the stored one goes to no other host and no other presence",
                "AuthorizationHeader",
            )
        if moves:
            await _require_presence(transaction, principal, draft.presence_id)
        if draft.is_global and not known.is_global:
            count = await associations.count(transaction, principal.organization_id, known.id)
            if count:
                raise Refusal(
                    Key.INVALID_INPUT,
                    "{0}: the webhook has {1} associations, and a Global one has none; remove them first",
                    "Global",
                    str(count),
                )


async def delete_webhook(transaction: AsyncConnection, principal: Principal, webhook_id: str, now: int) -> list[Holder]:
    """Does in the transaction what `Webhooks.delete` does; gives the agents that are to be told after its commit."""
    known = await find_to_change(transaction, principal, webhook_id)
    # The webhook first: an event that matched it has committed its deliveries then, and no other one matches.
    await webhooks.remove(transaction, principal.organization_id, webhook_id)
    holders = await cancellation.cancel_of_webhook(transaction, principal.organization_id, webhook_id, now)
    await _audit(transaction, principal, now, Activity.DELETE, known, before=fields_of(known))
    return holders


def tell_to_cancel(connections: Connections, holders: Iterable[Holder]) -> None:
    """Tells the agents that are connected here; others hear it when they next say what they hold."""
    for holder in holders:
        connections.tell(holder.presence_id, holder.instance_id, Cancel(id=holder.delivery_id))


async def find_to_change(transaction: AsyncConnection, principal: Principal, webhook_id: str) -> Webhook:
    """The webhook, which nobody else changes until the transaction ends. Raises Refusal INVALID_WEBHOOK, or
    MISSING_CAPABILITIES where the principal may see it only."""
    found = await webhooks.find(transaction, principal, webhook_id, to_change=True)
    if found is None:
        raise Refusal(Key.INVALID_WEBHOOK, "there is no such webhook")
    if not principal.changes_webhook(found.webhook.asset_group_id):
        raise Refusal.missing(Capability.CREATE_MODIFY_WEBHOOKS)
    return found.webhook


async def _require_presence(transaction: AsyncConnection, principal: Principal, presence_id: str) -> None:
    if not await presences.is_there(transaction, principal.organization_id, presence_id):
        raise Refusal(Key.INVALID_PRESENCE, "{0}: there is no such presence", "PresenceId")


async def _view(transaction: AsyncConnection, principal: Principal, webhook_id: str) -> WebhookView:
    found = await webhooks.find(transaction, principal, webhook_id)
    assert found is not None, "it was written in the same transaction"
    return (await _views(transaction, principal, [found]))[0]


async def _views(transaction: AsyncConnection, principal: Principal, rows: Sequence[Shown]) -> list[WebhookView]:
    ids = {row.webhook.presence_id for row in rows}
    found = await presences.find(transaction, principal.organization_id, ids)
    return [WebhookView(row, found[row.webhook.presence_id]) for row in rows]


async def _audit(
    transaction: AsyncConnection, principal: Principal, now: int, activity: Activity, concerned: Webhook,
    *, before: Fields | None = None, after: Fields | None = None,
) -> None:  # fmt: skip
    group = concerned.asset_group_id
    await audits.record(
        transaction, principal, now, activity, Entity.WEBHOOK, concerned.id,
        before=before, after=after, asset_group_id=group,
    )  # fmt: skip
