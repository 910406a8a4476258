"""/api/v4/Deliveries: the delivery log, and what people decide about deliveries."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends
from starlette.responses import Response

from presence.controlplane.access import Capability
from presence.controlplane.api.auth import Authenticated, Using
from presence.controlplane.api.body import StrictRoute
from presence.controlplane.api.capabilities import takes
from presence.controlplane.api.listing import asking, listed
from presence.controlplane.api.schemas import (
    CONFLICT,
    ERRORS,
    FORBIDDEN,
    NOT_FOUND,
    Guid,
    Input,
    Listing,
    Output,
    Timestamp,
    optional_timestamp,
    timestamp,
)
from presence.controlplane.odata import Kind, ListQuery
from presence.controlplane.services.deliveries import Action
from presence.controlplane.store.delivery_log import Delivery
from presence.domain.delivery import DeliveryState

router = APIRouter(prefix="/Deliveries", tags=["Deliveries"], route_class=StrictRoute)

FIELDS: Final[Mapping[str, Kind]] = {
    **dict.fromkeys(("Id", "WebhookId", "AssetGroupId", "PresenceId", "EventId", "RedeliveryOf"), Kind.GUID),
    **dict.fromkeys(("Event", "SubjectId", "Uri", "Host", "RequestMethod", "State", "Reason", "InstanceId"), Kind.TEXT),
    **dict.fromkeys(("AttemptCount", "TakeOvers"), Kind.INTEGER),
    **dict.fromkeys(("CreatedAt", "ExpiresAt", "DispatchedAt", "AcceptedAt", "SettledAt"), Kind.TIME),
}


class AttemptModel(Output):
    """One HTTP request. With a status line: `Status`; without: `Phase` and `Fault`; refused by the agent: `Reason`.

    `Took` and, for the phases that were entered, `Dns` to `Body`: milliseconds. `Hint`: what to look at. `Location`:
    the host that a redirect names, which is not followed. `Proxy`: the one it went through. `Unknown`: the request
    may have taken effect, though no answer came. `Repeated`: sent again at once, because a reused connection turned
    out to be closed. `Observed`: only the agent's observe mode let it pass.
    """

    number: int
    at: Timestamp
    took: int
    status: int | None = None
    phase: str | None = None
    fault: str | None = None
    reason: str | None = None
    address: str | None = None
    hint: str | None = None
    location: str | None = None
    proxy: str | None = None
    unknown: bool = False
    repeated: bool = False
    observed: bool = False
    dns: int | None = None
    connect: int | None = None
    tls: int | None = None
    write: int | None = None
    first_byte: int | None = None
    body: int | None = None


class DeliveryModel(Output):
    """One webhook for one event. `Attempts` holds the first and the latest ones, `AttemptCount` counts all.

    `Reason` says how it ended or, while `State` is `held`, why: `unknown` waits for `Resolve`, `webhook_paused` for
    the webhook's `Resume`. `TakeOvers`: how often it was taken from an agent that had accepted it and was not heard
    of any more, so that its request may have been sent by both. `RedeliveryOf`: the delivery that it repeats.
    `EventId` is null where no event, but a `Test` caused it. `AssetGroupId`: the webhook's own.
    """

    id: Guid
    webhook_id: Guid
    asset_group_id: Guid | None
    presence_id: Guid
    event_id: Guid | None
    redelivery_of: Guid | None
    event: str
    subject_id: str
    uri: str
    host: str
    request_method: str
    state: DeliveryState
    reason: str | None
    attempts: list[AttemptModel]
    attempt_count: int
    take_overs: int
    instance_id: str | None
    created_at: Timestamp
    expires_at: Timestamp
    dispatched_at: Timestamp | None
    accepted_at: Timestamp | None
    settled_at: Timestamp | None


class MomentModel(Output):
    """A moment of a delivery. `Text`: what happened, for people."""

    at: Timestamp
    text: str


class DeliveryDetailModel(DeliveryModel):
    """A delivery with its time line: made, dispatched and accepted (for the last time), attempted, ended.

    `AcceptedAt` is when the acceptance was heard; the time line has it no later than the first attempt.
    """

    time_line: list[MomentModel]


_Asked = Annotated[ListQuery, Depends(asking(FIELDS, DeliveryModel))]


@router.get("", responses=ERRORS, response_model=Listing[DeliveryModel])
async def list_deliveries(services: Using, principal: Authenticated, asked: _Asked) -> Response:
    """The deliveries of webhooks that you may see, newest first."""
    rows, count = await services.deliveries.page(principal, asked)
    return listed([model_of(row) for row in rows], count, asked)


@router.get("/{delivery_id}", responses={**ERRORS, **NOT_FOUND})
async def get_delivery(services: Using, principal: Authenticated, delivery_id: UUID) -> DeliveryDetailModel:
    """One delivery, with its time line."""
    row = await services.deliveries.find(principal, str(delivery_id))
    return DeliveryDetailModel(**_fields(row), time_line=_time_line(row))


class Resolution(Input):
    """`Fire`: attempt it again. `Abandon`: let it be."""

    action: Action


@router.post(
    "/{delivery_id}/Resolve",
    responses={**ERRORS, **FORBIDDEN, **NOT_FOUND, **CONFLICT},
    openapi_extra=takes(Capability.CREATE_MODIFY_WEBHOOKS),
)
async def resolve_delivery(
    services: Using, principal: Authenticated, delivery_id: UUID, body: Resolution
) -> DeliveryModel:
    """Decides about a delivery that is held with the reason `unknown`: its last request may have taken effect, and
    its webhook's `OnUnknown` is `Hold`.

    After `Fire` it is `accepted`, and the agent that holds it attempts it again, at once or when it is back; if no
    agent holds it any more, it is `queued` for the next one. After `Abandon` it is `cancelled` with the reason
    `abandoned`.
    """
    return model_of(await services.deliveries.resolve(principal, str(delivery_id), body.action))


@router.post(
    "/{delivery_id}/Cancel",
    responses={**ERRORS, **FORBIDDEN, **NOT_FOUND, **CONFLICT},
    openapi_extra=takes(Capability.CREATE_MODIFY_WEBHOOKS),
)
async def cancel_delivery(services: Using, principal: Authenticated, delivery_id: UUID) -> DeliveryModel:
    """Prevents the next attempt of a delivery; a request that is under way is not interrupted. Takes no body.

    One that no agent has is `cancelled` at once. Else it is `cancelling` until the agent has said how it ended: if a
    request was under way and succeeded, that is `succeeded`. The agent is told at once if it is connected, else when
    it is back.
    """
    return model_of(await services.deliveries.cancel(principal, str(delivery_id)))


@router.post(
    "/{delivery_id}/Redeliver",
    status_code=201,
    responses={**ERRORS, **FORBIDDEN, **NOT_FOUND, **CONFLICT},
    openapi_extra=takes(Capability.CREATE_MODIFY_WEBHOOKS),
)
async def redeliver(services: Using, principal: Authenticated, delivery_id: UUID) -> DeliveryModel:
    """A new delivery of the same request, as it was when the event came, by the presence that the webhook has now;
    `RedeliveryOf` names the old one, which must have ended. Takes no body.

    Called twice, it makes two. While the webhook is paused the new one is held. The receiver cannot tell it from a
    first delivery by anything but its subject: it has a `webhook-id` of its own.
    """
    return model_of(await services.deliveries.redeliver(principal, str(delivery_id)))


def model_of(row: Delivery) -> DeliveryModel:
    return DeliveryModel(**_fields(row))


def _fields(row: Delivery) -> dict[str, Any]:
    return {
        "id": row.id,
        "webhook_id": row.webhook_id,
        "asset_group_id": row.asset_group_id,
        "presence_id": row.presence_id,
        "event_id": row.event_id,
        "redelivery_of": row.redelivery_of,
        "event": row.event_type,
        "subject_id": row.subject,
        "uri": row.uri,
        "host": row.host,
        "request_method": row.method,
        "state": DeliveryState(row.state),
        "reason": row.reason,
        "attempts": [_attempt(record) for record in json.loads(row.attempt_log)],
        "attempt_count": row.attempts,
        "take_overs": row.takeovers,
        "instance_id": row.instance_id,
        "created_at": timestamp(row.created_at),
        "expires_at": timestamp(row.expires_at),
        "dispatched_at": optional_timestamp(row.dispatched_at),
        "accepted_at": optional_timestamp(row.accepted_at),
        "settled_at": optional_timestamp(row.settled_at),
    }


def _attempt(record: dict[str, Any]) -> AttemptModel:
    return AttemptModel(**{**record, "at": timestamp(record["at"])})


def _time_line(row: Delivery) -> list[MomentModel]:
    """In the order of time; where that is equal, in the order in which things happen.

    An acceptance is written down when it is heard, often after the agent's quick first attempt, whose time is known
    from its age: it is shown no later than that.
    """
    attempts = json.loads(row.attempt_log)
    moments = [(row.created_at, "made" if row.redelivery_of is None else "made, as a redelivery")]
    if row.dispatched_at is not None:
        moments.append((row.dispatched_at, "dispatched to an agent"))
    if row.accepted_at is not None:
        accepted_at = min([row.accepted_at, *(record["at"] for record in attempts)])
        moments.append((accepted_at, "accepted by the agent"))
    for record in attempts:
        moments.append((record["at"], f"attempt {record['number']}: {_outcome(record)}"))
    if row.settled_at is not None:
        moments.append((row.settled_at, row.state if row.reason is None else f"{row.state}: {row.reason}"))
    moments.sort(key=lambda moment: moment[0])
    return [MomentModel(at=timestamp(at), text=text) for at, text in moments]


def _outcome(record: Mapping[str, Any]) -> str:
    if "status" in record:
        return f"status {record['status']} after {record['took']} ms"
    if "reason" in record:
        return f"refused by the agent, {record['reason']}"
    return f"{record.get('fault')} in the phase {record.get('phase')} after {record['took']} ms"
