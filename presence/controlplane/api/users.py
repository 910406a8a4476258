"""/api/v4/User"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import Field
from starlette.responses import Response

from presence.controlplane.access import Capability
from presence.controlplane.api.auth import Authenticated, Using
from presence.controlplane.api.body import StrictRoute
from presence.controlplane.api.capabilities import takes
from presence.controlplane.api.listing import asking, listed
from presence.controlplane.api.schemas import (
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
from presence.controlplane.odata import Kind, ListQuery
from presence.controlplane.services.users import MAX_GROUPS
from presence.controlplane.store.users import User

router = APIRouter(prefix="/User", tags=["User"], route_class=StrictRoute)

FIELDS: Final[Mapping[str, Kind]] = {
    **dict.fromkeys(("Id", "RoleId"), Kind.GUID),
    **dict.fromkeys(("UserName", "FirstName", "LastName", "Email", "RoleName", "Status", "InvitedBy"), Kind.TEXT),
    **dict.fromkeys(("IsAdmin", "HasApiKey"), Kind.BOOLEAN),
    **dict.fromkeys(("CreatedAt", "LastLogin"), Kind.TIME),
}


class UserStatus(StrEnum):
    """`PendingActivation`: invited and never logged in."""

    ACTIVE = "Active"
    PENDING = "PendingActivation"


class UserUpdate(Input):
    """What to change; what is absent or null stays as it is. `AssetGroupIds` replace all."""

    asset_group_ids: Annotated[list[UUID], Field(json_schema_extra={"maxItems": MAX_GROUPS})] | None = None
    role_id: UUID | None = None


class UserModel(Output):
    """A user. `AssetGroupIds`: those of its asset groups that you may enter, too."""

    id: Guid
    user_name: str
    first_name: str | None
    last_name: str | None
    email: str | None
    is_admin: bool
    role_id: Guid
    role_name: str
    asset_group_ids: list[Guid]
    created_at: Timestamp
    last_login: Timestamp | None
    has_api_key: bool
    status: UserStatus
    invited_by: str | None


_Asked = Annotated[ListQuery, Depends(asking(FIELDS, UserModel))]


@router.get("", responses=ERRORS, response_model=Listing[UserModel])
async def list_users(services: Using, principal: Authenticated, asked: _Asked) -> Response:
    """Yourself. With the capability `ManageUsers`, also the users who share an asset group with you, and with access
    to all groups all users of the organization."""
    found, count = await services.users.page(principal, asked)
    return listed([_model(user) for user in found], count, asked)


@router.put("/{user_id}", responses={**ERRORS, **FORBIDDEN}, openapi_extra=takes(Capability.MANAGE_USERS))
async def change_user(services: Using, principal: Authenticated, user_id: UUID, body: UserUpdate) -> UserModel:
    """Takes effect at once, also for tokens that the user has.

    You must have every capability and asset group that the user has or shall have. The last Administrator keeps that
    role.
    """
    role_id = None if body.role_id is None else str(body.role_id)
    groups = None if body.asset_group_ids is None else [str(group) for group in body.asset_group_ids]
    return _model(await services.users.change(principal, str(user_id), role_id, groups))


@router.delete(
    "/{user_id}", status_code=204, responses={**ERRORS, **FORBIDDEN}, openapi_extra=takes(Capability.MANAGE_USERS)
)
async def delete_user(services: Using, principal: Authenticated, user_id: UUID) -> None:
    """The user's API key and tokens are void at once. You must have every capability and asset group
    that the user has. The last Administrator stays."""
    await services.users.delete(principal, str(user_id))


def _model(user: User) -> UserModel:
    return UserModel(
        id=user.id,
        user_name=user.user_name,
        first_name=user.first_name,
        last_name=user.last_name,
        email=user.email,
        is_admin=user.is_administrator,
        role_id=user.role_id,
        role_name=user.role_name,
        asset_group_ids=sorted(user.asset_group_ids),
        created_at=timestamp(user.created_at),
        last_login=optional_timestamp(user.last_login_at),
        has_api_key=user.has_api_key,
        status=UserStatus(user.status),
        invited_by=user.invited_by,
    )
