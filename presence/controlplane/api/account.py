"""/api/v4/Account: logging in and out, who one is, API keys, invitations."""

import re
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import AfterValidator, ConfigDict, Field
from starlette.responses import Response

from presence.controlplane.access import Capability
from presence.controlplane.api.auth import Attempting, Authenticated, Using
from presence.controlplane.api.body import StrictRoute
from presence.controlplane.api.capabilities import takes
from presence.controlplane.api.schemas import ERRORS, FORBIDDEN, Guid, Input, Output, Timestamp, timestamp
from presence.controlplane.services.accounts import Tenant
from presence.controlplane.services.users import MAX_GROUPS_INVITED, MAX_INVITED, Invitation

router = APIRouter(prefix="/Account", tags=["Account"], route_class=StrictRoute)

_EMAIL = re.compile(r"[!-?A-~]{1,64}@[!-?A-~]{1,189}")


def _email(text: str) -> str:
    if _EMAIL.fullmatch(text) is None:
        raise ValueError("is not an e-mail address of ASCII characters")
    return text


Email = Annotated[
    str,
    AfterValidator(_email),
    Field(max_length=254, examples=["ci@example.com"], json_schema_extra={"pattern": f"^{_EMAIL.pattern}$"}),
]


class ApiKey(Input):
    """A user's API key. Other fields are ignored: clients of that API add their own, such as `ClientType`."""

    model_config = ConfigDict(extra="ignore")

    key_id: Annotated[str, Field(min_length=1, max_length=256)]
    key_secret: Annotated[str, Field(min_length=5, max_length=100)]


class AccessTokenData(Output):
    """A bearer token and when it expires."""

    token: str
    expire: Timestamp


class Authentication(Output):
    """That the token is valid."""

    is_authenticated: bool


class UserInfo(Output):
    """The user whose token it is. `AssetGroupIds`: the groups it is a member of; with the capability
    `AllAssetGroups` it may enter all."""

    user_id: Guid
    user_name: str
    first_name: str | None
    last_name: str | None
    email: str | None
    is_admin: bool
    role_id: Guid
    role_name: str
    asset_group_ids: list[Guid]
    capabilities: dict[str, bool]


class TenantInfo(Output):
    """The organization, and the user who asks. `IdleTimeForSignout`: minutes that a token lives, used or not."""

    tenant_id: Guid
    tenant_name: str
    allow_presence: bool
    idle_time_for_signout: int
    user_info: UserInfo


class ApiKeyInfo(Output):
    """A new API key; its secret is not shown again."""

    key_id: str
    key_secret: str
    created_at: Timestamp


class InviteUsers(Input):
    """Whom to invite: at most 100 at once, to at most 10 asset groups. Without `AssetGroupIds` they become members of
    the Default group, without `RoleId` they get the default role."""

    emails: Annotated[list[Email], Field(min_length=1, json_schema_extra={"maxItems": MAX_INVITED})]
    asset_group_ids: Annotated[list[UUID], Field(json_schema_extra={"maxItems": MAX_GROUPS_INVITED})] | None = None
    role_id: UUID | None = None


class InvitedUser(Output):
    """A new user and its API key, whose secret is not shown again."""

    user_id: Guid
    user_name: str
    key_id: str
    key_secret: str


@router.post("/ApiKeyLogin", responses=ERRORS, dependencies=[Attempting])
async def log_in(services: Using, body: ApiKey) -> AccessTokenData:
    """Trades an API key for a bearer token. More tries from one address than `[limits] logins_per_minute` says, by
    default 30, are answered by 429, and so are many wrong ones with one key."""
    token = await services.accounts.log_in(body.key_id, body.key_secret)
    return AccessTokenData(token=token.text, expire=timestamp(token.expires_at))


@router.get("/Logout", responses=ERRORS, response_class=Response)
async def log_out(services: Using, principal: Authenticated) -> Response:
    """Revokes the token at once; the answer has no body."""
    await services.accounts.log_out(principal)
    return Response()


@router.get("/IsAuthenticated", responses=ERRORS)
async def is_authenticated(_principal: Authenticated) -> Authentication:
    """200 for a valid token, 401 for any other."""
    return Authentication(is_authenticated=True)


@router.get("/TenantInfo", responses=ERRORS)
async def tenant_info(services: Using, principal: Authenticated) -> TenantInfo:
    """The organization, and who asks."""
    return _tenant(await services.accounts.tenant(principal))


@router.post("/ApiKey", status_code=201, responses=ERRORS)
async def new_api_key(services: Using, principal: Authenticated) -> ApiKeyInfo:
    """A new API key for whoever asks. The old key is void at once, and all tokens but this one are revoked."""
    key = await services.accounts.replace_key(principal)
    return ApiKeyInfo(key_id=key.key_id, key_secret=key.key_secret, created_at=timestamp(key.created_at))


@router.post(
    "/InviteUsers", status_code=201, responses={**ERRORS, **FORBIDDEN}, openapi_extra=takes(Capability.MANAGE_USERS)
)
async def invite_users(services: Using, principal: Authenticated, body: InviteUsers) -> list[InvitedUser]:
    """Creates users and gives an API key for each; no mail is sent. All are created or none.

    You know the key of a new user, and so can act as that user, until the user replaces it with `POST
    /api/v4/Account/ApiKey`. You must have every right that the new users get.
    """
    groups = None if body.asset_group_ids is None else [str(group) for group in body.asset_group_ids]
    invitation = Invitation(body.emails, None if body.role_id is None else str(body.role_id), groups)
    return [
        InvitedUser(user_id=new.user_id, user_name=new.user_name, key_id=new.key_id, key_secret=new.key_secret)
        for new in await services.users.invite(principal, invitation)
    ]


def _tenant(tenant: Tenant) -> TenantInfo:
    user = tenant.user
    return TenantInfo(
        tenant_id=tenant.organization_id,
        tenant_name=tenant.name,
        allow_presence=True,
        idle_time_for_signout=max(1, tenant.token_lifetime // 60),
        user_info=UserInfo(
            user_id=user.id,
            user_name=user.user_name,
            first_name=user.first_name,
            last_name=user.last_name,
            email=user.email,
            is_admin=user.is_administrator,
            role_id=user.role_id,
            role_name=user.role_name,
            asset_group_ids=sorted(user.asset_group_ids),
            capabilities={capability.value: capability in user.capabilities for capability in Capability},
        ),
    )
