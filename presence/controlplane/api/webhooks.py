"""/api/v4/Webhooks"""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import Field, StrictBool, StrictInt

from presence.controlplane.api.auth import Authenticated, Services, Using
from presence.controlplane.api.body import StrictRoute
from presence.controlplane.api.presences import PresenceModel, model_of
from presence.controlplane.api.schemas import ERRORS, Input, Listing, Output, Paged, Timestamp, optional_timestamp
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.services.webhooks import Draft, WebhookView
from presence.domain.events import EventType, parse_event_type
from presence.domain.webhook import (
    DEFAULT_MAX_AGE_SECONDS,
    MAX_AUTHORIZATION_LENGTH,
    MAX_BODY_LENGTH,
    MAX_CONTENT_TYPE_LENGTH,
    MAX_URI_LENGTH,
    Method,
    OnUnknown,
)

router = APIRouter(prefix="/Webhooks", tags=["Webhooks"], route_class=StrictRoute)


class OnUnknownModel(StrEnum):
    """`OnUnknown` as the API spells it."""

    FIRE = "Fire"
    HOLD = "Hold"


class NewWebhook(Input):
    """`Uri` may hold {SubjectId} in path and query, `RequestBody` anywhere, under a JSON `ContentType` inside of
    strings; a body needs `RequestMethod` POST or PUT, and each agent's own configuration says which methods it sends.
    `ContentType` is sent with a body only.

    `MaxAgeSeconds`: how old an event may be when it is fired. `OnUnknown`: what follows a request that may have taken
    effect though no answer came. `Fire` sends it again; `Hold` waits for a person (`Deliveries/{id}/Resolve`).
    """

    presence_id: UUID
    uri: Annotated[str, Field(max_length=MAX_URI_LENGTH)]
    event: Annotated[str, Field(max_length=64, examples=["ScanExecutionCompleted"])]
    global_: Annotated[StrictBool, Field(alias="Global")] = False
    asset_group_id: UUID | None = None
    authorization_header: Annotated[str, Field(max_length=MAX_AUTHORIZATION_LENGTH)] | None = None
    request_method: Method | None = None
    request_body: Annotated[str, Field(max_length=MAX_BODY_LENGTH)] | None = None
    content_type: Annotated[str, Field(max_length=MAX_CONTENT_TYPE_LENGTH)] | None = None
    max_age_seconds: Annotated[StrictInt, Field(ge=1, le=2_592_000)] = DEFAULT_MAX_AGE_SECONDS
    on_unknown: OnUnknownModel | None = None


class AssetGroupShortModel(Output):
    id: str
    name: str


class WebhookModel(Output):
    """A webhook. `AssetGroup` is null at organization level.

    `Paused`: nothing is fired until `Resume`; what its events bring about is held. `PausedReason` is `gone` after
    the target answered 410.
    """

    id: str
    uri: str
    presence: PresenceModel
    asset_group: AssetGroupShortModel | None = None
    global_: bool = Field(alias="Global")
    event: EventType
    authorization_header: str | None = None
    request_method: Method
    request_body: str | None
    content_type: str | None
    max_age_seconds: int
    on_unknown: OnUnknownModel
    paused: bool
    paused_reason: str | None
    paused_at: Timestamp | None


def _model(view: WebhookView, services: Services) -> WebhookModel:
    return WebhookModel(
        id=view.webhook.id,
        uri=view.webhook.uri,
        request_method=Method(view.webhook.method),
        request_body=view.webhook.body,
        content_type=view.webhook.content_type,
        presence=model_of(view.presence, services),
        global_=view.webhook.is_global,
        event=EventType(view.webhook.event),
        max_age_seconds=view.webhook.max_age_seconds,
        on_unknown=OnUnknownModel(view.webhook.on_unknown.capitalize()),
        paused=view.webhook.paused_at is not None,
        paused_reason=view.webhook.paused_reason,
        paused_at=optional_timestamp(view.webhook.paused_at),
    )


@router.get("", responses=ERRORS)
async def list_webhooks(services: Using, principal: Authenticated, page: Paged) -> Listing[WebhookModel]:
    """All webhooks of the organization, oldest first."""
    rows = await services.webhooks.page(principal, page.top, page.skip)
    count = await services.webhooks.count(principal) if page.counted else None
    return Listing(items=[_model(row, services) for row in rows], count=count)


@router.post("", status_code=201, responses=ERRORS)
async def create_webhook(services: Using, principal: Authenticated, body: NewWebhook) -> WebhookModel:
    """A webhook at organization level. A Global one fires for every event of its type."""
    _refuse_what_is_not_sent(body)
    event = parse_event_type(body.event)
    if event is None:
        raise Refusal(Key.INVALID_INPUT, f"{{0}}: must be one of {', '.join(EventType)}", "Event")
    draft = Draft(
        presence_id=str(body.presence_id),
        uri=body.uri,
        event=event,
        is_global=body.global_,
        method=body.request_method or Method.GET,
        body=body.request_body or None,
        content_type=body.content_type or None,
        on_unknown=OnUnknown((body.on_unknown or OnUnknownModel.FIRE).lower()),
        max_age=body.max_age_seconds,
    )
    return _model(await services.webhooks.create(principal, draft), services)


def _refuse_what_is_not_sent(body: NewWebhook) -> None:
    """Better a clear no than a webhook that does something else than was asked for."""
    if body.asset_group_id is not None:
        raise Refusal(Key.ASSETGROUP_NO_ACCESS, "{0}: there is no such asset group", "AssetGroupId")
    if body.authorization_header:
        raise Refusal(
            Key.INVALID_INPUT,
            "{0}: this version stores no secrets; let the agent add the header, in its own configuration",
            "AuthorizationHeader",
        )
