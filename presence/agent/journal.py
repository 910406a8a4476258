"""The journal: what the agent has accepted, attempted and not yet been acknowledged for. SQLite, WAL, FULL.

What a method returned is on the disk: it survives SIGKILL and a power cut. The statements are `ledger`'s, the thread
is `commits`'. What is pending is in memory, too, as `backlog`: it says what may start next without asking the
disk, is filled from the journal when that is opened, and believed only after a claim: the journal is the truth.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from presence.agent.backlog import Backlog
from presence.agent.commits import Commits
from presence.agent.entries import Claimed, LogEntry, Settled, Waiting, host_of
from presence.agent.journal_file import SQL, connect, explain
from presence.agent.journal_time import JournalTime
from presence.agent.ledger import Ledger, Taken
from presence.clock import Clock
from presence.domain.delivery import FinalState
from presence.domain.outcome import Reason
from presence.errors import JournalError
from presence.protocol.messages import Fire


class Journal:
    """Open it with `open_journal`.

    `pending` is set when something may be due, `settled` when something ended or is held.
    """

    def __init__(self, connection: sqlite3.Connection, clock: Clock, max_deliveries: int, backlog: Backlog) -> None:
        self.pending = asyncio.Event()
        self.settled = asyncio.Event()
        self.backlog = backlog
        time = JournalTime(connection, clock)
        self.now = time.now
        self._ledger = Ledger(time, max_deliveries)
        self._commits = Commits(connection, time.keep, self._ledger.count)
        (self.instance,) = connection.execute(SQL["instance"]).fetchone()
        self._ledger.count(connection)

    async def next_epoch(self) -> int:
        """A number greater than every one before it, for the next session of this instance."""
        return await self._commits.submit(self._ledger.next_epoch, None)

    async def meet(self, server_time: int) -> None:
        """The control plane's time, in milliseconds since the epoch: after a reboot it tells how long that took."""
        await self._commits.submit(self._ledger.meet, server_time)

    async def accept(self, fires: Sequence[Fire], deadline: int) -> list[bool]:
        """Keeps the fires; for each whether it is kept (False: the journal is full).

        A fire that is here already is not attempted twice; if it was reported, it will be reported again; if it was
        cancelled, it is wanted again: another instance had it meanwhile.
        `deadline` is the local limit of age in milliseconds; the smaller of it and the fire's own wins.
        An empty list proves that the journal can be written.
        """
        order = self._ledger.order
        taken = await self._commits.submit(self._ledger.accept, (fires, deadline))
        now = self.now()
        for fire, how in zip(fires, taken, strict=True):
            if how is Taken.AGAIN or (how is Taken.HERE and fire.id not in self.backlog):
                self.backlog.add(fire.id, host_of(fire.uri), now, first=True)
        self.pending.set()
        if self._ledger.order != order:
            self.settled.set()
        return [how is not Taken.NOT for how in taken]

    async def claim(self, deliveries: Sequence[str]) -> list[Claimed]:
        """Takes those for an attempt that are pending; those too old end as expired."""
        order = self._ledger.order
        claimed = await self._commits.submit(self._ledger.claim, deliveries)
        if self._ledger.order != order:
            self.settled.set()
        return claimed

    async def settle(self, claimed: Claimed, entry: LogEntry, state: FinalState, reason: Reason) -> None:
        """The delivery has ended with this attempt."""
        row = {"seq": claimed.seq, "state": state, "reason": reason, "entry": entry}
        await self._commits.submit(self._ledger.settle, row)
        self.settled.set()

    async def retry(self, claimed: Claimed, entry: LogEntry, delay: int) -> None:
        """The next attempt is due in `delay` milliseconds; a delivery that was cancelled meanwhile ends."""
        row = {"seq": claimed.seq, "delay": delay, "entry": entry}
        if await self._commits.submit(self._ledger.retry, row):
            self.backlog.add(claimed.id, host_of(claimed.uri), self.now() + delay, first=False)
        self.pending.set()
        self.settled.set()

    async def hold(self, claimed: Claimed, entry: LogEntry, reason: Reason) -> None:
        """The delivery waits for a person; one that was cancelled meanwhile ends."""
        await self._commits.submit(self._ledger.hold, {"seq": claimed.seq, "reason": reason, "entry": entry})
        self.settled.set()

    async def release(self, delivery: str, attempts: int) -> bool:
        """A held delivery with so many attempts is pending again; False if there is none."""
        uri = await self._commits.submit(self._ledger.release, (delivery, attempts))
        if uri is None:
            return False
        self.backlog.add(delivery, host_of(uri), self.now(), first=False)
        self.pending.set()
        return True

    async def cancel(self, deliveries: Sequence[str]) -> None:
        """Prevents the next attempts; one that is under way goes on, and its outcome is the truth."""
        await self._commits.submit(self._ledger.cancel, deliveries)
        for delivery in deliveries:
            self.backlog.discard(delivery)
        self.settled.set()

    async def expire(self) -> int:
        """Ends up to 1,000 deliveries that wait and are too old; how many."""
        ended = await self._commits.submit(self._ledger.expire, None)
        if ended:
            self.settled.set()
        return ended

    async def held(self) -> list[str]:
        """Ids of all deliveries that the control plane does not know the end of, oldest first."""
        return await self._commits.submit(self._ledger.held, None)

    async def waiting(self, after: int, limit: int) -> list[Waiting]:
        """Deliveries that wait for a person, in the order in which they were held, after that order."""
        return await self._commits.submit(self._ledger.waiting, (after, limit))

    async def unreported(self, after: int, limit: int) -> list[Settled]:
        """Ended deliveries without acknowledged report, in the order in which they ended, after that order."""
        return await self._commits.submit(self._ledger.unreported, (after, limit))

    async def mark_reported(self, deliveries: Sequence[str]) -> None:
        """The control plane has acknowledged these; only their ids are remembered, to drop repeats."""
        await self._commits.submit(self._ledger.mark_reported, deliveries)

    async def prune(self, retention: int, memory: int) -> int:
        """Forgets up to 1,000 deliveries reported `retention` and expired `memory` milliseconds ago; how many."""
        return await self._commits.submit(self._ledger.prune, (retention, memory))

    def _recover(self, db: sqlite3.Connection, max_attempts: int) -> None:
        db.execute("BEGIN IMMEDIATE")
        self._ledger.recover(db, max_attempts)
        db.execute("COMMIT")
        for delivery, uri, due_at, attempts in self._ledger.pending(db):
            self.backlog.add(delivery, host_of(uri), due_at, first=attempts == 0)


@asynccontextmanager
async def open_journal(
    path: Path, clock: Clock, max_deliveries: int, max_attempts: int, backlog: Backlog
) -> AsyncIterator[Journal]:
    """Opens or creates the journal at `path`, for this process alone.

    Attempts that a crash interrupted become pending again (or held, where the webhook says so), with an `interrupted`
    entry in their log: the target may have got the request. The bounds are those of the settings. Raises
    JournalError where the file cannot be used.
    """
    try:
        connection = connect(path, clock)
        journal = Journal(connection, clock, max_deliveries, backlog)
        journal._recover(connection, max_attempts)
    except (sqlite3.Error, OSError) as error:
        raise JournalError(explain(path, error)) from None
    journal._commits.start()
    try:
        yield journal
    finally:
        await journal._commits.close()
