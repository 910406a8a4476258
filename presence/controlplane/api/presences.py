"""/api/v4/Presences"""

import json
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from presence.controlplane.api.auth import Authenticated, Services, Using
from presence.controlplane.api.body import StrictRoute
from presence.controlplane.api.schemas import (
    CONFLICT,
    ERRORS,
    Input,
    Listing,
    Output,
    Paged,
    Timestamp,
    optional_timestamp,
    timestamp,
)
from presence.controlplane.connections import Pause
from presence.controlplane.services.rotations import Progress, Standing
from presence.controlplane.store.presences import Presence

router = APIRouter(prefix="/Presences", tags=["Presences"], route_class=StrictRoute)


class Status(StrEnum):
    """What is known of a presence, from its key's dates and its agents' canaries."""

    ACTIVE = "Active"
    NEVER_USED = "NeverUsed"
    KEY_EXPIRED = "KeyExpired"
    KEY_NEVER_USED = "KeyNeverUsed"
    INACTIVE = "Inactive"


class NewPresence(Input):
    presence_name: Annotated[str, Field(min_length=1, max_length=128)]


class RotationModel(Output):
    """How far `RotateKey` has come. `PendingInstances`: agents that have yet to come back with the new key."""

    status: Progress
    pending_instances: list[str]


class PresenceModel(Output):
    """A presence. `HostName` and `Platform` are those of the agent that was heard of last.

    `LastCanaryAgeSeconds`: how long ago one of its agents proved that it is alive, which they do all the time while
    they are connected. `Paused`: every connected agent is, by `presence pause` on its host, until `PausedUntil` (null:
    until further notice); deliveries wait meanwhile. `Conflict`: agents on `ConflictHosts` run with copies of one
    journal; stop all but one, and remove the journals of the others. `KeyRotation`: the latest `RotateKey`.
    """

    id: str
    presence_name: str
    key_expires_at: Timestamp | None
    host_name: str | None
    status: Status
    is_v2: bool = Field(True, alias="IsV2")
    platform: str | None
    last_canary_age_seconds: int | None
    paused: bool
    paused_until: Timestamp | None
    conflict: bool
    conflict_hosts: list[str]
    key_rotation: RotationModel | None


def status_of(presence: Presence, now: int, canary_age: int | None, active_within: int) -> Status:
    """The first that is true, from the top. Milliseconds."""
    if canary_age is not None and canary_age <= active_within:
        return Status.ACTIVE
    if presence.key_expires_at is not None and presence.key_expires_at <= now:
        return Status.KEY_EXPIRED
    if presence.connected_at is None:
        return Status.NEVER_USED
    if presence.key_used_at is None:
        return Status.KEY_NEVER_USED
    return Status.INACTIVE


def model_of(presence: Presence, services: Services) -> PresenceModel:
    age = services.presences.canary_age(presence)
    hosts = services.presences.conflict_hosts(presence)
    pause = services.presences.paused(presence)
    rotation = services.presences.rotations.standing(presence.id)
    return PresenceModel(
        id=presence.id,
        presence_name=presence.name,
        key_expires_at=optional_timestamp(presence.key_expires_at),
        host_name=presence.host or None,
        status=status_of(presence, services.clock.wall(), age, services.active_within),
        platform=presence.platform or None,
        last_canary_age_seconds=None if age is None else age // 1000,
        paused=pause is not None,
        paused_until=None if pause is None else _end(pause, services.clock.wall()),
        conflict=bool(hosts),
        conflict_hosts=list(hosts),
        key_rotation=None if rotation is None else _rotation(rotation),
    )


def _end(pause: Pause, now: int) -> str | None:
    return None if pause.seconds is None else timestamp(now + int(pause.seconds * 1000))


def _rotation(standing: Standing) -> RotationModel:
    return RotationModel(status=standing.progress, pending_instances=list(standing.pending))


@router.get("", responses=ERRORS)
async def list_presences(services: Using, principal: Authenticated, page: Paged) -> Listing[PresenceModel]:
    """All presences of the organization, by name."""
    rows = await services.presences.page(principal, page.top, page.skip)
    count = await services.presences.count(principal) if page.counted else None
    return Listing(items=[model_of(row, services) for row in rows], count=count)


@router.post("", responses=ERRORS)
async def create_presence(services: Using, principal: Authenticated, body: NewPresence) -> PresenceModel:
    """A new presence; `NewKey` makes its key."""
    return model_of(await services.presences.create(principal, body.presence_name), services)


@router.get(
    "/{presence_id}/NewKey",
    response_class=Response,
    responses={**ERRORS, 200: {"description": "The key file", "content": {"application/json": {}}}},
)
async def new_key(services: Using, principal: Authenticated, presence_id: UUID, request: Request) -> Response:
    """A new key for the presence, as the file AppScanPresence.key. It invalidates the previous key at once."""
    key = await services.presences.new_key(principal, str(presence_id))
    host = services.public_url or str(request.base_url).rstrip("/")
    file = {"Key": key.text, "ExpiresAt": timestamp(key.expires_at), "WebServiceHost": host}
    headers = {"Content-Disposition": 'attachment; filename="AppScanPresence.key"', "Cache-Control": "no-store"}
    return Response(json.dumps(file), media_type="application/json", headers=headers)


@router.post("/{presence_id}/RotateKey", responses={**ERRORS, **CONFLICT})
async def rotate_key(services: Using, principal: Authenticated, presence_id: UUID) -> RotationModel:
    """A new key for the presence, told to its connected agents over their links; nobody else gets to see it. They
    store it and come back with it; once all have, the old key is void and the rotation is `Done`.

    The answer comes when that is so, or after a few seconds, with the agents that are still awaited; the list of
    presences tells the rest. While it is `Pending` the old key is valid, too. Calling it again begins anew, with the
    agents that are connected then. Takes no body.
    """
    return _rotation(await services.presences.rotations.rotate(principal, str(presence_id)))
