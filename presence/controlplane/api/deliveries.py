"""/api/v4/Deliveries: the delivery log, and the decisions about deliveries that wait for one."""

import json
from typing import Any
from uuid import UUID

from fastapi import APIRouter

from presence.controlplane.api.auth import Authenticated, Using
from presence.controlplane.api.body import StrictRoute
from presence.controlplane.api.schemas import (
    CONFLICT,
    ERRORS,
    NOT_FOUND,
    Input,
    Listing,
    Output,
    Paged,
    Timestamp,
    optional_timestamp,
    timestamp,
)
from presence.controlplane.services.deliveries import Action
from presence.controlplane.store.delivery_log import Delivery
from presence.domain.delivery import DeliveryState

router = APIRouter(prefix="/Deliveries", tags=["Deliveries"], route_class=StrictRoute)


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
    of any more, so that its request may have been sent by both.
    """

    id: str
    webhook_id: str
    presence_id: str
    event_id: str
    event: str
    subject_id: str
    uri: str
    request_method: str
    state: DeliveryState
    reason: str | None
    attempts: list[AttemptModel]
    attempt_count: int
    take_overs: int
    instance_id: str | None
    created_at: Timestamp
    dispatched_at: Timestamp | None
    accepted_at: Timestamp | None
    settled_at: Timestamp | None


@router.get("", responses=ERRORS)
async def list_deliveries(services: Using, principal: Authenticated, page: Paged) -> Listing[DeliveryModel]:
    """All deliveries of the organization, newest first."""
    rows = await services.deliveries.page(principal, page.top, page.skip)
    count = await services.deliveries.count(principal) if page.counted else None
    return Listing(items=[_model(row) for row in rows], count=count)


class Resolution(Input):
    """`Fire`: attempt it again. `Abandon`: let it be."""

    action: Action


@router.post("/{delivery_id}/Resolve", responses={**ERRORS, **NOT_FOUND, **CONFLICT})
async def resolve_delivery(
    services: Using, principal: Authenticated, delivery_id: UUID, body: Resolution
) -> DeliveryModel:
    """Decides about a delivery that is held with the reason `unknown`: its last request may have taken effect, and
    its webhook's `OnUnknown` is `Hold`.

    After `Fire` it is `accepted`, and the agent that holds it attempts it again, at once or when it is back; if no
    agent holds it any more, it is `queued` for the next one. After `Abandon` it is `cancelled` with the reason
    `abandoned`.
    """
    return _model(await services.deliveries.resolve(principal, str(delivery_id), body.action))


def _model(row: Delivery) -> DeliveryModel:
    return DeliveryModel(
        id=row.id,
        webhook_id=row.webhook_id,
        presence_id=row.presence_id,
        event_id=row.event_id,
        event=row.event_type,
        subject_id=row.subject,
        uri=row.uri,
        request_method=row.method,
        state=DeliveryState(row.state),
        reason=row.reason,
        attempts=[_attempt(record) for record in json.loads(row.attempt_log)],
        attempt_count=row.attempts,
        take_overs=row.takeovers,
        instance_id=row.instance_id,
        created_at=timestamp(row.created_at),
        dispatched_at=optional_timestamp(row.dispatched_at),
        accepted_at=optional_timestamp(row.accepted_at),
        settled_at=optional_timestamp(row.settled_at),
    )


def _attempt(record: dict[str, Any]) -> AttemptModel:
    return AttemptModel(**{**record, "at": timestamp(record["at"])})
