"""What is queued, by host: found without looking at all of it, on each database."""

import re
from uuid import uuid4

import pytest
from sqlalchemy import and_, bindparam, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import EVERY_ORGANIZATION, Peer
from presence.controlplane.settings import Store
from presence.controlplane.store import deliveries, queue, sweep
from presence.controlplane.store.chunks import CHUNK
from presence.controlplane.store.engine import Database
from presence.controlplane.store.tables import OWNED, WAITING, delivery
from presence.domain.delivery import DeliveryState
from tests.integration.controlplane.conftest import name_of
from tests.integration.controlplane.databases import ON_POSTGRESQL, ON_SQLITE
from tests.integration.controlplane.store.rows import PEER, new_delivery, queued
from tests.support.matching import plan

OTHERS = (Peer("other", "p", "k", 0), Peer("o", "other", "k", 0))
"""Of another organization, of another presence."""
of_one_instance = and_(
    delivery.c.organization_id == bindparam("organization_id"),
    delivery.c.presence_id == bindparam("presence_id"),
    delivery.c.instance_id == bindparam("instance_id"),
)


async def test_hosts_with_something_queued_are_found_in_order(database: Database) -> None:
    for host in ("b:80", "a:80", "c:443"):
        await queued(database, 3, host=host)
    (only,) = await queued(database, 1, host="gone:80")
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await deliveries.accept(transaction, PEER, "i", [only], 1)
        assert await queue.hosts(transaction, PEER) == ["a:80", "b:80", "c:443"]
        assert [await queue.hosts(transaction, other) for other in OTHERS] == [[], []]


async def test_the_oldest_of_a_host_come_first(database: Database) -> None:
    late = await queued(database, 2, created_at=5)
    early = await queued(database, 2, created_at=3)
    await queued(database, 2, host="other:80")
    async with database.read(EVERY_ORGANIZATION) as transaction:
        found = await queue.oldest(transaction, PEER, "x:80", 50, 3)
        assert [row.id for row in found] == [*early, late[0]]
        assert {(row.host, row.suspect, row.paused) for row in found} == {("x:80", False, False)}
        assert await queue.oldest(transaction, PEER, "x:80", 100, 3) == [], "too old"
        assert [await queue.oldest(transaction, other, "x:80", 50, 3) for other in OTHERS] == [[], []]


async def test_suspects_are_apart(database: Database) -> None:
    plain, suspect = await queued(database, 2)
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await transaction.execute(update(delivery).where(delivery.c.id == suspect).values(protocol_closes=1))
        assert [row.id for row in await queue.oldest(transaction, PEER, "x:80", 50, 9)] == [plain]
        (found,) = await queue.suspects(transaction, PEER, 50, 9)
        assert (found.id, found.suspect) == (suspect, True)
        assert await queue.suspects(transaction, PEER, 100, 9) == []


async def test_a_stranger_dispatches_nothing(database: Database) -> None:
    ids = await queued(database, 1)
    async with database.write(EVERY_ORGANIZATION) as transaction:
        for other in OTHERS:
            await queue.dispatch(transaction, other, "i", ids, 1)
        assert (await deliveries.standings(transaction, PEER, ids))[ids[0]].state is DeliveryState.QUEUED


PLANS = [
    (queue._HOSTS, "ix_delivery_presence_id_state_host_created_at_id"),
    (queue._OLDEST, "ix_delivery_presence_id_state_host_created_at_id"),
    (queue._SUSPECTS, "ix_delivery_suspects"),
    (select(delivery.c.id).where(OWNED, of_one_instance), "ix_delivery_owned"),
    (select(delivery.c.id).where(WAITING, delivery.c.expires_at <= bindparam("now")), "ix_delivery_waiting"),
]


async def test_each_plan_uses_the_index_made_for_it(
    database: Database, store: Store, request: pytest.FixtureRequest
) -> None:
    await fill(database, 10_000)
    if store.is_postgresql:
        # As autovacuum does, which is off in the tests.
        request.getfixturevalue("cluster").execute("ANALYZE", name_of(store))
    values = {"now": 1, "limit": 10, "organization_id": "o", "presence_id": "p", "host": "x", "instance_id": "i"}
    async with database.read("o") as transaction:
        for statement, index in PLANS:
            how = await plan(transaction, statement, values)
            assert index in how, how
            assert not re.search(r"SCAN delivery(?! USING)|Seq Scan on delivery", how), how
            assert not (index.startswith("ix_delivery_presence") and re.search("TEMP B-TREE|Sort", how)), how


async def fill(database: Database, count: int) -> None:
    """A long queue of one host."""
    for start in range(0, count, 10_000):
        ids = [str(uuid4()) for _ in range(start, min(count, start + 10_000))]
        async with database.write("o") as transaction:
            await deliveries.add(transaction, "o", [new_delivery(id_, host="big:80") for id_ in ids])


@pytest.fixture
async def long_queue(database: Database, store: Store) -> set[str]:
    """Of one host; gives what is queued for ten other ones."""
    await fill(database, 10_000 if store.is_postgresql else 100_000)
    return {id_ for number in range(10) for id_ in await queued(database, 10, host=f"host-{number}:80")}


async def look(transaction: AsyncConnection, others: set[str]) -> None:
    """As dispatch does for a presence."""
    hosts = await queue.hosts(transaction, PEER)
    found = [await queue.oldest(transaction, PEER, host, 1, 10) for host in hosts]
    assert await queue.suspects(transaction, PEER, 1, 10) == []
    assert await sweep.presences_with_due(transaction, ["p"], 1) == set()
    assert hosts == ["big:80", *(f"host-{number}:80" for number in range(10))]
    assert [len(rows) for rows in found] == [10] * 11
    assert {row.id for rows in found[1:] for row in rows} == others


@ON_SQLITE
async def test_a_long_queue_of_one_host_costs_the_others_nothing(database: Database, long_queue: set[str]) -> None:
    """Counted in steps of SQLite's machine."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 100
        return 0

    async with database.write(EVERY_ORGANIZATION) as transaction:
        await transaction.execute(text("SELECT 1"))
        connection = (await transaction.get_raw_connection()).driver_connection
        assert connection is not None
        connection._conn.set_progress_handler(count, 100)
        await look(transaction, long_queue)
        connection._conn.set_progress_handler(None, 0)
    assert steps < 20_000


@ON_POSTGRESQL
async def test_a_long_queue_costs_the_others_nothing_before_there_are_statistics(
    database: Database, long_queue: set[str]
) -> None:
    """Counted in rows that PostgreSQL looks at."""
    looked_at = text("SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'delivery'")
    async with database.read(EVERY_ORGANIZATION) as transaction:
        await look(transaction, long_queue)
        assert (await transaction.execute(looked_at)).scalar_one() < 500


async def test_more_presences_than_one_statement_takes(database: Database) -> None:
    await queued(database, 1)
    many = [str(number) for number in range(3 * CHUNK)]
    async with database.write(EVERY_ORGANIZATION) as transaction:
        assert await sweep.presences_with_due(transaction, many, 1) == set()
        assert await sweep.owners(transaction, many) == []
        assert await sweep.dispatched(transaction, many) == []
