"""SIGHUP: what can be changed live is, what cannot is named, and a bad file changes nothing."""

import asyncio
import json
import signal
from pathlib import Path

import pytest
import trustme

from presence.protocol.messages import Report
from tests.support.control_plane import ScriptedControlPlane, fire
from tests.support.processes import Program, agent_env
from tests.support.system import run
from tests.support.target import Target, head, status
from tests.support.tls import authority_file, server_context

ALLOWED = '[egress]\nallow = ["127.0.0.1"]\n'
OVERRIDDEN = ("PRESENCE_EGRESS__ALLOW", "PRESENCE_RETRY__INITIAL", "PRESENCE_RETRY__MAXIMUM", "PRESENCE_LOG__LEVEL")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(ALLOWED)
    return path


def environment(cloud: ScriptedControlPlane, directory: Path) -> dict[str, str]:
    """The agent's, but for what the file is to say."""
    return {name: text for name, text in agent_env(cloud.url, cloud.key, directory).items() if name not in OVERRIDDEN}


async def reload(agent: Program, file: Path, text: str, event: str = "settings reloaded") -> None:
    """Writes the file, asks for a reload, and waits for what the agent says of it."""
    told = sum(line["event"] == event for line in agent.lines)
    await asyncio.to_thread(file.write_text, text)
    agent.signal(signal.SIGHUP)
    await agent.logged(lambda _: sum(line["event"] == event for line in agent.lines) > told)


async def ended(cloud: ScriptedControlPlane, *uris: str) -> list[Report]:
    return await cloud.reported(*await cloud.fire_all([fire(uri) for uri in uris]))


async def test_egress_targets_and_retry_change_while_it_runs(tmp_path: Path, file: Path) -> None:
    async with (
        Target() as target,
        ScriptedControlPlane() as cloud,
        Program("run", "--config", str(file), env=environment(cloud, tmp_path)) as agent,
    ):
        (report,) = await ended(cloud, target.url())
        assert report.reason == "delivered"
        await reload(agent, file, '[egress]\nallow = ["127.0.0.1"]\ndeny = ["127.0.0.1"]\n')
        line = await agent.said("settings reloaded")
        assert line["changed"] == ["egress.deny"]
        (report,) = await ended(cloud, target.url())
        assert report.reason == "denied_by_rule"
        secret = tmp_path / "token"
        secret.write_text("first-secret")
        table = f'[[targets]]\nhost = "127.0.0.1"\nheaders = {{ X-Token = {{ file = "{secret}" }} }}\n'
        allowed = f'[egress]\nallow = ["127.0.0.1"]\n[retry]\nmax_attempts = 1\n{table}'
        await reload(agent, file, allowed)
        target.answer = status(503)
        (report,) = await ended(cloud, target.url())
        assert (report.reason, report.attempts) == ("attempts_exhausted", 1)
        assert head(target.requests[-1])[1]["x-token"] == "first-secret"
        # The settings are the same; the file that they name is not.
        secret.write_text("second-secret")
        await reload(agent, file, allowed)
        await ended(cloud, target.url())
        assert head(target.requests[-1])[1]["x-token"] == "second-secret"
        assert cloud.connections == 1
        assert "secret" not in agent.text()


async def test_a_renewed_authority_of_a_target_is_trusted_after_a_reload(tmp_path: Path, file: Path) -> None:
    """The settings are the same; the authority's file that they name holds another certificate."""
    old, new = trustme.CA(), trustme.CA()
    ca_file = authority_file(old, tmp_path)
    text = f'{ALLOWED}[retry]\nmax_attempts = 1\n[[targets]]\nhost = "127.0.0.1"\nca_file = "{ca_file}"\n'
    await asyncio.to_thread(file.write_text, text)
    async with (
        Target(tls=server_context(old.issue_cert("127.0.0.1"))) as before,
        Target(tls=server_context(new.issue_cert("127.0.0.1"))) as renewed,
        ScriptedControlPlane() as cloud,
        Program("run", "--config", str(file), env=environment(cloud, tmp_path)) as agent,
    ):
        assert [report.reason for report in await ended(cloud, before.url(), renewed.url())] == [
            "delivered",
            "attempts_exhausted",
        ]
        authority_file(new, tmp_path)
        (report,) = await ended(cloud, renewed.url())
        assert report.reason == "attempts_exhausted"
        await reload(agent, file, text)
        (report,) = await ended(cloud, renewed.url())
        assert report.reason == "delivered"
        assert (await agent.said("settings reloaded"))["changed"] == []
        assert (len(before.requests), len(renewed.requests), cloud.connections) == (1, 1, 1)


async def test_what_needs_a_restart_is_named_without_its_value(tmp_path: Path, file: Path) -> None:
    async with (
        Target() as target,
        ScriptedControlPlane() as cloud,
        Program("run", "--config", str(file), env=environment(cloud, tmp_path)) as agent,
    ):
        await cloud.ready()
        text = '[control_plane]\nproxy = "http://canary.corp:3128"\n[delivery]\nmax_in_flight = 7\nrate = 5.0\n'
        await reload(agent, file, text + '[egress]\nallow = ["127.0.0.0/8"]\n', "restart needed")
        line = await agent.said("restart needed")
        assert line["settings"] == ["control_plane.proxy", "delivery.max_in_flight"]
        assert (await agent.said("settings reloaded"))["changed"] == ["delivery.rate", "egress.allow"]
        assert "canary" not in agent.text()
        (report,) = await ended(cloud, target.url())
        assert report.reason == "delivered"
        env = environment(cloud, tmp_path)
        _, out, _ = await run("status", "--config", str(file), env=env)
        waiting = "control_plane.proxy, delivery.max_in_flight"
        assert f"settings      {file}\n              changed in the file, in force after a restart: {waiting}\n" in out
        _, out, _ = await run("doctor", "--config", str(file), env=env)
        assert f"warning  reload: it runs with the values from before the reload of {waiting}\n" in out
        await reload(agent, file, ALLOWED)
        _, out, _ = await run("status", "--config", str(file), env=env)
        assert f"settings      {file}\nhealth at" in out


async def test_a_bad_file_leaves_the_running_settings_in_place(tmp_path: Path, file: Path) -> None:
    async with (
        Target() as target,
        ScriptedControlPlane() as cloud,
        Program("run", "--config", str(file), env=environment(cloud, tmp_path)) as agent,
    ):
        await cloud.ready()
        await reload(agent, file, "[egress]\nallow = 7\nunknown = 1\n", "settings not reloaded")
        line = await agent.said("settings not reloaded")
        assert f"{file}:2: egress.allow" in line["reason"]
        assert "egress.unknown" in line["reason"]
        missing = f'[egress]\nallow = ["127.0.0.1"]\n[[targets]]\nhost = "a.corp"\nca_file = "{tmp_path}/absent"\n'
        await reload(agent, file, missing, "settings not reloaded")
        (report,) = await ended(cloud, target.url())
        assert report.reason == "delivered"
        env = environment(cloud, tmp_path)
        _, out, _ = await run("status", "--config", str(file), env=env)
        assert f"{file}\n              not reloaded, the old ones are in force: " in out
        assert f"{tmp_path}/absent" in out
        await reload(agent, file, ALLOWED)
        _, out, _ = await run("status", "--config", str(file), "--json", env=env)
        assert json.loads(out)["reload"] == {"fault": None, "restart_needed": []}


async def test_the_level_of_the_log_changes_both_ways(tmp_path: Path, file: Path) -> None:
    async with (
        Target() as target,
        ScriptedControlPlane() as cloud,
        Program("run", "--config", str(file), env=environment(cloud, tmp_path)) as agent,
    ):
        await ended(cloud, target.url())
        assert not any(line.get("level") == "debug" for line in agent.lines)
        await reload(agent, file, f'{ALLOWED}[log]\nlevel = "debug"\n')
        (delivery,) = await cloud.fire(target.url())
        await agent.said("reported", delivery=delivery, level="debug")
        await reload(agent, file, ALLOWED)
        lines = len(agent.lines)
        await ended(cloud, target.url())
        assert await agent.stop() == 0
        assert not any(line.get("level") == "debug" for line in agent.lines[lines:])


async def test_observing_can_begin_while_it_runs(tmp_path: Path, file: Path) -> None:
    async with (
        Target() as target,
        ScriptedControlPlane() as cloud,
        Program("run", "--config", str(file), env=environment(cloud, tmp_path)) as agent,
    ):
        await cloud.ready()
        await reload(agent, file, '[egress]\nallow = ["127.0.0.1"]\nmode = "observe"\n')
        await ended(cloud, target.url())
        assert (await agent.said("seen"))["port"] == target.port
        assert await agent.stop() == 0
    seen = await asyncio.to_thread((tmp_path / "egress-seen.json").read_text)
    assert str(target.port) in seen
