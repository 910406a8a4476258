"""A journal on a real file, and what its stages do with it, one step at a time."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from presence.agent.backlog import Backlog, HostLimits
from presence.agent.entries import Claimed, LogEntry
from presence.agent.journal import Journal, open_journal
from presence.agent.ledger import Bounds
from presence.domain.delivery import FinalState
from presence.domain.outcome import Reason
from presence.domain.retry import RetryPolicy
from presence.protocol.messages import Fire
from tests.support.clock import ManualClock
from tests.support.control_plane import DAY, fire

URI = "http://10.0.0.1/{SubjectId}"
HOST = "10.0.0.1:80"


def opened(
    directory: Path, clock: ManualClock, most: int = 1000, remembered: int = 10_000, max_attempts: int = 50
) -> AbstractAsyncContextManager[Journal]:
    bounds = Bounds(most, remembered, RetryPolicy(max_attempts, initial=1000, maximum=900_000, deadline=DAY))
    return open_journal(directory / "journal.db", clock, bounds, Backlog(1000, lambda _: HostLimits(1000, None)))


async def accept(journal: Journal, count: int = 1, uri: str = URI, **fields: Any) -> list[Fire]:
    fires = [fire(uri, **fields) for _ in range(count)]
    assert await journal.accept(fires, DAY) == [None] * count
    return fires


async def claim(journal: Journal) -> list[Claimed]:
    """As the worker does: what the backlog lets start, as far as the journal agrees."""
    taken = journal.backlog.take(journal.now())
    claimed = await journal.claim(taken)
    for gone in set(taken).difference(delivery.id for delivery in claimed):
        journal.backlog.finished(gone, journal.now(), None)
    return claimed


async def claim_one(journal: Journal) -> Claimed:
    (claimed,) = await claim(journal)
    return claimed


def entry(claimed: Claimed) -> LogEntry:
    return {"number": claimed.attempts, "at": 0, "took": 3, "status": 204}


async def settle(journal: Journal, claimed: Claimed, state: FinalState = FinalState.SUCCEEDED) -> None:
    reason = Reason.DELIVERED if state is FinalState.SUCCEEDED else Reason.STATUS_FINAL
    await journal.settle(claimed, entry(claimed), state, reason)
    journal.backlog.finished(claimed.id, journal.now(), True)


async def retry(journal: Journal, claimed: Claimed, delay: int = 0) -> None:
    await journal.retry(claimed, entry(claimed), delay)
    journal.backlog.finished(claimed.id, journal.now(), True)


async def hold(journal: Journal, claimed: Claimed) -> None:
    await journal.hold(claimed, entry(claimed), Reason.UNKNOWN)
    journal.backlog.finished(claimed.id, journal.now(), True)


async def deliver(journal: Journal, count: int = 1, **fields: Any) -> list[str]:
    """So many deliveries from the fire to the acknowledged report; their ids."""
    delivered = [fire.id for fire in await accept(journal, count, **fields)]
    for claimed in await claim(journal):
        await settle(journal, claimed)
    await journal.mark_reported(delivered)
    return delivered
