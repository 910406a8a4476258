"""/api/v4/Webhooks"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import Field, StrictBool, StrictInt, model_validator
from starlette.responses import Response

from presence.controlplane.access import Capability
from presence.controlplane.api.auth import Authenticated, Services, Using
from presence.controlplane.api.body import StrictRoute
from presence.controlplane.api.capabilities import takes
from presence.controlplane.api.listing import asking, listed
from presence.controlplane.api.presences import PresenceModel, model_of
from presence.controlplane.api.schemas import (
    ERRORS,
    FORBIDDEN,
    Guid,
    Input,
    Listing,
    Output,
    Timestamp,
    optional_timestamp,
)
from presence.controlplane.odata import Kind, ListQuery
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.services.webhook_drafts import MASK, Draft
from presence.controlplane.services.webhooks import WebhookView
from presence.domain.events import ALIASES, EventType, parse_event_type
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

FIELDS: Final[Mapping[str, Kind]] = {
    "Id": Kind.GUID,
    "Uri": Kind.TEXT,
    "PresenceId": Kind.GUID,
    "AssetGroupId": Kind.GUID,
    "Global": Kind.BOOLEAN,
    "Event": Kind.TEXT,
    "RequestMethod": Kind.TEXT,
    "RequestBody": Kind.TEXT,
    "ContentType": Kind.TEXT,
    "MaxAgeSeconds": Kind.INTEGER,
    "OnUnknown": Kind.TEXT,
    "NeverFires": Kind.BOOLEAN,
    "Paused": Kind.BOOLEAN,
    "PausedReason": Kind.TEXT,
    "PausedAt": Kind.TIME,
}


class OnUnknownModel(StrEnum):
    """`OnUnknown` as the API spells it."""

    FIRE = "Fire"
    HOLD = "Hold"


Uri = Annotated[str, Field(max_length=MAX_URI_LENGTH, examples=["http://myservice.com/ScanEnded/{SubjectId}"])]
Authorization = Annotated[
    Annotated[str, Field(max_length=MAX_AUTHORIZATION_LENGTH)] | None, Field(repr=False, examples=["Bearer secret"])
]
Body = Annotated[str, Field(max_length=MAX_BODY_LENGTH)]
Event = Annotated[
    str,
    Field(
        description="`ApplicationCountersChanged` is taken for `ApplicationUpdated`.",
        examples=["ScanExecutionCompleted"],
        json_schema_extra={"enum": [*EventType, *ALIASES]},
    ),
]
ContentType = Annotated[str, Field(max_length=MAX_CONTENT_TYPE_LENGTH)]
MaxAge = Annotated[StrictInt, Field(ge=1, le=2_592_000)]


class NewWebhook(Input):
    """`Uri` may hold {SubjectId} in path and query, `RequestBody` anywhere, under a JSON `ContentType` inside of
    strings; a body needs `RequestMethod` POST or PUT, and each agent's own configuration says which methods it sends.
    `ContentType` is sent with a body only. Without `AssetGroupId` it is at organization level.

    `AuthorizationHeader`: the value of that header, a secret: it is stored encrypted, and shown as a mask only.
    `MaxAgeSeconds`: how long an event may wait to be fired, counted from when the control plane accepted it, whatever
    the event's own `time` says. `OnUnknown`: what follows a request that may have taken effect though no answer came.
    `Fire` sends it again; `Hold` waits for a person (`Deliveries/{id}/Resolve`).
    """

    presence_id: UUID
    uri: Uri
    event: Event
    global_: Annotated[StrictBool, Field(alias="Global")] = False
    asset_group_id: UUID | None = None
    authorization_header: Authorization = None
    request_method: Method | None = None
    request_body: Body | None = None
    content_type: ContentType | None = None
    max_age_seconds: MaxAge = DEFAULT_MAX_AGE_SECONDS
    on_unknown: OnUnknownModel | None = None


class UpdateWebhook(Input):
    """What is left out stays as it is, and so do the fields but the following where they are null. `RequestMethod` null
    is GET; `RequestBody`, `ContentType` and `AuthorizationHeader` null or empty are removed.

    `AuthorizationHeader` with the mask leaves it unchanged; it must be given anew, or removed, where `Uri` names
    another server or `PresenceId` another presence. `Event` and `AssetGroupId` cannot be changed.
    """

    presence_id: UUID | None = None
    uri: Uri | None = None
    global_: Annotated[StrictBool | None, Field(alias="Global")] = None
    authorization_header: Authorization = None
    request_method: Method | None = None
    request_body: Body | None = None
    content_type: ContentType | None = None
    max_age_seconds: MaxAge | None = None
    on_unknown: OnUnknownModel | None = None

    @model_validator(mode="before")
    @classmethod
    def _immutable(cls, body: object) -> object:
        if isinstance(body, Mapping) and {"event", "assetgroupid"} & {str(name).lower() for name in body}:
            raise ValueError(
                "has Event or AssetGroupId, which cannot be changed; delete the webhook and create another"
            )
        return body


class AssetGroupShortModel(Output):
    id: Guid
    name: str


class WebhookModel(Output):
    """A webhook. `AssetGroup` is null at organization level. `AuthorizationHeader`: a mask where there is one.

    `NeverFires`: it is not Global and has no association; `Webhooks/Associations/{id}` adds one. `Paused`: nothing is
    fired until `Resume`; what its events bring about is held. `PausedReason` is `gone` after the target answered 410,
    `authorization_unreadable` where the stored header cannot be decrypted: give it anew, and resume.
    """

    id: Guid
    uri: str
    presence: PresenceModel
    asset_group: AssetGroupShortModel | None
    global_: bool = Field(alias="Global")
    event: EventType
    authorization_header: str | None
    request_method: Method
    request_body: str | None
    content_type: str | None
    max_age_seconds: int
    on_unknown: OnUnknownModel
    never_fires: bool
    paused: bool
    paused_reason: str | None
    paused_at: Timestamp | None


Asked = Annotated[ListQuery, Depends(asking(FIELDS, WebhookModel))]


@router.get("", responses=ERRORS, response_model=Listing[WebhookModel])
async def list_webhooks(services: Using, principal: Authenticated, query: Asked) -> Response:
    """The webhooks of the asset groups that you may enter and, with access to all, those at organization level; oldest
    first.
    """
    views, count = await services.webhooks.page(principal, query)
    return listed([_model(view, services) for view in views], count, query)


@router.post(
    "", status_code=201, responses={**ERRORS, **FORBIDDEN}, openapi_extra=takes(Capability.CREATE_MODIFY_WEBHOOKS)
)
async def create_webhook(services: Using, principal: Authenticated, body: NewWebhook) -> WebhookModel:
    """A webhook at organization level, which needs access to all asset groups, or of an asset group. A Global one fires
    for every event of its type in there; any other one only for those under its associations, so add one after this.
    """
    event = parse_event_type(body.event)
    if event is None:
        raise Refusal(Key.INVALID_INPUT, f"{{0}}: must be one of {', '.join(EventType)}", "Event")
    if body.authorization_header == MASK:
        raise Refusal(Key.INVALID_INPUT, "{0}: is the mask, not the value", "AuthorizationHeader")
    draft = Draft(
        presence_id=str(body.presence_id),
        uri=body.uri,
        event=event,
        is_global=body.global_,
        asset_group_id=None if body.asset_group_id is None else str(body.asset_group_id),
        authorization=body.authorization_header or None,
        method=body.request_method or Method.GET,
        body=body.request_body or None,
        content_type=body.content_type or None,
        on_unknown=_on_unknown(body.on_unknown or OnUnknownModel.FIRE),
        max_age=body.max_age_seconds,
    )
    return _model(await services.webhooks.create(principal, draft), services)


@router.put("/{webhook_id}", responses={**ERRORS, **FORBIDDEN}, openapi_extra=takes(Capability.CREATE_MODIFY_WEBHOOKS))
async def update_webhook(
    services: Using, principal: Authenticated, webhook_id: UUID, body: UpdateWebhook
) -> WebhookModel:
    """Changes a webhook, for events to come: deliveries that there are keep what they were made with, except for
    `AuthorizationHeader`.
    """
    return _model(await services.webhooks.update(principal, str(webhook_id), _changes(body)), services)


@router.delete(
    "/{webhook_id}",
    status_code=204,
    responses={**ERRORS, **FORBIDDEN},
    openapi_extra=takes(Capability.CREATE_MODIFY_WEBHOOKS),
)
async def delete_webhook(services: Using, principal: Authenticated, webhook_id: UUID) -> None:
    """Deletes a webhook and its associations, and cancels its unfinished deliveries: a request under way is not
    interrupted, but none follows. The delivery log stays.
    """
    await services.webhooks.delete(principal, str(webhook_id))


def _changes(body: UpdateWebhook) -> dict[str, Any]:
    """By the names of `Draft`."""
    given = body.model_fields_set
    changes: dict[str, Any] = {}
    if body.presence_id is not None:
        changes["presence_id"] = str(body.presence_id)
    if body.uri is not None:
        changes["uri"] = body.uri
    if body.global_ is not None:
        changes["is_global"] = body.global_
    if body.max_age_seconds is not None:
        changes["max_age"] = body.max_age_seconds
    if body.on_unknown is not None:
        changes["on_unknown"] = _on_unknown(body.on_unknown)
    if "request_method" in given:
        changes["method"] = body.request_method or Method.GET
    if "request_body" in given:
        changes["body"] = body.request_body or None
    if "content_type" in given:
        changes["content_type"] = body.content_type or None
    if "authorization_header" in given and body.authorization_header != MASK:
        changes["authorization"] = body.authorization_header or None
    return changes


def _on_unknown(model: OnUnknownModel) -> OnUnknown:
    return OnUnknown(model.lower())


def _model(view: WebhookView, services: Services) -> WebhookModel:
    webhook, group_name, never_fires = view.shown
    group = None
    if webhook.asset_group_id is not None and group_name is not None:
        group = AssetGroupShortModel(id=webhook.asset_group_id, name=group_name)
    return WebhookModel(
        id=webhook.id,
        uri=webhook.uri,
        presence=model_of(view.presence, services),
        asset_group=group,
        global_=webhook.is_global,
        event=EventType(webhook.event),
        authorization_header=None if webhook.authorization is None else MASK,
        request_method=Method(webhook.method),
        request_body=webhook.body,
        content_type=webhook.content_type,
        max_age_seconds=webhook.max_age_seconds,
        on_unknown=OnUnknownModel(webhook.on_unknown.capitalize()),
        never_fires=never_fires,
        paused=webhook.paused_at is not None,
        paused_reason=webhook.paused_reason,
        paused_at=optional_timestamp(webhook.paused_at),
    )
