"""Effective access: who can cause a request to a host, through which webhook, role and asset group.

It tells what people can do with the rights that they have. Who may give themselves more (`ManageUsers`, `ManageRoles`)
is not followed, nor what the agent's own egress policy refuses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Address
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import EVERY_ORGANIZATION, Capability, Principal
from presence.controlplane.services.acting import require
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.store import reach
from presence.controlplane.store.engine import Database
from presence.controlplane.store.reach import Aim, Person
from presence.domain.events import EventType
from presence.domain.uri import parse_host, parse_port

EVERY_GROUP: Final = None


class Way(StrEnum):
    """How somebody can cause a request."""

    CHANGE = "Change"
    """By testing the webhook, or changing it."""
    REDELIVER = "Redeliver"
    """By redelivering, resuming or resolving a delivery to the host that there is."""
    EVENT = "Event"
    """By publishing an event that it matches."""
    EXECUTION = "Execution"
    """By ending a scan execution that it matches."""
    APPLICATION = "Application"
    """By changing an application that it matches."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Somebody who can cause a request, and how."""

    person: Person
    ways: tuple[Way, ...]


@dataclass(frozen=True, slots=True)
class Access:
    """A webhook that can send requests to the host, and who can make it send a request."""

    aim: Aim
    never_fires: bool
    causes: tuple[Cause, ...]


@dataclass(frozen=True, slots=True)
class OrganizationAccess:
    organization_id: str
    organization_name: str
    access: Sequence[Access]


class EffectiveAccess:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def to_host(self, principal: Principal, host: str) -> list[Access]:
        """In the principal's organization. Raises Refusal MISSING_CAPABILITIES, or INVALID_INPUT for no host."""
        for needed in (Capability.ALL_ASSET_GROUPS, Capability.VIEW_AUDITS):
            require(principal, needed)
        try:
            name, port = parse_target(host)
        except ValueError:
            raise Refusal(Key.INVALID_INPUT, "{0}: is not a host, or a host and a port", "host") from None
        async with self._database.read(principal.organization_id) as transaction:
            return await _access(transaction, principal.organization_id, name, port)

    async def everywhere(self, host: str) -> list[OrganizationAccess]:
        """In all organizations, for an operator. Raises ValueError for no host."""
        name, port = parse_target(host)
        async with self._database.read(EVERY_ORGANIZATION) as transaction:
            return [
                OrganizationAccess(id_, organization_name, await _access(transaction, id_, name, port))
                for id_, organization_name in await reach.organizations(transaction)
            ]


async def _access(transaction: AsyncConnection, organization_id: str, host: str, port: int | None) -> list[Access]:
    aims = await reach.aims(transaction, organization_id, host, port)
    people = await reach.people(transaction, organization_id) if aims else []
    return [Access(aim, never_fires(aim), causes_of(aim, people)) for aim in aims]


def parse_target(text: str) -> tuple[str, int | None]:
    """Host, as webhooks' URIs are understood, and port if there is one. Raises ValueError."""
    if text.startswith("["):
        name, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("the bracket is not closed")
        return str(IPv6Address(name)), parse_port(rest[1:]) if rest else None
    name, colon, digits = text.partition(":")
    if ":" in digits:
        return str(IPv6Address(text)), None
    return parse_host(name), parse_port(digits) if colon else None


def never_fires(aim: Aim) -> bool:
    """Whether no event can match it."""
    return not aim.is_global and not aim.origins


def causes_of(aim: Aim, people: Sequence[Person]) -> tuple[Cause, ...]:
    """Those who can cause a request, in the same order."""
    causes = (Cause(person, ways_of(aim, person.principal)) for person in people)
    return tuple(cause for cause in causes if cause.ways)


def ways_of(aim: Aim, principal: Principal) -> tuple[Way, ...]:
    """How somebody can make the webhook send a request."""
    changes = principal.changes_webhook(aim.asset_group_id)
    is_there = aim.points_there and not never_fires(aim) and _enters(principal, groups_of(aim))
    # An event of no application concerns the Global webhooks of the organization, and needs access to no group.
    publishes = is_there or (aim.points_there and aim.is_global and aim.asset_group_id is None)
    event = EventType(aim.event)
    possible = {
        Way.CHANGE: changes and aim.points_there,
        Way.REDELIVER: changes and aim.has_deliveries,
        Way.EVENT: publishes and principal.has(Capability.PUBLISH_EVENTS),
        Way.EXECUTION: (
            is_there
            and event is EventType.SCAN_EXECUTION_COMPLETED
            and principal.has(Capability.UPDATE_SCAN_EXECUTIONS)
        ),
        Way.APPLICATION: (
            is_there and event is EventType.APPLICATION_UPDATED and principal.has(Capability.MANAGE_APPLICATIONS)
        ),
    }
    return tuple(way for way, can in possible.items() if can)


def groups_of(aim: Aim) -> frozenset[str] | None:
    """The asset groups whose applications' events it matches; `EVERY_GROUP` for all."""
    if aim.is_global:
        return EVERY_GROUP if aim.asset_group_id is None else frozenset({aim.asset_group_id})
    return frozenset(origin.asset_group_id for origin in aim.origins)


def _enters(principal: Principal, groups: frozenset[str] | None) -> bool:
    """Whether it has access to one of the groups."""
    if groups is EVERY_GROUP:
        return principal.enters_all_groups or bool(principal.asset_group_ids)
    return any(principal.enters(group) for group in groups)
