"""/api/v4/Account"""

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from presence.controlplane.api.auth import Using
from presence.controlplane.api.body import StrictRoute
from presence.controlplane.api.schemas import ERRORS, Input, Output, Timestamp, timestamp

router = APIRouter(prefix="/Account", tags=["Account"], route_class=StrictRoute)


class ApiKey(Input):
    """A user's API key."""

    key_id: Annotated[str, Field(min_length=1, max_length=256)]
    key_secret: Annotated[str, Field(min_length=5, max_length=100)]


class AccessTokenData(Output):
    """A bearer token and when it expires."""

    token: str
    expire: Timestamp


@router.post("/ApiKeyLogin", responses=ERRORS)
async def log_in(services: Using, body: ApiKey) -> AccessTokenData:
    """Trades an API key for a bearer token."""
    token = await services.accounts.log_in(body.key_id, body.key_secret)
    return AccessTokenData(token=token.text, expire=timestamp(token.expires_at))
