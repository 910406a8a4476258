"""/api/v4/Webhooks"""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import Field, StrictBool, StrictInt

from presence.controlplane.api.auth import Authenticated, Services, Using
from presence.controlplane.api.body import StrictRoute
from presence.controlplane.api.presences import PresenceModel, model_of
from presence.controlplane.api.schemas import ERRORS, Input, Listing, Output, Paged
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.services.webhooks import WebhookView
from presence.domain.events import EventType, parse_event_type
from presence.domain.webhook import DEFAULT_MAX_AGE_SECONDS, MAX_URI_LENGTH

router = APIRouter(prefix="/Webhooks", tags=["Webhooks"], route_class=StrictRoute)


class NewWebhook(Input):
    """`Uri` may hold {SubjectId} in path and query. `MaxAgeSeconds`: how old an event may be when it is fired."""

    presence_id: UUID
    uri: Annotated[str, Field(max_length=MAX_URI_LENGTH)]
    event: Annotated[str, Field(max_length=64, examples=["ScanExecutionCompleted"])]
    global_: Annotated[StrictBool, Field(alias="Global")] = False
    asset_group_id: UUID | None = None
    authorization_header: Annotated[str, Field(max_length=4096)] | None = None
    request_method: Literal["GET", "POST", "PUT"] | None = None
    request_body: Annotated[str, Field(max_length=8192)] | None = None
    content_type: Annotated[str, Field(max_length=256)] | None = None
    max_age_seconds: Annotated[StrictInt, Field(ge=1, le=2_592_000)] = DEFAULT_MAX_AGE_SECONDS


class AssetGroupShortModel(Output):
    id: str
    name: str


class WebhookModel(Output):
    """A webhook. `AssetGroup` is null at organization level."""

    id: str
    uri: str
    presence: PresenceModel
    asset_group: AssetGroupShortModel | None = None
    global_: bool = Field(alias="Global")
    event: EventType
    authorization_header: str | None = None
    request_method: str = "GET"
    request_body: str | None = None
    content_type: str | None = None
    max_age_seconds: int


def _model(view: WebhookView, services: Services) -> WebhookModel:
    return WebhookModel(
        id=view.webhook.id,
        uri=view.webhook.uri,
        presence=model_of(view.presence, services),
        global_=view.webhook.is_global,
        event=EventType(view.webhook.event),
        max_age_seconds=view.webhook.max_age_seconds,
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
    view = await services.webhooks.create(
        principal, str(body.presence_id), body.uri, event, is_global=body.global_, max_age=body.max_age_seconds
    )
    return _model(view, services)


def _refuse_what_is_not_sent(body: NewWebhook) -> None:
    """Better a clear no than a webhook that does something else than was asked for."""
    if body.asset_group_id is not None:
        raise Refusal(Key.ASSETGROUP_NO_ACCESS, "{0}: there is no such asset group", "AssetGroupId")
    asked = {
        "RequestMethod": body.request_method not in (None, "GET"),
        "RequestBody": body.request_body,
        "ContentType": body.content_type,
        "AuthorizationHeader": body.authorization_header,
    }
    for name, is_asked in asked.items():
        if is_asked:
            raise Refusal(
                Key.FEATURE_DISABLED, "{0}: this version sends GET without a body and with its own headers only", name
            )
