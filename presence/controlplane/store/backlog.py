"""What has not ended, in all organizations: for those who watch over the service."""

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.metrics import Backlog
from presence.controlplane.store.tables import UNFINISHED, delivery, token
from presence.domain.delivery import DeliveryState, FinalState

_OPEN = [state.value for state in DeliveryState if state.value not in {final.value for final in FinalState}]


async def backlog(transaction: AsyncConnection, now: int) -> Backlog:
    """By state, zeros included; and the age of the oldest queued delivery."""
    query = (
        select(delivery.c.state, func.count(), func.min(delivery.c.created_at))
        .where(UNFINISHED)
        .group_by(delivery.c.state)
    )
    rows = {row[0]: (row[1], row[2]) for row in await transaction.execute(query)}
    oldest = rows.get(DeliveryState.QUEUED, (0, now))[1]
    return Backlog({state: rows.get(state, (0, 0))[0] for state in _OPEN}, max(0, now - oldest) / 1000)


async def touch(transaction: AsyncConnection) -> None:
    """Asks to write, and changes nothing."""
    await transaction.execute(update(token).where(token.c.hash == "").values(expires_at=0))
