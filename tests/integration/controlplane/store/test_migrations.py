"""The migrated schema is the one of the tables, on each database, and the way back works."""

import asyncio
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection, inspect, text

from presence.controlplane.settings import Store
from presence.controlplane.store.migrations import _config, change, migrate, upgrade
from presence.controlplane.store.tables import metadata
from presence.errors import DatabaseError
from tests.integration.controlplane.conftest import name_of
from tests.integration.controlplane.databases import ON_POSTGRESQL, ON_SQLITE
from tests.support.postgres import OWNER, RUNTIME, STRANGER, Postgres


@pytest.fixture
def empty(store: Store, request: pytest.FixtureRequest) -> Store:
    """A database without tables."""
    if store.is_postgresql:
        cluster: Postgres = request.getfixturevalue("cluster")
        cluster.create(name_of(store))
    return store


DESCRIPTIONS = (
    "SELECT table_name, column_name, data_type, character_maximum_length, collation_name, column_default, is_nullable"
    " FROM information_schema.columns WHERE table_schema = 'public'",
    "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = 'public'::regnamespace",
    "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
)


def described(connection: Connection) -> dict[str, list[str]]:
    """Each table's and index's own words; the order of a table's constraints means nothing."""
    if connection.dialect.name == "sqlite":
        rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")).all()
        words = {name: [line.strip(" ,\t") for line in sql.replace('"', "").splitlines()] for name, sql in rows}
    else:
        words = {}
        for query in DESCRIPTIONS:
            for table, *row in connection.execute(text(query)):
                words.setdefault(table, []).append(str(row))
    words.pop("alembic_version", None)
    return {name: sorted(lines) for name, lines in words.items()}


def as_the_tables_say(connection: Connection) -> None:
    """Fails where the schema is not what the tables themselves would make."""
    migrated = described(connection)
    command.downgrade(_config(connection), "base")
    metadata.create_all(connection)
    assert migrated == described(connection)
    metadata.drop_all(connection)
    upgrade(connection)


def test_the_migrations_make_what_the_tables_say(empty: Store) -> None:
    migrate(empty)
    migrate(empty)
    change(empty, as_the_tables_say)


def test_each_step_down_and_up_again(empty: Store) -> None:
    def down_and_up(connection: Connection) -> None:
        assert set(inspect(connection).get_table_names()) - set(metadata.tables) == {"alembic_version"}
        command.downgrade(_config(connection), "base")
        assert inspect(connection).get_table_names() == ["alembic_version"]
        upgrade(connection)

    migrate(empty)
    change(empty, down_and_up)
    change(empty, as_the_tables_say)


def test_a_migration_that_fails_leaves_nothing_behind(empty: Store) -> None:
    def fail(connection: Connection) -> None:
        upgrade(connection)
        connection.execute(text("no SQL"))

    def see(connection: Connection) -> None:
        assert inspect(connection).get_table_names() == []

    with pytest.raises(DatabaseError, match="cannot be migrated"):
        change(empty, fail)
    if not empty.is_postgresql:
        change(empty, see)
    migrate(empty)


async def test_two_migrations_at_once_take_turns(empty: Store) -> None:
    await asyncio.gather(*(asyncio.to_thread(migrate, empty) for _ in range(3)))
    await asyncio.to_thread(change, empty, as_the_tables_say)


@ON_SQLITE
def test_the_file_is_private(tmp_path: Path, store: Store) -> None:
    deep = Store(url=f"sqlite:///{tmp_path}/deep/er/x.db")
    migrate(deep)
    assert deep.path.stat().st_mode & 0o777 == 0o600


@ON_POSTGRESQL
def test_a_migration_needs_an_owner_apart_from_who_serves(empty: Store, cluster: Postgres) -> None:
    with pytest.raises(DatabaseError, match="owner_url is not set"):
        migrate(Store(url=empty.url))
    with pytest.raises(DatabaseError, match="name the same role"):
        migrate(Store(url=cluster.url(name_of(empty), OWNER), owner_url=empty.owner_url))
    with pytest.raises(DatabaseError, match='CREATE ROLE "nobody" LOGIN'):
        migrate(Store(url=cluster.url(name_of(empty), "nobody"), owner_url=empty.owner_url))
    with pytest.raises(DatabaseError, match="permission denied for schema public"):
        migrate(Store(url=empty.url, owner_url=cluster.url(name_of(empty), STRANGER)))
    assert cluster.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", name_of(empty)) == "0"


@ON_POSTGRESQL
def test_who_serves_may_read_and_change_rows_and_no_more(empty: Store, cluster: Postgres) -> None:
    migrate(empty)
    granted = cluster.execute(
        "SELECT table_name, string_agg(privilege_type, ' ' ORDER BY privilege_type)"
        f" FROM information_schema.table_privileges WHERE grantee = '{RUNTIME}' GROUP BY 1",
        name_of(empty),
    )
    found = dict(line.split("|") for line in granted.splitlines())
    assert found.pop("alembic_version") == "SELECT"
    assert found == dict.fromkeys(metadata.tables, "DELETE INSERT SELECT UPDATE")


@ON_POSTGRESQL
def test_all_texts_are_compared_byte_by_byte(empty: Store, cluster: Postgres) -> None:
    """Two that are compared in different ways cannot be compared with each other."""
    migrate(empty)
    others = cluster.execute(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        " AND data_type IN ('character varying', 'text') AND collation_name IS DISTINCT FROM 'C'"
        " AND table_name <> 'alembic_version'",
        name_of(empty),
    )
    assert others == ""
    assert cluster.execute("SELECT 'a' < 'B'", name_of(empty)) == "t", "the tests' PostgreSQL would hide it"
