"""/api/v4/AssetGroups"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import Field
from starlette.responses import Response

from presence.controlplane.access import Capability
from presence.controlplane.api.auth import Authenticated, Using
from presence.controlplane.api.body import StrictRoute
from presence.controlplane.api.capabilities import takes
from presence.controlplane.api.listing import asking, listed
from presence.controlplane.api.schemas import ERRORS, FORBIDDEN, Guid, Listing, Output, Timestamp, timestamp
from presence.controlplane.api.tolerance import Printable, Tolerant
from presence.controlplane.odata import Kind, ListQuery
from presence.controlplane.services.asset_groups import Draft
from presence.controlplane.store.asset_groups import AssetGroup
from presence.controlplane.store.tables.accounts import MAX_GROUP_NAME, MAX_USER_NAME

router = APIRouter(prefix="/AssetGroups", tags=["AssetGroups"], route_class=StrictRoute)

FIELDS: Final[Mapping[str, Kind]] = {
    "Id": Kind.GUID,
    **dict.fromkeys(("Name", "Description", "ContactPerson", "CreatedBy"), Kind.TEXT),
    **dict.fromkeys(("AppsCount", "UsersCount"), Kind.INTEGER),
    "IsDefault": Kind.BOOLEAN,
    "CreatedAt": Kind.TIME,
}

Name = Annotated[str, Printable, Field(min_length=1, max_length=MAX_GROUP_NAME)]


class _Fields(Tolerant):
    """What may be said about an asset group. `ContactPerson` is a text that means nothing here. Accepted and ignored
    are the fields that nobody sets: `Id`, `IsDefault`, the counts, and who created it when."""

    IGNORED = frozenset(
        {"id", "isdefault", "createdby", "createdat", "appscount", "userscount", "domainscount", "scantemplatescount"}
    )

    description: Annotated[str, Field(max_length=2048)] | None = None
    contact_person: Annotated[str, Field(max_length=MAX_USER_NAME)] | None = None
    issues_status_inheritance: Literal["None"] | None = None
    enable_issues_auto_close: Literal[False] | None = None


class NewAssetGroup(_Fields):
    """An asset group."""

    name: Name


class AssetGroupUpdate(_Fields):
    """What to change; what is absent or null stays as it is, an empty text is cleared."""

    name: Name | None = None


class AssetGroupModel(Output):
    """An asset group. `UsersCount`: its members; who may enter all groups need not be one. There are no issues,
    domains and scan templates here."""

    id: Guid
    name: str
    description: str | None
    contact_person: str | None
    is_default: bool
    apps_count: int
    users_count: int
    created_by: str | None
    created_at: Timestamp
    issues_status_inheritance: Literal["None"] = "None"
    enable_issues_auto_close: Literal[False] = False
    domains_count: Literal[0] = 0
    scan_templates_count: Literal[0] = 0


_Asked = Annotated[ListQuery, Depends(asking(FIELDS, AssetGroupModel))]


@router.get("", responses=ERRORS, response_model=Listing[AssetGroupModel])
async def list_asset_groups(services: Using, principal: Authenticated, asked: _Asked) -> Response:
    """The asset groups that you may enter, the Default group first."""
    found, count = await services.asset_groups.page(principal, asked)
    return listed([_model(group) for group in found], count, asked)


@router.post(
    "", status_code=201, responses={**ERRORS, **FORBIDDEN}, openapi_extra=takes(Capability.MANAGE_ASSET_GROUPS)
)
async def create_asset_group(services: Using, principal: Authenticated, body: NewAssetGroup) -> AssetGroupModel:
    """An asset group. Who may not enter all groups becomes a member of the new one."""
    return _model(await services.asset_groups.create(principal, _draft(body, body.name)))


@router.put("/{asset_group_id}", responses={**ERRORS, **FORBIDDEN}, openapi_extra=takes(Capability.MANAGE_ASSET_GROUPS))
async def change_asset_group(
    services: Using, principal: Authenticated, asset_group_id: UUID, body: AssetGroupUpdate
) -> AssetGroupModel:
    """The Default group keeps its name."""
    draft = _draft(body, body.name)
    return _model(await services.asset_groups.change(principal, str(asset_group_id), draft))


@router.delete(
    "/{asset_group_id}",
    status_code=204,
    responses={**ERRORS, **FORBIDDEN},
    openapi_extra=takes(Capability.MANAGE_ASSET_GROUPS),
)
async def delete_asset_group(
    services: Using,
    principal: Authenticated,
    asset_group_id: UUID,
    forced: Annotated[bool, Query(alias="forceDeletion")] = False,
) -> None:
    """A group with applications, webhooks, or members other than you is deleted with `forceDeletion=true` only.

    Its applications then move to the Default group as by `MoveAssetGroupResources`, and with the rights that that
    takes; its webhooks are deleted and their deliveries cancelled, which takes the capability `CreateModifyWebhooks`;
    its members lose access to it. The Default group always stays.
    """
    await services.asset_groups.delete(principal, str(asset_group_id), forced=forced)


@router.post(
    "/MoveAssetGroupResources/{source_id}/{target_id}",
    responses={**ERRORS, **FORBIDDEN},
    openapi_extra=takes(Capability.MANAGE_ASSET_GROUPS, Capability.MANAGE_APPLICATIONS),
)
async def move_resources(
    services: Using, principal: Authenticated, source_id: UUID, target_id: UUID
) -> AssetGroupModel:
    """Moves all applications of the first group to the second, and gives that. You must have access to both.

    Associations of these applications with webhooks of the first group are removed. Webhooks and members stay.
    """
    return _model(await services.asset_groups.move(principal, str(source_id), str(target_id)))


def _draft(body: _Fields, name: str | None) -> Draft:
    return Draft(name=name, description=body.description, contact_person=body.contact_person)


def _model(group: AssetGroup) -> AssetGroupModel:
    return AssetGroupModel(
        id=group.id,
        name=group.name,
        description=group.description,
        contact_person=group.contact_person,
        is_default=group.is_default,
        apps_count=group.apps_count,
        users_count=group.users_count,
        created_by=group.created_by,
        created_at=timestamp(group.created_at),
    )
