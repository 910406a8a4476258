"""/api/v4/Webhooks/Associations"""

from collections.abc import Mapping
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from presence.controlplane.access import Capability
from presence.controlplane.api.auth import Authenticated, Using
from presence.controlplane.api.body import StrictRoute
from presence.controlplane.api.capabilities import takes
from presence.controlplane.api.listing import asking, bare
from presence.controlplane.api.schemas import ERRORS, FORBIDDEN, Guid, Input, Output
from presence.controlplane.odata import Kind, ListQuery
from presence.controlplane.store.associations import Association, Scope

router = APIRouter(prefix="/Webhooks/Associations", tags=["Webhooks"], route_class=StrictRoute)

FIELDS: Final[Mapping[str, Kind]] = {"Scope": Kind.TEXT, "ScopeId": Kind.GUID}


class NewAssociation(Input):
    """An application or, for a webhook at organization level, an asset group."""

    scope: Scope
    scope_id: UUID


class AssociationModel(Output):
    scope: Scope
    scope_id: Guid


Asked = Annotated[ListQuery, Depends(asking(FIELDS, AssociationModel))]


@router.get("/{webhook_id}", responses=ERRORS, response_model=list[AssociationModel])
async def list_associations(services: Using, principal: Authenticated, webhook_id: UUID, query: Asked) -> Response:
    """What the webhook is associated with, as a bare array. A Global webhook has no associations; one that is not
    Global and has none never fires.
    """
    rows = await services.associations.page(principal, str(webhook_id), query)
    return bare([_model(row) for row in rows], query)


@router.post(
    "/{webhook_id}",
    status_code=201,
    responses={**ERRORS, **FORBIDDEN},
    openapi_extra=takes(Capability.CREATE_MODIFY_WEBHOOKS),
)
async def add_association(
    services: Using, principal: Authenticated, webhook_id: UUID, body: NewAssociation
) -> AssociationModel:
    """Lets the webhook fire for the events of an application, or of all applications of an asset group. You need access
    to it, and to the webhook. A webhook of an asset group can have applications of that group only.
    """
    added = Association(body.scope, str(body.scope_id))
    await services.associations.add(principal, str(webhook_id), added)
    return _model(added)


@router.delete(
    "/{webhook_id}",
    status_code=204,
    responses={**ERRORS, **FORBIDDEN},
    openapi_extra=takes(Capability.CREATE_MODIFY_WEBHOOKS),
)
async def remove_association(
    services: Using,
    principal: Authenticated,
    webhook_id: UUID,
    scope: Annotated[Scope, Query()],
    scope_id: Annotated[UUID, Query(alias="scopeId")],
) -> None:
    """Removes an association. After the last one the webhook never fires."""
    await services.associations.remove(principal, str(webhook_id), Association(scope, str(scope_id)))


def _model(association: Association) -> AssociationModel:
    return AssociationModel(scope=association.scope, scope_id=association.scope_id)
