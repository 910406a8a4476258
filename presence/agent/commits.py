"""One thread that owns the journal's database, with group commit.

What is submitted while a commit is under way shares the next one: an fsync for each would cost almost
four times the throughput. Items for the same call are handed to it together, so that it can write them
with one statement: each statement costs two changes of the interpreter's lock between the threads.
A caller is resumed only after the commit: what it was told is on the disk.
A group is undone as a whole: a call that raises is a defect, and every caller of its group hears of it.
A cancelled caller does not cancel its item; treat that as unknown and look it up by id.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from presence.errors import JournalError

Item = TypeVar("Item")
Result = TypeVar("Result")
Call = Callable[[sqlite3.Connection, Sequence[Item]], Sequence[Result]]

GROUP = 1000
"""Items in one commit at the most."""
BUSY, LINGER = 8, 0.004
"""After a group of so many items the next one is gathered for so many seconds."""

_Entry = tuple[Call[Any, Any], Any, asyncio.Future[Any]]


class Commits:
    """Runs calls on the connection, one group at a time; the calls of a group in the order of their first item.

    `before_commit` is the last call of each group that wrote, `after_rollback` follows a group that was undone.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        before_commit: Callable[[sqlite3.Connection], None],
        after_rollback: Callable[[sqlite3.Connection], None],
    ) -> None:
        self._connection = connection
        self._before_commit = before_commit
        self._after_rollback = after_rollback
        self._waiting: list[_Entry] = []
        self._busy = False
        self._groups: queue.SimpleQueue[list[_Entry] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def close(self) -> None:
        """Commits what was submitted, then ends the thread and closes the connection."""
        while self._waiting or self._busy:
            await self.submit(_nothing, None)
        self._groups.put(None)
        await asyncio.to_thread(self._thread.join)
        self._connection.close()

    async def submit(self, call: Call[Item, Result], item: Item) -> Result:
        """The call's result for the item, once it is committed. Raises what its group raised, or JournalError."""
        future: asyncio.Future[Result] = self._loop.create_future()
        self._waiting.append((call, item, future))
        if not self._busy:
            self._busy = True
            # Not at once: what else is submitted in this turn of the loop goes into the same group.
            self._loop.call_soon(self._hand_over)
        return await future

    def _hand_over(self) -> None:
        group, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
        self._busy = bool(group)
        if group:
            self._groups.put(group)

    def _work(self) -> None:
        while (group := self._groups.get()) is not None:
            try:
                results: list[Any] | Exception = self._commit(group)
            except Exception as error:  # noqa: BLE001 - handed to the callers, whose exception it is
                results = error
            self._loop.call_soon_threadsafe(self._resume, group, results)

    def _commit(self, group: list[_Entry]) -> list[Any]:
        """The results in the order of the group's entries."""
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            written = connection.total_changes
            results = self._run(group)
            if connection.total_changes != written:
                self._before_commit(connection)
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._after_rollback(connection)
            if isinstance(error, sqlite3.Error):
                text = f"the journal cannot be written: {error}; check the disk's space and permissions"
                raise JournalError(text) from error
            raise
        return results

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

    def _resume(self, group: list[_Entry], results: list[Any] | Exception) -> None:
        if len(group) < BUSY:
            self._hand_over()
        else:
            # Under load a short wait makes groups larger, and each delivery cheaper.
            self._loop.call_later(LINGER, self._hand_over)
        for index, (_, _, future) in enumerate(group):
            if future.cancelled():
                continue
            if isinstance(results, Exception):
                future.set_exception(results)
            else:
                future.set_result(results[index])


def _nothing(_connection: sqlite3.Connection, items: Sequence[None]) -> Sequence[None]:
    return items
