"""The link in this process, against a scripted control plane on a real websocket."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import pytest
import websockets.asyncio.server as ws
from websockets.datastructures import Headers
from websockets.http11 import Response

from presence.agent.failures import SLOW_RETRY, Cause, Failure
from presence.agent.link import Identity, Link, LinkState
from presence.agent.settings import ControlPlane
from presence.clock import SystemClock
from presence.protocol.codec import encode
from presence.protocol.messages import Accepted, Cancel, Draining, GoAway, Hello, Holding
from tests.support.control_plane import ScriptedControlPlane


class Memory:
    """What the link asks of a journal."""

    def __init__(self, held: list[str] | None = None) -> None:
        self.epoch = 0
        self.server_times: list[int] = []
        self.ids = held or []

    async def next_epoch(self) -> int:
        self.epoch += 1
        return self.epoch

    async def meet(self, server_time: int) -> None:
        self.server_times.append(server_time)

    async def held(self) -> list[str]:
        return self.ids


class Observed(Link):
    """A link whose failures can be waited for; it pauses no longer than a moment."""

    def __init__(self, url: str, key: str, memory: Memory) -> None:
        settings = ControlPlane.model_validate({"url": url, "key": key})
        identity = Identity(str(uuid.uuid4()), memory.next_epoch, memory.meet, memory.held)
        self.went_ready = asyncio.Event()
        super().__init__(settings, identity, SystemClock(), credit=10, on_ready=self.went_ready.set)
        self.failures: asyncio.Queue[Failure] = asyncio.Queue()
        self.waits: list[float] = []

    async def _pause(self, wait: float, failure: Failure) -> None:
        self.waits.append(wait)
        self.failures.put_nowait(failure)
        await asyncio.sleep(0)


@asynccontextmanager
async def running(link: Observed) -> AsyncIterator[Observed]:
    task = asyncio.create_task(link.run())
    try:
        yield link
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def connected(cloud: ScriptedControlPlane, held: list[str] | None = None) -> AsyncIterator[Observed]:
    async with running(Observed(cloud.url, cloud.key, Memory(held))) as link:
        await cloud.ready()
        yield link


async def test_states_what_it_holds_in_pages_before_ready() -> None:
    held = [str(uuid.uuid4()) for _ in range(2500)]
    async with ScriptedControlPlane() as cloud, connected(cloud, held):
        pages = [said for said in cloud.heard if isinstance(said, Holding)]
        assert [identifier for page in pages for identifier in page.ids] == held
        assert len(pages) == 3


async def test_every_session_has_a_greater_epoch() -> None:
    async with ScriptedControlPlane() as cloud, connected(cloud) as link:
        assert cloud.connection is not None
        await cloud.connection.close()
        await link.failures.get()
        await cloud.until(lambda: sum(isinstance(said, Hello) for said in cloud.heard) == 2)
        assert [said.epoch for said in cloud.heard if isinstance(said, Hello)] == [1, 2]


async def test_an_answer_reaches_only_the_session_that_asked() -> None:
    async with ScriptedControlPlane() as cloud, connected(cloud) as link:
        (delivery,) = await cloud.fire("http://10.0.0.1/")
        link.inbox.put((await link.inbox.take(1))[0])  # it has arrived, and waits to be taken
        assert cloud.connection is not None
        link.went_ready.clear()
        await cloud.connection.close()
        await link.went_ready.wait()
        assert len(link.inbox) == 0
        assert not link.say(Accepted(id=delivery), session=1)
        assert link.say(Accepted(id=delivery), session=2)


async def test_nothing_is_said_while_offline() -> None:
    link = Observed("ws://127.0.0.1:1", "key", Memory())
    assert link.state is LinkState.OFFLINE
    assert not link.say(Accepted(id=str(uuid.uuid4())), session=0)


async def test_go_away_names_the_delay() -> None:
    async with ScriptedControlPlane() as cloud, connected(cloud) as link:
        await cloud.say(GoAway(reason="restart", delay=1500))
        failure = await link.failures.get()
        assert (failure.cause, failure.wait) == (Cause.PEER, 1.5)


def answer(status: int, **headers: str) -> Response:
    return Response(status, HTTPStatus(status).phrase, Headers(headers | {"Content-Length": "0"}), b"")


def twice(response: Response) -> Response:
    """With a second Retry-After, which a proxy may add."""
    response.headers["Retry-After"] = "5"
    return response


@pytest.mark.parametrize(
    ("response", "cause", "wait"),
    [
        (answer(401), Cause.AUTH, SLOW_RETRY),
        (answer(403), Cause.AUTH, SLOW_RETRY),
        (answer(404), Cause.UPGRADE, None),
        (answer(429, **{"Retry-After": "7"}), Cause.UPGRADE, 7.0),
        (answer(502), Cause.UPGRADE, None),
        (answer(503, **{"Retry-After": "soon"}), Cause.UPGRADE, None),
        (answer(503, **{"Retry-After": "9" * 30}), Cause.UPGRADE, None),
        (answer(503, **{"Retry-After": "86400"}), Cause.UPGRADE, SLOW_RETRY),
        (twice(answer(503, **{"Retry-After": "3"})), Cause.UPGRADE, 5.0),
        (answer(302, Location="ws://127.0.0.1:1/elsewhere"), Cause.UPGRADE, None),
    ],
    ids=lambda value: str(value.status_code) if isinstance(value, Response) else "",
)
async def test_an_http_answer_is_told_by_its_status(response: Response, cause: Cause, wait: float | None) -> None:
    async with ScriptedControlPlane() as cloud:
        cloud.refuse = lambda: response
        async with running(Observed(cloud.url, cloud.key, Memory())) as link:
            failure = await link.failures.get()
            assert (failure.cause, failure.wait) == (cause, wait)
            cloud.refuse = lambda: None
            await cloud.ready()


@pytest.mark.parametrize(
    ("code", "cause", "wait"),
    [
        (4401, Cause.AUTH, SLOW_RETRY),
        (4426, Cause.UPGRADE, SLOW_RETRY),
        (1012, Cause.PEER, None),
        (1000, Cause.PEER, None),
    ],
)
async def test_a_close_is_told_by_its_code(code: int, cause: Cause, wait: float | None) -> None:
    async with ScriptedControlPlane() as cloud, connected(cloud) as link:
        assert cloud.connection is not None
        await cloud.connection.close(code, "because")
        failure = await link.failures.get()
        assert (failure.cause, failure.wait) == (cause, wait)


async def test_a_cut_line_is_noticed() -> None:
    async with ScriptedControlPlane() as cloud, connected(cloud) as link:
        assert cloud.connection is not None
        cloud.connection.transport.abort()
        assert (await link.failures.get()).cause is Cause.PEER


async def test_a_violation_closes_with_its_code() -> None:
    codes: asyncio.Queue[tuple[int | None, str | None]] = asyncio.Queue()

    async def speak_out_of_turn(connection: ws.ServerConnection) -> None:
        await connection.recv()
        await connection.send(json.dumps({"type": "canary", "nonce": "early"}))
        await connection.wait_closed()
        codes.put_nowait((connection.close_code, connection.close_reason))

    async with ws.serve(speak_out_of_turn, "127.0.0.1", 0, subprotocols=[ws_subprotocol()]) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with running(Observed(f"ws://127.0.0.1:{port}", "key", Memory())) as link:
            failure = await link.failures.get()
            assert failure.cause is Cause.PEER
            assert await codes.get() == (1002, "'canary' is not allowed while greeting")


def ws_subprotocol() -> Any:
    return "presence.v1"


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1", "ws://nowhere.invalid"])
async def test_never_gives_up(url: str) -> None:
    plain = ControlPlane.model_validate({"url": url, "key": "k", "allow_plaintext": True})
    link = Observed("ws://127.0.0.1:1", "key", Memory())
    link._settings = plain
    async with running(link):
        causes = {(await link.failures.get()).cause for _ in range(3)}
        assert causes == {Cause.TCP if "127" in url else Cause.DNS}


async def test_the_key_is_read_afresh_for_each_try(tmp_path: Any) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("old-key-0123456789ab")
    async with ScriptedControlPlane() as cloud:
        link = Observed(cloud.url, "unused", Memory())
        link._settings = ControlPlane.model_validate({"url": cloud.url, "key_file": str(key_file)})
        async with running(link):
            assert (await link.failures.get()).cause is Cause.AUTH
            key_file.write_text(cloud.key)
            await cloud.ready()


async def test_no_peer_can_make_it_come_back_without_backoff() -> None:
    async with ScriptedControlPlane() as cloud:
        cloud.refuse = lambda: answer(503, **{"Retry-After": "0"})
        async with running(Observed(cloud.url, cloud.key, Memory())) as link:
            for _ in range(12):
                assert (await link.failures.get()).wait == 0.0
            # Random below a bound that doubles: twelve waits near zero do not happen.
            assert sum(link.waits) > 1.0


async def test_go_away_cannot_send_it_away_for_ever() -> None:
    async with ScriptedControlPlane() as cloud, connected(cloud) as link:
        await cloud.say(GoAway(reason="restart", delay=2**52))
        assert (await link.failures.get()).wait == SLOW_RETRY


async def test_draining_is_said_again_in_the_next_session() -> None:
    async with ScriptedControlPlane() as cloud, connected(cloud) as link:
        link.drain()
        await cloud.until(lambda: cloud.heard.count(Draining()) == 1)
        assert cloud.connection is not None
        await cloud.connection.close()
        await cloud.until(lambda: cloud.heard.count(Draining()) == 2)
        assert link.state is LinkState.DRAINING


async def test_what_is_not_taken_is_not_read() -> None:
    async with ScriptedControlPlane() as cloud, connected(cloud) as link:
        for _ in range(5):
            await cloud.send_raw(*encode([Cancel(id=str(uuid.uuid4()))] * 1500))
        while len(link.inbox) < 3000:  # noqa: ASYNC110
            await asyncio.sleep(0)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert len(link.inbox) == 3000  # two frames: the third waits for room
        taken = 0
        while taken < 7500:
            taken += len(await link.inbox.take(500))


async def test_a_server_that_does_not_speak_the_protocol() -> None:
    async def listen(connection: ws.ServerConnection) -> None:
        await connection.wait_closed()

    async with ws.serve(listen, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with running(Observed(f"ws://127.0.0.1:{port}", "key", Memory())) as link:
            failure = await link.failures.get()
            assert failure.cause is Cause.UPGRADE
            assert "does not speak presence.v1" in failure.reason
