"""Organizations, their users, API keys and bearer tokens. Only hashes of secrets come here."""

from dataclasses import dataclass

from sqlalchemy import bindparam, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import Principal
from presence.controlplane.store.tables import api_key, organization, token, user


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A stored API key and whose it is."""

    user_id: str
    secret_hash: str


async def organization_named(transaction: AsyncConnection, name: str) -> str | None:
    """The id of the organization of that name."""
    return (await transaction.execute(select(organization.c.id).where(organization.c.name == name))).scalar()


async def add_organization(transaction: AsyncConnection, organization_id: str, name: str, now: int) -> None:
    await transaction.execute(insert(organization).values(id=organization_id, name=name, created_at=now))


async def add_user(transaction: AsyncConnection, organization_id: str, user_id: str, name: str, now: int) -> None:
    await transaction.execute(
        insert(user).values(id=user_id, organization_id=organization_id, user_name=name, created_at=now)
    )


async def add_api_key(transaction: AsyncConnection, user_id: str, key_id: str, secret_hash: str, now: int) -> None:
    await transaction.execute(
        insert(api_key).values(id=key_id, user_id=user_id, secret_hash=secret_hash, created_at=now)
    )


async def find_api_key(transaction: AsyncConnection, key_id: str) -> ApiKey | None:
    query = select(api_key.c.user_id, api_key.c.secret_hash).where(api_key.c.id == key_id)
    row = (await transaction.execute(query)).first()
    return ApiKey(*row) if row else None


async def add_token(transaction: AsyncConnection, user_id: str, token_hash: str, now: int, expires_at: int) -> None:
    """Stores a token, and drops those that expired a day ago or earlier."""
    await transaction.execute(delete(token).where(token.c.expires_at < now - 86_400_000))
    await transaction.execute(
        insert(token).values(hash=token_hash, user_id=user_id, created_at=now, expires_at=expires_at)
    )


# Built once: it runs for every request.
_TOKEN = (
    select(user.c.id, user.c.organization_id, token.c.expires_at)
    .join_from(token, user)
    .where(token.c.hash == bindparam("hash"))
)


async def find_token(transaction: AsyncConnection, token_hash: str) -> tuple[Principal, int] | None:
    """Whose token that is, and when it expires."""
    row = (await transaction.execute(_TOKEN, {"hash": token_hash})).first()
    return (Principal(user_id=row[0], organization_id=row[1]), row[2]) if row else None
