"""/api/v4/Roles"""

from collections.abc import Mapping
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import Field, StrictBool
from starlette.responses import Response

from presence.controlplane.access import Capability
from presence.controlplane.api.auth import Authenticated, Using
from presence.controlplane.api.body import StrictRoute
from presence.controlplane.api.capabilities import takes
from presence.controlplane.api.listing import asking, listed
from presence.controlplane.api.schemas import CONFLICT, ERRORS, FORBIDDEN, Guid, Listing, Output
from presence.controlplane.api.tolerance import Printable, Tolerant
from presence.controlplane.odata import Kind, ListQuery
from presence.controlplane.services.roles import Draft, RoleView, parse_capabilities
from presence.controlplane.store.tables.accounts import MAX_ROLE_NAME

router = APIRouter(prefix="/Roles", tags=["Roles"], route_class=StrictRoute)

FIELDS: Final[Mapping[str, Kind]] = {
    "Id": Kind.GUID,
    **dict.fromkeys(("Name", "Description", "ExternalGroupName"), Kind.TEXT),
    **dict.fromkeys(("IsDefault", "Predefined"), Kind.BOOLEAN),
}

Name = Annotated[str, Printable, Field(min_length=1, max_length=MAX_ROLE_NAME)]
CapabilityName = Annotated[str, Field(max_length=128)]
_EXAMPLE = {Capability.CREATE_MODIFY_WEBHOOKS.value: True}
Capabilities = Annotated[dict[CapabilityName, StrictBool], Field(max_length=100, examples=[_EXAMPLE])]


class _Fields(Tolerant):
    """What may be said about a role. `Capabilities`: what is not named is false; a name that is unknown may only be
    false. `ExternalGroupName` is stored and means nothing here. Accepted and ignored are the fields that nobody sets:
    `Id`, `AsmId`, `Predefined`, `IsAssignable`."""

    IGNORED = frozenset({"id", "asmid", "predefined", "isassignable"})

    description: Annotated[str, Field(max_length=2048)] | None = None
    external_group_name: Annotated[str, Field(max_length=256)] | None = None
    is_default: StrictBool | None = None


class NewRole(_Fields):
    """A custom role."""

    name: Name
    capabilities: Capabilities


class RoleUpdate(_Fields):
    """What to change; what is absent or null stays as it is, an empty text is cleared. `Capabilities` replace all."""

    name: Name | None = None
    capabilities: Capabilities | None = None


class RoleModel(Output):
    """A role. `IsDefault`: users get it who are invited without a role. `IsAssignable`: you may give it to users.
    `Capabilities`: all there are, by name; what they mean stands above. `AsmId` is never set."""

    id: Guid
    name: str
    description: str | None
    external_group_name: str | None
    capabilities: dict[str, bool]
    is_default: bool
    predefined: bool
    is_assignable: bool
    asm_id: str | None = None


_Asked = Annotated[ListQuery, Depends(asking(FIELDS, RoleModel))]


@router.get("", responses=ERRORS, response_model=Listing[RoleModel])
async def list_roles(services: Using, principal: Authenticated, asked: _Asked) -> Response:
    """All roles of the organization, the predefined ones first."""
    found, count = await services.roles.page(principal, asked)
    return listed([_model(view) for view in found], count, asked)


@router.post(
    "", status_code=201, responses={**ERRORS, **FORBIDDEN, **CONFLICT}, openapi_extra=takes(Capability.MANAGE_ROLES)
)
async def create_role(services: Using, principal: Authenticated, body: NewRole) -> RoleModel:
    """A custom role. You must have every capability that the role gets."""
    return _model(await services.roles.create(principal, _draft(body, body.name, body.capabilities)))


@router.put("/{role_id}", responses={**ERRORS, **FORBIDDEN, **CONFLICT}, openapi_extra=takes(Capability.MANAGE_ROLES))
async def change_role(services: Using, principal: Authenticated, role_id: UUID, body: RoleUpdate) -> RoleModel:
    """Takes effect for its users at once. Of a predefined role only `IsDefault` can change; one role is always the
    default, and never Administrator.

    You must have every capability that the role has or shall have, and access to the asset groups of all its users.
    """
    return _model(await services.roles.change(principal, str(role_id), _draft(body, body.name, body.capabilities)))


@router.delete(
    "/{role_id}", status_code=204, responses={**ERRORS, **FORBIDDEN}, openapi_extra=takes(Capability.MANAGE_ROLES)
)
async def delete_role(services: Using, principal: Authenticated, role_id: UUID) -> None:
    """A custom role that no user has and that is not the default."""
    await services.roles.delete(principal, str(role_id))


def _draft(body: _Fields, name: str | None, capabilities: Mapping[str, bool] | None) -> Draft:
    return Draft(
        name=name,
        description=body.description,
        external_group_name=body.external_group_name,
        capabilities=None if capabilities is None else parse_capabilities(capabilities),
        is_default=body.is_default,
    )


def _model(view: RoleView) -> RoleModel:
    role = view.role
    return RoleModel(
        id=role.id,
        name=role.name,
        description=role.description,
        external_group_name=role.external_group_name,
        capabilities={capability.value: capability in role.capabilities for capability in Capability},
        is_default=role.is_default,
        predefined=role.is_predefined,
        is_assignable=view.is_assignable,
    )
