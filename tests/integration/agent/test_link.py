"""The link in this process, against a scripted control plane on a real websocket."""

import asyncio
import json
import socket
import uuid
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from pathlib import Path

import pytest
import websockets.asyncio.server as ws
from websockets.datastructures import Headers
from websockets.http11 import Response
from websockets.typing import Subprotocol

from presence.agent.conversation import Patience
from presence.agent.ends import Cause, Retry
from presence.agent.link_state import LinkState
from presence.protocol import SUBPROTOCOL
from presence.protocol.codec import encode
from presence.protocol.messages import (
    Accepted,
    Canary,
    CanaryEcho,
    Cancel,
    Draining,
    GoAway,
    Hello,
    Holding,
    Ready,
    Reconciled,
    Stated,
)
from tests.support.clock import ManualClock
from tests.support.control_plane import ScriptedControlPlane
from tests.support.links import Memory, Observed, connected, running

HOUR = 3_600_000


async def test_states_what_it_holds_in_pages_before_ready() -> None:
    held = [str(uuid.uuid4()) for _ in range(2500)]
    async with ScriptedControlPlane() as cloud, connected(cloud, held):
        pages = [said for said in cloud.heard if isinstance(said, Holding)]
        assert [identifier for page in pages for identifier in page.ids] == held
        assert len(pages) == 3


async def test_says_which_of_it_had_no_attempt_and_which_run_of_the_program_it_is() -> None:
    held = [str(uuid.uuid4()) for _ in range(3)]
    async with (
        ScriptedControlPlane() as cloud,
        running(Observed(cloud.url, cloud.key, Memory(held, {held[1]}))) as link,
    ):
        await cloud.ready()
        (page,) = [said for said in cloud.heard if isinstance(said, Holding)]
        assert page.unattempted == (held[1],)
        assert cloud.heard[0].run == link._identity.run


async def test_every_session_has_a_greater_epoch() -> None:
    async with ScriptedControlPlane() as cloud, connected(cloud) as link:
        assert cloud.connection is not None
        await cloud.connection.close()
        await link.failed.get()
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


async def test_ready_is_said_only_when_the_cancels_before_reconciled_were_taken() -> None:
    async with ScriptedControlPlane() as cloud:
        cloud.not_yours = [str(uuid.uuid4())]
        async with running(Observed(cloud.url, cloud.key, agrees=False)) as link:
            await cloud.until(lambda: Stated() in cloud.heard)
            commands = [(await link.inbox.take(1))[0] for _ in range(2)]
            assert commands == [Cancel(id=cloud.not_yours[0]), Reconciled()]
            assert link.state is LinkState.CONNECTING
            assert link.reconciling == [True, True]
            assert Ready() not in cloud.heard
            link.agreed(link.sessions)
            await cloud.ready()
            assert link.state is LinkState.ONLINE
            assert link.reconciling == [True, True, False]


async def test_a_session_that_is_gone_agrees_to_nothing() -> None:
    async with ScriptedControlPlane() as cloud, running(Observed(cloud.url, cloud.key, agrees=False)) as link:
        while Reconciled() not in await link.inbox.take(10):
            pass
        link.agreed(link.sessions - 1)
        assert link.state is LinkState.CONNECTING
        link.agreed(link.sessions)
        link.agreed(link.sessions)
        await cloud.ready()


async def test_a_canary_is_answered_before_ready() -> None:
    async with ScriptedControlPlane() as cloud, running(Observed(cloud.url, cloud.key, agrees=False)) as link:
        while Reconciled() not in await link.inbox.take(10):
            pass
        assert link.say(CanaryEcho(nonce="n"), link.sessions)
        await cloud.until(lambda: CanaryEcho(nonce="n") in cloud.heard)
        assert not link.say(Accepted(id=str(uuid.uuid4())), link.sessions)


async def test_a_control_plane_that_never_reconciles_is_left_and_the_agent_goes_on() -> None:
    async with ScriptedControlPlane() as cloud:
        cloud.reconciles = False
        async with running(Observed(cloud.url, cloud.key, patience=Patience(reconciled=0.1))) as link:
            failure = await link.failed.get()
            assert failure.cause is Cause.IDLE
            assert "did not say 'reconciled'" in failure.reason
            assert link.reconciling == [True, True, False]


async def test_what_was_held_waits_for_the_first_word_of_the_control_plane() -> None:
    link = Observed("ws://127.0.0.1:1", "key")
    async with running(link):
        assert (await link.failed.get()).cause is Cause.TCP
        assert link.reconciling == [True, False]


async def test_go_away_names_the_delay() -> None:
    async with ScriptedControlPlane() as cloud, connected(cloud) as link:
        await cloud.say(GoAway(reason="restart", delay=1500))
        failure = await link.failed.get()
        assert (failure.cause, failure.not_before) == (Cause.PEER, 1.5)
        assert 1.5 <= link.waits[0] <= 2.5


def answer(status: int, **headers: str) -> Response:
    return Response(status, HTTPStatus(status).phrase, Headers(headers | {"Content-Length": "0"}), b"")


def twice(response: Response) -> Response:
    """With a second Retry-After, which a proxy may add."""
    response.headers["Retry-After"] = "5"
    return response


NOW = datetime(2020, 1, 1, tzinfo=UTC)
DATES = {"Date": format_datetime(NOW, usegmt=True), "Retry-After": format_datetime(NOW + timedelta(0, 9), usegmt=True)}
"""The answer's own clock says how long it is until a date: ours may be wrong."""


@pytest.mark.parametrize(
    ("response", "cause", "retry", "not_before"),
    [
        (answer(401), Cause.AUTH, Retry.RARELY, 0),
        (answer(403), Cause.AUTH, Retry.RARELY, 0),
        (answer(404), Cause.UPGRADE, Retry.BACKOFF, 0),
        (answer(429, **{"Retry-After": "7"}), Cause.UPGRADE, Retry.BACKOFF, 7),
        (answer(502), Cause.UPGRADE, Retry.BACKOFF, 0),
        (answer(503, **{"Retry-After": "soon"}), Cause.UPGRADE, Retry.BACKOFF, 0),
        (answer(503, **{"Retry-After": "9" * 30}), Cause.UPGRADE, Retry.BACKOFF, 300),
        (answer(503, **{"Retry-After": "86400"}), Cause.UPGRADE, Retry.BACKOFF, 300),
        (answer(503, **DATES), Cause.UPGRADE, Retry.BACKOFF, 9),
        (twice(answer(503, **{"Retry-After": "3"})), Cause.UPGRADE, Retry.BACKOFF, 5),
        (answer(302, Location="ws://127.0.0.1:1/elsewhere"), Cause.UPGRADE, Retry.BACKOFF, 0),
    ],
    ids=lambda value: str(value.status_code) if isinstance(value, Response) else "",
)
async def test_an_http_answer_is_told_by_its_status(
    response: Response, cause: Cause, retry: Retry, not_before: float
) -> None:
    async with ScriptedControlPlane() as cloud:
        cloud.refuse = lambda: response
        async with running(Observed(cloud.url, cloud.key)) as link:
            failure = await link.failed.get()
            assert (failure.cause, failure.retry, failure.not_before) == (cause, retry, not_before)
            cloud.refuse = lambda: None
            await cloud.ready()


@pytest.mark.parametrize(
    ("code", "cause", "retry"),
    [
        (4401, Cause.AUTH, Retry.RARELY),
        (4426, Cause.UPGRADE, Retry.RARELY),
        (4408, Cause.IDLE, Retry.BACKOFF),
        (4409, Cause.PEER, Retry.BACKOFF),
        (1012, Cause.PEER, Retry.BACKOFF),
        (1000, Cause.PEER, Retry.BACKOFF),
    ],
)
async def test_a_close_is_told_by_its_code(code: int, cause: Cause, retry: Retry) -> None:
    async with ScriptedControlPlane() as cloud, connected(cloud) as link:
        assert cloud.connection is not None
        await cloud.connection.close(code, "because")
        failure = await link.failed.get()
        assert (failure.cause, failure.retry) == (cause, retry)


async def test_a_cut_line_is_noticed() -> None:
    async with ScriptedControlPlane() as cloud, connected(cloud) as link:
        assert cloud.connection is not None
        cloud.connection.transport.abort()
        assert (await link.failed.get()).cause is Cause.PEER


async def test_a_violation_closes_with_its_code() -> None:
    codes: asyncio.Queue[tuple[int | None, str | None]] = asyncio.Queue()

    async def speak_out_of_turn(connection: ws.ServerConnection) -> None:
        await connection.recv()
        await connection.send(json.dumps({"type": "canary", "nonce": "early"}))
        await connection.wait_closed()
        codes.put_nowait((connection.close_code, connection.close_reason))

    async with ws.serve(speak_out_of_turn, "127.0.0.1", 0, subprotocols=[Subprotocol(SUBPROTOCOL)]) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with running(Observed(f"ws://127.0.0.1:{port}", "key")) as link:
            failure = await link.failed.get()
            assert failure.cause is Cause.PEER
            assert await codes.get() == (1002, "'canary' is not allowed while greeting")


@pytest.mark.parametrize(
    ("url", "cause", "reason"),
    [
        ("ws://127.0.0.1:1", Cause.TCP, "127.0.0.1:1: connection refused"),
        ("ws://nowhere.invalid", Cause.DNS, "nowhere.invalid: the name does not resolve"),
    ],
)
async def test_never_gives_up(url: str, cause: Cause, reason: str) -> None:
    async with running(Observed(url, "key")) as link:
        failures = [await link.failed.get() for _ in range(3)]
        assert {failure.cause for failure in failures} == {cause}
        assert reason in failures[0].reason


async def test_the_key_is_read_afresh_for_each_try(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("old-key-0123456789ab")
    async with ScriptedControlPlane() as cloud, running(Observed(cloud.url, "", key_file=key_file)) as link:
        assert (await link.failed.get()).cause is Cause.AUTH
        key_file.write_text(cloud.key)
        await cloud.ready()


async def test_no_peer_can_make_it_come_back_without_backoff() -> None:
    async with ScriptedControlPlane() as cloud:
        cloud.refuse = lambda: answer(503, **{"Retry-After": "0"})
        async with running(Observed(cloud.url, cloud.key)) as link:
            for _ in range(12):
                assert (await link.failed.get()).not_before == 0.0
            # Random below a bound that doubles: twelve waits near zero do not happen.
            assert sum(link.waits) > 1.0


async def test_a_control_plane_that_accepts_and_closes_gets_longer_and_longer_pauses() -> None:
    async with ScriptedControlPlane() as cloud, connected(cloud) as link:
        for times in range(1, 9):
            await cloud.until(lambda times=times: cloud.heard.count(Ready()) == times)
            assert cloud.connection is not None
            await cloud.connection.close()
            await link.failed.get()
        assert link._backoff._bound == 60.0


async def test_a_session_that_lasted_makes_the_pauses_short_again() -> None:
    clock = ManualClock()
    async with ScriptedControlPlane() as cloud, running(Observed(cloud.url, cloud.key, clock=clock)) as link:
        for times, (seconds, bound) in enumerate([(59, 2.0), (59, 4.0), (60, 2.0)], start=1):
            await cloud.until(lambda times=times: cloud.heard.count(Ready()) == times)
            clock.pass_time(seconds * 1000)
            assert cloud.connection is not None
            await cloud.connection.close()
            await link.failed.get()
            assert link._backoff._bound == bound


async def test_go_away_cannot_send_it_away_for_ever() -> None:
    async with ScriptedControlPlane() as cloud, connected(cloud) as link:
        await cloud.say(GoAway(reason="restart", delay=2**52))
        assert (await link.failed.get()).not_before == 300.0


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
        async with running(Observed(f"ws://127.0.0.1:{port}", "key")) as link:
            failure = await link.failed.get()
            assert failure.cause is Cause.UPGRADE
            assert "does not speak presence.v1" in failure.reason


async def test_a_server_that_accepts_and_never_says_welcome_is_left() -> None:
    async def listen(connection: ws.ServerConnection) -> None:
        await connection.wait_closed()

    async with ws.serve(listen, "127.0.0.1", 0, subprotocols=[Subprotocol(SUBPROTOCOL)]) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with running(Observed(f"ws://127.0.0.1:{port}", "key", patience=Patience(welcome=0.1))) as link:
            failure = await link.failed.get()
            assert (failure.cause, failure.reason) == (Cause.IDLE, "the control plane did not say 'welcome' in time")


async def test_only_canaries_count_as_signs_of_life() -> None:
    async with ScriptedControlPlane() as cloud:
        cloud.canary_every = 50
        async with running(Observed(cloud.url, cloud.key, patience=Patience(slack=0.1))) as link:
            await cloud.ready()
            spoken = asyncio.create_task(speak(cloud, Cancel(id=str(uuid.uuid4()))))
            failure = await link.failed.get()
            assert (failure.cause, failure.reason) == (Cause.IDLE, "no canary for 0.2 s")
            spoken.cancel()
            await asyncio.gather(spoken, return_exceptions=True)


async def test_canaries_keep_the_connection() -> None:
    async with ScriptedControlPlane() as cloud:
        cloud.canary_every = 50
        async with running(Observed(cloud.url, cloud.key, patience=Patience(slack=0.3))) as link:
            await cloud.ready()
            ends = asyncio.get_running_loop().time() + 1.0
            while asyncio.get_running_loop().time() < ends:
                await cloud.canary("n")
                await link.inbox.take(10)
            assert link.failed.empty()
            assert (link.status().canary_ago or 0) < 1000


async def speak(cloud: ScriptedControlPlane, message: Cancel) -> None:
    """Says it again and again, until the connection is gone."""
    while True:
        await cloud.say(message)
        await asyncio.sleep(0.01)


async def test_a_peer_that_does_not_read_is_left() -> None:
    async with (
        ScriptedControlPlane() as cloud,
        running(Observed(cloud.url, cloud.key, patience=Patience(send=0.2))) as link,
    ):
        await cloud.ready()
        assert cloud.connection is not None
        cloud.connection.transport.pause_reading()
        echo = CanaryEcho(nonce="n" * 64)
        while link.failed.empty():
            for _ in range(1000):
                link.say(echo, 1)
            await asyncio.sleep(0)
        failure = await link.failed.get()
        assert (failure.cause, failure.reason) == (Cause.IDLE, "the control plane does not read what is sent")
        cloud.connection.transport.abort()


async def test_a_suspended_host_connects_anew_at_once() -> None:
    clock = ManualClock()
    async with ScriptedControlPlane() as cloud, running(Observed(cloud.url, cloud.key, clock=clock)) as link:
        await cloud.ready()
        clock.elapsed_now += HOUR
        clock.wall_now += HOUR
        async with asyncio.timeout(5):
            failure = await link.failed.get()
        assert (failure.cause, failure.retry) == (Cause.CLOCK, Retry.AT_ONCE)
        assert "the host was suspended for 3600 s" in failure.reason
        assert link.waits == [0.0]
        await cloud.until(lambda: cloud.heard.count(Ready()) == 2)


@pytest.mark.parametrize(("jump", "words"), [(HOUR, "set 3600 s forward"), (-HOUR, "set 3600 s back")])
async def test_a_clock_that_was_set_connects_anew_at_once(jump: int, words: str) -> None:
    clock = ManualClock()
    async with ScriptedControlPlane() as cloud, running(Observed(cloud.url, cloud.key, clock=clock)) as link:
        await cloud.ready()
        clock.wall_now += jump
        async with asyncio.timeout(5):
            failure = await link.failed.get()
        assert words in failure.reason
        await cloud.until(lambda: cloud.heard.count(Ready()) == 2)


async def test_time_that_leaps_ends_a_pause() -> None:
    clock = ManualClock()
    async with (
        ScriptedControlPlane() as cloud,
        running(Observed(cloud.url, "wrong-key", clock=clock, pauses=True)) as link,
    ):
        await link.failed.get()
        assert link.waits[0] >= 300
        clock.wall_now += HOUR
        async with asyncio.timeout(5):
            await link.failed.get()
        assert cloud.connections == 2


@pytest.mark.parametrize("ahead", [HOUR, -HOUR, 0])
async def test_the_offset_of_the_clock_is_measured_at_welcome(ahead: int) -> None:
    clock = ManualClock()
    async with ScriptedControlPlane() as cloud:
        cloud.server_time = lambda: clock.wall_now + ahead
        async with running(Observed(cloud.url, cloud.key, clock=clock)) as link:
            assert link.status().clock_offset is None
            await cloud.ready()
            assert abs((link.status().clock_offset or 0) - ahead) < 5000
            assert link.memory.server_times == [clock.wall_now + ahead]


async def test_the_status_says_what_is_known() -> None:
    clock = ManualClock()
    async with ScriptedControlPlane() as cloud:
        link = Observed(cloud.url, cloud.key, clock=clock)
        assert (link.status().state, link.status().failure, link.status().tries) == (LinkState.OFFLINE, None, 0)
        cloud.refuse = lambda: answer(503)
        async with running(link):
            for _ in range(3):
                await link.failed.get()
            clock.pass_time(7000)
            status = link.status()
            assert status.tries >= 3
            assert status.failure is not None
            assert (status.failure.cause, status.failure.reason) == (
                Cause.UPGRADE,
                "HTTP status 503 instead of a websocket",
            )
            cloud.refuse = lambda: None
            await cloud.ready()
            await cloud.canary("n")
            assert isinstance((await link.inbox.take(1))[0], Canary)
            clock.pass_time(2000)
            status = link.status()
            assert (status.state, status.lasts, status.canary_ago) == (LinkState.ONLINE, 2000, 2000)
            assert status.tries == 0


async def test_the_bounds_of_the_socket_are_set() -> None:
    async with ScriptedControlPlane() as cloud, connected(cloud) as link:
        assert link._connection is not None
        opened = link._connection.transport.get_extra_info("socket")
        assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
        assert (link._connection.ping_interval, link._connection.ping_timeout) == (15.0, 8.0)


@pytest.mark.parametrize("turns", range(8))
async def test_a_link_that_is_cut_in_the_moment_of_its_end_ends(turns: int) -> None:
    """Python's TaskGroup loses a cancellation that comes while a task of its own has just failed (before 3.13)."""
    async with ScriptedControlPlane() as cloud:
        link = Observed(cloud.url, cloud.key, patience=Patience(welcome=5.0), pauses=True)
        linking = asyncio.create_task(link.run())
        await cloud.ready()
        assert link._connection is not None
        link._connection.transport.abort()
        assert link._conversation is not None
        link.say(CanaryEcho(nonce="n-1"), link.sessions)
        for _ in range(turns):
            await asyncio.sleep(0)
        linking.cancel()
        done, _ = await asyncio.wait([linking], timeout=5)
        ended = bool(done)
        while not done:
            linking.cancel()
            done, _ = await asyncio.wait([linking], timeout=1)
        assert ended
