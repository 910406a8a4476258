"""Presences, their keys, and the instances that were seen of them."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import Peer
from presence.controlplane.store.tables import instance, presence, presence_key
from presence.protocol.messages import Hello


@dataclass(frozen=True, slots=True)
class Presence:
    """A presence with its key's dates and the instance that was heard of last."""

    id: str
    name: str
    key_expires_at: int | None
    key_used_at: int | None
    host: str | None
    platform: str | None
    connected_at: int | None
    last_canary_at: int | None


_LATEST = select(
    instance,
    func.row_number()
    .over(
        partition_by=instance.c.presence_id,
        order_by=func.coalesce(instance.c.last_canary_at, instance.c.connected_at).desc(),
    )
    .label("place"),
).subquery()
# Built once: that takes longer than running it.
_PRESENCES = (
    select(
        presence.c.id,
        presence.c.name,
        presence_key.c.expires_at,
        presence_key.c.last_used_at,
        _LATEST.c.host,
        _LATEST.c.platform,
        _LATEST.c.connected_at,
        _LATEST.c.last_canary_at,
    )
    .outerjoin_from(presence, presence_key, presence_key.c.presence_id == presence.c.id)
    .outerjoin(_LATEST, (_LATEST.c.presence_id == presence.c.id) & (_LATEST.c.place == 1))
    .where(presence.c.organization_id == bindparam("organization_id"))
)


async def page(transaction: AsyncConnection, organization_id: str, top: int, skip: int) -> list[Presence]:
    """A page of the organization's presences, by name."""
    query = _PRESENCES.order_by(presence.c.name, presence.c.id).limit(top).offset(skip)
    return [Presence(*row) for row in await transaction.execute(query, {"organization_id": organization_id})]


async def count(transaction: AsyncConnection, organization_id: str) -> int:
    query = select(func.count()).select_from(presence).where(presence.c.organization_id == organization_id)
    return (await transaction.execute(query)).scalar_one()


async def find(transaction: AsyncConnection, organization_id: str, ids: Collection[str]) -> dict[str, Presence]:
    """Those of the organization's presences that have one of these ids."""
    query = _PRESENCES.where(presence.c.id.in_(ids))
    rows = await transaction.execute(query, {"organization_id": organization_id})
    return {row[0]: Presence(*row) for row in rows}


async def is_named(transaction: AsyncConnection, organization_id: str, name: str) -> bool:
    query = select(presence.c.id).where(presence.c.organization_id == organization_id, presence.c.name == name)
    return (await transaction.execute(query)).first() is not None


async def add(transaction: AsyncConnection, organization_id: str, presence_id: str, name: str, now: int) -> None:
    await transaction.execute(
        insert(presence).values(id=presence_id, organization_id=organization_id, name=name, created_at=now)
    )


async def replace_key(
    transaction: AsyncConnection, presence_id: str, key_id: str, key_hash: str, now: int, expires_at: int
) -> None:
    """The one key of a presence: whatever was there before is gone."""
    await transaction.execute(delete(presence_key).where(presence_key.c.presence_id == presence_id))
    await transaction.execute(
        insert(presence_key).values(
            id=key_id, presence_id=presence_id, hash=key_hash, created_at=now, expires_at=expires_at
        )
    )


async def find_key(transaction: AsyncConnection, key_id: str) -> tuple[Peer, str] | None:
    """Whose key that is, and its hash."""
    query = (
        select(presence.c.organization_id, presence.c.id, presence_key.c.expires_at, presence_key.c.hash)
        .join_from(presence_key, presence)
        .where(presence_key.c.id == key_id)
    )
    row = (await transaction.execute(query)).first()
    return (Peer(row[0], row[1], key_id, row[2]), row[3]) if row else None


async def use_key(transaction: AsyncConnection, key_id: str, now: int) -> bool:
    """Notes that the key was used; False where it was replaced meanwhile."""
    changed = await transaction.execute(
        update(presence_key).where(presence_key.c.id == key_id).values(last_used_at=now)
    )
    return changed.rowcount == 1


async def greet(transaction: AsyncConnection, presence_id: str, hello: Hello, now: int, lease_until: int) -> None:
    """Notes an instance's new session and begins its lease."""
    facts = {
        "epoch": hello.epoch,
        "host": hello.host,
        "agent_version": hello.agent_version,
        "platform": hello.platform,
        "connected_at": now,
        "lease_until": lease_until,
    }
    statement = upsert(instance).values(presence_id=presence_id, instance_id=hello.instance, **facts)
    await transaction.execute(
        statement.on_conflict_do_update(index_elements=["presence_id", "instance_id"], set_=facts)
    )


async def renew_lease(
    transaction: AsyncConnection, presence_id: str, instance_id: str, now: int, lease_until: int
) -> None:
    """An instance proved life: one row, whatever it holds."""
    await transaction.execute(
        update(instance)
        .where(instance.c.presence_id == presence_id, instance.c.instance_id == instance_id)
        .values(last_canary_at=now, lease_until=lease_until)
    )
