"""One trace from an event to the requests that it causes, as a collector gets it from both real programs."""

from pathlib import Path
from typing import Any

from tests.support.collector import Collector, Received
from tests.support.processes import Program
from tests.support.system import Cloud, control_plane
from tests.support.target import Target, head, status

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
SERVER, CLIENT, PRODUCER = 2, 3, 4
"""Kinds of spans, as OTLP numbers them."""
SUBJECT = "subject-canary-5d1f"


async def posted(cloud: Cloud, **more: Any) -> list[str]:
    event = {
        "specversion": "1.0", "id": "1", "source": "/tests", "type": "ScanExecutionCompleted", "subject": SUBJECT,
    } | more  # fmt: skip
    answer = await cloud.api.call("POST", "Events", event)
    return list(answer["Deliveries"])


def environment(collector: Collector) -> dict[str, str]:
    return {"PRESENCE_TRACING__URL": collector.url, "PRESENCE_RETRY__INITIAL": "0.05"}


async def test_an_event_and_every_attempt_for_it_are_one_trace(tmp_path: Path) -> None:
    async with (
        Collector() as collector,
        Target() as target,
        control_plane(tmp_path, PRESENCE_CP_TRACING__URL=collector.url) as cloud,
    ):
        target.answer = status(503, 204)
        await cloud.api.webhook(cloud.presence_id, target.url("/{SubjectId}?secret=canary-8e21"))
        async with Program("run", env=cloud.agent_env(tmp_path, **environment(collector))) as agent:
            (delivery,) = await posted(cloud, traceparent=PARENT)
            assert (await cloud.api.ended(delivery))["State"] == "succeeded"
            requests = await target.received(2)
            # Spans leave in batches, and what is left at the end.
            assert await agent.stop() == 0
        assert await cloud.program.stop() == 0
        spans = await collector.received(4)
    assert {span.trace for span in spans} == {TRACE}
    by_name: dict[str, list[Received]] = {}
    for span in sorted(spans, key=lambda span: span.started):
        by_name.setdefault(span.name, []).append(span)
    (event,), (fired,), (first, second) = by_name["event"], by_name["delivery"], by_name["attempt"]
    assert (event.service, event.kind, event.parent) == ("presence-control-plane", SERVER, SPAN)
    assert (fired.service, fired.kind, fired.parent) == ("presence-control-plane", PRODUCER, event.id)
    for attempt in (first, second):
        assert (attempt.service, attempt.kind, attempt.parent) == ("presence-agent", CLIENT, fired.id)
        assert attempt.attributes["presence.delivery"] == delivery
        assert attempt.attributes["http.request.method"] == "GET"
        assert attempt.started <= attempt.ended
    assert (first.has_failed, first.attributes["http.response.status_code"]) == (True, 503)
    assert (second.has_failed, second.attributes["http.response.status_code"]) == (False, 204)
    assert second.attributes["http.request.resend_count"] == 1
    sent = b"".join(collector.raw)
    for secret in (SUBJECT, "canary-8e21", cloud.key, "/?secret"):
        assert secret.encode() not in sent
    for request in requests:
        assert "traceparent" not in head(request)[1]


async def test_a_trace_goes_through_a_control_plane_that_makes_none_and_a_killed_agent(tmp_path: Path) -> None:
    """The producer's own span is what the agent's attempts belong to then; the journal has kept it."""
    async with Collector() as collector, Target() as target, control_plane(tmp_path) as cloud:
        await cloud.api.webhook(cloud.presence_id, target.url())
        env = cloud.agent_env(tmp_path, **environment(collector))
        async with Program("run", env=env) as agent:
            await agent.said("link", state="online")
            target.answer = status(503, 204)
            (delivery,) = await posted(cloud, traceparent=PARENT)
            await target.received(1)
            await agent.kill()
        async with Program("run", env=env) as agent:
            assert (await cloud.api.ended(delivery))["State"] == "succeeded"
            assert await agent.stop() == 0
        (*_, last) = await collector.received(1)
    assert (last.trace, last.parent, last.name) == (TRACE, SPAN, "attempt")


async def test_without_a_place_for_spans_nothing_is_sent_and_nothing_is_missing(tmp_path: Path) -> None:
    async with Target() as target, control_plane(tmp_path) as cloud:
        await cloud.api.webhook(cloud.presence_id, target.url())
        async with Program("run", env=cloud.agent_env(tmp_path)):
            for number, broken in enumerate(("", "00-zz", f"00-{'0' * 32}-{SPAN}-01")):
                (delivery,) = await posted(cloud, id=f"broken-{number}", traceparent=broken)
                assert (await cloud.api.ended(delivery))["State"] == "succeeded"
