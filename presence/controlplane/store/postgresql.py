"""PostgreSQL: pools of connections that notice their loss, for a role that row-level security holds."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from presence.controlplane.settings import Store
from presence.controlplane.store.pools import READERS, WAIT_SECONDS, Pools
from presence.controlplane.store.postgresql_driver import Connection, connect
from presence.errors import DatabaseError

# Which of its rights would let the role go round row-level security: as a member of the owner it could end it.
_RIGHTS = text("""
    SELECT current_user AS role, rolsuper, rolbypassrls,
        EXISTS (
            SELECT FROM pg_class
            WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
            AND pg_has_role(current_user, relowner, 'MEMBER')
        ) AS owns
    FROM pg_roles WHERE rolname = current_user
""")


@asynccontextmanager
async def opened(store: Store) -> AsyncIterator[Pools]:
    """The database while entered. Raises DatabaseError where it cannot be reached or the role has too many rights."""
    pools = Pools(_engine(store, readers=0), _engine(store, readers=READERS), _dedicate)
    try:
        await _require_bounded(pools.writer)
        yield pools
    finally:
        await pools.close()


def _dedicate(transaction: AsyncConnection, organization_id: str) -> None:
    connection = transaction.sync_connection
    assert connection is not None, "connected"
    driver_connection = connection.connection.driver_connection
    assert isinstance(driver_connection, Connection), "made by `_engine`"
    driver_connection.organization_id = organization_id


def _engine(store: Store, *, readers: int) -> AsyncEngine:
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=partial(connect, store.url, store.password, writes=not readers),
        pool_size=readers or 1,
        max_overflow=0,
        pool_timeout=WAIT_SECONDS,
        hide_parameters=True,
    )

    @event.listens_for(engine.sync_engine, "checkout")
    def require_alive(connection: Any, _record: object, _proxy: object) -> None:
        """Costs no trip: the driver has seen the end of a connection that was lost while nobody used it."""
        if connection.driver_connection.is_closed():
            raise DisconnectionError

    @event.listens_for(engine.sync_engine, "handle_error")
    def keep_rows_out(context: ExceptionContext) -> None:
        """PostgreSQL's details hold the row that broke a constraint; a log must not."""
        error = context.original_exception.__cause__
        if getattr(error, "detail", None):
            error.detail = None  # type: ignore[union-attr]

    return engine


async def _require_bounded(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        found = (await connection.execute(_RIGHTS)).one()
    wrong = {
        "is a superuser": found.rolsuper,
        "has BYPASSRLS": found.rolbypassrls,
        "owns the tables, or is a member of the role that does": found.owns,
    }
    reasons = [reason for reason, applies in wrong.items() if applies]
    if reasons:
        raise DatabaseError(
            f"database.url: the role '{found.role}' {reasons[0]}, so that row-level security would not hold it; make"
            " another role (CREATE ROLE presence LOGIN), name it in database.url and the owner in"
            " database.owner_url, and run 'presence control-plane migrate'"
        )
