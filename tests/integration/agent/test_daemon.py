"""The agent as a process against a scripted control plane and a real target."""

import asyncio
import fcntl
import os
import resource
import sys
from pathlib import Path

import pytest

from presence.domain.delivery import FinalState
from presence.protocol.codec import encode
from presence.protocol.messages import Accepted, Busy, CanaryEcho, Cancel, Draining, Hello, Holding
from tests.support.control_plane import ScriptedControlPlane, fire
from tests.support.processes import Program, agent_env
from tests.support.target import Target, always, head, silence, status


async def test_fires_reports_and_forgets_after_the_acknowledgement(tmp_path: Path) -> None:
    async with (
        Target() as target,
        ScriptedControlPlane() as cloud,
        Program("run", env=agent_env(cloud.url, cloud.key, tmp_path)) as agent,
    ):
        (delivery,) = await cloud.fire(target.url())
        (report,) = await cloud.reported(delivery)
        assert (report.state, report.reason, report.attempts) == (FinalState.SUCCEEDED, "delivered", 1)
        assert report.log[0].status == 204
        assert report.log[0].address == "127.0.0.1"
        (request,) = target.requests
        line, headers = head(request)
        assert line == "GET /ScanEnded/9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b HTTP/1.1"
        assert headers["webhook-id"] == delivery
        assert set(headers) == {"host", "user-agent", "accept", "webhook-id", "webhook-timestamp"}
        await agent.said("reported", delivery=delivery)
        assert await agent.stop() == 0


async def test_accepts_before_it_attempts_and_drops_repeats(tmp_path: Path) -> None:
    async with (
        Target() as target,
        ScriptedControlPlane() as cloud,
        Program("run", env=agent_env(cloud.url, cloud.key, tmp_path)),
    ):
        (delivery,) = await cloud.fire(target.url())
        await cloud.reported(delivery)
        kinds = [type(said) for said in cloud.heard if getattr(said, "id", "") == delivery]
        assert kinds[0] is Accepted
        assert cloud.session is not None
        await cloud.send_again(fire(target.url(), id=delivery))
        await cloud.until(lambda: len(cloud.reports[delivery]) == 2)
        assert len(target.requests) == 1


async def test_retries_survive_a_kill(tmp_path: Path) -> None:
    async with Target(status(503, 503, 204)) as target, ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path)
        async with Program("run", env=env) as agent:
            (delivery,) = await cloud.fire(target.url())
            await target.received(1)
            await agent.kill()
        async with Program("run", env=env):
            (report,) = await cloud.reported(delivery)
        assert report.state is FinalState.SUCCEEDED
        assert report.attempts >= 3
        holding = [said for said in cloud.heard if isinstance(said, Holding)]
        assert delivery in holding[-1].ids


async def test_an_attempt_cut_by_a_kill_is_in_the_log(tmp_path: Path) -> None:
    async with Target(silence) as target, ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path)
        async with Program("run", env=env) as agent:
            (delivery,) = await cloud.fire(target.url())
            await target.received(1)
            await agent.kill()
        target.answer = status(200)
        async with Program("run", env=env):
            (report,) = await cloud.reported(delivery)
        assert [(entry.fault, entry.status) for entry in report.log] == [("interrupted", None), (None, 200)]


async def test_what_is_cancelled_before_reconciled_is_never_attempted_again(tmp_path: Path) -> None:
    """Another instance has it meanwhile: the agent learns that before it goes on with what it held."""
    async with Target(silence) as target, ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path)
        async with Program("run", env=env) as agent:
            gone, kept = await cloud.fire(target.url(), count=2)
            await target.received(2)
            await agent.kill()
        cloud.not_yours = [gone]
        target.answer = status(204)
        async with Program("run", env=env) as agent:
            reports = await cloud.reported(gone, kept)
            assert await agent.stop() == 0
        assert [(report.state, report.attempts) for report in reports] == [
            (FinalState.CANCELLED, 1),
            (FinalState.SUCCEEDED, 2),
        ]
        assert len(target.requests) == 3


async def test_an_agent_that_starts_without_a_control_plane_goes_on_with_what_it_holds(tmp_path: Path) -> None:
    async with Target(silence) as target, ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path)
        async with Program("run", env=env) as agent:
            await cloud.fire(target.url())
            await target.received(1)
            await agent.kill()
        await cloud.stop()
        target.answer = status(204)
        async with Program("run", env=env):
            await target.received(2)
        await cloud.start()


async def test_reports_are_repeated_until_acknowledged(tmp_path: Path) -> None:
    async with Target() as target, ScriptedControlPlane() as cloud:
        cloud.acknowledges = False
        env = agent_env(cloud.url, cloud.key, tmp_path)
        async with Program("run", env=env) as agent:
            (delivery,) = await cloud.fire(target.url())
            await cloud.reported(delivery)
            await agent.kill()
        cloud.acknowledges = True
        async with Program("run", env=env) as agent:
            await agent.said("reported", delivery=delivery)
        assert len(target.requests) == 1


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("http://127.0.0.1:1/{Unknown}", "template_invalid"),
        ("http://127.0.0.1:1/{SubjectId", "template_invalid"),
        ("http://{SubjectId}/x", "template_invalid"),
        ("ftp://127.0.0.1/x", "template_invalid"),
        ("http://169.254.169.254/{SubjectId}", "denied_always"),
        ("http://[::1]:80/", "denied_loopback"),
    ],
)
async def test_refuses_what_it_must_not_send(tmp_path: Path, uri: str, reason: str) -> None:
    async with ScriptedControlPlane() as cloud, Program("run", env=agent_env(cloud.url, cloud.key, tmp_path)):
        (delivery,) = await cloud.fire(uri)
        (report,) = await cloud.reported(delivery)
        assert (report.state, report.reason) == (FinalState.REFUSED, reason)


async def test_refuses_a_subject_that_would_change_the_path(tmp_path: Path) -> None:
    async with ScriptedControlPlane() as cloud, Program("run", env=agent_env(cloud.url, cloud.key, tmp_path)):
        (delivery,) = await cloud.fire("http://127.0.0.1:1/{SubjectId}", subject_id="..")
        (report,) = await cloud.reported(delivery)
        assert (report.state, report.reason) == (FinalState.REFUSED, "subject_invalid")


async def test_an_unreadable_fire_is_refused_and_the_session_goes_on(tmp_path: Path) -> None:
    async with (
        Target() as target,
        ScriptedControlPlane() as cloud,
        Program("run", env=agent_env(cloud.url, cloud.key, tmp_path)),
    ):
        bad = "0d9a1f1e-0000-4000-8000-000000000001"
        await cloud.send_raw(f'{{"type":"fire","id":"{bad}","uri":7}}', '{"type":"from_the_future"}')
        (report,) = await cloud.reported(bad)
        assert (report.state, report.reason) == (FinalState.REFUSED, "content_invalid")
        (delivery,) = await cloud.fire(target.url())
        await cloud.reported(delivery)
        assert cloud.connections == 1


@pytest.mark.parametrize(
    "frame", ["{", '{"type":"canary","nonce":NaN}', '{"a":1,"a":2}', "[" * 5000, '{"type":"welcome"}']
)
async def test_a_malformed_frame_closes_and_the_agent_comes_back(tmp_path: Path, frame: str) -> None:
    async with (
        Target() as target,
        ScriptedControlPlane() as cloud,
        Program("run", env=agent_env(cloud.url, cloud.key, tmp_path)),
    ):
        await cloud.send_raw(frame)
        await cloud.until(lambda: sum(isinstance(said, Hello) for said in cloud.heard) == 2)
        (delivery,) = await cloud.fire(target.url())
        await cloud.reported(delivery)


async def test_the_canary_is_echoed(tmp_path: Path) -> None:
    async with ScriptedControlPlane() as cloud, Program("run", env=agent_env(cloud.url, cloud.key, tmp_path)):
        await cloud.canary("n-1")
        await cloud.until(lambda: CanaryEcho(nonce="n-1") in cloud.heard)


async def test_waits_for_a_control_plane_that_is_down(tmp_path: Path) -> None:
    async with Target() as target, ScriptedControlPlane() as cloud:
        await cloud.stop()
        async with Program("run", env=agent_env(cloud.url, cloud.key, tmp_path)) as agent:
            line = await agent.said("link", state="offline")
            assert line["cause"] == "tcp"
            await cloud.start()
            (delivery,) = await cloud.fire(target.url())
            await cloud.reported(delivery)


async def test_a_wrong_key_is_named_and_a_new_key_file_is_noticed(tmp_path: Path) -> None:
    key_file = tmp_path / "AppScanPresence.key"
    key_file.write_text("wrong-key-0123456789")
    async with ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, "", tmp_path, PRESENCE_CONTROL_PLANE__KEY_FILE=str(key_file))
        del env["PRESENCE_CONTROL_PLANE__KEY"]
        async with Program("run", env=env) as agent:
            line = await agent.said("link", state="offline", cause="auth")
            assert "key is refused" in line["reason"]
            key_file.write_text(f'{{"Key": "{cloud.key}", "ExpiresAt": null, "WebServiceHost": "x"}}')
            await cloud.ready()
        assert cloud.key not in agent.text()


async def test_sigterm_drains_and_a_second_one_stops_at_once(tmp_path: Path) -> None:
    async with (
        Target(silence) as target,
        ScriptedControlPlane() as cloud,
        Program("run", env=agent_env(cloud.url, cloud.key, tmp_path)) as agent,
    ):
        (delivery,) = await cloud.fire(target.url())
        await target.received(1)
        agent._process.terminate()
        await cloud.until(lambda: Draining() in cloud.heard)
        assert agent._process.returncode is None
        assert await agent.stop(timeout=5) == 0
        assert delivery not in cloud.reports


async def test_sigterm_finishes_what_is_under_way(tmp_path: Path) -> None:
    async with (
        Target(silence) as target,
        ScriptedControlPlane() as cloud,
        Program("run", env=agent_env(cloud.url, cloud.key, tmp_path)) as agent,
    ):
        (delivery,) = await cloud.fire(target.url())
        await target.received(1)
        agent._process.terminate()
        await cloud.until(lambda: Draining() in cloud.heard)
        late = await cloud_fire_while_draining(cloud, target)
        assert late.reason == "draining"
        for writer in list(target._writers):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        (report,) = await cloud.reported(delivery)
        assert report.state is FinalState.SUCCEEDED
        assert await agent.exited() == 0


async def cloud_fire_while_draining(cloud: ScriptedControlPlane, target: Target) -> Busy:
    """A fire that was on its way when the agent began to drain."""
    crossing = fire(target.url())
    await cloud.send_again(crossing)
    await cloud.until(lambda: any(isinstance(said, Busy) and said.id == crossing.id for said in cloud.heard))
    return next(said for said in cloud.heard if isinstance(said, Busy) and said.id == crossing.id)


async def test_a_full_journal_answers_busy(tmp_path: Path) -> None:
    async with Target(silence) as target, ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path, PRESENCE_JOURNAL__MAX_DELIVERIES="100")
        async with Program("run", env=env):
            for host in range(6):
                await cloud.fire(target.url().replace("127.0.0.1", f"127.0.0.{host + 2}"), count=18)
            await cloud.until(lambda: sum(isinstance(said, Busy) for said in cloud.heard) == 8)
            assert {said.reason for said in cloud.heard if isinstance(said, Busy)} == {"journal_full"}


async def test_two_daemons_on_one_journal(tmp_path: Path) -> None:
    async with ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path)
        async with Program("run", env=env) as first:
            await first.said("started")
            async with Program("run", env=env) as second:
                assert await second.exited() == 1
            assert "another presence agent" in second.text()


async def test_a_full_disk_refuses_loses_nothing_and_goes_on_by_itself(tmp_path: Path) -> None:
    async with Target(status(503)) as target, ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path, PRESENCE_RETRY__MAX_ATTEMPTS="1000")
        async with Program("run", env=env) as agent:
            await cloud.ready()
            _, most = resource.prlimit(agent.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(agent.pid, resource.RLIMIT_FSIZE, (500_000, most))
            while not any(isinstance(said, Busy) for said in cloud.heard):
                fired = set(await cloud.fire(target.url(), count=50))
                await cloud.until(lambda fired=fired: fired <= {getattr(said, "id", "") for said in cloud.heard})
            assert {said.reason for said in cloud.heard if isinstance(said, Busy)} == {"journal_failed"}
            resource.prlimit(agent.pid, resource.RLIMIT_FSIZE, (most, most))
            target.answer = status(204)
            accepted = {said.id for said in cloud.heard if isinstance(said, Accepted)}
            reports = await cloud.reported(*accepted)
            assert await agent.stop() == 0
        assert "Traceback" not in agent.text()
        assert accepted
        assert {report.state for report in reports} == {FinalState.SUCCEEDED}


async def test_cancel_and_fire_in_one_frame_end_with_the_fire(tmp_path: Path) -> None:
    async with Target(status(503)) as target, ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path, PRESENCE_RETRY__INITIAL="30", PRESENCE_RETRY__MAXIMUM="30")
        async with Program("run", env=env) as agent:
            wanted = fire(target.url())
            await cloud.fire_all([wanted])
            await agent.said("attempt", delivery=wanted.id)
            target.answer = status(204)
            await cloud.send_raw(*encode([Cancel(id=wanted.id), wanted]))
            await cloud.until(lambda: [report.state for report in cloud.reports[wanted.id]][-1:] == ["succeeded"])


@pytest.mark.parametrize("code", ["000", "099"])
async def test_a_status_that_is_none_does_not_stop_the_agent(tmp_path: Path, code: str) -> None:
    answer = always(f"HTTP/1.1 {code} X\r\nContent-Length: 0\r\n\r\n".encode())
    async with Target(answer) as target, ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path, PRESENCE_RETRY__MAX_ATTEMPTS="2")
        async with Program("run", env=env):
            (delivery,) = await cloud.fire(target.url())
            (report,) = await cloud.reported(delivery)
            assert (report.state, report.log[-1].fault) == (FinalState.FAILED, "malformed_response")


async def test_a_stalled_reader_of_the_log_does_not_keep_it_from_stopping(tmp_path: Path) -> None:
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    async with ScriptedControlPlane() as cloud:
        env = {**os.environ, **agent_env(cloud.url, cloud.key, tmp_path)}
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "presence", "run", env=env, stderr=write)
        os.close(write)
        await cloud.ready()
        await cloud.fire("http://127.0.0.1:1/", count=300)
        await cloud.until(lambda: len(cloud.heard) > 300)
        process.terminate()
        async with asyncio.timeout(35):
            assert await process.wait() == 0
    os.close(read)


async def test_a_key_that_is_replaced_before_the_old_one_is_revoked_is_used_at_once(tmp_path: Path) -> None:
    key_file = tmp_path / "AppScanPresence.key"
    async with ScriptedControlPlane() as cloud:
        key_file.write_text(cloud.key)
        key_file.chmod(0o600)
        env = agent_env(cloud.url, "", tmp_path, PRESENCE_CONTROL_PLANE__KEY_FILE=str(key_file))
        del env["PRESENCE_CONTROL_PLANE__KEY"]
        async with Program("run", env=env) as agent:
            await cloud.ready()
            cloud.key = "newer-key-0123456789"
            key_file.write_text(cloud.key)
            assert cloud.connection is not None
            await cloud.connection.close(4401, "the presence key was replaced")
            await agent.said("link", state="offline", cause="auth")
            await cloud.until(lambda: sum(isinstance(said, Hello) for said in cloud.heard) == 2)
