"""The REST API: HTTP at the edge, one module for each resource under /api/v4.

Field names are PascalCase, accepted in any case on input; errors are `{Key, Message, FormatParams}`.
"""

from fastapi import APIRouter
from starlette.routing import Route

from presence.controlplane.api import (
    account,
    apps,
    asset_groups,
    associations,
    audits,
    deliveries,
    docs,
    events,
    health,
    presences,
    reach,
    roles,
    scans,
    users,
    webhook_actions,
    webhooks,
)
from presence.controlplane.api.paths import API, Paths

_RESOURCES = (
    account,
    roles,
    users,
    asset_groups,
    apps,
    scans,
    presences,
    webhooks,
    associations,
    reach,
    webhook_actions,
    events,
    deliveries,
    audits,
)
_AT_TOP = (health, docs)

router = APIRouter()
for resource in _RESOURCES:
    router.include_router(resource.router, prefix=API)
for resource in _AT_TOP:
    router.include_router(resource.router)


def paths() -> Paths:
    """All resources that there are."""
    found: dict[str, set[str]] = {"/openapi.json": {"GET", "HEAD"}}
    for prefix, resources in ((API, _RESOURCES), ("", _AT_TOP)):
        for route in (route for resource in resources for route in resource.router.routes):
            assert isinstance(route, Route), "nothing else is in the routers"
            found.setdefault(prefix + route.path, set()).update(route.methods or ())
    return Paths(found)
