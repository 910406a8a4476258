"""The guarded changes of state, and the engine under them, on each database."""

import asyncio
import sqlite3
from contextlib import closing
from itertools import product
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import DBAPIError

from presence.controlplane.access import EVERY_ORGANIZATION, Peer
from presence.controlplane.odata import ListQuery
from presence.controlplane.settings import Store
from presence.controlplane.store import accounts, deliveries, delivery_log, queue
from presence.controlplane.store.chunks import CHUNK
from presence.controlplane.store.deliveries import Settled, change
from presence.controlplane.store.engine import Database, open_database
from presence.controlplane.store.migrations import migrate
from presence.controlplane.store.tables import delivery, organization
from presence.domain.delivery import DELIVERY_TRANSITIONS, DeliveryState, FinalState
from presence.errors import DatabaseError
from tests.integration.controlplane.store.rows import PEER, administrator_of, queued

ALL = ListQuery(counted=True)


async def test_every_pair_of_states(database: Database) -> None:
    """A change happens exactly where the table of the domain allows it."""
    (id_,) = await queued(database, 1)
    for source, target in product(DeliveryState, DeliveryState):
        async with database.write(EVERY_ORGANIZATION) as transaction:
            await transaction.execute(update(delivery).values(state=source))
            changed = await transaction.execute(change(target).where(delivery.c.id == id_))
            found = (await transaction.execute(select(delivery.c.state))).scalar_one()
        allowed = target in DELIVERY_TRANSITIONS[source]
        assert changed.rowcount == allowed, f"{source} -> {target}"
        assert found == (target if allowed else source)


def test_a_change_that_the_table_does_not_know_is_a_defect() -> None:
    with pytest.raises(AssertionError):
        change(DeliveryState.DISPATCHED, DeliveryState.ACCEPTED)


async def test_a_state_that_does_not_exist_is_refused_by_the_schema(database: Database) -> None:
    await queued(database, 1)
    with pytest.raises(DBAPIError, match=r"(?i)check"):
        async with database.write(EVERY_ORGANIZATION) as transaction:
            await transaction.execute(update(delivery).values(state="lost"))


async def test_many_reports_in_one_transaction(database: Database) -> None:
    ids = await queued(database, 5)
    settled = [Settled(id_, FinalState.SUCCEEDED, "delivered", 1, "[]", 7) for id_ in ids[:3]]
    settled += [Settled(id_, FinalState.FAILED, "too_old", 9, "[]", 8) for id_ in ids[3:]]
    late = [Settled(ids[0], FinalState.FAILED, "late", 9, "[]", 9), settled[0]]
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await deliveries.settle(transaction, PEER, "i", settled)
        await deliveries.settle(transaction, PEER, "i", late)
        standings = await deliveries.standings(transaction, PEER, ids)
    assert [standings[id_].state for id_ in ids] == ["succeeded"] * 3 + ["failed"] * 2


async def test_more_ids_than_one_statement_takes(database: Database) -> None:
    ids = await queued(database, 4)
    many = [*ids[:2], *(str(uuid4()) for _ in range(7 * CHUNK)), *ids[2:]]
    async with database.write(EVERY_ORGANIZATION) as transaction:
        if transaction.dialect.name == "sqlite":
            connection = (await transaction.get_raw_connection()).driver_connection
            assert connection is not None
            connection._conn.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, CHUNK + 100)
        assert set(await deliveries.standings(transaction, PEER, many)) == set(ids)
        await deliveries.accept(transaction, PEER, "i", many, 1)
        assert set(await deliveries.had_by(transaction, PEER, "i")) == set(ids)
        assert set(await deliveries.had_in_vain(transaction, PEER, "other", many)) == set(ids)
        assert await deliveries.hosts_of(transaction, PEER, many) == dict.fromkeys(ids, "x:80")
        await deliveries.requeue_accepted(transaction, PEER, "i", many)
        await queue.dispatch(transaction, PEER, "i", ids, 1)
        await deliveries.requeue_dispatched(transaction, PEER, "i", many)
        await queue.dispatch(transaction, PEER, "i", ids, 1)
        assert set(await deliveries.blame(transaction, PEER, many, 1, 1)) == set(ids)


async def test_another_organization_sees_and_changes_nothing(database: Database) -> None:
    ids = await queued(database, 1)
    stranger = Peer("other", "p", "k", 0)
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await deliveries.accept(transaction, stranger, "i", ids, 1)
        assert await deliveries.standings(transaction, stranger, ids) == {}
        assert await delivery_log.page(transaction, administrator_of("other"), ALL) == ([], 0)
        assert await delivery_log.find(transaction, administrator_of("other"), ids[0]) is None
        found = await delivery_log.find(transaction, administrator_of("o"), ids[0])
        assert found is not None
        assert found.state == "queued"


async def test_no_update_is_lost(database: Database) -> None:
    """SQLite's driver loses most of them by default: it begins a transaction only when it writes."""
    mine = organization.c.id == "o"

    async def increment() -> None:
        async with database.write(EVERY_ORGANIZATION) as transaction:
            value = (await transaction.execute(select(organization.c.created_at).where(mine))).scalar_one()
            await transaction.execute(update(organization).where(mine).values(created_at=value + 1))

    await asyncio.gather(*(increment() for _ in range(50)))
    async with database.read(EVERY_ORGANIZATION) as transaction:
        assert (await transaction.execute(select(organization.c.created_at).where(mine))).scalar_one() == 50


async def test_what_fails_is_rolled_back(database: Database) -> None:
    async def fail() -> None:
        async with database.write(EVERY_ORGANIZATION) as transaction:
            await accounts.add_organization(transaction, "o2", "second", 0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with database.read(EVERY_ORGANIZATION) as transaction:
        assert await accounts.organization_named(transaction, "second") is None


async def test_a_cancelled_transaction_frees_the_writer(database: Database) -> None:
    started = asyncio.Event()

    async def hang() -> None:
        async with database.write(EVERY_ORGANIZATION) as transaction:
            await accounts.add_organization(transaction, "o2", "second", 0)
            started.set()
            await asyncio.Event().wait()

    hanging = asyncio.create_task(hang())
    await started.wait()
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await accounts.add_organization(transaction, "o3", "second", 0)


async def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises(DatabaseError, match=r"read-?only"):
        async with database.read(EVERY_ORGANIZATION) as transaction:
            await transaction.execute(insert(organization).values(id="x", name="x", created_at=0))


async def test_commits_are_durable(database: Database) -> None:
    async with database.write(EVERY_ORGANIZATION) as transaction:
        if transaction.dialect.name == "sqlite":
            asked = {"PRAGMA synchronous": 2, "PRAGMA journal_mode": "wal", "PRAGMA foreign_keys": 1}
        else:
            asked = {"SHOW synchronous_commit": "on"}
        for statement, value in asked.items():
            assert (await transaction.execute(text(statement))).scalar() == value


async def test_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    absent = Store(url=f"sqlite:///{tmp_path}/absent.db")
    with pytest.raises(DatabaseError, match="control-plane init"):
        async with open_database(absent):
            pass
    with closing(sqlite3.connect(tmp_path / "empty.db")) as connection:
        connection.execute("CREATE TABLE t (x)")
    with pytest.raises(DatabaseError, match="control-plane migrate"):
        async with open_database(Store(url=f"sqlite:///{tmp_path}/empty.db")):
            pass
    (tmp_path / "noise.db").write_bytes(b"noise" * 1000)
    noise = Store(url=f"sqlite:///{tmp_path}/noise.db")
    with pytest.raises(DatabaseError, match="not a database"):
        async with open_database(noise):
            pass
    with pytest.raises(DatabaseError, match="not a database"):
        migrate(noise)
