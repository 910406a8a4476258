"""What webhooks that are not Global are associated with: an application or, at organization level, an asset group."""

from sqlalchemy.ext.asyncio import AsyncConnection

from presence.clock import Clock
from presence.controlplane.access import Principal
from presence.controlplane.odata import ListQuery
from presence.controlplane.services.acting import writing
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.services.webhooks import find_to_change
from presence.controlplane.store import associations, audits, webhooks
from presence.controlplane.store.associations import Association, Scope
from presence.controlplane.store.audits import Activity, Entity
from presence.controlplane.store.engine import Database
from presence.controlplane.store.webhooks import Webhook
from presence.logs import get_logger

_log = get_logger(__name__)


class Associations:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def page(self, principal: Principal, webhook_id: str, query: ListQuery) -> list[Association]:
        """Those of a webhook; none of a Global one. Raises Refusal INVALID_WEBHOOK."""
        async with self._database.read(principal.organization_id) as transaction:
            if await webhooks.find(transaction, principal, webhook_id) is None:
                raise Refusal(Key.INVALID_WEBHOOK, "there is no such webhook")
            return await associations.page(transaction, principal.organization_id, webhook_id, query)

    async def add(self, principal: Principal, webhook_id: str, added: Association) -> None:
        """Adds it; nothing happens where it is there already.

        Raises Refusal as `find_to_change` does; WEBHOOK_OWNED_BY_GROUP for an asset group with a webhook of one,
        INVALID_SCOPE for what the principal may not enter or the webhook's asset group does not have, INVALID_INPUT for
        a Global webhook.
        """
        now = self._clock.wall()
        async with writing(self._database, principal) as (transaction, principal):
            concerned = await find_to_change(transaction, principal, webhook_id)
            await _require_allowed(transaction, principal, concerned, added)
            if await associations.exists(transaction, principal.organization_id, webhook_id, added):
                return
            await associations.add(transaction, principal.organization_id, webhook_id, added)
            await _audit(transaction, principal, now, Activity.ASSOCIATE, concerned, added)
        _log.info("webhook associated", webhook=webhook_id, scope=added.scope_id, user=principal.user_id)

    async def remove(self, principal: Principal, webhook_id: str, removed: Association) -> None:
        """Raises Refusal as `find_to_change` does, and INVALID_SCOPE where there is no such association or the
        principal may not enter the scope."""
        now = self._clock.wall()
        async with writing(self._database, principal) as (transaction, principal):
            concerned = await find_to_change(transaction, principal, webhook_id)
            group = await associations.group_of_scope(transaction, principal, removed)
            if group is None or not await associations.remove(
                transaction, principal.organization_id, webhook_id, removed
            ):
                raise Refusal(Key.INVALID_SCOPE, "the webhook has no such association")
            await _audit(transaction, principal, now, Activity.DISASSOCIATE, concerned, removed)
        _log.info("webhook dissociated", webhook=webhook_id, scope=removed.scope_id, user=principal.user_id)


async def _require_allowed(
    transaction: AsyncConnection, principal: Principal, concerned: Webhook, added: Association
) -> None:
    if concerned.is_global:
        raise Refusal(Key.INVALID_INPUT, "a Global webhook has no associations; set Global to false first")
    if concerned.asset_group_id is not None and added.scope is Scope.ASSET_GROUP:
        raise Refusal(
            Key.WEBHOOK_OWNED_BY_GROUP, "the webhook belongs to an asset group; associate it with applications of that"
        )
    group = await associations.group_of_scope(transaction, principal, added)
    if group is None:
        raise Refusal(Key.INVALID_SCOPE, "{0}: there is no such {1}", "ScopeId", added.scope.value)
    if concerned.asset_group_id not in (None, group):
        raise Refusal(Key.INVALID_SCOPE, "{0}: the application is not in the webhook's asset group", "ScopeId")


async def _audit(
    transaction: AsyncConnection, principal: Principal, now: int, activity: Activity, concerned: Webhook,
    scope: Association,
) -> None:  # fmt: skip
    fields = {"Scope": scope.scope.value, "ScopeId": scope.scope_id}
    await audits.record(
        transaction, principal, now, activity, Entity.WEBHOOK, concerned.id,
        before=fields if activity is Activity.DISASSOCIATE else None,
        after=fields if activity is Activity.ASSOCIATE else None,
        asset_group_id=concerned.asset_group_id,
    )  # fmt: skip
