"""Which webhooks an event concerns. The query of the control plane's store agrees with this, held to it by a test.

A webhook belongs to the organization or to one asset group. A Global one fires for every event of its type there; one
that is not Global only for events under one of its associations: an application or, at organization level, an asset
group. What counts is the asset group that the application is in when the event is accepted.
"""

from dataclasses import dataclass

from presence.domain.events import EventType


@dataclass(frozen=True, slots=True)
class Place:
    """Where an event happened: an application, and the asset group that it is in now."""

    application_id: str
    asset_group_id: str


@dataclass(frozen=True, slots=True)
class Reach:
    """What decides about a webhook. `asset_group_id`: the one it belongs to; None: the organization.

    `application_ids` and `asset_group_ids` are its associations; those that it may not have count for nothing.
    """

    event: EventType
    is_global: bool
    asset_group_id: str | None = None
    application_ids: frozenset[str] = frozenset()
    asset_group_ids: frozenset[str] = frozenset()


def fires(reach: Reach, event: EventType, place: Place | None) -> bool:
    """Whether such a webhook fires for an event of that type there; None: it is of no application."""
    if reach.event is not event:
        return False
    if place is None:
        return reach.is_global and reach.asset_group_id is None
    if not allows_application(reach.asset_group_id, place.asset_group_id):
        return False
    if reach.is_global or place.application_id in reach.application_ids:
        return True
    return reach.asset_group_id is None and place.asset_group_id in reach.asset_group_ids


def allows_application(webhook_group_id: str | None, application_group_id: str) -> bool:
    """Whether a webhook of that asset group, or of the organization, may be associated with an application of that
    one."""
    return webhook_group_id is None or webhook_group_id == application_group_id
