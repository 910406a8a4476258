"""Organizations, log-in, and who a bearer token is. Only hashes of secrets come here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import Row, Select, bindparam, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import Principal
from presence.controlplane.store import roles
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
    await transaction.execute(
        insert(asset_group).values(
            id=str(uuid4()), organization_id=organization_id, name=DEFAULT_GROUP, is_default=True, created_at=now
        )
    )
    return await roles.add_predefined(transaction, organization_id, now)


async def organization_name(transaction: AsyncConnection, organization_id: str) -> str:
    found = await transaction.execute(select(organization.c.name).where(organization.c.id == organization_id))
    name: str = found.scalar_one()
    return name


async def await_turn(transaction: AsyncConnection, organization_id: str) -> None:
    """Lets transactions that change the rights of an organization run one after the other, on every database."""
    # SQLite has one writer anyway, and no such clause.
    await transaction.execute(
        select(organization.c.id).where(organization.c.id == organization_id).with_for_update(key_share=True)
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
    row = (await transaction.execute(_api_key(key_id))).first()
    return ApiKey(*row) if row else None


async def keep_api_key(transaction: AsyncConnection, key_id: str) -> bool:
    """Whether the key is there, and so until the transaction's end: nobody replaces or deletes it meanwhile."""
    return (await transaction.execute(_api_key(key_id).with_for_update(read=True, key_share=True))).first() is not None


def _api_key(key_id: str) -> Select[Any]:
    return select(api_key.c.user_id, api_key.c.organization_id, api_key.c.secret_hash).where(api_key.c.id == key_id)


async def add_token(transaction: AsyncConnection, key: ApiKey, token_hash: str, now: int, expires_at: int) -> None:
    """Stores a token of the user who logged in, and drops those that expired a day ago or earlier."""
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
    await transaction.execute(
        update(user)
        .where(user.c.organization_id == key.organization_id, user.c.id == key.user_id)
        .values(last_login_at=now)
    )


async def revoke_token(transaction: AsyncConnection, organization_id: str, token_hash: str) -> None:
    await transaction.execute(
        delete(token).where(token.c.organization_id == organization_id, token.c.hash == token_hash)
    )


async def revoke_other_tokens(
    transaction: AsyncConnection, organization_id: str, user_id: str, token_hash: str
) -> None:
    """All of the user's but that one."""
    await transaction.execute(
        delete(token).where(
            token.c.organization_id == organization_id, token.c.user_id == user_id, token.c.hash != token_hash
        )
    )


async def find_token(transaction: AsyncConnection, token_hash: str) -> tuple[Principal, int] | None:
    """Whose token that is, with the rights of this moment, and when it expires."""
    rows = (await transaction.execute(_TOKEN, {"hash": token_hash})).all()
    return (_principal(rows, token_hash), rows[0].expires_at) if rows else None


async def find_acting(transaction: AsyncConnection, principal: Principal) -> Principal | None:
    """The principal with the rights of this moment; None where its token is void by now."""
    asked = {"hash": principal.token_hash, "organization_id": principal.organization_id}
    rows = (await transaction.execute(_ACTING, asked)).all()
    return _principal(rows, principal.token_hash) if rows else None


def _principal(rows: Sequence[Row[Any]], token_hash: str) -> Principal:
    """Of one row for each asset group of the user, or one."""
    first = rows[0]
    groups = frozenset(row.asset_group_id for row in rows if row.asset_group_id is not None)
    capabilities = roles.capabilities_in(first.capabilities)
    return Principal(first.id, first.user_name, first.organization_id, first.role_id, capabilities, groups, token_hash)


def _of_token() -> Select[Any]:
    of_user = (membership.c.organization_id == user.c.organization_id) & (membership.c.user_id == user.c.id)
    return (
        select(
            user.c.id, user.c.user_name, user.c.organization_id, user.c.role_id, role.c.capabilities,
            membership.c.asset_group_id, token.c.expires_at,
        )
        .select_from(user)
        .join(role, (role.c.organization_id == user.c.organization_id) & (role.c.id == user.c.role_id))
        .outerjoin(membership, of_user)
        .join(token, (token.c.organization_id == user.c.organization_id) & (token.c.user_id == user.c.id))
        .where(token.c.hash == bindparam("hash"))
    )  # fmt: skip


# Built once: they run for every request.
_TOKEN = _of_token()
_ACTING = _TOKEN.where(token.c.organization_id == bindparam("organization_id"))
