"""Organizations, log-in, and who a bearer token is. Only hashes of secrets come here."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import Select, bindparam, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import DEFAULT_ROLE, PREDEFINED_ROLES, Capability, Principal
from presence.controlplane.store.tables import api_key, asset_group, membership, organization, role, token, user

DEFAULT_GROUP = "Default"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A stored API key and whose it is."""

    user_id: str
    organization_id: str
    secret_hash: str


async def organization_named(transaction: AsyncConnection, name: str) -> str | None:
    """The id of the organization of that name."""
    return (await transaction.execute(select(organization.c.id).where(organization.c.name == name))).scalar()


async def add_organization(transaction: AsyncConnection, organization_id: str, name: str, now: int) -> dict[str, str]:
    """An organization with its predefined roles and its Default asset group; gives the ids of the roles by name."""
    await transaction.execute(insert(organization).values(id=organization_id, name=name, created_at=now))
    roles = {predefined: str(uuid4()) for predefined in PREDEFINED_ROLES}
    rows = [
        {
            "id": roles[predefined],
            "organization_id": organization_id,
            "name": predefined,
            "capabilities": capability_map(capabilities),
            "is_predefined": True,
            "is_default": predefined == DEFAULT_ROLE,
            "created_at": now,
        }
        for predefined, capabilities in PREDEFINED_ROLES.items()
    ]
    await transaction.execute(insert(role), rows)
    await transaction.execute(
        insert(asset_group).values(
            id=str(uuid4()), organization_id=organization_id, name=DEFAULT_GROUP, is_default=True, created_at=now
        )
    )
    return roles


def capability_map(capabilities: Collection[Capability]) -> str:
    """As stored: a JSON object of all names to booleans."""
    return json.dumps({capability.value: capability in capabilities for capability in Capability})


def capabilities_in(stored: str) -> frozenset[Capability]:
    """The ones that are true of a stored map; names that we do not know give nothing."""
    known = {capability.value for capability in Capability}
    return frozenset(Capability(name) for name, given in json.loads(stored).items() if given is True and name in known)


async def add_user(
    transaction: AsyncConnection, organization_id: str, user_id: str, name: str, role_id: str, now: int
) -> None:
    await transaction.execute(
        insert(user).values(
            id=user_id, organization_id=organization_id, user_name=name, role_id=role_id, created_at=now
        )
    )


async def add_api_key(
    transaction: AsyncConnection, organization_id: str, user_id: str, key_id: str, secret_hash: str, now: int
) -> None:
    """The one key of the user: an older one is gone."""
    await transaction.execute(
        delete(api_key).where(api_key.c.organization_id == organization_id, api_key.c.user_id == user_id)
    )
    await transaction.execute(
        insert(api_key).values(
            id=key_id, organization_id=organization_id, user_id=user_id, secret_hash=secret_hash, created_at=now
        )
    )


async def find_api_key(transaction: AsyncConnection, key_id: str) -> ApiKey | None:
    query = select(api_key.c.user_id, api_key.c.organization_id, api_key.c.secret_hash).where(api_key.c.id == key_id)
    row = (await transaction.execute(query)).first()
    return ApiKey(*row) if row else None


async def add_token(transaction: AsyncConnection, key: ApiKey, token_hash: str, now: int, expires_at: int) -> None:
    """Stores a token, and drops those that expired a day ago or earlier."""
    await transaction.execute(delete(token).where(token.c.expires_at < now - 86_400_000))
    await transaction.execute(
        insert(token).values(
            hash=token_hash,
            organization_id=key.organization_id,
            user_id=key.user_id,
            created_at=now,
            expires_at=expires_at,
        )
    )


async def find_token(transaction: AsyncConnection, token_hash: str) -> tuple[Principal, int] | None:
    """Whose token that is, with the rights of this moment, and when it expires."""
    rows = (await transaction.execute(_TOKEN, {"hash": token_hash})).all()
    if not rows:
        return None
    user_id, user_name, organization_id, role_id, capabilities, expires_at, _ = rows[0]
    groups = frozenset(row[-1] for row in rows if row[-1] is not None)
    return Principal(user_id, user_name, organization_id, role_id, capabilities_in(capabilities), groups), expires_at


def _token() -> Select[Any]:
    """One row for each asset group of the user, or one."""
    of_user = (membership.c.organization_id == user.c.organization_id) & (membership.c.user_id == user.c.id)
    return (
        select(
            user.c.id, user.c.user_name, user.c.organization_id, user.c.role_id, role.c.capabilities,
            token.c.expires_at, membership.c.asset_group_id,
        )
        .select_from(token)
        .join(user, (user.c.organization_id == token.c.organization_id) & (user.c.id == token.c.user_id))
        .join(role, (role.c.organization_id == user.c.organization_id) & (role.c.id == user.c.role_id))
        .outerjoin(membership, of_user)
        .where(token.c.hash == bindparam("hash"))
    )  # fmt: skip


# Built once: it runs for every request.
_TOKEN = _token()
