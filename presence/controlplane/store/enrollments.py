"""Enrolment tokens: each trades once for a presence key. Only hashes of them, and of the nonces, come here."""

from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.store.tables import enrollment, presence


class Enrollment(NamedTuple):
    """A token that has not expired, and what it is for. `nonce_hash` and `key_id`: what it was traded for."""

    organization_id: str
    presence_id: str
    presence_name: str
    nonce_hash: str | None
    key_id: str | None


async def add(
    transaction: AsyncConnection, organization_id: str, presence_id: str, token_hash: str, now: int, expires_at: int
) -> None:
    """Stores a token, and drops the organization's that have expired."""
    await transaction.execute(
        delete(enrollment).where(enrollment.c.organization_id == organization_id, enrollment.c.expires_at <= now)
    )
    await transaction.execute(
        insert(enrollment).values(
            hash=token_hash,
            organization_id=organization_id,
            presence_id=presence_id,
            created_at=now,
            expires_at=expires_at,
        )
    )


async def find(transaction: AsyncConnection, token_hash: str, now: int, *, to_trade: bool = False) -> Enrollment | None:
    """The token, unless it has expired. `to_trade`: nobody else trades it until the transaction ends."""
    query = (
        select(
            enrollment.c.organization_id, enrollment.c.presence_id, presence.c.name, enrollment.c.nonce_hash,
            enrollment.c.key_id,
        )
        .join_from(enrollment, presence, _same_presence())
        .where(enrollment.c.hash == token_hash, enrollment.c.expires_at > now)
    )  # fmt: skip
    if to_trade:
        query = query.with_for_update(of=enrollment)
    row = (await transaction.execute(query)).first()
    return Enrollment(*row) if row else None


async def trade(
    transaction: AsyncConnection, organization_id: str, token_hash: str, nonce_hash: str, key_id: str
) -> None:
    """It has become this key, for whoever knows the nonce."""
    await transaction.execute(
        update(enrollment)
        .where(enrollment.c.organization_id == organization_id, enrollment.c.hash == token_hash)
        .values(nonce_hash=nonce_hash, key_id=key_id)
    )


def _same_presence() -> ColumnElement[bool]:
    return and_(presence.c.organization_id == enrollment.c.organization_id, presence.c.id == enrollment.c.presence_id)
