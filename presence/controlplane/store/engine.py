"""The database, the same on SQLite and on PostgreSQL: one writing connection, several reading ones, durable commits.

Whoever wants to write waits for the writing connection in its pool's queue, on the event loop, so that write
transactions of a server never overlap; and there is one server for each database (`lock`).
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, OperationalError, TimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.settings import Store
from presence.controlplane.store import postgresql, sqlite
from presence.controlplane.store.migrations import newest_revision, require_known
from presence.controlplane.store.pools import Pools
from presence.errors import DatabaseError, DatabaseUnavailable

OUTAGES = ("08", "25006", "40", "53", "55", "57", "58", "F0", "XX")
"""Beginnings of PostgreSQL's SQLSTATE by which the database cannot do now what it can do at other times."""


class Database:
    """An open database. `write` and `read` are transactions, ended by leaving them."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    @asynccontextmanager
    async def write(self, organization_id: str) -> AsyncIterator[AsyncConnection]:
        """A transaction on behalf of an organization, or of `EVERY_ORGANIZATION`.

        Commits durably on leaving, rolls back on an exception. One at a time: keep it short. Raises DatabaseError
        where the database fails (disk full, locked, connection lost; then a commit may have happened or not), not
        for a broken constraint.
        """
        with failures():
            async with self._pools.writer.begin() as transaction:
                self._pools.dedicate(transaction, organization_id)
                yield transaction

    @asynccontextmanager
    async def read(self, organization_id: str) -> AsyncIterator[AsyncConnection]:
        """A consistent view; waits for no writer. Writing raises DatabaseError."""
        with failures():
            async with self._pools.reader.connect() as transaction:
                self._pools.dedicate(transaction, organization_id)
                yield transaction


@contextmanager
def failures() -> Iterator[None]:
    """What the database cannot do now is a DatabaseError; what it never does is a defect, and stays what it is."""
    try:
        yield
    except DBAPIError as error:
        if not _is_outage(error):
            raise
        raise DatabaseUnavailable(f"the database cannot be used now: {error.orig}") from error
    except (TimeoutError, OSError) as error:
        raise DatabaseUnavailable(f"the database cannot be used now: {error or type(error).__name__}") from error


def _is_outage(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None) or ""
    return isinstance(error, OperationalError) or error.connection_invalidated or state.startswith(OUTAGES)


@asynccontextmanager
async def open_database(store: Store) -> AsyncIterator[Database]:
    """The database while entered.

    Raises DatabaseError where it is missing, unreadable or not migrated; on PostgreSQL also where the role could see
    other organizations' rows.
    """
    backend = postgresql if store.is_postgresql else sqlite
    async with backend.opened(store) as pools:
        await _check(pools, store)
        yield Database(pools)


async def _check(pools: Pools, store: Store) -> None:
    try:
        async with pools.writer.connect() as connection:
            await connection.run_sync(_check_revision, store)
    except DBAPIError as error:
        hint = "; run 'presence control-plane migrate', which grants what is needed" if store.is_postgresql else ""
        raise DatabaseError(f"the database {store.place} cannot be used: {error.orig}{hint}") from error


def _check_revision(connection: Connection, store: Store) -> None:
    current, newest = MigrationContext.configure(connection).get_current_revision(), newest_revision()
    require_known(current)
    if current != newest:
        raise DatabaseError(
            f"the database {store.place} is at revision {current or 'none'}, this version needs {newest};"
            " run 'presence control-plane migrate'"
        )
