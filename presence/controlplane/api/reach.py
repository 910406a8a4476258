"""/api/v4/EffectiveAccess: who can cause a request to a host."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from presence.controlplane.access import Capability
from presence.controlplane.api.auth import Authenticated, Using
from presence.controlplane.api.body import StrictRoute
from presence.controlplane.api.capabilities import takes
from presence.controlplane.api.listing import without_options
from presence.controlplane.api.schemas import ERRORS, FORBIDDEN, Guid, Listing, Output
from presence.controlplane.api.webhooks import AssetGroupShortModel
from presence.controlplane.services.reach import Access, Cause, Way
from presence.controlplane.store.associations import Scope
from presence.controlplane.store.reach import Aim
from presence.domain.events import EventType
from presence.domain.webhook import Method

router = APIRouter(prefix="/EffectiveAccess", tags=["EffectiveAccess"], route_class=StrictRoute)


class ScopeModel(Output):
    """An application or asset group that the webhook is associated with. `AssetGroupId`: where that is."""

    scope: Scope
    scope_id: Guid
    name: str
    asset_group_id: Guid


class PresenceShortModel(Output):
    id: Guid
    presence_name: str


class CauseModel(Output):
    """Who can make the webhook send a request. `Ways`: `Change` (tests or changes it), `Redeliver` (redelivers,
    resumes or resolves one of its deliveries to the host), `Event` (publishes an event), `Execution` (ends a scan
    execution), `Application` (changes an application)."""

    user_id: Guid
    user_name: str
    role_id: Guid
    role_name: str
    ways: list[Way]


class AccessModel(Output):
    """A webhook that can send requests to the host. `PointsThere` is false where its `Uri` names another one by now,
    but there are deliveries to this one. `AssetGroup` is null at organization level."""

    webhook_id: Guid
    uri: str
    request_method: Method
    event: EventType
    global_: bool = Field(alias="Global")
    asset_group: AssetGroupShortModel | None
    scopes: list[ScopeModel]
    never_fires: bool
    paused: bool
    points_there: bool
    presence: PresenceShortModel
    causes: list[CauseModel]


@router.get(
    "",
    responses={**ERRORS, **FORBIDDEN},
    dependencies=[Depends(without_options)],
    openapi_extra=takes(Capability.ALL_ASSET_GROUPS, Capability.VIEW_AUDITS),
)
async def effective_access(
    services: Using,
    principal: Authenticated,
    host: Annotated[str, Query(max_length=270, examples=["myservice.com", "10.1.2.3:8080"])],
) -> Listing[AccessModel]:
    """Who can cause a request to that host, or that host and port: every webhook whose `Uri` names it, or whose
    deliveries do, where its events come from, and the users with the rights to bring about such an event, to test or
    change the webhook, or to redeliver.
    """
    found = await services.effective_access.to_host(principal, host)
    return Listing(items=[model_of(access) for access in found], count=len(found))


def model_of(access: Access) -> AccessModel:
    aim = access.aim
    return AccessModel(
        webhook_id=aim.webhook_id,
        uri=aim.uri,
        request_method=Method(aim.method),
        event=EventType(aim.event),
        global_=aim.is_global,
        asset_group=_group(aim),
        scopes=[
            ScopeModel(
                scope=origin.scope.scope,
                scope_id=origin.scope.scope_id,
                name=origin.name,
                asset_group_id=origin.asset_group_id,
            )
            for origin in aim.origins
        ],
        never_fires=access.never_fires,
        paused=aim.is_paused,
        points_there=aim.points_there,
        presence=PresenceShortModel(id=aim.presence_id, presence_name=aim.presence_name),
        causes=[_cause(cause) for cause in access.causes],
    )


def _group(aim: Aim) -> AssetGroupShortModel | None:
    if aim.asset_group_id is None or aim.asset_group_name is None:
        return None
    return AssetGroupShortModel(id=aim.asset_group_id, name=aim.asset_group_name)


def _cause(cause: Cause) -> CauseModel:
    principal = cause.person.principal
    return CauseModel(
        user_id=principal.user_id,
        user_name=principal.user_name,
        role_id=principal.role_id,
        role_name=cause.person.role_name,
        ways=list(cause.ways),
    )
