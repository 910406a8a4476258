"""The journal: what the agent has accepted, attempted and not yet been acknowledged for. SQLite, WAL, FULL.

What a method returned is on the disk: it survives SIGKILL and a power cut. The statements are `ledger`'s, the thread
is `commits`'. What is pending is in memory, too, as `backlog`: it says what may start next without asking the
disk, is filled from the journal when that is opened, and believed only after a claim: the journal is the truth.

While the disk takes nothing (`pause` says for how long it is not even tried), `accept`, `claim` and `tidy` raise
Unwritable: what they would begin is not begun. The other changes have happened already, or were asked for: they wait
in memory until they are written. What only reads goes on. A file that is found to be damaged ends the daemon with
JournalError; the next start keeps what is readable of it (see `salvage`). One that was removed takes nothing new, and
what it holds is finished (see `removal`).
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from presence.agent.backlog import Backlog
from presence.agent.commits import Call, Commits, Item, Result
from presence.agent.entries import Claimed, LogEntry, Settled, Waiting, host_of
from presence.agent.histogram import Histogram
from presence.agent.journal_file import SQL, explain, shrink
from presence.agent.journal_time import JournalTime
from presence.agent.ledger import AT_ONCE, Bounds, Kept, Ledger
from presence.agent.outage import Outage, Unwritable
from presence.agent.removal import Removal
from presence.agent.salvage import open_sound
from presence.agent.tally import Full, Tally
from presence.clock import Clock
from presence.domain.delivery import FinalState
from presence.domain.outcome import Reason
from presence.errors import JournalError
from presence.protocol.messages import Fire

EPOCHS = 1000
"""Numbers for sessions that are reserved at once: a session can begin while the journal cannot be written."""


class Journal:
    """Open it with `open_journal`.

    `pending` is set when something may be due, `settled` when there is something to say: something ended, is held, or
    is in `attempted`: the deliveries whose first attempt was made and that wait for another, since `held` was asked.
    """

    def __init__(self, connection: sqlite3.Connection, clock: Clock, bounds: Bounds, backlog: Backlog) -> None:
        self.pending = asyncio.Event()
        self.settled = asyncio.Event()
        self.attempted: list[str] = []
        self.backlog = backlog
        self._time = JournalTime(connection, clock)
        self.now = self._time.now
        self._ledger = Ledger(self._time, bounds)
        self._outage = Outage(on_over=self.pending.set)
        self._commits = Commits(connection, self._ledger, self._outage)
        self.instance: str
        self._epoch: int
        self.instance, self._epoch = connection.execute(SQL["instance"]).fetchone()
        self._last_epoch = self._epoch
        self.paused_until: int | None
        """Until when nothing is to be attempted, in the journal's time, nor before it is None again: no pause."""
        (self.paused_until,) = connection.execute(SQL["paused_until"]).fetchone()

    @property
    def is_paused(self) -> bool:
        return self.paused_until is not None

    @property
    def is_writable(self) -> bool:
        """Whether the last commit succeeded."""
        return not self._outage.lasts

    @property
    def tally(self) -> Tally:
        """What is counted of the deliveries, those that are remembered included. It is for reading."""
        return self._ledger.tally

    @property
    def commit_seconds(self) -> Histogram:
        """What commits took."""
        return self._commits.seconds

    @property
    def is_removed(self) -> bool:
        """Whether its file is no longer where the next start looks for it. Asks the file system."""
        return self._removal.happened()

    @property
    def pause(self) -> float:
        """Seconds until a disk that took nothing is tried again; 0: the journal can be written, as far as is known."""
        return self._outage.pause

    def holds(self, host: str) -> int:
        """How many deliveries to that host have not ended."""
        return self._ledger.tally.of(host)

    async def next_epoch(self) -> int:
        """A number greater than every one before it, for the next session of this instance."""
        if self._epoch == self._last_epoch:
            self._last_epoch = await self._commits.insist(self._ledger.reserve_epochs, self._epoch + EPOCHS)
        self._epoch += 1
        return self._epoch

    async def meet(self, server_time: int) -> None:
        """The control plane's time, in milliseconds since the epoch: after a reboot it tells how long that took."""
        self._time.meet(server_time)

    async def accept(self, fires: Sequence[Fire], deadline: int) -> list[Full | None]:
        """Keeps the fires; for each None, or what is full, so that it is not kept. Raises Unwritable.

        A fire that is here already is not attempted twice; if it was reported, it will be reported again; if it was
        cancelled, it is wanted again: another instance had it meanwhile.
        `deadline` is the local limit of age in milliseconds; the smaller of it and the fire's own wins.
        An empty list proves that the journal can be written: it is tried at once, whatever was before.
        """
        if self.is_removed:
            raise Unwritable("the journal's file was removed")
        if fires and self._outage.pause:
            raise Unwritable("the journal cannot be written")
        order = self._ledger.tally.order
        answers = await self._commits.submit(self._ledger.accept, (fires, deadline))
        now = self.now()
        for fire, answer in zip(fires, answers, strict=True):
            if answer is Kept.AGAIN or (answer is Kept.HERE and fire.id not in self.backlog):
                self.backlog.add(fire.id, host_of(fire.uri), now, first=True)
        self.pending.set()
        if self._ledger.tally.order != order:
            self.settled.set()
        return [None if isinstance(answer, Kept) else answer for answer in answers]

    async def claim(self, deliveries: Sequence[str]) -> list[Claimed]:
        """Takes those for an attempt that are pending; those too old end as expired. Raises Unwritable."""
        order = self._ledger.tally.order
        claimed = await self._commits.submit(self._ledger.claim, deliveries)
        if self._ledger.tally.order != order:
            self.settled.set()
        return claimed

    async def settle(self, claimed: Claimed, entry: LogEntry, state: FinalState, reason: Reason) -> None:
        """The delivery has ended with this attempt."""
        row = {"seq": claimed.seq, "state": state, "reason": reason, "entry": entry}
        await self._commits.insist(self._ledger.settle, (claimed.uri, row))
        self.settled.set()

    async def retry(self, claimed: Claimed, entry: LogEntry, delay: int) -> None:
        """The next attempt is due in `delay` milliseconds; a delivery that was cancelled meanwhile ends."""
        row = {"seq": claimed.seq, "delay": delay, "entry": entry}
        if await self._commits.insist(self._ledger.retry, row):
            self.backlog.add(claimed.id, host_of(claimed.uri), self.now() + delay, first=False)
            if claimed.attempts == 1:
                self.attempted.append(claimed.id)
        self.pending.set()
        self.settled.set()

    async def hold(self, claimed: Claimed, entry: LogEntry, reason: Reason) -> None:
        """The delivery waits for a person; one that was cancelled meanwhile ends."""
        await self._commits.insist(self._ledger.hold, {"seq": claimed.seq, "reason": reason, "entry": entry})
        self.settled.set()

    async def release(self, delivery: str, attempts: int | None) -> bool:
        """A held delivery with so many attempts (None: whatever number) is pending again; False if there is none."""
        uri = await self._commits.insist(self._ledger.release, (delivery, attempts))
        if uri is None:
            return False
        self.backlog.add(delivery, host_of(uri), self.now(), first=False)
        self.pending.set()
        return True

    async def cancel(self, deliveries: Sequence[str]) -> None:
        """Prevents the next attempts, at once; one that is under way goes on, and its outcome is the truth."""
        for delivery in deliveries:
            self.backlog.discard(delivery)
        await self._commits.insist(self._ledger.cancel, deliveries)
        self.settled.set()

    async def pause_until(self, until: int | None) -> None:
        """Nothing is attempted before that time, which is kept; None: as before. Raises Unwritable."""
        await self._commits.submit(self._ledger.pause_until, until)
        self.paused_until = until
        self.pending.set()

    async def answer(self) -> None:
        """Returns when the journal's thread has shown that it works, whether or not the disk takes anything."""
        await self._commits.answer()

    async def look(self, call: Call[Item, Result], item: Item) -> Result:
        """What a call gives that only reads, such as those of `listing`."""
        return await self._commits.read(call, item)

    async def tidy(self, retention: int) -> None:
        """Ends what became too old while it waited; erases and forgets what is old and done. Raises Unwritable.

        Of a delivery that was reported `retention` milliseconds ago only its id, its end and its times stay, until
        nobody can fire it any more. Afterwards nothing that was erased is in the journal's files.
        """
        expired = [""]
        while expired:
            expired = await self._commits.submit(self._ledger.expire, AT_ONCE)
            for delivery in expired:
                self.backlog.discard(delivery)
                self.settled.set()
        while await self._commits.submit(self._ledger.tidy, retention):
            pass
        await self._commits.alone(shrink)

    async def held(self) -> tuple[list[str], set[str]]:
        """Ids of all deliveries that the control plane does not know the end of, oldest first; which had no attempt.

        One whose first attempt is under way has had none: its end is reported, held, or in `attempted`.
        """
        self.attempted.clear()
        return await self._commits.read(self._ledger.held, None)

    async def waiting(self, after: int, limit: int) -> list[Waiting]:
        """Deliveries that wait for a person, in the order in which they were held, after that order."""
        return await self._commits.read(self._ledger.waiting, (after, limit))

    async def unreported(self, after: int, limit: int) -> list[Settled]:
        """Ended deliveries without acknowledged report, in the order in which they ended, after that order."""
        return await self._commits.read(self._ledger.unreported, (after, limit))

    async def mark_reported(self, deliveries: Sequence[str]) -> None:
        """The control plane has acknowledged these; in time only their ids are remembered, to drop repeats."""
        await self._commits.insist(self._ledger.mark_reported, deliveries)

    def _recover(self, db: sqlite3.Connection, path: Path) -> None:
        self._ledger.count(db)
        self._last_epoch += EPOCHS
        db.execute("BEGIN IMMEDIATE")
        self._ledger.recover(db)
        self._ledger.reserve_epochs(db, [self._last_epoch])
        self._time.keep(db)
        db.execute("COMMIT")
        shrink(db)
        self._removal = Removal(path)
        for delivery, uri, due_at, attempts in self._ledger.pending(db):
            self.backlog.add(delivery, host_of(uri), due_at, first=attempts == 0)


@asynccontextmanager
async def open_journal(path: Path, clock: Clock, bounds: Bounds, backlog: Backlog) -> AsyncIterator[Journal]:
    """Opens or creates the journal at `path`, for this process alone; of a damaged one what is readable is kept.

    Attempts that a crash interrupted become pending again (or held, where the webhook says so), with an `interrupted`
    entry in their log: the target may have got the request. Raises JournalError where the file cannot be used.
    """
    try:
        connection = open_sound(path, clock)
        journal = Journal(connection, clock, bounds, backlog)
        journal._recover(connection, path)
    except (sqlite3.Error, OSError) as error:
        raise JournalError(explain(path, error)) from None
    journal._commits.start()
    try:
        yield journal
    finally:
        await journal._commits.close()
