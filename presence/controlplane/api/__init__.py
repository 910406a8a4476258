"""The REST API: HTTP at the edge, one module for each resource under /api/v4.

Field names are PascalCase, accepted in any case on input; errors are `{Key, Message, FormatParams}`.
"""

from fastapi import APIRouter

from presence.controlplane.api import account, deliveries, events, health, presences, webhooks

router = APIRouter()
for resource in (account, presences, webhooks, events, deliveries):
    router.include_router(resource.router, prefix="/api/v4")
router.include_router(health.router)
