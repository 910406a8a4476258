"""The query that runs for every request finds everything by index, whatever an organization has."""

from sqlalchemy import create_engine
from sqlalchemy.dialects import sqlite

from presence.controlplane.store import accounts
from presence.controlplane.store.tables import metadata


def test_whose_token_it_is_takes_one_lookup_in_each_table() -> None:
    statement = str(accounts._TOKEN.compile(dialect=sqlite.dialect()))
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        metadata.create_all(connection)
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", ("hash",)).all()
    engine.dispose()
    plan = [str(row[3]) for row in rows]
    assert [line.split()[:2] for line in plan] == [["SEARCH", name] for name in ("token", "user", "role", "membership")]
    assert [line.count("=?") for line in plan] == [1, 2, 2, 2]
