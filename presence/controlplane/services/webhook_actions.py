"""What is done with webhooks beside changing them: they are tested, paused and resumed."""

from collections.abc import Sequence
from typing import Final
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from presence.clock import Clock
from presence.controlplane.access import Capability, Principal
from presence.controlplane.bus import Bus
from presence.controlplane.services.acting import writing
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.store import deliveries, delivery_log, holds, webhook_actions
from presence.controlplane.store.audits import Activity, Entity, record
from presence.controlplane.store.deliveries import NewDelivery
from presence.controlplane.store.delivery_log import Delivery
from presence.controlplane.store.engine import Database
from presence.controlplane.store.holds import WEBHOOK_PAUSED
from presence.controlplane.store.webhook_actions import Target
from presence.logs import get_logger

BY_USER: Final = "user"
"""Why a webhook is paused that somebody paused."""

_log = get_logger(__name__)


class WebhookActions:
    def __init__(self, database: Database, clock: Clock, bus: Bus) -> None:
        self._database = database
        self._clock = clock
        self._bus = bus

    async def test(self, principal: Principal, webhook_id: str, subject: str) -> Delivery:
        """A delivery of the webhook for that subject, of no event; gives it. The subject is checked already.

        Raises Refusal INVALID_WEBHOOK or MISSING_CAPABILITIES, as all of these do.
        """
        now = self._clock.wall()
        async with writing(self._database, principal) as (transaction, principal):
            target = await _changeable(transaction, principal, webhook_id)
            tried = _tried(target, subject, now)
            await deliveries.add(transaction, principal.organization_id, [tried])
            made = await delivery_log.find(transaction, principal, tried.id)
            await record(
                transaction, principal, now, Activity.TEST, Entity.WEBHOOK, webhook_id,
                after={"SubjectId": subject, "Delivery": tried.id}, asset_group_id=target.asset_group_id,
            )  # fmt: skip
        assert made is not None, "it was added in the same transaction"
        _log.info("webhook tested", webhook=webhook_id, delivery=tried.id, user=principal.user_id)
        self._bus.wake(tried.presence_id)
        return made

    async def pause(self, principal: Principal, webhook_id: str) -> Target:
        """Holds what is queued for the webhook, and what its events bring about from now on.

        What an agent has already takes its course. A pause that there is stays as it is.
        """
        now = self._clock.wall()
        async with writing(self._database, principal) as (transaction, principal):
            target = await _changeable(transaction, principal, webhook_id)
            if target.paused_at is not None:
                return target
            await webhook_actions.mark(transaction, principal.organization_id, webhook_id, now, BY_USER)
            count = await holds.hold_of_webhook(transaction, principal.organization_id, webhook_id)
            await _audit(transaction, principal, now, Activity.PAUSE, target, None, BY_USER)
            paused = await _changeable(transaction, principal, webhook_id)
        _log.info("webhook paused", webhook=webhook_id, held=count, user=principal.user_id)
        return paused

    async def resume(self, principal: Principal, webhook_id: str) -> Target:
        """Ends the webhook's pause, if there is one, whoever paused it, and queues again what was held for it."""
        now = self._clock.wall()
        presence_ids: Sequence[str] = ()
        async with writing(self._database, principal) as (transaction, principal):
            target = await _changeable(transaction, principal, webhook_id)
            if target.paused_at is None:
                return target
            await webhook_actions.mark(transaction, principal.organization_id, webhook_id, None, None)
            presence_ids = await holds.requeue_paused(transaction, principal.organization_id, webhook_id)
            await _audit(transaction, principal, now, Activity.RESUME, target, target.paused_reason, None)
            resumed = await _changeable(transaction, principal, webhook_id)
        _log.info("webhook resumed", webhook=webhook_id, queued=len(presence_ids), user=principal.user_id)
        for presence_id in set(presence_ids):
            self._bus.wake(presence_id)
        return resumed


async def _changeable(transaction: AsyncConnection, principal: Principal, webhook_id: str) -> Target:
    target = await webhook_actions.find(transaction, principal, webhook_id)
    if target is None:
        raise Refusal(Key.INVALID_WEBHOOK, "there is no such webhook")
    if not principal.changes_webhook(target.asset_group_id):
        raise Refusal.missing(Capability.CREATE_MODIFY_WEBHOOKS)
    return target


async def _audit(
    transaction: AsyncConnection, principal: Principal, now: int, activity: Activity, target: Target,
    before: str | None, after: str | None,
) -> None:  # fmt: skip
    await record(
        transaction, principal, now, activity, Entity.WEBHOOK, target.id,
        before={"PausedReason": before}, after={"PausedReason": after}, asset_group_id=target.asset_group_id,
    )  # fmt: skip


def _tried(target: Target, subject: str, now: int) -> NewDelivery:
    return NewDelivery(
        id=str(uuid4()),
        webhook_id=target.id,
        asset_group_id=target.asset_group_id,
        presence_id=target.presence_id,
        event_id=None,
        event_type=target.event,
        subject=subject,
        uri=target.uri,
        host=target.host,
        method=target.method,
        body=target.body,
        content_type=target.content_type,
        on_unknown=target.on_unknown,
        created_at=now,
        expires_at=now + target.max_age_seconds * 1000,
        reason=None if target.paused_at is None else WEBHOOK_PAUSED,
    )
