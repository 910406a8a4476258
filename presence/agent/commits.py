"""One thread that owns the journal's database, with group commit.

Calls that arrive while a commit is under way share the next one: an fsync for each would cost almost
four times the throughput. Each call runs under its own savepoint, so that one that fails leaves its
neighbours alone. A caller is resumed only after the commit: what it was told is on the disk.
A cancelled caller does not cancel its call; treat that as unknown and look it up by id.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from presence.errors import JournalError

T = TypeVar("T")
Call = Callable[[sqlite3.Connection], T]

GROUP = 500
"""Calls in one commit at the most."""

_Entry = tuple[Call[Any], asyncio.Future[Any]]


class Commits:
    """Runs calls on the connection, in order.

    `before_commit` is the last call of each group that wrote, `after_rollback` follows a group that was undone.
    """

    def __init__(self, connection: sqlite3.Connection, before_commit: Call[None], after_rollback: Call[None]) -> None:
        self._connection = connection
        self._before_commit = before_commit
        self._after_rollback = after_rollback
        self._calls: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def close(self) -> None:
        """Commits what was submitted, then ends the thread and closes the connection."""
        self._calls.put(None)
        await asyncio.to_thread(self._thread.join)
        self._connection.close()

    async def submit(self, call: Call[T]) -> T:
        """The call's result, once it is committed. Raises what the call raised, or JournalError for the commit."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._calls.put((call, future))
        return await future

    def _work(self) -> None:
        while (first := self._calls.get()) is not None:
            group, last = [first], False
            while len(group) < GROUP and not last:
                try:
                    entry = self._calls.get_nowait()
                except queue.Empty:
                    break
                last = entry is None
                group += [entry] if entry is not None else []
            results = self._commit([call for call, _ in group])
            self._loop.call_soon_threadsafe(
                _resolve, [(future, *result) for (_, future), result in zip(group, results, strict=True)]
            )
            if last:
                return

    def _commit(self, calls: list[Call[Any]]) -> list[tuple[Any, Exception | None]]:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            written = connection.total_changes
            results = [self._run(call) for call in calls]
            if connection.total_changes != written:
                self._before_commit(connection)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._after_rollback(connection)
            failure = JournalError(f"the journal cannot be written: {error}; check the disk's space and permissions")
            return [(None, failure)] * len(calls)
        return results

    def _run(self, call: Call[Any]) -> tuple[Any, Exception | None]:
        self._connection.execute("SAVEPOINT call")
        try:
            result = call(self._connection)
        except Exception as error:  # noqa: BLE001 - handed to the caller, whose exception it is
            self._connection.execute("ROLLBACK TO call")
            self._connection.execute("RELEASE call")
            return None, error
        self._connection.execute("RELEASE call")
        return result, None


def _resolve(outcomes: list[tuple[asyncio.Future[Any], Any, Exception | None]]) -> None:
    for future, result, error in outcomes:
        if future.cancelled():
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
