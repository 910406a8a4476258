"""Presences, their keys, and the instances that were seen of them."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import Peer
from presence.controlplane.odata import ListQuery
from presence.controlplane.runs import Runs
from presence.controlplane.store import odata
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


_LATEST = (
    select(
        instance,
        func.row_number()
        .over(
            partition_by=instance.c.presence_id,
            order_by=func.coalesce(instance.c.last_canary_at, instance.c.connected_at).desc(),
        )
        .label("place"),
    )
    .where(instance.c.organization_id == bindparam("organization_id"))
    .subquery()
)
_KEYS = (
    select(presence_key)
    .where(presence_key.c.organization_id == presence.c.organization_id, presence_key.c.presence_id == presence.c.id)
    .correlate(presence)
)
_KEY_EXPIRES_AT = _KEYS.with_only_columns(func.max(presence_key.c.expires_at)).scalar_subquery()
_CONFLICT = (
    select(instance.c.conflict_hosts)
    .where(
        instance.c.organization_id == presence.c.organization_id,
        instance.c.presence_id == presence.c.id,
        instance.c.conflict_at.is_not(None),
    )
    .order_by(instance.c.conflict_at.desc())
    .limit(1)
)
# Built once: that takes longer than running it.
_PRESENCES: Select[Any] = (
    select(
        presence.c.id,
        presence.c.name,
        _KEY_EXPIRES_AT,
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


FIELDS: Final[Mapping[str, ColumnElement[Any]]] = {
    "Id": presence.c.id,
    "PresenceName": presence.c.name,
    "KeyExpiresAt": _KEY_EXPIRES_AT,
    "HostName": _LATEST.c.host,
    "Platform": _LATEST.c.platform,
}


async def page(
    transaction: AsyncConnection, organization_id: str, query: ListQuery
) -> tuple[list[Presence], int | None]:
    """The organization's presences, by name if not asked otherwise."""
    statement = _PRESENCES.params(organization_id=organization_id)
    rows, count = await odata.page(transaction, statement, query, FIELDS, [presence.c.name, presence.c.id])
    return [Presence(*row) for row in rows], count


def _one(organization_id: str, presence_id: str) -> ColumnElement[bool]:
    return and_(presence.c.organization_id == organization_id, presence.c.id == presence_id)


async def find(transaction: AsyncConnection, organization_id: str, ids: Collection[str]) -> dict[str, Presence]:
    """Those of the organization's presences that have one of these ids."""
    query = _PRESENCES.where(presence.c.id.in_(ids))
    rows = await transaction.execute(query, {"organization_id": organization_id})
    return {row[0]: Presence(*row) for row in rows}


async def is_there(transaction: AsyncConnection, organization_id: str, presence_id: str) -> bool:
    """Whether the organization has such a presence; if so, it is not deleted until the transaction ends."""
    query = select(presence.c.id).where(_one(organization_id, presence_id)).with_for_update(read=True, key_share=True)
    return (await transaction.execute(query)).first() is not None


async def name_to_change(transaction: AsyncConnection, organization_id: str, presence_id: str) -> str | None:
    """The name of the organization's presence, which nobody else uses or changes until the transaction ends."""
    query = select(presence.c.name).where(_one(organization_id, presence_id)).with_for_update()
    return (await transaction.execute(query)).scalar()


async def add(transaction: AsyncConnection, organization_id: str, presence_id: str, name: str, now: int) -> None:
    await transaction.execute(
        insert(presence).values(id=presence_id, organization_id=organization_id, name=name, created_at=now)
    )


async def rename(transaction: AsyncConnection, organization_id: str, presence_id: str, name: str) -> None:
    """Raises IntegrityError where the name is another presence's, as `add` does."""
    await transaction.execute(update(presence).where(_one(organization_id, presence_id)).values(name=name))


async def remove(transaction: AsyncConnection, organization_id: str, presence_id: str) -> None:
    """Its keys, enrolment tokens and instances go with it."""
    await transaction.execute(delete(presence).where(_one(organization_id, presence_id)))


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


async def retire_keys(
    transaction: AsyncConnection, organization_id: str, presence_id: str, kept: Collection[str]
) -> None:
    """All keys of the presence but these are void."""
    await transaction.execute(
        delete(presence_key).where(
            presence_key.c.organization_id == organization_id,
            presence_key.c.presence_id == presence_id,
            presence_key.c.id.not_in(kept),
        )
    )


async def expiry_of_key(transaction: AsyncConnection, organization_id: str, key_id: str) -> int | None:
    """When the key expires; None where it is void."""
    query = select(presence_key.c.expires_at).where(
        presence_key.c.organization_id == organization_id, presence_key.c.id == key_id
    )
    return (await transaction.execute(query)).scalar()


async def find_key(transaction: AsyncConnection, key_id: str) -> tuple[Peer, str] | None:
    """Whose key that is, and its hash."""
    query = (
        select(presence.c.organization_id, presence.c.id, presence_key.c.expires_at, presence_key.c.hash)
        .join_from(
            presence_key,
            presence,
            and_(
                presence.c.organization_id == presence_key.c.organization_id,
                presence.c.id == presence_key.c.presence_id,
            ),
        )
        .where(presence_key.c.id == key_id)
    )
    row = (await transaction.execute(query)).first()
    return (Peer(row[0], row[1], key_id, row[2]), row[3]) if row else None


async def use_key(transaction: AsyncConnection, peer: Peer, now: int) -> bool:
    """Notes that the peer's key was used; False where it was replaced meanwhile."""
    changed = await transaction.execute(
        update(presence_key)
        .where(presence_key.c.organization_id == peer.organization_id, presence_key.c.id == peer.key_id)
        .values(last_used_at=now)
    )
    return changed.rowcount == 1


def _instance(peer: Peer, instance_id: str) -> ColumnElement[bool]:
    return and_(
        instance.c.organization_id == peer.organization_id,
        instance.c.presence_id == peer.presence_id,
        instance.c.instance_id == instance_id,
    )


async def runs(transaction: AsyncConnection, peer: Peer, instance_id: str) -> Runs | None:
    """The runs that are known of an instance."""
    found = (await transaction.execute(_RUNS.where(_instance(peer, instance_id)))).first()
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


async def note_canary(transaction: AsyncConnection, peer: Peer, instance_id: str, now: int) -> None:
    """An instance proved life."""
    await transaction.execute(update(instance).where(_instance(peer, instance_id)).values(last_canary_at=now))


_RUNS = select(
    instance.c.run, instance.c.host, instance.c.former_runs, instance.c.conflict_at, instance.c.conflict_hosts
)
