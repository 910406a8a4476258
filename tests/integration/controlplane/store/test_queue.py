"""What is queued, by host: found without looking at all of it, on a real SQLite file."""

from uuid import uuid4

import pytest
from sqlalchemy import Select, insert, text, update

from presence.controlplane.access import EVERY_ORGANIZATION, Peer
from presence.controlplane.store import deliveries, queue, sweep
from presence.controlplane.store.chunks import CHUNK
from presence.controlplane.store.engine import Database
from presence.controlplane.store.queue import _HOSTS, _OLDEST, _SUSPECTS
from presence.controlplane.store.tables import OWNED, delivery
from presence.domain.delivery import DeliveryState
from tests.integration.controlplane.store.rows import PEER, queued

MANY = 100_000


async def test_hosts_with_something_queued_are_found_in_order(database: Database) -> None:
    for host in ("b:80", "a:80", "c:443"):
        await queued(database, 3, host=host)
    (only,) = await queued(database, 1, host="gone:80")
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await deliveries.accept(transaction, PEER, "i", [only], 1)
        assert await queue.hosts(transaction, "p") == ["a:80", "b:80", "c:443"]
        assert await queue.hosts(transaction, "other") == []


async def test_the_oldest_of_a_host_come_first(database: Database) -> None:
    late = await queued(database, 2, created_at=5)
    early = await queued(database, 2, created_at=3)
    await queued(database, 2, host="other:80")
    async with database.read(EVERY_ORGANIZATION) as transaction:
        found = await queue.oldest(transaction, "p", "x:80", 50, 3)
        assert [row.id for row in found] == [*early, late[0]]
        assert {(row.host, row.suspect, row.paused) for row in found} == {("x:80", False, False)}
        assert await queue.oldest(transaction, "p", "x:80", 100, 3) == [], "too old"
        assert await queue.oldest(transaction, "other", "x:80", 50, 3) == []


async def test_suspects_are_apart(database: Database) -> None:
    plain, suspect = await queued(database, 2)
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await transaction.execute(update(delivery).where(delivery.c.id == suspect).values(protocol_closes=1))
        assert [row.id for row in await queue.oldest(transaction, "p", "x:80", 50, 9)] == [plain]
        (found,) = await queue.suspects(transaction, "p", 50, 9)
        assert (found.id, found.suspect) == (suspect, True)
        assert await queue.suspects(transaction, "p", 100, 9) == []


async def test_a_stranger_dispatches_nothing(database: Database) -> None:
    ids = await queued(database, 1)
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await queue.dispatch(transaction, Peer("other", "p", "k", 0), "i", ids, 1)
        await queue.dispatch(transaction, Peer("o", "other", "k", 0), "i", ids, 1)
        assert (await deliveries.standings(transaction, PEER, ids))[ids[0]].state is DeliveryState.QUEUED


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (_HOSTS, "ix_delivery_presence_id_state_host_created_at_id"),
        (_OLDEST, "ix_delivery_presence_id_state_host_created_at_id"),
        (_SUSPECTS, "ix_delivery_suspects"),
    ],
)
async def test_the_plan_uses_the_index_made_for_it(database: Database, statement: Select, index: str) -> None:  # type: ignore[type-arg]
    async with database.read(EVERY_ORGANIZATION) as transaction:
        compiled = statement.compile(transaction.sync_connection)
        names = compiled.positiontup or []
        values = tuple({"now": 1, "limit": 10, "presence_id": "p", "host": "x"}.get(name, "queued") for name in names)
        plan = (await transaction.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", values)).fetchall()
    steps = [row[-1] for row in plan if "delivery" in row[-1]]
    assert steps
    assert all(index in step and "SCAN" not in step for step in steps), steps
    assert not any("TEMP B-TREE" in row[-1] for row in plan if index.startswith("ix_delivery_presence"))


async def test_a_long_queue_of_one_host_costs_the_others_nothing(database: Database) -> None:
    """Counted in rows that SQLite looks at, by a limit on the steps of its machine."""
    row = {
        "organization_id": "o", "webhook_id": "w", "presence_id": "p", "event_id": "e", "subject": "x",
        "event_type": "ScanExecutionCompleted", "uri": "http://x/", "method": "GET", "on_unknown": "fire",
        "state": "queued", "created_at": 0, "expires_at": 100,
    }  # fmt: skip
    for _ in range(MANY // 10_000):
        async with database.write(EVERY_ORGANIZATION) as transaction:
            rows = [{**row, "id": str(uuid4()), "host": "big:80"} for _ in range(10_000)]
            await transaction.execute(insert(delivery), rows)
    others = [await queued(database, 10, host=f"host-{number}:80") for number in range(10)]
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
        hosts = await queue.hosts(transaction, "p")
        found = [await queue.oldest(transaction, "p", host, 1, 10) for host in hosts]
        assert await queue.suspects(transaction, "p", 1, 10) == []
        assert await sweep.presences_with_due(transaction, ["p"], 1) == set()
        connection._conn.set_progress_handler(None, 0)
    assert hosts == ["big:80", *(f"host-{number}:80" for number in range(10))]
    assert [len(rows) for rows in found] == [10] * 11
    assert {row.id for rows in found[1:] for row in rows} == {id_ for ids in others for id_ in ids}
    assert steps < 20_000


async def test_more_presences_than_one_statement_takes(database: Database) -> None:
    await queued(database, 1)
    many = [str(number) for number in range(3 * CHUNK)]
    async with database.write(EVERY_ORGANIZATION) as transaction:
        assert await sweep.presences_with_due(transaction, many, 1) == set()
        assert await sweep.owners(transaction, many) == []
        assert await sweep.dispatched(transaction, many) == []


async def test_what_an_instance_owns_is_found_by_its_index(database: Database) -> None:
    async with database.read(EVERY_ORGANIZATION) as transaction:
        query = str(OWNED.compile(transaction.sync_connection))
        plan = await transaction.exec_driver_sql(
            f"EXPLAIN QUERY PLAN SELECT id FROM delivery WHERE {query} AND presence_id = ? AND instance_id = ?",
            ("p", "i"),
        )
        assert "ix_delivery_owned" in plan.fetchall()[0][-1]
