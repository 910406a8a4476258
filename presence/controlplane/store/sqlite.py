"""SQLite: a file, in WAL mode, where every commit reaches the disk.

SQLAlchemy over aiosqlite loses updates by default, because the driver begins transactions late; here every write
transaction is BEGIN IMMEDIATE on the only writing connection.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from presence.controlplane.settings import Store
from presence.controlplane.store.driver import connect
from presence.controlplane.store.pools import READERS, WAIT_SECONDS, Pools
from presence.errors import DatabaseError

BUSY_TIMEOUT_MS = 10_000
_SYNCHRONOUS_FULL = 2


@asynccontextmanager
async def opened(store: Store) -> AsyncIterator[Pools]:
    """The file while entered. Raises DatabaseError where there is none."""
    if not store.path.exists():
        raise DatabaseError(
            f"there is no database at {store.path}; run 'presence control-plane init --organization NAME'"
        )
    pools = Pools(_engine(store, readers=0), _engine(store, readers=READERS), _dedicate)
    try:
        yield pools
    finally:
        await pools.close()


def _dedicate(_transaction: AsyncConnection, _organization_id: str) -> None:
    """SQLite has no row-level security: the organization is in every query, and a test sees to that."""


def _engine(store: Store, *, readers: int) -> AsyncEngine:
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{store.path}",
        async_creator=partial(connect, store.path, writes=not readers),
        pool_size=readers or 1,
        max_overflow=0,
        pool_timeout=WAIT_SECONDS,
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
