"""What has been kept long enough is removed, a few rows at a time: no transaction is long."""

from sqlalchemy import ColumnElement, Table, delete, exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.store.tables import audit, delivery, enrollment, event, organization, token
from presence.domain.delivery import FinalState

CHUNK = 500
_FINAL = [state.value for state in FinalState]


async def organizations(transaction: AsyncConnection) -> list[str]:
    return list((await transaction.execute(select(organization.c.id).order_by(organization.c.id))).scalars())


async def remove_deliveries(transaction: AsyncConnection, organization_id: str, before: int, now: int) -> int:
    """Removes a chunk of those that ended before that moment; gives how many.

    One that an agent could still have stays, so that it can be told that it has ended.
    """
    old = (
        delivery.c.created_at < before,
        delivery.c.settled_at < before,
        delivery.c.expires_at <= now,
        delivery.c.state.in_(_FINAL),
    )
    return await _remove(transaction, organization_id, delivery, delivery.c.id, delivery.c.created_at, *old)


async def remove_events(transaction: AsyncConnection, organization_id: str, before: int) -> int:
    """Removes a chunk of those that came before that moment and that no delivery names; gives how many."""
    named = exists().where(delivery.c.organization_id == event.c.organization_id, delivery.c.event_id == event.c.id)
    old = (event.c.created_at < before, ~named)
    return await _remove(transaction, organization_id, event, event.c.id, event.c.created_at, *old)


async def remove_audits(transaction: AsyncConnection, organization_id: str, before: int) -> int:
    """Removes a chunk of the entries from before that moment; gives how many."""
    return await _remove(transaction, organization_id, audit, audit.c.id, audit.c.at, audit.c.at < before)


async def remove_expired(transaction: AsyncConnection, organization_id: str, now: int) -> int:
    """Removes a chunk of bearer tokens and one of enrolment tokens that are void by now; gives how many."""
    return sum(
        [
            await _remove(transaction, organization_id, table, table.c.hash, table.c.expires_at, expired)
            for table, expired in ((token, token.c.expires_at <= now), (enrollment, enrollment.c.expires_at <= now))
        ]
    )


async def _remove(
    transaction: AsyncConnection,
    organization_id: str,
    table: Table,
    key: ColumnElement[str],
    order: ColumnElement[int],
    *conditions: ColumnElement[bool],
) -> int:
    mine = table.c.organization_id == organization_id
    oldest = select(key).where(mine, *conditions).order_by(order).limit(CHUNK)
    removed = await transaction.execute(delete(table).where(mine, key.in_(oldest)))
    return removed.rowcount
