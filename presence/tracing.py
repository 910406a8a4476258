"""Traces with OpenTelemetry: one from an event to the requests that it causes. Only where `[tracing] url` is set.

Each part of the way is a span, whose name in the trace (its traceparent) goes on with the delivery: event ->
delivery -> fire -> journal -> attempt. Whoever makes no spans hands on what it got. Spans hold the names of hosts,
states and ids; never a subject, a secret, or what a URI or a body holds.

The library is the extra `otel`; it is imported only here, and only if a trace is wanted.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final, Protocol

from pydantic import Field

from presence import __version__
from presence.configuration import Section
from presence.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as SdkSpan

CLOSE_SECONDS: Final = 2.0
"""What the last spans may take to leave; then they are lost, as a trace holds nobody up."""
_MISSING = (
    "tracing.url: traces need libraries that are not installed; install Presence with its extra 'otel'"
    " (pip install '.[otel]'), or leave tracing.url out"
)

Value = str | int | bool


class Kind(StrEnum):
    """What a span stands for."""

    SERVER = "SERVER"
    """A request that was taken."""
    PRODUCER = "PRODUCER"
    """What was handed to an agent."""
    CLIENT = "CLIENT"
    """A request that was made."""


class TracingSettings(Section):
    """Where spans go, and of which share of the traces that begin here. `url` unset: nowhere."""

    url: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = Field(
        None, examples=["http://127.0.0.1:4318/v1/traces"]
    )
    ratio: Annotated[float, Field(ge=0, le=1)] = 1.0


class Span(Protocol):
    """A part of the way. `traceparent`: what comes after it is told."""

    @property
    def traceparent(self) -> str | None: ...

    def end(self, fault: str | None = None, **attributes: Value | None) -> None:
        """It is over, for that reason if it failed; attributes that are None are left out."""


class Spans(Protocol):
    """Begins spans."""

    def begin(
        self, name: str, kind: Kind, parent: str | None, *, since: int | None = None, **attributes: Value | None
    ) -> Span:
        """`parent`: a traceparent. `since`: milliseconds since the Unix epoch, where it began earlier."""


class _Passing:
    """No span: what comes after belongs to what came before."""

    __slots__ = ("traceparent",)

    def __init__(self, traceparent: str | None) -> None:
        self.traceparent = traceparent

    def end(self, fault: str | None = None, **attributes: Value | None) -> None:
        """Nothing."""


class Untraced:
    """Makes no spans."""

    def begin(
        self, name: str, kind: Kind, parent: str | None, *, since: int | None = None, **attributes: Value | None
    ) -> Span:
        return _Passing(parent)


UNTRACED: Final[Spans] = Untraced()


@asynccontextmanager
async def traced(settings: TracingSettings, service: str) -> AsyncIterator[Spans]:
    """Spans of a service, which leave in a thread of their own while entered. Raises ConfigurationError."""
    if settings.url is None:
        yield UNTRACED
        return
    try:
        provider = _provider(settings.url, settings.ratio, service)
    except ImportError:
        raise ConfigurationError(_MISSING) from None
    try:
        yield _Traced(provider)
    finally:
        await _close(provider)


async def _close(provider: "TracerProvider") -> None:
    """Sends what is left. A collector that does not answer is waited for in a thread that nobody waits for."""
    loop, closed = asyncio.get_running_loop(), asyncio.Event()

    def close() -> None:
        provider.shutdown()
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(closed.set)

    threading.Thread(target=close, name="tracing", daemon=True).start()
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await closed.wait()


def _provider(url: str, ratio: float, service: str) -> "TracerProvider":
    import requests
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    session = requests.Session()
    # No proxy of the environment: that is for the way to the control plane.
    session.trust_env = False
    resource = Resource({"service.name": service, "service.version": __version__})
    provider = TracerProvider(sampler=ParentBasedTraceIdRatio(ratio), resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url, session=session)))
    return provider


class _Traced:
    """Makes spans."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = provider.get_tracer("presence", __version__)
        self._read = TraceContextTextMapPropagator().extract
        self._kinds: Mapping[Kind, SpanKind] = {kind: SpanKind[kind.value] for kind in Kind}

    def begin(
        self, name: str, kind: Kind, parent: str | None, *, since: int | None = None, **attributes: Value | None
    ) -> Span:
        context: Context = self._read({} if parent is None else {"traceparent": parent})
        started = None if since is None else since * 1_000_000
        span = self._tracer.start_span(
            name, context, self._kinds[kind], attributes=_given(attributes), start_time=started
        )
        return _Recording(span)


class _Recording:
    """A span that is sent when it has ended."""

    __slots__ = ("_span",)

    def __init__(self, span: "SdkSpan") -> None:
        self._span = span

    @property
    def traceparent(self) -> str | None:
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def end(self, fault: str | None = None, **attributes: Value | None) -> None:
        from opentelemetry.trace import StatusCode

        self._span.set_attributes(_given(attributes))
        if fault is not None:
            self._span.set_attribute("error.type", fault)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


def _given(attributes: Mapping[str, Value | None]) -> dict[str, Value]:
    """By names with dots in place of double underscores: `http__request__method`."""
    return {name.replace("__", "."): value for name, value in attributes.items() if value is not None}
