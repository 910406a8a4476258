"""Spans: what is told of them, and what comes after them."""

import asyncio
import subprocess
import sys

import pytest
from pydantic import ValidationError

from presence.tracing import CLOSE_SECONDS, UNTRACED, Kind, TracingSettings, traced
from tests.support.collector import Collector

PARENT = f"00-{'ab' * 16}-{'cd' * 8}-01"
UNSAMPLED = f"00-{'ab' * 16}-{'cd' * 8}-00"


async def test_without_a_place_for_spans_what_came_before_is_handed_on() -> None:
    async with traced(TracingSettings(), "service") as spans:
        assert spans is UNTRACED
        for parent in (None, PARENT):
            span = spans.begin("event", Kind.SERVER, parent, http__request__method="GET")
            span.end("fault", presence__delivery="x")
            assert span.traceparent == parent


async def test_spans_of_one_trace_arrive_at_the_collector() -> None:
    async with Collector() as collector:
        async with traced(TracingSettings(url=collector.url), "service") as spans:
            outer = spans.begin("outer", Kind.SERVER, PARENT, since=1_700_000_000_000)
            inner = spans.begin("inner", Kind.CLIENT, outer.traceparent, http__request__method="GET", nothing=None)
            inner.end("timeout", http__request__resend_count=2, nothing=None)
            outer.end()
        one, two = collector.spans
    assert (one.name, two.name) == ("inner", "outer")
    assert {span.trace for span in (one, two)} == {"ab" * 16}
    assert (two.parent, one.parent) == ("cd" * 8, two.id)
    assert two.started == 1_700_000_000_000
    assert (one.has_failed, two.has_failed) == (True, False)
    assert one.attributes == {"http.request.method": "GET", "http.request.resend_count": 2, "error.type": "timeout"}
    assert {one.service, two.service} == {"service"}


@pytest.mark.parametrize(("ratio", "parent"), [(1.0, UNSAMPLED), (0.0, None)])
async def test_a_trace_that_is_not_recorded_goes_on_unrecorded(ratio: float, parent: str | None) -> None:
    async with Collector() as collector:
        async with traced(TracingSettings(url=collector.url, ratio=ratio), "service") as spans:
            span = spans.begin("event", Kind.SERVER, parent)
            span.end()
        assert span.traceparent is not None
        version, trace, _, flags = span.traceparent.split("-")
        assert version == "00"
        assert parent is None or trace == "ab" * 16
        assert int(flags, 16) % 2 == 0
        assert not collector.raw


async def test_a_collector_that_is_away_keeps_nobody_from_ending() -> None:
    loop = asyncio.get_running_loop()
    async with Collector() as collector:
        url = collector.url
    async with traced(TracingSettings(url=url), "service") as spans:
        spans.begin("event", Kind.SERVER, None).end()
        leaving = loop.time()
    assert loop.time() - leaving < CLOSE_SECONDS + 1


@pytest.mark.parametrize(
    "fields", [{"url": "collector:4318"}, {"url": "ftp://x/"}, {"url": ""}, {"ratio": 1.1}, {"ratio": -1}]
)
def test_other_settings_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TracingSettings.model_validate(fields)


def test_without_the_extra_a_place_for_spans_is_an_error_that_says_what_to_install() -> None:
    program = (
        "import asyncio, sys; sys.modules['opentelemetry.sdk'] = None\n"
        "from presence.tracing import TracingSettings, traced\n"
        "from presence.errors import ConfigurationError\n"
        "try:\n"
        "    asyncio.run(traced(TracingSettings(url='http://127.0.0.1:9/'), 'service').__aenter__())\n"
        "except ConfigurationError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "tracing.url" in done.stdout
    assert "pip install '.[otel]'" in done.stdout


def test_the_library_is_not_loaded_for_nothing() -> None:
    program = "import sys, presence.agent.app; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
