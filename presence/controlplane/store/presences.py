"""Presences, their keys, and the instances that were seen of them."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import Peer
from presence.controlplane.runs import Runs
from presence.controlplane.store.tables import instance, presence, presence_key
from presence.protocol.messages import Hello


@dataclass(frozen=True, slots=True)
class Presence:
    """A presence with its keys' latest dates, the instance that was heard of last, and the latest conflict.

    `conflict_hosts`: a JSON array.
    """

    id: str
    name: str
    key_expires_at: int | None
    key_used_at: int | None
    host: str | None
    platform: str | None
    connected_at: int | None
    last_canary_at: int | None
    conflict_at: int | None
    conflict_hosts: str | None


_LATEST = select(
    instance,
    func.row_number()
    .over(
        partition_by=instance.c.presence_id,
        order_by=func.coalesce(instance.c.last_canary_at, instance.c.connected_at).desc(),
    )
    .label("place"),
).subquery()
_KEYS = select(presence_key).where(presence_key.c.presence_id == presence.c.id).correlate(presence)
_CONFLICT = (
    select(instance.c.conflict_hosts)
    .where(instance.c.presence_id == presence.c.id, instance.c.conflict_at.is_not(None))
    .order_by(instance.c.conflict_at.desc())
    .limit(1)
)
# Built once: that takes longer than running it.
_PRESENCES: Select[Any] = (
    select(
        presence.c.id,
        presence.c.name,
        _KEYS.with_only_columns(func.max(presence_key.c.expires_at)).scalar_subquery(),
        _KEYS.with_only_columns(func.max(presence_key.c.last_used_at)).scalar_subquery(),
        _LATEST.c.host,
        _LATEST.c.platform,
        _LATEST.c.connected_at,
        _LATEST.c.last_canary_at,
        _CONFLICT.with_only_columns(instance.c.conflict_at).scalar_subquery(),
        _CONFLICT.scalar_subquery(),
    )
    .outerjoin_from(presence, _LATEST, (_LATEST.c.presence_id == presence.c.id) & (_LATEST.c.place == 1))
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
    transaction: AsyncConnection,
    organization_id: str,
    presence_id: str,
    key_id: str,
    key_hash: str,
    now: int,
    expires_at: int,
) -> None:
    """The one key of a presence: whatever was there before is gone."""
    await add_key(transaction, organization_id, presence_id, key_id, key_hash, now, expires_at)
    await retire_keys(transaction, presence_id, key_id)


async def add_key(
    transaction: AsyncConnection,
    organization_id: str,
    presence_id: str,
    key_id: str,
    key_hash: str,
    now: int,
    expires_at: int,
) -> None:
    """One more key of a presence."""
    await transaction.execute(
        insert(presence_key).values(
            id=key_id,
            organization_id=organization_id,
            presence_id=presence_id,
            hash=key_hash,
            created_at=now,
            expires_at=expires_at,
        )
    )


async def retire_keys(transaction: AsyncConnection, presence_id: str, key_id: str) -> None:
    """All keys of the presence but this one are void."""
    await transaction.execute(
        delete(presence_key).where(presence_key.c.presence_id == presence_id, presence_key.c.id != key_id)
    )


async def find_key(transaction: AsyncConnection, key_id: str) -> tuple[Peer, str] | None:
    """Whose key that is, and its hash."""
    query = (
        select(presence.c.organization_id, presence.c.id, presence_key.c.expires_at, presence_key.c.hash)
        .join_from(presence_key, presence, presence_key.c.presence_id == presence.c.id)
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


async def runs(transaction: AsyncConnection, presence_id: str, instance_id: str) -> Runs | None:
    """The runs that are known of an instance."""
    found = (await transaction.execute(_RUNS, {"presence": presence_id, "instance": instance_id})).first()
    if found is None:
        return None
    run, host, former, conflict_at, conflict_hosts = found
    return Runs(run, host, json.loads(former), conflict_at, tuple(json.loads(conflict_hosts)))


async def greet(transaction: AsyncConnection, peer: Peer, hello: Hello, runs: Runs, now: int) -> None:
    """Notes an instance's new session."""
    facts = {
        "epoch": hello.epoch,
        "host": hello.host,
        "agent_version": hello.agent_version,
        "platform": hello.platform,
        "connected_at": now,
        "run": runs.run,
        "former_runs": json.dumps(runs.former),
        "conflict_at": runs.conflict_at,
        "conflict_hosts": json.dumps(runs.conflict_hosts),
    }
    statement = upsert(instance).values(
        presence_id=peer.presence_id, organization_id=peer.organization_id, instance_id=hello.instance, **facts
    )
    await transaction.execute(
        statement.on_conflict_do_update(index_elements=["presence_id", "instance_id"], set_=facts)
    )


async def note_canary(transaction: AsyncConnection, presence_id: str, instance_id: str, now: int) -> None:
    """An instance proved life."""
    await transaction.execute(
        update(instance)
        .where(instance.c.presence_id == presence_id, instance.c.instance_id == instance_id)
        .values(last_canary_at=now)
    )


_RUNS = select(
    instance.c.run, instance.c.host, instance.c.former_runs, instance.c.conflict_at, instance.c.conflict_hosts
).where(instance.c.presence_id == bindparam("presence"), instance.c.instance_id == bindparam("instance"))
