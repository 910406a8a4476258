"""Who asks: `Authorization: Bearer <token>`; and what the resources use."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import Request

from presence.clock import Clock
from presence.controlplane.access import Principal
from presence.controlplane.api.limiting import Limiter
from presence.controlplane.services.accounts import Accounts
from presence.controlplane.services.applications import Applications
from presence.controlplane.services.asset_groups import AssetGroups
from presence.controlplane.services.associations import Associations
from presence.controlplane.services.audits import Audits
from presence.controlplane.services.deliveries import Deliveries
from presence.controlplane.services.enrollments import Enrollments
from presence.controlplane.services.events import Events
from presence.controlplane.services.executions import Executions
from presence.controlplane.services.package import Package
from presence.controlplane.services.presences import Presences
from presence.controlplane.services.reach import EffectiveAccess
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
    enrollments: Enrollments
    package: Package
    webhooks: Webhooks
    associations: Associations
    effective_access: EffectiveAccess
    webhook_actions: WebhookActions
    events: Events
    applications: Applications
    scans: Scans
    executions: Executions
    deliveries: Deliveries
    audits: Audits
    limiter: Limiter
    clock: Clock
    active_within: int
    public_url: str | None


async def _services(request: Request) -> Services:
    # Not a plain function: the framework would run that in a thread.
    services: Services = request.app.state.services
    return services


Using = Annotated[Services, Depends(_services)]
_bearer = HTTPBearer(auto_error=False, description="The Token of POST /api/v4/Account/ApiKeyLogin")


_Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]


def _bearer_token(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Refusal(Key.USER_NOT_AUTHORIZED, "log in with ApiKeyLogin and send 'Authorization: Bearer <Token>'")
    return token.strip()


async def _identify(request: Request, count: Callable[[Limiter, Principal], None]) -> Principal:
    """Who asks; once for a request. Counts the request for the user or, where that is nobody, for the address."""
    known: Principal | None = getattr(request.state, "principal", None)
    if known is not None:
        return known
    services: Services = request.app.state.services
    try:
        principal = await services.accounts.authenticate(_bearer_token(request))
    except Refusal:
        services.limiter.stranger(request)
        raise
    count(services.limiter, principal)
    request.state.principal = principal
    return principal


async def identify_again(request: Request) -> None:
    """Whoever has asked, as it stands now; not counted. Raises Refusal USER_NOT_AUTHORIZED, TOKEN_EXPIRED."""
    if getattr(request.state, "principal", None) is not None:
        services: Services = request.app.state.services
        request.state.principal = await services.accounts.authenticate(_bearer_token(request))


async def authenticated(request: Request, _: _Credentials = None) -> Principal:
    """The user, whose requests are counted. Raises Refusal USER_NOT_AUTHORIZED, TOKEN_EXPIRED, TOO_MANY_REQUESTS."""
    return await _identify(request, Limiter.user)


async def producing(request: Request, _: _Credentials = None) -> Principal:
    """The same for a resource whose requests are counted as events of the organization, one for each."""
    return await _identify(request, Limiter.producer)


async def attempting(request: Request) -> None:
    """For log-in and enrolment: each try is counted for its address. Raises Refusal TOO_MANY_REQUESTS."""
    if not getattr(request.state, "attempted", False):
        request.state.attempted = True
        services: Services = request.app.state.services
        services.limiter.login(request)


GATES: Final = frozenset({authenticated, producing, attempting})
"""What a route asks before it reads a body."""

Authenticated = Annotated[Principal, Depends(authenticated)]
Producing = Annotated[Principal, Depends(producing)]
Attempting: Final = Depends(attempting)
