"""What the supervisor is told: signs of life as long as every stage makes progress, the link's state, reloads."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.support.control_plane import ScriptedControlPlane
from tests.support.processes import Program, agent_env
from tests.support.supervisor import Supervisor
from tests.support.system import output
from tests.support.tracing import stopped, threads

FED = "WATCHDOG=1"


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    # Not below tmp_path: a socket's path may have 107 characters at most.
    with tempfile.TemporaryDirectory() as directory:
        supervisor = Supervisor(Path(directory))
        yield supervisor
        supervisor.close()


def watched(supervisor: Supervisor, env: dict[str, str], seconds: float = 1.0) -> dict[str, str]:
    return env | {"NOTIFY_SOCKET": supervisor.address, "WATCHDOG_USEC": str(int(seconds * 1_000_000))}


async def test_a_thread_that_hangs_stops_the_feeding_and_one_that_goes_on_resumes_it(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    async with ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path, PRESENCE_HEALTH__LISTEN='["127.0.0.1:0"]')
        async with Program("run", env=watched(supervisor, env)) as agent:
            place = (await agent.said("started"))["health"][0]
            await supervisor.told(FED, times=3)
            try:
                with stopped(threads(agent.pid)):
                    # What was on its way when the thread stopped has arrived before the page's answer.
                    async with aiohttp.ClientSession() as http, http.get(f"http://{place}/livez") as response:
                        assert response.status == 503
                        assert (await response.json())["faults"] == ["the journal's thread has not answered for 10 s"]
                    fed = supervisor.count(FED)
                    async with aiohttp.ClientSession() as http, http.get(f"http://{place}/livez") as response:
                        assert response.status == 503
                    assert supervisor.count(FED) == fed
            except PermissionError:
                pytest.skip("threads cannot be traced here")
            await supervisor.told(FED, times=fed + 2)
            assert await agent.stop() == 0


async def test_nothing_is_fed_on_behalf_of_another_process(tmp_path: Path, supervisor: Supervisor) -> None:
    async with ScriptedControlPlane() as cloud:
        env = watched(supervisor, agent_env(cloud.url, cloud.key, tmp_path)) | {"WATCHDOG_PID": str(os.getpid())}
        async with Program("run", env=env) as agent:
            await supervisor.told("READY=1")
            await cloud.ready()
            assert await agent.stop() == 0
        assert not supervisor.has_been_told(FED)


async def test_it_is_fed_without_a_connection_and_while_draining(tmp_path: Path, supervisor: Supervisor) -> None:
    async with ScriptedControlPlane() as cloud:
        await cloud.stop()
        async with Program("run", env=watched(supervisor, agent_env(cloud.url, cloud.key, tmp_path), 0.2)) as agent:
            await agent.said("link", state="offline")
            await supervisor.told(FED, times=supervisor.count(FED) + 3)
            assert await agent.stop() == 0
            assert supervisor.has_been_told("STOPPING=1")
            assert supervisor.has_been_told("EXTEND_TIMEOUT_USEC=30000000")
        await cloud.start()


async def test_the_supervisor_is_told_the_links_state_and_its_cause_and_of_a_pause(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    async with ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path)
        async with Program("run", env=watched(supervisor, env)) as agent:
            await supervisor.told("STATUS=online")
            await output("pause", env=env)
            await supervisor.told("STATUS=online, paused")
            await cloud.stop()
            await agent.said("link", state="offline")
            supervisor.count("")
            assert any(line.startswith("STATUS=offline: ") and line.endswith(", paused") for line in supervisor.lines)
            await cloud.start()


async def test_a_reload_is_announced_and_ended(tmp_path: Path, supervisor: Supervisor) -> None:
    async with (
        ScriptedControlPlane() as cloud,
        Program("run", env=watched(supervisor, agent_env(cloud.url, cloud.key, tmp_path))) as agent,
    ):
        await supervisor.told("READY=1")
        agent.signal(signal.SIGHUP)
        await supervisor.told("RELOADING=1")
        await supervisor.told("READY=1", times=2)
        name, _, value = supervisor.lines[supervisor.lines.index("RELOADING=1") + 1].partition("=")
        assert name == "MONOTONIC_USEC"
        assert int(value) > 0
        assert supervisor.count("RELOADING=1") == 1
