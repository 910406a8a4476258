"""/api/v4/Deliveries: the delivery log."""

import json
from typing import Any

from fastapi import APIRouter

from presence.controlplane.api.auth import Authenticated, Using
from presence.controlplane.api.body import StrictRoute
from presence.controlplane.api.schemas import ERRORS, Listing, Output, Paged, Timestamp, optional_timestamp, timestamp
from presence.controlplane.store.deliveries import Delivery
from presence.domain.delivery import DeliveryState

router = APIRouter(prefix="/Deliveries", tags=["Deliveries"], route_class=StrictRoute)


class AttemptModel(Output):
    """One HTTP request. `Took` in milliseconds. With a status line: `Status`; without: `Phase` and `Fault`;
    refused by the agent: `Reason`."""

    number: int
    at: Timestamp
    took: int
    status: int | None = None
    phase: str | None = None
    fault: str | None = None
    reason: str | None = None
    address: str | None = None


class DeliveryModel(Output):
    """One webhook for one event. `Attempts` holds the first and the latest ones, `AttemptCount` counts all."""

    id: str
    webhook_id: str
    presence_id: str
    event_id: str
    event: str
    subject_id: str
    uri: str
    state: DeliveryState
    reason: str | None
    attempts: list[AttemptModel]
    attempt_count: int
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


def _model(row: Delivery) -> DeliveryModel:
    return DeliveryModel(
        id=row.id,
        webhook_id=row.webhook_id,
        presence_id=row.presence_id,
        event_id=row.event_id,
        event=row.event_type,
        subject_id=row.subject,
        uri=row.uri,
        state=DeliveryState(row.state),
        reason=row.reason,
        attempts=[_attempt(record) for record in json.loads(row.attempt_log)],
        attempt_count=row.attempts,
        instance_id=row.instance_id,
        created_at=timestamp(row.created_at),
        dispatched_at=optional_timestamp(row.dispatched_at),
        accepted_at=optional_timestamp(row.accepted_at),
        settled_at=optional_timestamp(row.settled_at),
    )


def _attempt(record: dict[str, Any]) -> AttemptModel:
    return AttemptModel(**{**record, "at": timestamp(record["at"])})
