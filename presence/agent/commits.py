"""One thread that owns the journal's database, with group commit.

What is submitted while a commit is under way shares the next one: an fsync for each would cost almost
four times the throughput. Items for the same call are handed to it together, so that it can write them
with one statement: each statement costs two changes of the interpreter's lock between the threads.
A caller is resumed only after the commit: what it was told is on the disk.
A group is undone as a whole: a call that raises is a defect, and every caller of its group hears of it.
A disk that takes nothing is none: who insists waits in memory and is tried again (see `outage`).
A cancelled caller does not cancel its item; treat that as unknown and look it up by id.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple, Protocol, TypeVar

from presence.agent.histogram import Histogram
from presence.agent.journal_file import is_damage, may_pass, words
from presence.agent.outage import Outage, Unwritable
from presence.errors import JournalError

Item = TypeVar("Item")
Result = TypeVar("Result")
Call = Callable[[sqlite3.Connection, Sequence[Item]], Sequence[Result]]

GROUP = 1000
"""Items in one commit at the most."""
BUSY, LINGER = 8, 0.004
"""After a group of so many items the next one is gathered for so many seconds."""
_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

_Entry = tuple[Call[Any, Any], Any, asyncio.Future[Any]]


class Book(Protocol):
    """What accompanies each group: called in the thread."""

    def begin(self) -> None:
        """A group begins."""

    def keep(self, db: sqlite3.Connection) -> None:
        """The group has written and is about to be committed."""

    def undo(self) -> None:
        """The group was undone."""


class _Done(NamedTuple):
    """What became of a group. `wrote`: it changed something."""

    results: list[Any] | Exception
    wrote: bool


class Commits:
    """Runs calls on the connection, one group at a time; the calls of a group in the order of their first item."""

    def __init__(self, connection: sqlite3.Connection, book: Book, outage: Outage) -> None:
        self._connection = connection
        self._book = book
        self._outage = outage
        self.seconds = Histogram(_BOUNDS)
        """What the groups took that wrote something, with their statements and the disk."""
        self._waiting: list[_Entry] = []
        self._busy = False
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run_all, name="journal", daemon=True)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def close(self) -> None:
        """Commits what was submitted, as far as it can be written; then ends the thread and closes the connection."""
        while self._waiting or self._busy:
            with contextlib.suppress(Exception):  # who submitted hears of it
                await self.submit(_nothing, None)
        self._work.put(None)
        await asyncio.to_thread(self._thread.join)
        self._connection.close()

    async def submit(self, call: Call[Item, Result], item: Item) -> Result:
        """The call's result for the item, once it is committed. Raises what its group raised, or JournalError.

        Unwritable: nothing was written, but that may pass.
        """
        future: asyncio.Future[Result] = self._loop.create_future()
        self._waiting.append((call, item, future))
        if not self._busy:
            self._busy = True
            # Not at once: what else is submitted in this turn of the loop goes into the same group.
            self._loop.call_soon(self._hand_over)
        return await future

    async def insist(self, call: Call[Item, Result], item: Item) -> Result:
        """As `submit`, but tried until it is written: for what must not be lost while the process lives."""
        while True:
            await self._outage.next_try()
            with contextlib.suppress(Unwritable):
                return await self.submit(call, item)

    async def read(self, call: Call[Item, Result], item: Item) -> Result:
        """As `submit`, for a call that writes nothing: it is not kept from reading by a disk that takes nothing."""
        while True:
            for _ in range(2):  # the second time it shares its group with nobody who insists: they wait
                with contextlib.suppress(Unwritable):
                    return await self.submit(call, item)
            await self._outage.next_try()

    async def answer(self) -> None:
        """Returns when the thread has taken what was handed to it before. Raises JournalError."""
        with contextlib.suppress(Unwritable):
            await self.submit(_nothing, None)

    async def alone(self, call: Callable[[sqlite3.Connection], Result]) -> Result:
        """The call's result; it runs between two groups, outside of a transaction. Raises JournalError."""
        future: asyncio.Future[Result] = self._loop.create_future()
        self._work.put(partial(self._run_alone, call, future))
        return await future

    def _hand_over(self) -> None:
        group, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
        self._busy = bool(group)
        if group:
            self._work.put(partial(self._run_group, group))

    def _run_all(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    def _run_alone(self, call: Callable[[sqlite3.Connection], Any], future: asyncio.Future[Any]) -> None:
        try:
            done = _Done([call(self._connection)], wrote=False)
        except Exception as error:  # noqa: BLE001 - handed to the caller, whose exception it is
            done = _Done(_explained(error), wrote=False)
        self._loop.call_soon_threadsafe(_resolve, [future], done.results)

    def _run_group(self, group: list[_Entry]) -> None:
        self._book.begin()
        try:
            done = self._commit(group)
        except Exception as error:  # noqa: BLE001 - handed to the callers, whose exception it is
            # A transaction that cannot be undone by word is undone by the next BEGIN, or by the end of the process.
            with contextlib.suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            self._book.undo()
            done = _Done(_explained(error), wrote=False)
        self._loop.call_soon_threadsafe(self._resume, group, done)

    def _commit(self, group: list[_Entry]) -> _Done:
        """The results in the order of the group's entries."""
        connection, begun = self._connection, perf_counter()
        connection.execute("BEGIN")
        before = connection.total_changes
        results = self._run(group)
        wrote = connection.total_changes != before
        if wrote:
            self._book.keep(connection)
        connection.execute("COMMIT")
        if wrote:
            self.seconds.add(perf_counter() - begun)
        return _Done(results, wrote)

    def _run(self, group: list[_Entry]) -> list[Any]:
        places: dict[Call[Any, Any], list[int]] = {}
        for place, (call, _, _) in enumerate(group):
            places.setdefault(call, []).append(place)
        results: list[Any] = [None] * len(group)
        for call, mine in places.items():
            answers = call(self._connection, [group[place][1] for place in mine])
            for place, answer in zip(mine, answers, strict=True):
                results[place] = answer
        return results

    def _resume(self, group: list[_Entry], done: _Done) -> None:
        if isinstance(done.results, Unwritable):
            self._outage.failed(done.results)
        elif done.wrote:
            self._outage.passed()
        if len(group) < BUSY:
            self._hand_over()
        else:
            # Under load a short wait makes groups larger, and each delivery cheaper.
            self._loop.call_later(LINGER, self._hand_over)
        _resolve([future for _, _, future in group], done.results)


def _resolve(futures: list[asyncio.Future[Any]], results: list[Any] | Exception) -> None:
    for index, future in enumerate(futures):
        if future.cancelled():
            continue
        if isinstance(results, Exception):
            future.set_exception(results)
        else:
            future.set_result(results[index])


def _explained(error: Exception) -> Exception:
    """What the callers hear: what is wrong with the disk or the file, else the defect itself."""
    if not isinstance(error, sqlite3.Error):
        return error
    if may_pass(error):
        return Unwritable(f"the journal cannot be written: {words(error)}; check the disk's space and permissions")
    if is_damage(error):
        then = "at the next start it is set aside, and what is readable is kept"
        return JournalError(f"the journal is damaged: {words(error)}; {then}")
    return JournalError(f"the journal cannot be used: {words(error)}")


def _nothing(_connection: sqlite3.Connection, items: Sequence[None]) -> Sequence[None]:
    return items
