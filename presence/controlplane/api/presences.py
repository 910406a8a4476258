"""/api/v4/Presences"""

import asyncio
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from presence.controlplane.access import Capability
from presence.controlplane.api.auth import Attempting, Authenticated, Services, Using
from presence.controlplane.api.body import StrictRoute
from presence.controlplane.api.capabilities import takes
from presence.controlplane.api.listing import asking, listed
from presence.controlplane.api.schemas import (
    CONFLICT,
    ERRORS,
    FORBIDDEN,
    Guid,
    Input,
    Listing,
    Output,
    Timestamp,
    optional_timestamp,
    timestamp,
)
from presence.controlplane.api.tolerance import Printable
from presence.controlplane.connections import Pause
from presence.controlplane.odata import Kind, ListQuery
from presence.controlplane.services.package import KEY_FILE, PLATFORM, key_file
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.services.rotations import Progress, Standing
from presence.controlplane.store.presences import Presence
from presence.controlplane.store.tables.presences import MAX_PRESENCE_NAME

router = APIRouter(prefix="/Presences", tags=["Presences"], route_class=StrictRoute)


class PresenceStatus(StrEnum):
    """What is known of a presence, from its key's dates and its agents' canaries."""

    ACTIVE = "Active"
    NEVER_USED = "NeverUsed"
    KEY_EXPIRED = "KeyExpired"
    KEY_NEVER_USED = "KeyNeverUsed"
    INACTIVE = "Inactive"
    DISABLE = "Disable"
    """Of AppScan on Cloud's API; nothing is disabled here."""


FIELDS: Final[Mapping[str, Kind]] = {
    "Id": Kind.GUID,
    "PresenceName": Kind.TEXT,
    "KeyExpiresAt": Kind.TIME,
    "HostName": Kind.TEXT,
    "Platform": Kind.TEXT,
}


class NewPresence(Input):
    presence_name: Annotated[str, Printable, Field(min_length=1, max_length=MAX_PRESENCE_NAME, examples=["office"])]


class UpdatePresence(NewPresence):
    """Its new name."""


class NewEnrollment(Input):
    """`Nonce`: random, of the agent's own; whoever asks again for a lost answer gives the same one."""

    token: Annotated[str, Field(min_length=1, max_length=256, repr=False)]
    nonce: Annotated[str, Field(min_length=16, max_length=256, pattern="^[!-~]*$", repr=False)]


class EnrollmentModel(Output):
    """What the agent is from now on. `Key` is a secret. `WebServiceHost`: where the control plane is."""

    presence_id: Guid
    presence_name: str
    key: str = Field(repr=False)
    expires_at: Timestamp
    web_service_host: str


class KeyFile(Output):
    """A key of a presence, as its agent reads it. `WebServiceHost`: where the control plane is."""

    key: str = Field(repr=False)
    expires_at: Timestamp
    web_service_host: str


class EnrollmentTokenModel(Output):
    """`Token` is a secret, and shown this once."""

    token: str = Field(repr=False)
    expires_at: Timestamp


class RotationModel(Output):
    """How far `RotateKey` has come. `PendingInstances`: agents that have yet to come back with the new key."""

    status: Progress
    pending_instances: list[str]


class PresenceModel(Output):
    """A presence. `HostName` and `Platform` are those of the agent that was heard of last.

    `LastCanaryAgeSeconds`: how long ago one of its agents proved that it is alive, which they do all the time while
    they are connected. `Paused`: every connected agent is, by `presence pause` on its host, until `PausedUntil` (null:
    until further notice); deliveries wait meanwhile. `Conflict`: agents on `ConflictHosts` run with copies of one
    journal; stop all but one, and remove the journals of the others. `KeyRotation`: the latest `RotateKey`. What is of
    Git is never set.
    """

    id: Guid
    presence_name: str
    key_expires_at: Timestamp | None
    host_name: str | None
    status: PresenceStatus
    is_v2: bool = Field(True, alias="IsV2")
    platform: str | None
    git_platform: str | None = None
    git_connect_active: bool = False
    git_connect_url: str | None = None
    git_server_url: str | None = None
    git_server_name: str | None = None
    last_canary_age_seconds: int | None
    paused: bool
    paused_until: Timestamp | None
    conflict: bool
    conflict_hosts: list[str]
    key_rotation: RotationModel | None


Asked = Annotated[ListQuery, Depends(asking(FIELDS, PresenceModel))]


def status_of(presence: Presence, now: int, canary_age: int | None, active_within: int) -> PresenceStatus:
    """The first that is true, from the top. Milliseconds."""
    # With keys that nobody has used, no agent can be connected, however late it answered a canary.
    if presence.key_used_at is not None and canary_age is not None and canary_age <= active_within:
        return PresenceStatus.ACTIVE
    if presence.key_expires_at is not None and presence.key_expires_at <= now:
        return PresenceStatus.KEY_EXPIRED
    if presence.connected_at is None:
        return PresenceStatus.NEVER_USED
    if presence.key_used_at is None:
        return PresenceStatus.KEY_NEVER_USED
    return PresenceStatus.INACTIVE


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


@router.get("", responses=ERRORS, response_model=Listing[PresenceModel])
async def list_presences(services: Using, principal: Authenticated, query: Asked) -> Response:
    """The presences of the organization, by name."""
    rows, count = await services.presences.page(principal, query)
    return listed([model_of(row, services) for row in rows], count, query)


@router.post("", responses={**ERRORS, **FORBIDDEN}, openapi_extra=takes(Capability.MANAGE_PRESENCES))
async def create_presence(services: Using, principal: Authenticated, body: NewPresence) -> PresenceModel:
    """A new presence; `EnrollmentToken`, `Download` or `NewKey` bring a key to its agent."""
    return model_of(await services.presences.create(principal, body.presence_name), services)


@router.post("/Enroll", responses=ERRORS, dependencies=[Attempting])
async def enroll(services: Using, body: NewEnrollment, request: Request, response: Response) -> EnrollmentModel:
    """Trades a token of `EnrollmentToken` for a presence key, once: an agent calls it, without logging in. With the
    same `Nonce` it gives the same answer again, as long as the token lives.
    """
    enrolled = await services.enrollments.enroll(body.token, body.nonce)
    response.headers["Cache-Control"] = "no-store"
    return EnrollmentModel(
        presence_id=enrolled.presence_id,
        presence_name=enrolled.presence_name,
        key=enrolled.key,
        expires_at=timestamp(enrolled.expires_at),
        web_service_host=_host(services, request),
    )


@router.put(
    "/{presence_id}",
    status_code=204,
    responses={**ERRORS, **FORBIDDEN},
    openapi_extra=takes(Capability.MANAGE_PRESENCES),
)
async def rename_presence(services: Using, principal: Authenticated, presence_id: UUID, body: UpdatePresence) -> None:
    """Gives it another name."""
    await services.presences.rename(principal, str(presence_id), body.presence_name)


@router.delete(
    "/{presence_id}",
    status_code=204,
    responses={**ERRORS, **FORBIDDEN},
    openapi_extra=takes(Capability.MANAGE_PRESENCES),
)
async def delete_presence(services: Using, principal: Authenticated, presence_id: UUID) -> None:
    """Deletes a presence that no webhook names. Its keys are void and its agents are disconnected at once."""
    await services.presences.delete(principal, str(presence_id))


@router.get(
    "/{presence_id}/NewKey",
    response_class=Response,
    responses={**ERRORS, **FORBIDDEN, 200: {"model": KeyFile, "description": "The key file"}},
    openapi_extra=takes(Capability.MANAGE_PRESENCE_KEYS),
)
async def new_key(services: Using, principal: Authenticated, presence_id: UUID, request: Request) -> Response:
    """A new key for the presence, as the file AppScanPresence.key. It invalidates all previous keys at once."""
    key = await services.presences.new_key(principal, str(presence_id))
    text = key_file(key.text, timestamp(key.expires_at), _host(services, request))
    return Response(text, media_type="application/json", headers=_attached(KEY_FILE))


@router.get(
    "/{presence_id}/Download/{platform}",
    response_class=Response,
    responses={**ERRORS, **FORBIDDEN, 200: {"description": "The zip archive", "content": {"application/zip": {}}}},
    openapi_extra=takes(Capability.MANAGE_PRESENCE_KEYS),
)
async def download(
    services: Using, principal: Authenticated, presence_id: UUID, platform: str, request: Request
) -> Response:
    """What a host inside the network needs to become this presence, as a zip archive: settings, a new key, the systemd
    unit, a note how to install it, and the agent's package where the operator has put one here. `platform` is
    `linux_x64`. The new key invalidates all previous keys at once.
    """
    if platform.lower() != PLATFORM:
        raise Refusal(Key.INVALID_INPUT, "{0}: there is an agent for {1} only", "platform", PLATFORM)
    await services.presences.require_keys(principal, str(presence_id))
    host = _host(services, request)
    # Everything that can fail comes before the key, which makes the old ones void.
    package = await asyncio.to_thread(services.package.prepare, host)
    key = await services.presences.new_key(principal, str(presence_id))
    archive = await asyncio.to_thread(package.pack, key_file(key.text, timestamp(key.expires_at), host))
    return Response(archive, media_type="application/zip", headers=_attached(f"presence-{PLATFORM}.zip"))


@router.post(
    "/{presence_id}/EnrollmentToken",
    status_code=201,
    responses={**ERRORS, **FORBIDDEN},
    openapi_extra=takes(Capability.MANAGE_PRESENCE_KEYS),
)
async def make_enrollment_token(
    services: Using, principal: Authenticated, presence_id: UUID, response: Response
) -> EnrollmentTokenModel:
    """A token that `presence enroll` trades for a key of the presence, once, within an hour. Other keys stay valid, so
    that several agents can be the presence; `NewKey` or `RotateKey` end them. Takes no body.
    """
    token = await services.enrollments.make_token(principal, str(presence_id))
    response.headers["Cache-Control"] = "no-store"
    return EnrollmentTokenModel(token=token.text, expires_at=timestamp(token.expires_at))


@router.post(
    "/{presence_id}/RotateKey",
    responses={**ERRORS, **FORBIDDEN, **CONFLICT},
    openapi_extra=takes(Capability.MANAGE_PRESENCE_KEYS),
)
async def rotate_key(services: Using, principal: Authenticated, presence_id: UUID) -> RotationModel:
    """A new key for the presence, told to its connected agents over their links; nobody else gets to see it. They
    store it and come back with it; once all have, the old key is void and the rotation is `Done`.

    The answer comes when that is so, or after a few seconds, with the agents that are still awaited; the list of
    presences tells the rest. While it is `Pending` the old key is valid, too. Calling it again begins anew, with the
    agents that are connected then. Takes no body.
    """
    return _rotation(await services.presences.rotations.rotate(principal, str(presence_id)))


def _host(services: Services, request: Request) -> str:
    """How agents reach us."""
    return services.public_url or str(request.base_url).rstrip("/")


def _attached(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
