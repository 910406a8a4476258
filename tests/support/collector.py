"""A collector of OpenTelemetry spans: OTLP over HTTP, as the real ones take it."""

import asyncio
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SECONDS = 20.0


@dataclass(frozen=True)
class Received:
    """A span as it came. `parent`: the id of the span that it belongs to, or empty."""

    service: str
    name: str
    kind: int
    trace: str
    id: str
    parent: str
    started: int
    ended: int
    attributes: dict[str, Any]
    has_failed: bool


class Collector:
    """Serves at `url` while entered."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.raw: list[bytes] = []
        self._news = asyncio.Condition()

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.add_routes([web.post("/v1/traces", self._take)])
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/v1/traces"
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()

    async def received(self, count: int) -> list[Received]:
        """The spans, once there are so many."""
        async with asyncio.timeout(SECONDS), self._news:
            await self._news.wait_for(lambda: len(self.spans) >= count)
        return self.spans

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.raw.append(body)
        message = ExportTraceServiceRequest.FromString(body)
        for resource in message.resource_spans:
            service = next(
                item.value.string_value for item in resource.resource.attributes if item.key == "service.name"
            )
            self.spans += [_received(service, span) for scope in resource.scope_spans for span in scope.spans]
        async with self._news:
            self._news.notify_all()
        return web.Response(content_type="application/x-protobuf")


def _received(service: str, span: Any) -> Received:
    attributes = {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in span.attributes}
    return Received(
        service, span.name, span.kind, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(),
        span.start_time_unix_nano // 1_000_000, span.end_time_unix_nano // 1_000_000, attributes,
        span.status.code == span.status.STATUS_CODE_ERROR,
    )  # fmt: skip
