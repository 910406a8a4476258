"""The real process, killed without warning and started again on the same database."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from sqlalchemy import Connection, text

from presence.controlplane.app import InitResult
from presence.controlplane.settings import ControlPlaneSettings
from presence.controlplane.store.migrations import change
from presence.protocol.messages import Accepted, Attempted, Fire
from tests.integration.controlplane.databases import ON_POSTGRESQL, ON_SQLITE
from tests.integration.controlplane.peers import Agent, Caller, environment
from tests.support.processes import Program


@asynccontextmanager
async def running(
    settings: ControlPlaneSettings, administrator: InitResult, http: aiohttp.ClientSession
) -> AsyncIterator[tuple[Program, Caller]]:
    async with Program("control-plane", "serve", env=environment(settings)) as program:
        caller = Caller((await program.said("listening"))["url"], http)
        await caller.log_in(administrator.key_id, administrator.key_secret)
        yield program, caller


async def test_nothing_is_lost_by_a_kill(
    settings: ControlPlaneSettings, administrator: InitResult, http: aiohttp.ClientSession
) -> None:
    async with running(settings, administrator, http) as (program, caller):
        presence_id, key = await caller.presence()
        await caller.webhook(presence_id)
        async with Agent(caller.url, key, credit=2) as agent:
            for number in range(4):
                await caller.event(f"subject-{number}")
            accepted, dispatched = await agent.fires(2)
            await agent.say(Accepted(id=accepted.id), Attempted(ids=(accepted.id,)))
            await agent.settled()
            late = await agent.expect(Fire)
            await program.kill()
    async with running(settings, administrator, http) as (program, caller):
        states = {entry["Id"]: entry["State"] for entry in await caller.deliveries()}
        assert states.pop(accepted.id) == "accepted"
        assert set(states.values()) == {"queued"}
        async with Agent(caller.url, key, instance=agent.instance, held=[accepted.id]) as agent:
            fires = await agent.fires(3)
            assert {dispatched.id, late.id} < {fire.id for fire in fires} == set(states)
            for fire in [accepted, *fires]:
                await agent.deliver(fire)
        assert {entry["State"] for entry in await caller.deliveries()} == {"succeeded"}
        assert await program.stop() == 0


async def test_a_stalled_agent_does_not_keep_the_process_from_stopping(
    settings: ControlPlaneSettings, administrator: InitResult, http: aiohttp.ClientSession
) -> None:
    async with running(settings, administrator, http) as (program, caller):
        _, key = await caller.presence()
        async with Agent(caller.url, key) as agent:
            await agent.settled()
            agent.socket.transport.pause_reading()
            started_at = asyncio.get_running_loop().time()
            assert await program.stop() == 0
            assert asyncio.get_running_loop().time() - started_at < 10
            agent.socket.transport.abort()


@ON_SQLITE
async def test_a_second_server_on_the_same_port_says_so_in_one_line(
    settings: ControlPlaneSettings, administrator: InitResult, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    shutil.copy(settings.database.path, tmp_path / "other.db")
    async with running(settings, administrator, http) as (_, caller):
        env = {
            **environment(settings),
            "PRESENCE_CP_DATABASE__URL": f"sqlite:///{tmp_path}/other.db",
            "PRESENCE_CP_SERVER__PORT": caller.url.rpartition(":")[2],
        }
        async with Program("control-plane", "serve", env=env) as second:
            assert await second.exited() == 1  # it may pass: the supervisor tries again
            assert "cannot listen on 127.0.0.1" in second.text()
            assert len(second.lines) == 1


@ON_SQLITE
async def test_a_second_server_on_the_same_file_says_so_in_one_line(
    settings: ControlPlaneSettings, administrator: InitResult, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    (tmp_path / "alias.db").symlink_to(settings.database.path)
    for url in (settings.database.url, f"sqlite:///{tmp_path}/alias.db"):
        env = {**environment(settings), "PRESENCE_CP_DATABASE__URL": url}
        async with running(settings, administrator, http) as (first, caller):
            async with Program("control-plane", "serve", env=env) as second:
                assert await second.exited() == 78
                assert f"served by another control plane already (process {first.pid})" in second.text()
                assert "database.url" in second.text()
                assert len(second.lines) == 1
            await caller.get("Presences")
            # The one that was killed keeps nobody from serving; the next round begins at once.
            await first.kill()


@ON_POSTGRESQL
async def test_a_second_server_on_the_same_database_says_so_in_one_line(
    settings: ControlPlaneSettings, administrator: InitResult, http: aiohttp.ClientSession
) -> None:
    for _ in range(2):
        async with running(settings, administrator, http) as (first, caller):
            async with Program("control-plane", "serve", env=environment(settings)) as second:
                # Not 78, by which systemd would not try again: the first one may just be ending.
                assert await second.exited() == 1
                name = f"presence {socket.gethostname()[:30]} {first.pid}"
                assert f"served by another control plane already ({name})" in second.text()
                assert "database.url" in second.text()
                assert len(second.lines) == 1
            await caller.get("Presences")
            await first.kill()


async def test_a_database_of_a_newer_version_is_refused_in_one_line(
    settings: ControlPlaneSettings, administrator: InitResult
) -> None:
    def grow(connection: Connection) -> None:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    await asyncio.to_thread(change, settings.database, grow)
    for arguments in (("serve",), ("migrate",), ("init", "--organization", "other")):
        async with Program("control-plane", *arguments, env=environment(settings)) as program:
            assert await program.exited() == 78
            assert "is newer than this program" in program.text()
            assert "upgrade presence" in program.text()
            assert len(program.text().splitlines()) == 1
