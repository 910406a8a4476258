"""PostgreSQL goes away and comes back, or refuses: what the control plane makes of it."""

import asyncio
from pathlib import Path

import aiohttp
import pytest
import uvloop
from sqlalchemy import Update, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from presence.controlplane.access import EVERY_ORGANIZATION
from presence.controlplane.app import InitResult
from presence.controlplane.settings import DATABASE_PASSWORD, ControlPlaneSettings, Store
from presence.controlplane.store.engine import Database, open_database
from presence.controlplane.store.migrations import migrate
from presence.controlplane.store.tables import organization
from presence.errors import DatabaseError, DatabaseUnavailable
from tests.integration.controlplane.conftest import name_of
from tests.integration.controlplane.databases import ON_POSTGRESQL
from tests.integration.controlplane.peers import Caller, environment
from tests.support.postgres import PASSWORD, Postgres
from tests.support.processes import Program

pytestmark = ON_POSTGRESQL
LOCKING = "pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')"


def cut(cluster: Postgres, store: Store, which: str = "true") -> None:
    """Ends connections to the database."""
    ended = cluster.execute(
        f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name_of(store)}' AND {which}"
    )
    assert set(ended.split()) == {"t"}


async def names(database: Database) -> set[str]:
    async with database.read(EVERY_ORGANIZATION) as transaction:
        return set((await transaction.execute(select(organization.c.name))).scalars())


async def add(database: Database, name: str) -> None:
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await transaction.execute(insert(organization).values(id=name, name=name, created_at=0))


async def test_connections_that_were_cut_while_idle_are_replaced(
    database: Database, settings: ControlPlaneSettings, cluster: Postgres
) -> None:
    for name in ("first", "second"):
        await asyncio.gather(*(names(database) for _ in range(4)))
        await asyncio.to_thread(cut, cluster, settings.database)
        await add(database, name)
    assert await names(database) == {"acme", "first", "second"}


async def test_a_transaction_whose_connection_is_cut_leaves_nothing_behind(
    database: Database, settings: ControlPlaneSettings, cluster: Postgres
) -> None:
    async def write(*afterwards: Update) -> None:
        async with database.write(EVERY_ORGANIZATION) as transaction:
            await transaction.execute(insert(organization).values(id="x", name="half", created_at=0))
            await asyncio.to_thread(cut, cluster, settings.database)
            for statement in afterwards:
                await transaction.execute(statement)

    async def read() -> None:
        async with database.read(EVERY_ORGANIZATION) as transaction:
            await asyncio.to_thread(cut, cluster, settings.database)
            await transaction.execute(select(organization.c.name))

    for attempt in (write(), write(update(organization).values(created_at=7)), read()):
        with pytest.raises(DatabaseUnavailable):
            await attempt
    await add(database, "whole")
    assert await names(database) == {"acme", "whole"}


async def test_a_failed_statement_is_never_committed_by_silence(database: Database) -> None:
    async def go_on() -> None:
        async with database.write(EVERY_ORGANIZATION) as transaction:
            await transaction.execute(insert(organization).values(id="x", name="x", created_at=0))
            with pytest.raises(IntegrityError):
                await transaction.execute(insert(organization).values(id="x", name="y", created_at=0))

    with pytest.raises(DBAPIError, match="nothing was committed"):
        await go_on()
    await add(database, "x")


async def test_a_server_that_was_killed_and_started_again(database: Database, cluster: Postgres) -> None:
    await add(database, "before")
    await asyncio.to_thread(cluster.kill)
    try:
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable):
                await add(database, "meanwhile")
            with pytest.raises(DatabaseUnavailable):
                await names(database)
    finally:
        cluster.start()
    await add(database, "after")
    assert await names(database) == {"acme", "before", "after"}


async def test_who_loses_the_right_to_serve_ends_and_the_next_one_serves(
    settings: ControlPlaneSettings, administrator: InitResult, cluster: Postgres, http: aiohttp.ClientSession
) -> None:
    for _ in range(2):
        async with Program("control-plane", "serve", env=environment(settings)) as program:
            caller = Caller((await program.said("listening"))["url"], http)
            await caller.log_in(administrator.key_id, administrator.key_secret)
            await asyncio.to_thread(cut, cluster, settings.database, LOCKING)
            assert await program.exited() == 1
            (line,) = [line["event"] for line in program.lines if "presence: error" in line["event"]]
            assert "the connection that holds the right to serve the database was lost" in line


async def test_connections_that_are_cut_under_a_server_keep_nobody_from_being_served(
    settings: ControlPlaneSettings, caller: Caller, cluster: Postgres
) -> None:
    presence_id, _ = await caller.presence()
    await caller.webhook(presence_id)
    await asyncio.to_thread(cut, cluster, settings.database, f"NOT {LOCKING}")
    await caller.event()
    assert [entry["State"] for entry in await caller.deliveries()] == ["queued"]


def test_a_database_on_another_host(
    settings: ControlPlaneSettings, administrator: InitResult, cluster: Postgres
) -> None:
    """Loopback stands for one: what differs is the socket."""
    name, loops = name_of(settings.database), [asyncio.new_event_loop, uvloop.new_event_loop]

    async def look() -> set[str]:
        async with open_database(Store(url=f"postgresql://presence@127.0.0.1:{cluster.port}/{name}")) as database:
            return await names(database)

    for loop in loops:
        with asyncio.Runner(loop_factory=loop) as runner:
            assert runner.run(look()) == {"acme"}


async def test_a_server_that_is_not_there(settings: ControlPlaneSettings, tmp_path: Path) -> None:
    env = {**environment(settings), "PRESENCE_CP_DATABASE__URL": f"postgresql://presence@/x?host={tmp_path}"}
    async with Program("control-plane", "serve", env=env) as program:
        # Not 78, by which systemd would not try again.
        assert await program.exited() == 1
        assert len(program.lines) == 1
        assert "cannot be reached" in program.text()


async def test_a_database_that_does_not_exist_or_has_no_tables(
    settings: ControlPlaneSettings, cluster: Postgres
) -> None:
    with pytest.raises(DatabaseError, match="does not exist"):
        async with open_database(settings.database):
            pass
    cluster.create(name_of(settings.database))
    with pytest.raises(DatabaseError, match="control-plane migrate"):
        async with open_database(settings.database):
            pass


async def test_a_password_comes_from_its_file_and_is_never_told(
    settings: ControlPlaneSettings,
    administrator: InitResult,
    cluster: Postgres,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, file = cluster.url(name_of(settings.database), "with_password"), tmp_path / "password"
    store = Store(url=url, owner_url=settings.database.owner_url, password_file=file)
    await asyncio.to_thread(migrate, store)
    with pytest.raises(DatabaseError, match=f"{file} cannot be read"):
        async with open_database(store):
            pass
    file.write_text("WRONG\n")
    with pytest.raises(DatabaseError, match="password authentication failed") as caught:
        async with open_database(store):
            pass
    assert "WRONG" not in str(caught.value)
    file.write_text(f"{PASSWORD}\n")
    async with open_database(store) as database:
        assert await names(database) == {"acme"}
        assert PASSWORD not in repr(vars(database))
    file.rename(tmp_path / DATABASE_PASSWORD)
    with monkeypatch.context() as patch:
        patch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
        async with open_database(Store(url=url)) as database:
            assert await names(database) == {"acme"}
    file.write_text(f"*:*:*:with_password:{PASSWORD}\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    async with open_database(Store(url=url)) as database:
        assert await names(database) == {"acme"}
