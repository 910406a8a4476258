"""The migrated schema is the one of the tables."""

import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import create_engine

from presence.controlplane.settings import Store
from presence.controlplane.store.migrations import migrate
from presence.controlplane.store.tables import metadata


def schema(path: Path) -> dict[str, list[str]]:
    """Each table's and index's words; the order of a table's constraints means nothing."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {
        name: sorted(line.strip(" ,\t") for line in sql.replace('"', "").splitlines())
        for name, sql in rows
        if name != "alembic_version"
    }


def test_the_migrations_make_what_the_tables_say(tmp_path: Path) -> None:
    migrated, direct = tmp_path / "migrated.db", tmp_path / "direct.db"
    migrate(Store(url=f"sqlite:///{migrated}"))
    engine = create_engine(f"sqlite:///{direct}")
    metadata.create_all(engine)
    engine.dispose()
    assert schema(migrated) == schema(direct)


def test_migrating_twice_changes_nothing_and_the_file_is_private(tmp_path: Path) -> None:
    store = Store(url=f"sqlite:///{tmp_path}/deep/er/x.db")
    migrate(store)
    before = schema(store.path)
    migrate(store)
    assert schema(store.path) == before
    assert store.path.stat().st_mode & 0o777 == 0o600
