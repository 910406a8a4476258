"""What a running daemon tells Prometheus: every metric, its type and its labels, against a list written by hand."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from presence.agent.health import MOST_CONNECTIONS
from presence.protocol.messages import CanaryEcho, Cancel
from tests.integration.agent.test_control import HEALTH
from tests.support.control_plane import ScriptedControlPlane, fire
from tests.support.metrics import Scrape, scraped
from tests.support.odd_hosts import closed_port
from tests.support.processes import Program, agent_env
from tests.support.target import Target, status

PREFIX = "presence_agent_"
STATES = {"succeeded", "failed", "refused", "expired", "cancelled"}
CAUSES = {"dns", "tcp", "proxy", "tls", "upgrade", "auth", "idle", "peer", "clock", "renewal", "journal"}
REFUSALS = {
    *("template_invalid", "subject_invalid", "content_invalid", "body_invalid", "method_not_allowed", "denied_always"),
    *("denied_by_rule", "denied_loopback", "denied_own_listener", "not_allowed", "other_network", "path_ambiguous"),
    *("proxy_needs_rule", "proxy_unresolved"),
}
OUTCOMES = {
    *("1xx", "2xx", "3xx", "4xx", "5xx", "6xx", "7xx", "8xx", "9xx", "refused", "name_unknown", "timeout"),
    *("connection_refused", "unreachable", "reset", "proxy_refused", "agent_exhausted", "agent_defect"),
    *("certificate_untrusted", "certificate_expired", "certificate_not_yet_valid", "certificate_other_name"),
    *("handshake", "malformed_response", "headers_too_large", "interrupted"),
}
EXPECTED: dict[str, tuple[str, dict[str, set[str]]]] = {
    "build_info": ("gauge", {"version": set(), "python": set()}),
    "link_state": ("gauge", {"state": {"offline", "connecting", "online", "draining"}}),
    "link_changes": ("counter", {"state": {"offline", "connecting", "online", "draining"}}),
    "link_failures": ("counter", {"cause": CAUSES}),
    "canary_age_seconds": ("gauge", {}),
    "clock_offset_seconds": ("gauge", {}),
    "deliveries": ("counter", {"state": STATES}),
    "refusals": ("counter", {"reason": REFUSALS}),
    "busy": (
        "counter",
        {"reason": {"journal_full", "journal_failed", "memory_full", "host_full", "draining", "paused"}},
    ),
    "queued_deliveries": ("gauge", {"state": {"waiting", "held", "unreported"}}),
    "oldest_delivery_age_seconds": ("gauge", {}),
    "circuits": ("gauge", {"state": {"open", "half_open"}}),
    "paused": ("gauge", {}),
    "attempts": ("counter", {"outcome": OUTCOMES}),
    "attempts_in_flight": ("gauge", {}),
    "attempt_seconds": ("histogram", {}),
    "attempt_phase_seconds": ("histogram", {"phase": {"dns", "connect", "tls", "write", "first-byte", "body"}}),
    "journal_writable": ("gauge", {}),
    "journal_size_bytes": ("gauge", {}),
    "journal_deliveries": ("gauge", {}),
    "journal_commit_seconds": ("histogram", {}),
    "log_lines_dropped": ("counter", {}),
    "process_start_time_seconds": ("gauge", {}),
    "process_cpu_seconds": ("counter", {}),
    "process_virtual_memory_bytes": ("gauge", {}),
    "process_resident_memory_bytes": ("gauge", {}),
    "process_open_fds": ("gauge", {}),
    "process_max_fds": ("gauge", {}),
}
"""Type and labels of each metric; a label without values may have any. None of them names anybody or anything."""

SECRET = "planted-7c1d2f"


async def page(agent: Program) -> str:
    place = (await agent.said("started"))["health"][0]
    return f"http://{place}/metrics"


async def until(url: str, condition: Callable[[Scrape], bool]) -> Scrape:
    """The scrape for which the condition holds: what a scrape shows has no event."""
    async with asyncio.timeout(20):
        while not condition(found := await scraped(url)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return found


@pytest.mark.parametrize("kind", ["text/plain", "application/openmetrics-text; version=1.0.0"])
async def test_the_metrics_are_those_of_the_list(tmp_path: Path, kind: str) -> None:
    async with Target() as target, ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path, **HEALTH)
        async with Program("run", env=env) as agent:
            await cloud.ready()
            await cloud.reported(*await cloud.fire(target.url()))
            await cloud.canary("n-1")
            await cloud.until(lambda: any(isinstance(said, CanaryEcho) for said in cloud.heard))
            found = await scraped(await page(agent), kind)
    names = {PREFIX + name: kind for name, (kind, _) in EXPECTED.items()}
    if kind.startswith("application"):
        names[PREFIX + "build"] = "info"
        del names[PREFIX + "build_info"]
    assert found.types == names
    for name, (_, labels) in EXPECTED.items():
        shown = found.labels[PREFIX + (name if PREFIX + name in found.types else "build")]
        assert shown.keys() == labels.keys(), name
        for label, values in labels.items():
            assert not values or shown[label] == values, (name, label)
    assert {name for name in names if not any(sample.startswith(name) for sample, _ in found.samples)} == set()


async def test_what_happens_is_counted(tmp_path: Path) -> None:
    """Delivered, failed, refused, held, released, cancelled, expired, unreadable, a circuit, a pause, a cut link."""
    async with Target() as good, Target(status(404)) as bad, ScriptedControlPlane() as cloud:
        env = agent_env(
            cloud.url, cloud.key, tmp_path, **HEALTH,
            PRESENCE_RETRY__INITIAL="60", PRESENCE_RETRY__MAXIMUM="60", PRESENCE_RETRY__MAX_ATTEMPTS="9",
        )  # fmt: skip
        async with Program("run", env=env) as agent:
            url = await page(agent)
            secret = {"uri": good.url(f"/{{SubjectId}}?token={SECRET}"), "authorization": f"Bearer {SECRET}"}
            ids = await cloud.fire_all(
                [
                    *(fire(**secret, subject_id=f"{SECRET}-{number}") for number in range(3)),
                    fire(bad.url()),
                    fire("http://169.254.169.254/"),
                    fire(good.url(), age=5000, max_age=1000),
                ]
            )
            await cloud.reported(*ids)
            nobody = f"http://127.0.0.1:{closed_port()}/"
            gone = [fire(nobody) for _ in range(5)]
            await cloud.fire_all(gone)
            found = await until(url, lambda shown: shown.value(PREFIX + "circuits", state="open") == 1)
            assert found.value(PREFIX + "queued_deliveries", state="waiting") == 5
            assert found.value(PREFIX + "oldest_delivery_age_seconds") > 0
            await cloud.say(Cancel(id=gone[0].id))
            await cloud.reported(gone[0].id)
            await cloud.send_raw('{"type":"fire","id":"5c1b3c0e-1111-4222-8333-944455556666","uri":7,"max_age":1}')
            await cloud.reported("5c1b3c0e-1111-4222-8333-944455556666")
            assert cloud.connection is not None
            await cloud.connection.close()
            await agent.said("link", state="offline")
            found = await until(url, lambda shown: shown.value(PREFIX + "link_changes_total", state="online") == 2)
            await cloud.canary("n-2")
            found = await until(url, lambda shown: shown.has(PREFIX + "canary_age_seconds"))
        ended = {state: found.value(PREFIX + "deliveries_total", state=state) for state in STATES}
        assert ended == {"succeeded": 3, "failed": 1, "refused": 2, "expired": 1, "cancelled": 1}
        refused = {reason: found.value(PREFIX + "refusals_total", reason=reason) for reason in REFUSALS}
        assert {reason for reason, count in refused.items() if count} == {"denied_always", "content_invalid"}
        tried = {outcome: found.value(PREFIX + "attempts_total", outcome=outcome) for outcome in OUTCOMES}
        assert {outcome: count for outcome, count in tried.items() if count} == {
            "2xx": 3, "4xx": 1, "connection_refused": 5, "refused": 1,
        }  # fmt: skip
        assert found.value(PREFIX + "attempt_seconds_count") == 10
        phases = EXPECTED["attempt_phase_seconds"][1]["phase"]
        entered = {phase: found.value(PREFIX + "attempt_phase_seconds_count", phase=phase) for phase in phases}
        assert (entered["write"], entered["first-byte"], entered["tls"]) == (4, 4, 0)
        assert entered["connect"] >= 7
        assert found.value(PREFIX + "queued_deliveries", state="waiting") == 4
        assert found.value(PREFIX + "queued_deliveries", state="unreported") == 0
        assert found.value(PREFIX + "journal_deliveries") == 11
        assert found.value(PREFIX + "journal_commit_seconds_count") >= 6
        assert found.value(PREFIX + "journal_writable") == 1
        assert found.value(PREFIX + "link_state", state="online") == 1
        assert found.value(PREFIX + "link_failures_total", cause="peer") == 1
        assert abs(found.value(PREFIX + "clock_offset_seconds")) < 5
        for word in (SECRET, cloud.key, "127.0.0.1", "169.254", "http", str(tmp_path), ids[0], gone[0].webhook_id):
            assert word not in found.text


async def test_what_nobody_knows_is_held_and_a_pause_is_seen(tmp_path: Path) -> None:
    async def hang_up(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with Target(hang_up) as target, ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path, **HEALTH)
        async with Program("run", env=env) as agent:
            url = await page(agent)
            await cloud.fire(target.url(), on_unknown="hold")
            found = await until(url, lambda shown: shown.value(PREFIX + "queued_deliveries", state="held") == 1)
            assert found.value(PREFIX + "paused") == 0
            connector = aiohttp.UnixConnector(env["PRESENCE_CONTROL__SOCKET"])
            async with aiohttp.ClientSession("http://agent", connector=connector) as control:
                assert (await control.post("/pause", json={"seconds": 60})).status == 200
                shown = Scrape.of(await (await control.get("/metrics")).text())
            assert shown.value(PREFIX + "paused") == 1
            assert shown.types == found.types
            await agent.kill()
        async with Program("run", env=env) as agent:
            found = await scraped(await page(agent))
            assert found.value(PREFIX + "queued_deliveries", state="held") == 1
            assert found.value(PREFIX + "journal_deliveries") == 1
            assert found.value(PREFIX + "paused") == 1


async def test_what_is_not_known_has_no_sample_and_a_full_disk_is_seen(tmp_path: Path) -> None:
    async with ScriptedControlPlane() as cloud:
        await cloud.stop()
        env = agent_env(cloud.url, cloud.key, tmp_path, **HEALTH)
        async with Program("run", env=env) as agent:
            await agent.said("link", state="offline")
            found = await scraped(url := await page(agent))
            assert not found.has(PREFIX + "canary_age_seconds")
            assert not found.has(PREFIX + "clock_offset_seconds")
            assert found.value(PREFIX + "oldest_delivery_age_seconds") == 0
            assert found.value(PREFIX + "link_failures_total", cause="tcp") >= 1
            await cloud.start()
            await cloud.ready()
            agent.limit_files(1)
            await cloud.fire("http://127.0.0.1:1/")
            await agent.said("journal", state="failing")
            found = await until(url, lambda shown: shown.value(PREFIX + "journal_writable") == 0)
            assert found.value(PREFIX + "busy_total", reason="journal_failed") == 1


@pytest.mark.parametrize(
    "accept", ["", "*/*", "application/openmetrics-text; version=x", 'text/plain;version="\u00e9', "a" * 4000]
)
async def test_whatever_a_client_says_that_it_accepts_it_is_answered(tmp_path: Path, accept: str) -> None:
    env = agent_env("ws://127.0.0.1:1", "k" * 20, tmp_path, **HEALTH)
    async with Program("run", env=env) as agent:
        url = await page(agent)
        assert (await scraped(url, accept)).types
        many = await asyncio.gather(*(scraped(url) for _ in range(MOST_CONNECTIONS // 2)))
        assert len(many) == MOST_CONNECTIONS // 2


def test_only_the_daemon_imports_the_library() -> None:
    """What a command imports is time that a person waits for."""
    import subprocess
    import sys

    modules = "presence.agent.testfire, presence.agent.checkup, presence.agent.enrolment, presence.cli.daemon"
    code = f"import sys, {modules}; print('prometheus_client' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "False\n"
