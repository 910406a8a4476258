"""The running daemon, asked over its control socket and its health port; and by the commands that do so."""

import asyncio
import json
import os
import re
import socket
import stat
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from presence.agent.health import MOST_CONNECTIONS
from presence.domain.delivery import FinalState
from presence.protocol.messages import Held
from tests.support.control_plane import ScriptedControlPlane, fire
from tests.support.processes import Program, agent_env
from tests.support.system import output, run
from tests.support.target import Target, silence, status

HEALTH = {"PRESENCE_HEALTH__LISTEN": '["127.0.0.1:0"]'}


async def page(agent: Program, path: str) -> tuple[int, Any]:
    """What the first health port answers."""
    place = (await agent.said("started"))["health"][0]
    async with aiohttp.ClientSession() as http, http.get(f"http://{place}{path}") as response:
        return response.status, await response.json()


def sockets(directory: Path) -> dict[str, str]:
    """The modes of what has to do with the control socket, by name."""
    return {path.name: stat.filemode(path.stat().st_mode) for path in directory.glob("control.sock*")}


@asynccontextmanager
async def asked(env: dict[str, str]) -> AsyncIterator[Any]:
    """A client of the control socket."""
    connector = aiohttp.UnixConnector(env["PRESENCE_CONTROL__SOCKET"])
    async with aiohttp.ClientSession("http://agent", connector=connector) as http:
        yield http


async def test_a_connected_agent_is_live_and_ready_and_tells_its_state(tmp_path: Path) -> None:
    async with Target() as target, ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path, **HEALTH)
        async with Program("run", env=env) as agent:
            await cloud.ready()
            (delivery,) = await cloud.fire(target.url())
            await cloud.reported(delivery)
            await cloud.canary("n-1")
            await agent.said("reported", delivery=delivery)
            assert await page(agent, "/livez") == (200, {"ok": True, "faults": []})
            assert await page(agent, "/readyz") == (200, {"ok": True, "faults": []})
            code, document = await page(agent, "/status")
            assert code == 200
            assert document["live"]
            assert document["ready"]
            assert document["faults"] == []
            assert document["pid"] == agent.pid
            assert document["instance"] == (await agent.said("started"))["instance"]
            assert document["link"]["state"] == "online"
            assert document["link"]["canary_ago_s"] >= 0
            assert abs(document["link"]["clock_offset_s"]) < 5
            assert document["journal"]["path"] == str(tmp_path / "journal.db")
            assert document["journal"]["writable"] is True
            assert document["journal"]["size_bytes"] > 0
            assert (document["journal"]["pending"], document["journal"]["unreported"]) == (0, 0)
            assert document["deliveries"]["last_success"]["target"] == f"http://127.0.0.1:{target.port}"
            assert document["paused"] is None
            assert document["log"] == {"dropped": 0}
            assert cloud.key not in json.dumps(document)
            code, out, _ = await run("status", "--json", env=env)
            shown = json.loads(out)
            assert (code, shown.keys()) == (0, document.keys())
            assert {name: shown["link"][name] for name in ("state", "url")} == {
                "state": "online",
                "url": f"{cloud.url}/agent/v1",
            }
            code, out, _ = await run("status", env=env)
            assert code == 0
            assert "ready" in out
            assert "\x1b" not in out
            assert str(tmp_path / "journal.db") in out
            assert await run("healthcheck", "--ready", env=env) == (0, "ready\n", "")


async def test_a_disconnected_agent_is_live_but_not_ready(tmp_path: Path) -> None:
    async with ScriptedControlPlane() as cloud:
        await cloud.stop()
        env = agent_env(cloud.url, cloud.key, tmp_path, **HEALTH)
        async with Program("run", env=env) as agent:
            await agent.said("link", state="offline")
            assert (await page(agent, "/livez"))[0] == 200
            code, verdict = await page(agent, "/readyz")
            assert code == 503
            assert verdict["faults"][0].startswith(("not connected: offline: tcp", "not connected: connecting: tcp"))
            assert await run("healthcheck", env=env) == (0, "healthy\n", "")
            code, out, err = await run("healthcheck", "--ready", env=env)
            assert (code, out) == (1, "")
            assert err.startswith("presence: error: not ready: not connected")
            assert len(err.splitlines()) == 1
            code, out, _ = await run("status", env=env)
            assert code == 1
            assert "not ready" in out
            assert "tcp" in out
        await cloud.start()


async def test_a_webhook_never_reaches_the_agents_own_port_even_where_loopback_is_open(tmp_path: Path) -> None:
    async with Target() as target, ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path, PRESENCE_HEALTH__LISTEN='["127.0.0.1:0", "0.0.0.0:0"]')
        async with Program("run", env=env) as agent:
            places = (await agent.said("started"))["health"]
            ports = [place.rpartition(":")[2] for place in places]
            uris = [f"http://127.0.0.1:{ports[0]}/status", f"http://127.0.0.2:{ports[1]}/livez"]
            own = await cloud.fire_all([fire(uri) for uri in uris])
            (other,) = await cloud.fire(target.url())
            reports = await cloud.reported(*own, other)
            assert [report.reason for report in reports] == ["denied_own_listener"] * 2 + ["delivered"]


async def test_who_opens_very_many_connections_takes_nothing_from_the_deliveries(tmp_path: Path) -> None:
    async with Target() as target, ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path, **HEALTH)
        async with Program("run", env=env) as agent:
            host, _, port = (await agent.said("started"))["health"][0].rpartition(":")
            opened = [await asyncio.open_connection(host, int(port)) for _ in range(MOST_CONNECTIONS)]
            try:
                reader, writer = await asyncio.open_connection(host, int(port))
                async with asyncio.timeout(5):
                    assert await reader.read() == b""
                writer.close()
                assert await run("healthcheck", env=env) == (0, "healthy\n", "")
                (delivery,) = await cloud.fire(target.url())
                await cloud.reported(delivery)
            finally:
                for _, writer in opened:
                    writer.close()
            assert await agent.stop() == 0


async def test_a_taken_port_may_become_free_so_the_supervisor_tries_again(tmp_path: Path) -> None:
    """Code 78 would keep systemd from starting it again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        env = agent_env("ws://127.0.0.1:1", "k" * 20, tmp_path, PRESENCE_HEALTH__LISTEN=json.dumps([place]))
        async with Program("run", env=env) as agent:
            assert await agent.exited() == 1
        (line,) = [line for line in agent.lines if "another program listens there" in line["event"]]
        assert line["event"].startswith(f"presence: error: health.listen: {place}: ")
    async with Program("run", env=env) as agent:
        assert (await agent.said("started"))["health"] == [place]


async def test_the_socket_is_for_its_owner_alone_and_goes_with_the_agent(tmp_path: Path) -> None:
    env = agent_env("ws://127.0.0.1:1", "k" * 20, tmp_path)
    async with Program("run", env=env) as agent:
        await agent.said("started")
        assert sockets(tmp_path) == {"control.sock": "srw-------"}
        assert await agent.stop() == 0
    assert sockets(tmp_path) == {}


async def test_a_stale_socket_is_replaced_and_a_second_agent_refused(tmp_path: Path) -> None:
    env = agent_env("ws://127.0.0.1:1", "k" * 20, tmp_path)
    async with Program("run", env=env) as agent:
        await agent.said("started")
        await agent.kill()
    assert sockets(tmp_path) == {"control.sock": "srw-------"}
    code, out, err = await run("healthcheck", env=env)
    assert (code, out) == (1, "")
    assert "no agent is running here" in err
    async with Program("run", env=env) as agent:
        await agent.said("started")
        other = env | {"PRESENCE_JOURNAL__PATH": str(tmp_path / "other.db")}
        async with Program("run", env=other) as second:
            assert await second.exited() == 1
        assert "another presence agent is running and answers there" in second.text()
        assert (await run("healthcheck", env=env))[0] == 0


async def test_a_socket_with_a_long_path_works(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    env = agent_env("ws://127.0.0.1:1", "k" * 20, tmp_path, PRESENCE_CONTROL__SOCKET=str(directory / "control.sock"))
    async with Program("run", env=env) as agent:
        await agent.said("started")
        assert await run("healthcheck", env=env) == (0, "healthy\n", "")


ASK_AS_ANOTHER = """
import os, socket, sys
os.setuid(12345)
with socket.socket(socket.AF_UNIX) as asking:
    asking.connect(sys.argv[1])
    asking.sendall(b"GET /status HTTP/1.0\\r\\n\\r\\n")
    print(asking.makefile().read())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask as somebody else")
async def test_another_user_is_refused_by_the_kernels_word(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        path = Path(name) / "control.sock"
        env = agent_env("ws://127.0.0.1:1", "k" * 20, tmp_path, PRESENCE_CONTROL__SOCKET=str(path))
        async with Program("run", env=env) as agent:
            await agent.said("started")
            path.chmod(0o666)
            asking = await asyncio.create_subprocess_exec(
                sys.executable, "-c", ASK_AS_ANOTHER, path, stdout=asyncio.subprocess.PIPE
            )
            out, _ = await asking.communicate()
            assert b" 403 " in out
            assert b"only the agent's own user and root" in out
            await agent.said("control refused", uid=12345)


async def test_a_held_delivery_is_listed_shown_and_released(tmp_path: Path) -> None:
    async with Target(silence) as target, ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path)
        async with Program("run", env=env) as agent:
            held = fire(f"{target.url()}?token=canary-secret", on_unknown="hold", authorization="Bearer canary-secret")
            await cloud.fire_all([held])
            await target.received(1)
            await agent.kill()
        code, out, err = await run("deliveries", "list", "--state", "delivering", "--json", env=env)
        assert code == 0
        assert [entry["id"] for entry in json.loads(out)["deliveries"]] == [held.id]
        assert "no agent is running here" in err
        target.answer = status(204)
        async with Program("run", env=env) as agent:
            await cloud.until(lambda: any(isinstance(said, Held) for said in cloud.heard))
            code, out, _ = await run("deliveries", "list", env=env)
            assert code == 0
            head, row = out.splitlines()
            assert head.split()[:3] == ["ID", "STATE", "REASON"]
            assert row.split()[:4] == [held.id, "held", "unknown", "1"]
            code, out, _ = await run("deliveries", "show", held.id, "--json", env=env)
            shown = json.loads(out)
            assert (shown["state"], shown["has_authorization"]) == ("held", True)
            assert [attempt["fault"] for attempt in shown["log"]] == ["interrupted"]
            assert "canary-secret" not in out
            out = await output("deliveries", "show", held.id, env=env)
            assert re.search(r"^age +\d.*? s$", out, re.MULTILINE)
            assert re.search(r"^attempt 1 +.* s ago: took \d+ ms,.* fault interrupted, .*unknown", out, re.MULTILINE)
            await output("pause", env=env)
            assert await run("deliveries", "release", held.id, env=env) == (0, f"{held.id} is pending again\n", "")
            requests = len(target.requests)
            assert "pending" in await output("deliveries", "show", held.id, env=env)
            assert len(target.requests) == requests
            await output("resume", env=env)
            (report,) = await cloud.reported(held.id)
            assert (report.state, report.attempts) == (FinalState.SUCCEEDED, 2)
            code, out, err = await run("deliveries", "release", held.id, env=env)
            assert (code, out) == (1, "")
            assert f"delivery {held.id} is not held: it is succeeded" in err
            code, _, err = await run("deliveries", "show", "nothing", env=env)
            assert code == 1
            assert "the journal has no delivery nothing" in err


async def test_commands_without_an_agent_say_so_in_one_line(tmp_path: Path) -> None:
    env = agent_env("ws://127.0.0.1:1", "k" * 20, tmp_path)
    for command in ("status", "healthcheck", "pause", "resume", "deliveries list", "deliveries release x"):
        code, out, err = await run(*command.split(), env=env)
        assert (code, out, len(err.splitlines())) == (1, "", 1), command
        assert "no agent is running here" in err


@pytest.mark.parametrize("length", ["0s", "9999999999d", "0.0h", "2w"])
async def test_a_pause_that_cannot_be_is_refused_before_anybody_is_asked(tmp_path: Path, length: str) -> None:
    code, out, err = await run("pause", "--for", length, env=agent_env("ws://127.0.0.1:1", "k" * 20, tmp_path))
    assert (code, out) == (2, "")
    said = "'2w' is no duration" if length == "2w" else "a pause lasts more than 0 s and at most 366 days"
    assert f"Invalid value for --for: {said}" in err


async def test_commands_that_are_given_a_file_that_is_not_there_ask_no_other_agent(tmp_path: Path) -> None:
    env = agent_env("ws://127.0.0.1:1", "k" * 20, tmp_path)
    missing = tmp_path / "missing.toml"
    async with Program("run", env=env) as agent:
        await agent.said("started")
        for command in ("status", "healthcheck", "pause", "resume", "deliveries list", "deliveries release x"):
            code, out, err = await run(*command.split(), "--config", str(missing), env=env)
            assert (code, out, len(err.splitlines())) == (78, "", 1), command
            assert err.startswith(f"presence: configuration error: {missing}: there is no such file"), command
        assert (await run("healthcheck", env=env | {"PRESENCE_CONFIG": str(missing)}))[0] == 78
        code, _, err = await run("healthcheck", env=env | {"presence_log__level": "debug"})
        assert (code, "write PRESENCE_LOG__LEVEL" in err) == (78, True)
        code, out, _ = await run("doctor", "--json", "--config", str(missing), env=env)
        checks = [check["check"] for check in json.loads(out)["checks"]]
        assert (code, checks.count("agent")) == (1, 1)


@pytest.mark.parametrize("body", ["nothing", "[]", '{"seconds": 0}', '{"seconds": "2h"}', '{"seconds": true}'])
async def test_nonsense_over_the_socket_is_refused_in_words(tmp_path: Path, body: str) -> None:
    env = agent_env("ws://127.0.0.1:1", "k" * 20, tmp_path)
    async with Program("run", env=env) as agent, asked(env) as http:
        await agent.said("started")
        async with http.post("/pause", data=body) as response:
            assert response.status == 400
            assert (await response.json())["error"]
        async with http.get("/deliveries?most=-1") as response:
            assert response.status == 400
        assert not any(line["event"] == "paused" for line in agent.lines)
