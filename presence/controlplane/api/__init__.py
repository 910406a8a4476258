"""The REST API: HTTP at the edge, one module for each resource under /api/v4.

Field names are PascalCase, accepted in any case on input; errors are `{Key, Message, FormatParams}`.
"""

from fastapi import APIRouter

from presence.controlplane.api import (
    account,
    apps,
    asset_groups,
    audits,
    deliveries,
    events,
    health,
    presences,
    roles,
    scans,
    users,
    webhook_actions,
    webhooks,
)

router = APIRouter()
for resource in (
    account,
    roles,
    users,
    asset_groups,
    apps,
    scans,
    presences,
    webhooks,
    webhook_actions,
    events,
    deliveries,
    audits,
):
    router.include_router(resource.router, prefix="/api/v4")
router.include_router(health.router)
