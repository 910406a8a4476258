"""/api/v4/Events: CloudEvents 1.0 over HTTP."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from presence.controlplane.access import Capability
from presence.controlplane.api.auth import Producing, Using
from presence.controlplane.api.body import StrictRoute
from presence.controlplane.api.capabilities import takes
from presence.controlplane.api.cloudevents import BATCH, JSON, MAX_BATCH, STRUCTURED, read
from presence.controlplane.api.schemas import ERRORS, FORBIDDEN, Guid, Output
from presence.controlplane.services.acting import require
from presence.controlplane.services.events import Acceptance
from presence.domain.events import ALIASES, EventType

router = APIRouter(prefix="/Events", tags=["Events"], route_class=StrictRoute)


class EventModel(Output):
    """The accepted event, and the ids of the deliveries that it caused, as far as you may see them.

    `Repeated`: there was one of the same `source` and `id` before, and this is what came of that.
    """

    id: Guid
    deliveries: list[Guid]
    repeated: bool


_EXAMPLE = {
    "specversion": "1.0",
    "id": "1",
    "source": "/scanner/1",
    "type": "ScanExecutionCompleted",
    "subject": "9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b",
}
_TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
_CLOUD_EVENT: dict[str, Any] = {
    "type": "object",
    "title": "CloudEvent",
    "required": ["specversion", "id", "source", "type", "subject"],
    "properties": {
        "specversion": {"type": "string", "const": "1.0"},
        "id": _TEXT | {"maxLength": 256, "description": "With `source` it names the event: sent again, it is the same"},
        "source": _TEXT | {"maxLength": 512, "format": "uri-reference"},
        "type": {"type": "string", "enum": [*EventType, *ALIASES]},
        "subject": _TEXT | {"maxLength": 256, "description": "The id of what it happened to: {SubjectId} of webhooks"},
        "time": {"type": "string", "format": "date-time"},
        "applicationid": {"type": "string", "format": "uuid", "description": "The application that it happened in"},
        "datacontenttype": _TEXT,
        "dataschema": _TEXT,
        "data": {"description": "Accepted and ignored"},
    },
    "propertyNames": {"pattern": "^([a-z0-9]+|data_base64)$"},
    "additionalProperties": {"type": ["string", "boolean", "integer", "null"]},
    "example": _EXAMPLE,
}
_BODY: dict[str, Any] = {
    "required": True,
    "description": "Or, in binary mode, the attributes in `ce-` headers, and any body, which is ignored.",
    "content": {
        STRUCTURED: {"schema": _CLOUD_EVENT},
        JSON: {"schema": _CLOUD_EVENT},
        BATCH: {"schema": {"type": "array", "maxItems": MAX_BATCH, "items": _CLOUD_EVENT}},
    },
}


@router.post(
    "",
    status_code=201,
    response_model=EventModel | list[EventModel],
    responses={
        **ERRORS,
        **FORBIDDEN,
        200: {"model": EventModel | list[EventModel], "description": "All were accepted before"},
    },
    openapi_extra={"requestBody": _BODY, **takes(Capability.PUBLISH_EVENTS)},
)
async def accept_events(services: Using, principal: Producing, request: Request) -> Response:
    """Accepts an event, or a batch: all of it or nothing. The deliveries are on disk when this answers.

    `source` and `id` make it idempotent for as long as events are kept (`[retention] events`). Without
    `applicationid`, the application is the one that the subject is, or is an execution of; where there is none, only
    Global webhooks of the organization fire. A batch is answered with a list, in its order.
    """
    require(principal, Capability.PUBLISH_EVENTS)
    message = read(request.headers.items(), await request.body())
    services.limiter.more_events(principal, len(message.happenings) - 1)
    accepted = await services.events.accept(principal, message.happenings)
    models = [_model(one) for one in accepted]
    shown = models if message.is_batch else models[0]
    return JSONResponse(shown, 200 if all(one.repeated for one in accepted) else 201)


def _model(accepted: Acceptance) -> dict[str, Any]:
    model = EventModel(id=accepted.event_id, deliveries=accepted.deliveries, repeated=accepted.repeated)
    return model.model_dump(by_alias=True)
