"""The engine: one writing connection, several reading ones, durable commits.

SQLAlchemy over aiosqlite loses updates by default, because the driver begins transactions late; here
every write transaction is BEGIN IMMEDIATE on the only writing connection, and whoever wants to write
waits for it in the pool's queue, on the event loop.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError, OperationalError, TimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from presence.controlplane.settings import Store
from presence.controlplane.store.driver import connect
from presence.controlplane.store.migrations import newest_revision, require_known
from presence.errors import DatabaseError

BUSY_TIMEOUT_MS = 10_000
READERS = 4
_SYNCHRONOUS_FULL = 2


class Database:
    """An open database. `write` and `read` are transactions, ended by leaving them."""

    def __init__(self, writer: AsyncEngine, reader: AsyncEngine) -> None:
        self._writer = writer
        self._reader = reader

    @asynccontextmanager
    async def write(self, organization_id: str) -> AsyncIterator[AsyncConnection]:
        """A transaction on behalf of an organization, or of `EVERY_ORGANIZATION`.

        Commits durably on leaving, rolls back on an exception. One at a time: keep it short.

        Raises DatabaseError where the database fails (disk full, locked), not for a broken constraint.
        """
        with _failures():
            async with self._writer.begin() as transaction:
                yield transaction

    @asynccontextmanager
    async def read(self, organization_id: str) -> AsyncIterator[AsyncConnection]:
        """A consistent view; waits for no writer. Writing raises DatabaseError."""
        with _failures():
            async with self._reader.connect() as transaction:
                yield transaction


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (OperationalError, TimeoutError) as error:
        raise DatabaseError(f"the database cannot be used now: {getattr(error, 'orig', error)}") from error


@asynccontextmanager
async def open_database(store: Store) -> AsyncIterator[Database]:
    """The database while entered. Raises DatabaseError where it is missing, unreadable or not migrated."""
    if not store.path.exists():
        raise DatabaseError(
            f"there is no database at {store.path}; run 'presence control-plane init --organization NAME'"
        )
    writer, reader = _engine(store, readers=0), _engine(store, readers=READERS)
    try:
        await _check(writer, store)
        yield Database(writer, reader)
    finally:
        await reader.dispose()
        await writer.dispose()


def _engine(store: Store, *, readers: int) -> AsyncEngine:
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{store.path}",
        async_creator=partial(connect, store.path, writes=not readers),
        pool_size=readers or 1,
        max_overflow=0,
        pool_timeout=60,
        hide_parameters=True,
    )
    begin = "BEGIN" if readers else "BEGIN IMMEDIATE"

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute(f"PRAGMA query_only = {'ON' if readers else 'OFF'}")
        _assert_pragmas(cursor)
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin_now(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _assert_pragmas(cursor: Any) -> None:
    """SQLite ignores what it cannot do; durability must not be ignored."""
    expected = {
        "busy_timeout": BUSY_TIMEOUT_MS,
        "journal_mode": "wal",
        "synchronous": _SYNCHRONOUS_FULL,
        "foreign_keys": 1,
    }
    for name, value in expected.items():
        cursor.execute(f"PRAGMA {name}")
        found = cursor.fetchone()[0]
        if found != value:
            raise DatabaseError(f"the database's {name} is {found}, not {value}; put it on a local file system")


async def _check(engine: AsyncEngine, store: Store) -> None:
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_check_revision, store)
    except DBAPIError as error:
        raise DatabaseError(f"the database {store.path} cannot be used: {error.orig}") from error


def _check_revision(connection: Connection, store: Store) -> None:
    current, newest = MigrationContext.configure(connection).get_current_revision(), newest_revision()
    require_known(current)
    if current != newest:
        raise DatabaseError(
            f"the database {store.path} is at revision {current or 'none'}, this version needs {newest};"
            " run 'presence control-plane migrate'"
        )
