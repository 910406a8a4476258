"""One server for each database: two would each believe that they alone know which agents are connected."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NoReturn

from presence.controlplane.settings import Store
from presence.controlplane.store.postgresql_driver import FAILURES, Connection, LockTimeout, connect
from presence.errors import DatabaseError, DatabaseUnavailable

SERVING_LOCK = 0x70726573_73657276
"""Of PostgreSQL's advisory locks, which each belong to one database."""
TURN_MS = 3000
"""For how long a server waits for the right: the system may not have taken it back yet from one that was killed."""
PROOF_SECONDS = 5.0
SILENCE_SECONDS = 15.0
"""Together less than the time after which PostgreSQL gives up a connection that is silent, and so the lock."""

_HOLDER = """
    SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND (classid::bigint << 32) + objid::bigint = $1
    AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class Right:
    """The right to serve. On SQLite nothing can take it away."""

    async def lost(self) -> NoReturn:
        """Waits until it is lost. Raises DatabaseUnavailable then: who goes on would not be alone."""
        await asyncio.Event().wait()
        raise AssertionError("nothing sets that event")


@asynccontextmanager
async def served(store: Store) -> AsyncIterator[Right]:
    """The right to serve the database while entered; the system takes it back when the process ends, however it does.

    Raises DatabaseError where another process has it.
    """
    if store.is_postgresql:
        async with _session_locked(store) as right:
            yield right
    else:
        with _file_locked(store):
            yield Right()


@contextmanager
def _file_locked(store: Store) -> Iterator[None]:
    """The file beside the database stays, and names the process."""
    database = store.path.resolve()
    path = database.with_name(f"{database.name}.lock")
    try:
        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DatabaseError(f"the lock file {path} cannot be made: {error.strerror}") from None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        process = os.pread(held, 20, 0).decode(errors="replace").strip() or "unknown"
        os.close(held)
        raise DatabaseError(
            f"the database {database} is served by another control plane already (process {process});"
            " stop that one first, or set database.url to another file"
        ) from None
    try:
        os.ftruncate(held, 0)
        os.pwrite(held, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(held)


class _SessionRight(Right):
    """It ends with the connection that holds the lock."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ended = asyncio.Event()
        connection.add_termination_listener(lambda _connection: self._ended.set())

    async def lost(self) -> NoReturn:
        while not self._ended.is_set():
            try:
                async with asyncio.timeout(PROOF_SECONDS):
                    await self._ended.wait()
            except TimeoutError:
                await self._prove()
        raise DatabaseUnavailable(
            "the connection that holds the right to serve the database was lost; start again when the database is there"
        )

    async def _prove(self) -> None:
        try:
            await self._connection.execute("SELECT 1", timeout=SILENCE_SECONDS)
        except FAILURES:
            self._ended.set()


@asynccontextmanager
async def _session_locked(store: Store) -> AsyncIterator[Right]:
    connection = await connect(store.url, store.password)
    try:
        await _lock(connection, store)
        yield _SessionRight(connection)
    finally:
        # At once: a queue of the driver's would keep the lock for as long as it closes.
        connection.terminate()


async def _lock(connection: Connection, store: Store) -> None:
    try:
        await connection.execute(f"SET lock_timeout = {TURN_MS}")
        await connection.execute(f"SELECT pg_advisory_lock({SERVING_LOCK})")
    except LockTimeout:
        holder = await connection.fetchval(_HOLDER, SERVING_LOCK)
        raise DatabaseUnavailable(
            f"the database {store.url} is served by another control plane already ({holder or 'unknown'});"
            " stop that one first, or set database.url to another database"
        ) from None
    except FAILURES as error:
        raise DatabaseUnavailable(f"the database {store.url} cannot be used now: {error}") from None
