"""The running agent with its settings: rules from what was seen, proxies, local headers, and how it stops."""

import json
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from presence.domain.delivery import FinalState
from presence.protocol.messages import Cancel
from tests.integration.agent.scenes import NAME, PROXIED, PUBLIC, SILENT
from tests.support.control_plane import ScriptedControlPlane, fire
from tests.support.namespace import ADDRESS, run_in_namespace, unavailable
from tests.support.odd_hosts import closed_port
from tests.support.processes import Program, agent_env
from tests.support.target import Target, head, in_turn, silence, status

why_not = cache(unavailable)
SLOW = {"PRESENCE_RETRY__INITIAL": "600", "PRESENCE_RETRY__MAXIMUM": "600"}


async def findings(scene: str) -> dict[str, Any]:
    """What the scene found in a network of its own."""
    if reason := why_not():
        pytest.skip(reason)
    resolver = f"nameserver {SILENT}\n"
    module = "tests.integration.agent.scenes"
    out = await run_in_namespace(module, scene, names=(NAME,), addresses=(PUBLIC,), resolver=resolver)
    return dict(json.loads(out))


async def test_what_was_seen_while_observing_becomes_the_rules_that_it_needs() -> None:
    found = await findings("suggestion")
    delivered = "succeeded: delivered"
    denied = ["refused: denied_always", "refused: denied_by_rule", "refused: denied_loopback"]
    seen = f"{delivered}, observed"
    assert found["observed"] == [seen, seen, seen, seen, delivered, delivered, *denied]

    suggested, ports = found["suggested"], found["ports"]
    assert (suggested["code"], suggested["err"]) == (0, "")
    egress = tomllib.loads(suggested["text"])["egress"]
    assert (egress["default"], egress["mode"], egress["deny"]) == ("deny", "enforce", ["10.66.0.0/16"])
    assert set(egress["allow"]) == {
        f"GET,POST http://{NAME}:{ports['private']}",
        f"http://{ADDRESS}:{ports['private']}",
        f"http://{PUBLIC}:{ports['public']}",
        f"http://127.0.0.1:{ports['local']}",
        f"http://{PROXIED}:80",
    }

    refused = ["refused: denied_always", "refused: denied_by_rule", "refused: denied_loopback"]
    assert found["enforced"] == [delivered] * 6 + refused
    assert found["never_seen"] == [
        "refused: not_allowed",
        "refused: method_not_allowed",
        "refused: not_allowed",
    ]


async def test_a_look_up_that_hangs_does_not_keep_the_agent_from_stopping() -> None:
    found = await findings("silent_name_server")
    assert found["code"] == 0, found["log"]
    assert found["took"] < 10


async def test_the_proxy_is_named_in_the_report(tmp_path: Path) -> None:
    async with Target() as proxy, ScriptedControlPlane() as cloud:
        table = {"host": "*.corp", "proxy": proxy.url(""), "proxy_resolves": True}
        env = agent_env(cloud.url, cloud.key, tmp_path, PRESENCE_TARGETS=json.dumps([table]))
        env["PRESENCE_EGRESS__ALLOW"] = '["h.corp"]'
        async with Program("run", env=env):
            ids = await cloud.fire_all([fire("http://h.corp/{SubjectId}"), fire("http://other.corp/")])
            passed, refused = await cloud.reported(*ids)
        assert (passed.state, passed.log[0].proxy) == (FinalState.SUCCEEDED, f"127.0.0.1:{proxy.port}")
        assert passed.log[0].address == "127.0.0.1"
        assert (refused.reason, refused.log[0].proxy) == ("proxy_needs_rule", f"127.0.0.1:{proxy.port}")
        assert [head(request)[0].split()[1] for request in proxy.requests] == [
            "http://h.corp/9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b"
        ]


async def test_a_local_header_reaches_its_target_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("canary-local-token\n")
    async with Target(status(503, 204)) as target, Target() as other, ScriptedControlPlane() as cloud:
        headers = {"Authorization": {"file": str(tmp_path / "token")}}
        table = {"host": f"127.0.0.1:{target.port}", "headers": headers}
        env = agent_env(cloud.url, cloud.key, tmp_path, PRESENCE_TARGETS=json.dumps([table]))
        async with Program("run", env=env) as agent:
            uris = (target.url(), other.url())
            ids = await cloud.fire_all([fire(uri, authorization="Bearer canary-of-the-cloud") for uri in uris])
            await cloud.reported(*ids)
            assert await agent.stop() == 0
            said = agent.text() + "".join(map(repr, cloud.heard))
        sent = [head(request)[1]["authorization"] for request in target.requests + other.requests]
        assert sent == ["canary-local-token", "canary-local-token", "Bearer canary-of-the-cloud"]
        assert "canary" not in said
        assert b"canary-local-token" not in (tmp_path / "journal.db").read_bytes()


async def test_cancelled_during_an_attempt_and_fired_again_it_is_attempted_at_once(tmp_path: Path) -> None:
    """The control plane took it back, gave it to another instance, lost that one, and gives it again."""
    async with Target(silence) as target, ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path, **SLOW)
        async with Program("run", env=env) as agent:
            wanted = fire(target.url())
            await cloud.fire_all([wanted])
            await target.received(1)
            await cloud.say(Cancel(id=wanted.id))
            await cloud.canary("the-cancel-is-in-the-journal")
            await cloud.until(lambda: any(said.type == "canary_echo" for said in cloud.heard))
            target.answer = status(204)
            for writer in list(target._writers):
                writer.transport.abort()
            (report,) = await cloud.reported(wanted.id)
            assert (report.state, report.attempts) == (FinalState.CANCELLED, 1)
            await agent.said("reported", delivery=wanted.id)
            await cloud.send_again(wanted)
            await target.received(2, timeout=10)
            await cloud.until(lambda: [report.state for report in cloud.reports[wanted.id]][-1:] == ["succeeded"])


async def test_fired_again_a_waiting_retry_waits_on(tmp_path: Path) -> None:
    async with Target(in_turn(status(503), status(204))) as target, ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path, **SLOW)
        async with Program("run", env=env) as agent:
            wanted = fire(target.url())
            await cloud.fire_all([wanted])
            await agent.said("attempt", delivery=wanted.id, step="retry")
            await cloud.send_again(wanted)
            (other,) = await cloud.fire(target.url())
            await cloud.reported(other)
            assert len(target.requests) == 2
            assert wanted.id not in cloud.reports


async def test_a_host_that_is_gone_opens_its_circuit_and_holds_up_no_other(tmp_path: Path) -> None:
    async with Target() as alive, ScriptedControlPlane() as cloud:
        gone = f"http://127.0.0.1:{closed_port()}/"
        env = agent_env(cloud.url, cloud.key, tmp_path, **SLOW)
        async with Program("run", env=env) as agent:
            await cloud.fire(gone, count=100)
            line = await agent.said("circuit", state="open")
            assert (line["host"], line["level"]) == (gone.removeprefix("http://").rstrip("/"), "warning")
            ids = await cloud.fire(alive.url(), count=100)
            assert {report.state for report in await cloud.reported(*ids)} == {FinalState.SUCCEEDED}
            attempts = [said for said in agent.lines if said.get("event") == "attempt" and said["target"] in gone]
            assert len(attempts) <= 5 + 8  # those that opened it, and those under way by then
