"""Who asks: `Authorization: Bearer <token>`; and what the resources use."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import Request

from presence.clock import Clock
from presence.controlplane.access import Principal
from presence.controlplane.services.accounts import Accounts
from presence.controlplane.services.applications import Applications
from presence.controlplane.services.asset_groups import AssetGroups
from presence.controlplane.services.audits import Audits
from presence.controlplane.services.deliveries import Deliveries
from presence.controlplane.services.events import Events
from presence.controlplane.services.executions import Executions
from presence.controlplane.services.presences import Presences
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.services.roles import Roles
from presence.controlplane.services.scans import Scans
from presence.controlplane.services.users import Users
from presence.controlplane.services.webhook_actions import WebhookActions
from presence.controlplane.services.webhooks import Webhooks


@dataclass(frozen=True, slots=True)
class Services:
    """The use cases as the API sees them. `active_within`: milliseconds since a canary's answer in which a
    presence counts as Active. `public_url`: how agents reach us, where that is set."""

    accounts: Accounts
    roles: Roles
    users: Users
    asset_groups: AssetGroups
    presences: Presences
    webhooks: Webhooks
    webhook_actions: WebhookActions
    events: Events
    applications: Applications
    scans: Scans
    executions: Executions
    deliveries: Deliveries
    audits: Audits
    clock: Clock
    active_within: int
    public_url: str | None


async def _services(request: Request) -> Services:
    # Not a plain function: the framework would run that in a thread.
    services: Services = request.app.state.services
    return services


Using = Annotated[Services, Depends(_services)]
_bearer = HTTPBearer(auto_error=False, description="The Token of POST /api/v4/Account/ApiKeyLogin")


async def _token(credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]) -> str:
    if credentials is None:
        raise Refusal(Key.USER_NOT_AUTHORIZED, "log in with ApiKeyLogin and send 'Authorization: Bearer <Token>'")
    return credentials.credentials


BearerToken = Annotated[str, Depends(_token)]


async def _principal(services: Using, token: BearerToken) -> Principal:
    return await services.accounts.authenticate(token)


Authenticated = Annotated[Principal, Depends(_principal)]
