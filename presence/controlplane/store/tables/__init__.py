"""The tables. The migrations make them; a test holds the two together.

Every table but `organization` names its organization, and what refers to another row does so together with it, so
that nothing of one organization can point into another.
"""

from presence.controlplane.store.tables.accounts import (
    api_key,
    asset_group,
    audit,
    membership,
    organization,
    role,
    token,
    user,
)
from presence.controlplane.store.tables.base import metadata
from presence.controlplane.store.tables.deliveries import OWNED, SUSPECT, UNFINISHED, WAITING, delivery, event
from presence.controlplane.store.tables.inventory import (
    APPLICATION_COUNTERS,
    APPLICATION_STATUSES,
    EXECUTION_COUNTERS,
    application,
    execution,
    scan,
)
from presence.controlplane.store.tables.presences import enrollment, instance, presence, presence_key
from presence.controlplane.store.tables.webhooks import association, webhook

__all__ = [
    "APPLICATION_COUNTERS",
    "APPLICATION_STATUSES",
    "EXECUTION_COUNTERS",
    "OWNED",
    "SUSPECT",
    "UNFINISHED",
    "WAITING",
    "api_key",
    "application",
    "asset_group",
    "association",
    "audit",
    "delivery",
    "enrollment",
    "event",
    "execution",
    "instance",
    "membership",
    "metadata",
    "organization",
    "presence",
    "presence_key",
    "role",
    "scan",
    "token",
    "user",
    "webhook",
]
