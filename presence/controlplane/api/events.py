"""/api/v4/Events: CloudEvents 1.0 over HTTP, structured mode."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import Response

from presence.controlplane.api.auth import Authenticated, Using
from presence.controlplane.api.body import StrictRoute
from presence.controlplane.api.schemas import ERRORS, Output
from presence.controlplane.services.refusal import Key, Refusal
from presence.domain.events import EventType, parse_event_type, subject_fault

router = APIRouter(prefix="/Events", tags=["Events"], route_class=StrictRoute)


class CloudEvent(BaseModel):
    """`type`: the webhook event; `subject`: the id of what it happened to. Other attributes are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    specversion: Literal["1.0"]
    id: Annotated[str, Field(min_length=1, max_length=256)]
    source: Annotated[str, Field(min_length=1, max_length=512)]
    type: Annotated[str, Field(min_length=1, max_length=256, examples=["ScanExecutionCompleted"])]
    subject: Annotated[str, Field(max_length=4096)]
    time: AwareDatetime | None = None
    applicationid: Annotated[str, Field(max_length=256)] | None = None


class EventModel(Output):
    """The accepted event and what it caused."""

    id: str
    deliveries: list[str]


@router.post("", status_code=201, responses={**ERRORS, 200: {"model": EventModel, "description": "Accepted before"}})
async def accept_event(services: Using, principal: Authenticated, body: CloudEvent, response: Response) -> EventModel:
    """Accepts an event; its deliveries are on disk when this answers. `source` and `id` make it idempotent."""
    kind = parse_event_type(body.type)
    if kind is None:
        raise Refusal(Key.INVALID_INPUT, f"{{0}}: must be one of {', '.join(EventType)}", "type")
    fault = subject_fault(body.subject)
    if fault is not None:
        raise Refusal(Key.INVALID_INPUT, f"{{0}}: {fault}", "subject")
    if body.applicationid is not None:
        raise Refusal(Key.APPLICATION_NO_ACCESS, "{0}: there is no such application", "applicationid")
    accepted = await services.events.accept(
        principal, body.source, body.id, kind, body.subject, _milliseconds(body.time)
    )
    if accepted.repeated:
        response.status_code = 200
    return EventModel(id=accepted.event_id, deliveries=accepted.deliveries)


def _milliseconds(time: datetime | None) -> int | None:
    return None if time is None else int(time.timestamp() * 1000)
