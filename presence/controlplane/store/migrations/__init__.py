"""Migrations of the schema, run by `migrate`; there is no alembic.ini. Two at once take turns."""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event, pool, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from presence.controlplane.settings import Store
from presence.controlplane.store.postgresql_driver import connect
from presence.controlplane.store.tables import metadata
from presence.errors import DatabaseError

HEAD = "head"
BUSY_SECONDS = 60
MIGRATION_LOCK = 0x70726573_6D696772
"""Of PostgreSQL's advisory locks."""


def newest_revision() -> str:
    """The revision that this version of the program needs."""
    return _revisions()[0]


def require_known(revision: str | None) -> None:
    """Raises DatabaseError for a database whose revision only a later version of the program has."""
    if revision is not None and revision not in _revisions():
        raise DatabaseError(f"the database is newer than this program (revision {revision}); upgrade presence")


@cache
def _revisions() -> tuple[str, ...]:
    """Newest first. Read once: that compiles all migrations."""
    return tuple(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def migrate(store: Store) -> None:
    """Brings the schema to the newest revision, in one transaction.

    Makes a SQLite file (0600) and its directory if need be. On PostgreSQL the role of `owner_url` will own the tables,
    and that of `url` gets the right to read and change rows. Blocking: call it where no event loop runs. Raises
    DatabaseError.
    """
    change(store, upgrade)


def upgrade(connection: Connection) -> None:
    """To the newest revision."""
    command.upgrade(_config(connection), HEAD)


def change(store: Store, work: Callable[[Connection], None]) -> None:
    """Runs the work on the schema alone and in one transaction; as for `migrate`."""
    try:
        if store.is_postgresql:
            asyncio.run(_change_postgresql(store, work))
        else:
            _change_sqlite(store, work)
    except (sqlite3.DatabaseError, DBAPIError) as error:
        reason = getattr(error, "orig", None) or error
        raise DatabaseError(f"the database {store.place} cannot be migrated: {reason}") from error


def _change_sqlite(store: Store, work: Callable[[Connection], None]) -> None:
    try:
        store.path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(store.path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise DatabaseError(f"the database {store.path} cannot be made: {error.strerror}") from error
    with closing(sqlite3.connect(store.path)) as file:
        file.execute("PRAGMA journal_mode = WAL")
    engine = create_engine(
        store.url, poolclass=pool.NullPool, connect_args={"isolation_level": None, "timeout": BUSY_SECONDS}
    )
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    with engine.begin() as connection:
        work(connection)


async def _change_postgresql(store: Store, work: Callable[[Connection], None]) -> None:
    if store.owner_url is None:
        raise DatabaseError(
            "database.owner_url is not set: the tables belong to another role than that of database.url, so that"
            " row-level security holds for what serves; for example"
            ' owner_url = "postgresql://presence_owner@db.example.com/presence"'
        )
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: connect(store.owner_url, store.owner_password_file, bounded=False),
        poolclass=pool.NullPool,
        hide_parameters=True,
    )
    async with engine.begin() as connection:
        await connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
        await connection.execute(text("SELECT set_config('presence.organization', '*', true)"))
        await connection.run_sync(work)
        await connection.run_sync(_grant, store.user)


def _grant(connection: Connection, role: str) -> None:
    """The role may read and change rows of all tables, and no more."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    owner = connection.scalar(text("SELECT current_user"))
    if role == owner:
        raise DatabaseError(f"database.url and database.owner_url name the same role, '{role}'; they must differ")
    if not connection.scalar(text("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :role)"), {"role": role}):
        raise DatabaseError(f"database.url: there is no role '{role}'; make it first: CREATE ROLE {quote(role)} LOGIN")
    existing = set(connection.dialect.get_table_names(connection))
    schema = quote(str(connection.scalar(text("SELECT current_schema()"))))
    connection.execute(text(f"GRANT USAGE ON SCHEMA {schema} TO {quote(role)}"))
    for table in existing & set(metadata.tables):
        connection.execute(text(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {quote(table)} TO {quote(role)}"))
    connection.execute(text(f"GRANT SELECT ON alembic_version TO {quote(role)}"))


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
