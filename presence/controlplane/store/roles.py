"""Roles: named sets of capabilities, five of them predefined in every organization."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import ColumnElement, Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import ADMINISTRATOR, DEFAULT_ROLE, PREDEFINED_ROLES, Capability
from presence.controlplane.odata import ListQuery
from presence.controlplane.store import odata
from presence.controlplane.store.tables import membership, role, user


@dataclass(frozen=True, slots=True)
class Role:
    """`is_default`: what users get that are invited without a role; one role of an organization has it."""

    id: str
    name: str
    description: str | None
    external_group_name: str | None
    capabilities: frozenset[Capability]
    is_predefined: bool
    is_default: bool

    @property
    def is_administrator(self) -> bool:
        return self.is_predefined and self.name == ADMINISTRATOR


FIELDS: Final[Mapping[str, ColumnElement[Any]]] = {
    "Id": role.c.id,
    "Name": role.c.name,
    "Description": role.c.description,
    "ExternalGroupName": role.c.external_group_name,
    "IsDefault": role.c.is_default,
    "Predefined": role.c.is_predefined,
}

_ROLES = select(*[role.c[name] for name in Role.__slots__])


def capability_map(capabilities: Collection[Capability]) -> str:
    """As stored: a JSON object of all names to booleans."""
    return json.dumps({capability.value: capability in capabilities for capability in Capability})


def capabilities_in(stored: str) -> frozenset[Capability]:
    """The ones that are true of a stored map; names that we do not know give nothing."""
    known = {capability.value for capability in Capability}
    return frozenset(Capability(name) for name, given in json.loads(stored).items() if given is True and name in known)


def _role(row: Row[Any]) -> Role:
    return Role(**{**row._mapping, "capabilities": capabilities_in(row.capabilities)})


async def add_predefined(transaction: AsyncConnection, organization_id: str, now: int) -> dict[str, str]:
    """The predefined roles of a new organization; gives their ids by name."""
    ids = {name: str(uuid4()) for name in PREDEFINED_ROLES}
    rows = [
        {
            "id": ids[name],
            "organization_id": organization_id,
            "name": name,
            "capabilities": capability_map(capabilities),
            "is_predefined": True,
            "is_default": name == DEFAULT_ROLE,
            "created_at": now,
        }
        for name, capabilities in PREDEFINED_ROLES.items()
    ]
    await transaction.execute(insert(role), rows)
    return ids


async def page(transaction: AsyncConnection, organization_id: str, query: ListQuery) -> tuple[list[Role], int | None]:
    """The predefined ones first, then by name."""
    statement = _ROLES.where(role.c.organization_id == organization_id)
    order = (role.c.is_predefined.desc(), role.c.name, role.c.id)
    rows, count = await odata.page(transaction, statement, query, FIELDS, order)
    return [_role(row) for row in rows], count


async def find(transaction: AsyncConnection, organization_id: str, role_id: str) -> Role | None:
    return await _first(transaction, organization_id, role.c.id == role_id)


async def default(transaction: AsyncConnection, organization_id: str) -> Role:
    """What users get that are invited without a role."""
    found = await _first(transaction, organization_id, role.c.is_default)
    assert found is not None, "every organization has one"
    return found


async def is_named(transaction: AsyncConnection, organization_id: str, name: str) -> bool:
    return await _first(transaction, organization_id, role.c.name == name) is not None


async def _first(transaction: AsyncConnection, organization_id: str, condition: ColumnElement[bool]) -> Role | None:
    row = (await transaction.execute(_ROLES.where(role.c.organization_id == organization_id, condition))).first()
    return _role(row) if row else None


async def is_held(transaction: AsyncConnection, organization_id: str, role_id: str) -> bool:
    """Whether any user has it."""
    query = select(user.c.id).where(user.c.organization_id == organization_id, user.c.role_id == role_id).limit(1)
    return (await transaction.execute(query)).first() is not None


async def holders_groups(transaction: AsyncConnection, organization_id: str, role_id: str) -> frozenset[str]:
    """The asset groups of all users who have it."""
    query = (
        select(membership.c.asset_group_id)
        .join_from(
            user,
            membership,
            (membership.c.organization_id == user.c.organization_id) & (membership.c.user_id == user.c.id),
        )
        .where(user.c.organization_id == organization_id, user.c.role_id == role_id)
        .distinct()
    )
    return frozenset((await transaction.execute(query)).scalars())


async def add(transaction: AsyncConnection, organization_id: str, added: Role, now: int) -> None:
    await transaction.execute(
        insert(role).values(id=added.id, organization_id=organization_id, created_at=now, **_values(added))
    )


async def change(transaction: AsyncConnection, organization_id: str, changed: Role) -> None:
    await transaction.execute(
        update(role)
        .where(role.c.organization_id == organization_id, role.c.id == changed.id)
        .values(**_values(changed))
    )


def _values(stored: Role) -> dict[str, object]:
    return {
        "name": stored.name,
        "description": stored.description,
        "external_group_name": stored.external_group_name,
        "capabilities": capability_map(stored.capabilities),
        "is_default": stored.is_default,
    }


async def remove(transaction: AsyncConnection, organization_id: str, role_id: str) -> None:
    await transaction.execute(delete(role).where(role.c.organization_id == organization_id, role.c.id == role_id))
