"""/api/v4/Audits: every change, who made it and when."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from starlette.responses import Response

from presence.controlplane.access import Capability
from presence.controlplane.api.auth import Authenticated, Using
from presence.controlplane.api.body import StrictRoute
from presence.controlplane.api.capabilities import takes
from presence.controlplane.api.listing import asking, listed
from presence.controlplane.api.schemas import ERRORS, FORBIDDEN, Guid, Listing, Output, Timestamp, timestamp
from presence.controlplane.odata import Kind, ListQuery
from presence.controlplane.store.audits import Activity, Audit, Entity

router = APIRouter(prefix="/Audits", tags=["Audits"], route_class=StrictRoute)

FIELDS: Final[Mapping[str, Kind]] = {
    **dict.fromkeys(("Id", "UserId", "AssetGroupId"), Kind.GUID),
    **dict.fromkeys(("UserName", "Activity", "EntityType", "EntityId"), Kind.TEXT),
    "CreatedAt": Kind.TIME,
}


class AuditModel(Output):
    """What `UserName` did to the `EntityType` of the id `EntityId`. `Before` and `After`: the fields that changed, by
    their names in this API, secrets masked. `AssetGroupId` is null where it concerns the organization, and
    `UserName` for what no user did but an agent, the operator or the control plane itself."""

    id: Guid
    created_at: Timestamp
    user_id: Guid | None
    user_name: str | None
    activity: Activity
    entity_type: Entity
    entity_id: str
    asset_group_id: Guid | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None


_Asked = Annotated[ListQuery, Depends(asking(FIELDS, AuditModel))]


@router.get(
    "",
    responses={**ERRORS, **FORBIDDEN},
    response_model=Listing[AuditModel],
    openapi_extra=takes(Capability.VIEW_AUDITS),
)
async def list_audits(services: Using, principal: Authenticated, asked: _Asked) -> Response:
    """Changes in asset groups that you may enter; with access to all of them, those of the organization, too. The
    latest first."""
    rows, count = await services.audits.page(principal, asked)
    return listed([_model(row) for row in rows], count, asked)


def _model(row: Audit) -> AuditModel:
    return AuditModel(
        id=row.id,
        created_at=timestamp(row.at),
        user_id=row.user_id,
        user_name=row.user_name,
        activity=Activity(row.activity),
        entity_type=Entity(row.entity_type),
        entity_id=row.entity_id,
        asset_group_id=row.asset_group_id,
        before=None if row.before is None else json.loads(row.before),
        after=None if row.after is None else json.loads(row.after),
    )
