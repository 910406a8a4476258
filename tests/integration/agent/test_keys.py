"""Key rotation over the link: the agent as a process, and the link in this process for what is rare."""

import json
import os
import stat
from pathlib import Path

import pytest

from presence.agent.ends import Cause, Retry
from presence.domain.delivery import FinalState
from presence.protocol.messages import Hello, NewKey
from tests.support.control_plane import ScriptedControlPlane
from tests.support.links import Observed, running
from tests.support.processes import Program, agent_env
from tests.support.target import Target, silence

OLD, NEW = "old-key-0123456789", "new-key-0123456789"


def configured(cloud: ScriptedControlPlane, directory: Path, key: str = OLD) -> dict[str, str]:
    """The agent's environment with that key in a file, in the form that NewKey of the API returns."""
    file = directory / "AppScanPresence.key"
    file.write_text(json.dumps({"Key": key, "ExpiresAt": None, "WebServiceHost": "cloud.example.com"}))
    file.chmod(0o600)
    env = agent_env(cloud.url, "", directory, PRESENCE_CONTROL_PLANE__KEY_FILE=str(file))
    del env["PRESENCE_CONTROL_PLANE__KEY"]
    return env


async def rotated(cloud: ScriptedControlPlane) -> None:
    """Gives the new key; the old one is retired once the new one was shown."""
    await cloud.ready()
    await cloud.say(NewKey(key=NEW))
    cloud.key = NEW
    await cloud.until(lambda: cloud.keys[-1] == NEW and cloud.session is not None)


async def test_the_new_key_is_stored_and_used_at_once(tmp_path: Path) -> None:
    async with ScriptedControlPlane(OLD) as cloud, Program("run", env=configured(cloud, tmp_path)) as agent:
        await rotated(cloud)
        stored = tmp_path / "presence.key"
        assert json.loads(stored.read_text())["Key"] == NEW
        assert stat.S_IMODE(stored.stat().st_mode) == 0o600
        assert [name for name in os.listdir(tmp_path) if name.startswith("presence.key")] == ["presence.key"]
        line = await agent.said("link", state="offline", cause="renewal")
        assert line["retry_in"] == 0.0
    assert not any(key in agent.text() for key in (OLD, NEW))


async def test_a_delivery_under_way_is_reported_in_the_session_of_the_new_key(tmp_path: Path) -> None:
    async with (
        Target(silence) as target,
        ScriptedControlPlane(OLD) as cloud,
        Program("run", env=configured(cloud, tmp_path)),
    ):
        (delivery,) = await cloud.fire(target.url())
        await target.received(1)
        await rotated(cloud)
        for writer in list(target._writers):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        (report,) = await cloud.reported(delivery)
        assert (report.state, report.attempts) == (FinalState.SUCCEEDED, 1)
        assert len(cloud.reports[delivery]) == 1


async def test_the_stored_key_precedes_after_a_restart(tmp_path: Path) -> None:
    async with ScriptedControlPlane(OLD) as cloud:
        env = configured(cloud, tmp_path)
        async with Program("run", env=env):
            await rotated(cloud)
        cloud.keys.clear()
        async with Program("run", env=env):
            await cloud.until(lambda: cloud.session is not None)
        assert cloud.keys == [NEW]


async def test_a_configured_key_that_was_replaced_since_precedes(tmp_path: Path) -> None:
    async with ScriptedControlPlane(OLD) as cloud:
        async with Program("run", env=configured(cloud, tmp_path)):
            await rotated(cloud)
        cloud.key = "third-key-0123456789"
        cloud.keys.clear()
        async with Program("run", env=configured(cloud, tmp_path, cloud.key)):
            await cloud.until(lambda: cloud.session is not None)
        assert cloud.keys == [cloud.key]


async def test_a_stored_key_that_is_refused_gives_way_to_the_configured_one_loudly(tmp_path: Path) -> None:
    async with ScriptedControlPlane(OLD) as cloud:
        env = configured(cloud, tmp_path)
        async with Program("run", env=env):
            await rotated(cloud)
        cloud.key = OLD
        cloud.keys.clear()
        async with Program("run", env=env) as agent:
            await cloud.until(lambda: cloud.session is not None)
            line = await agent.said("link", state="offline", cause="auth")
        assert cloud.keys == [NEW, OLD]
        assert line["level"] == "error"
        assert line["retry_in"] == 0.0
        assert line["reason"].startswith(f"the stored key ({tmp_path}/presence.key): the key is refused (401); ")
        assert not any(key in agent.text() for key in (OLD, NEW))


async def test_keys_that_are_all_refused_are_tried_again_later(tmp_path: Path) -> None:
    async with ScriptedControlPlane(OLD) as cloud:
        link = Observed(cloud.url, OLD, stored=tmp_path / "presence.key")
        link._keys.store(NEW)
        cloud.key = "another-key-0123456789"
        async with running(link):
            failures = [await link.failed.get() for _ in range(4)]
            assert {failure.cause for failure in failures} == {Cause.AUTH}
            rarely, at_once = Retry.RARELY, Retry.AT_ONCE
            assert [failure.retry for failure in failures] == [at_once, rarely, at_once, rarely]
            assert cloud.keys[:4] == [NEW, OLD, NEW, OLD]
            cloud.key = OLD
            await cloud.ready()


async def test_a_key_that_is_used_already_changes_nothing(tmp_path: Path) -> None:
    stored = tmp_path / "presence.key"
    async with ScriptedControlPlane(OLD) as cloud, running(Observed(cloud.url, OLD, stored=stored)) as link:
        await cloud.ready()
        await cloud.say(NewKey(key=OLD))
        await cloud.canary("n")
        await link.inbox.take(1)
        assert (cloud.connections, stored.exists()) == (1, False)


@pytest.mark.parametrize("key", ["with\nline-0123456789", "not-äscii-0123456789"])
async def test_a_key_that_no_header_can_carry_is_not_taken(key: str, tmp_path: Path) -> None:
    stored = tmp_path / "presence.key"
    async with ScriptedControlPlane(OLD) as cloud, running(Observed(cloud.url, OLD, stored=stored)) as link:
        await cloud.ready()
        await cloud.say(NewKey(key=key))
        await cloud.canary("n")
        await link.inbox.take(1)
        assert (cloud.connections, stored.exists()) == (1, False)


async def test_a_key_that_cannot_be_stored_leaves_the_old_one_in_use(tmp_path: Path) -> None:
    stored = tmp_path / "missing" / "presence.key"
    async with ScriptedControlPlane(OLD) as cloud, running(Observed(cloud.url, OLD, stored=stored)) as link:
        await cloud.ready()
        await cloud.say(NewKey(key=NEW))
        await cloud.canary("n")
        await link.inbox.take(1)
        assert cloud.connections == 1


async def test_a_control_plane_that_gives_keys_and_refuses_them_makes_no_storm(tmp_path: Path) -> None:
    stored = tmp_path / "presence.key"
    async with ScriptedControlPlane(OLD) as cloud, running(Observed(cloud.url, OLD, stored=stored)) as link:
        await cloud.ready()
        await cloud.say(NewKey(key=NEW))
        await cloud.until(lambda: sum(isinstance(said, Hello) for said in cloud.heard) == 2)
        assert cloud.keys == [OLD, NEW, OLD]
        await cloud.ready()
        await cloud.say(NewKey(key=NEW))
        await cloud.canary("n")
        await link.inbox.take(1)
        assert cloud.connections == 3
        assert link.waits[0] == 0.0
        assert link.waits[1] > 0.0
