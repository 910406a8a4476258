"""/api/v4/Webhooks/{id}/Test, Pause and Resume."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import Field

from presence.controlplane.access import Capability
from presence.controlplane.api.auth import Authenticated, Using
from presence.controlplane.api.body import StrictRoute
from presence.controlplane.api.capabilities import takes
from presence.controlplane.api.deliveries import DeliveryModel, model_of
from presence.controlplane.api.schemas import ERRORS, FORBIDDEN, Guid, Input, Output, Timestamp, optional_timestamp
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.store.webhook_actions import Target
from presence.domain.events import MAX_SUBJECT_LENGTH, subject_fault

router = APIRouter(prefix="/Webhooks", tags=["Webhooks"], route_class=StrictRoute)


class WebhookTest(Input):
    subject_id: Annotated[str, Field(max_length=MAX_SUBJECT_LENGTH, examples=["9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b"])]


class PauseModel(Output):
    """`PausedReason`: `user` where somebody paused it, `gone` where its target answered 410."""

    id: Guid
    paused: bool
    paused_reason: str | None
    paused_at: Timestamp | None


@router.post(
    "/{webhook_id}/Test",
    status_code=201,
    responses={**ERRORS, **FORBIDDEN},
    openapi_extra=takes(Capability.CREATE_MODIFY_WEBHOOKS),
)
async def test_webhook(services: Using, principal: Authenticated, webhook_id: UUID, body: WebhookTest) -> DeliveryModel:
    """Fires the webhook for that subject, whatever its scope, as an event would; the answer is the delivery, whose
    `EventId` is null. `Deliveries/{id}` tells what became of it.

    While the webhook is paused the delivery is held like all others, until `Resume`.
    """
    fault = subject_fault(body.subject_id)
    if fault is not None:
        raise Refusal(Key.INVALID_INPUT, f"{{0}}: {fault}", "SubjectId")
    return model_of(await services.webhook_actions.test(principal, str(webhook_id), body.subject_id))


@router.post(
    "/{webhook_id}/Pause", responses={**ERRORS, **FORBIDDEN}, openapi_extra=takes(Capability.CREATE_MODIFY_WEBHOOKS)
)
async def pause_webhook(services: Using, principal: Authenticated, webhook_id: UUID) -> PauseModel:
    """Fires nothing more for the webhook until `Resume`: deliveries that no agent has yet, and those of events to come,
    are `held` with the reason `webhook_paused`, and expire by their age. What an agent has already takes its course;
    `Deliveries/{id}/Cancel` ends that. Takes no body.
    """
    return _model(await services.webhook_actions.pause(principal, str(webhook_id)))


@router.post(
    "/{webhook_id}/Resume", responses={**ERRORS, **FORBIDDEN}, openapi_extra=takes(Capability.CREATE_MODIFY_WEBHOOKS)
)
async def resume_webhook(services: Using, principal: Authenticated, webhook_id: UUID) -> PauseModel:
    """Ends the pause of a webhook, whoever paused it, and queues again what was held for it. Takes no body."""
    return _model(await services.webhook_actions.resume(principal, str(webhook_id)))


def _model(target: Target) -> PauseModel:
    return PauseModel(
        id=target.id,
        paused=target.paused_at is not None,
        paused_reason=target.paused_reason,
        paused_at=optional_timestamp(target.paused_at),
    )
