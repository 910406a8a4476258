"""One HTTP request: `Http.send(request) -> Sent`. With `wire` the only importer of aiohttp's client.

On the wire is what `Request` says and nothing else: the request is sent once, no redirect is followed, no cookie
kept, no netrc or proxy environment read, nothing decompressed, no URI normalised.
"""

import asyncio
import re
import ssl
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple, Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import StreamReader

from presence import __version__
from presence.agent.dial import Gate, Progress, Stopped, bracketed
from presence.agent.names import Resolver
from presence.agent.pool import Pool
from presence.agent.targets import TargetOptions
from presence.agent.wire import FAILURES, HeadTooLarge, Wire
from presence.clock import Clock
from presence.domain.egress import Destination, EgressPolicy
from presence.domain.outcome import Fault, Outcome, Phase, Response, TransportFailure
from presence.domain.retry import is_retried, parse_http_date, parse_retry_after
from presence.domain.uri import DEFAULT_PORTS

_OURS: Mapping[str, str] = {"user-agent": f"User-Agent: Presence/{__version__}", "accept": "Accept: */*"}
_SUCCESS = [Response(status) for status in range(200, 300)]
_HOST = re.compile(r"[a-z0-9._:-]{1,253}\Z")
_AFTER_AUTHORITY = re.compile(r"[^:]+://[^/?]*(.*)\Z")
_OUR_CERTIFICATE = re.compile("ALERT_(?:.*CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED)")
_UNSENDABLE = re.compile(r"[^\t\x20-\x7e]")


class Request(NamedTuple):
    """`uri` is expanded and checked. `repeatable`: a kept connection that was closed may be replaced at once.

    Headers and body may hold secrets, and the repr shows neither.
    """

    method: str
    uri: str
    destination: Destination
    headers: Mapping[str, str]
    body: bytes | None
    options: TargetOptions
    repeatable: bool

    def __repr__(self) -> str:
        return f"Request({self.method} {self.destination.host})"


class Sent(NamedTuple):
    """What came of a request. The rest as in `presence.domain.outcome.Attempt`."""

    outcome: Outcome
    address: str | None
    phases: Mapping[Phase, int]
    repeated: bool
    observed: bool


class Http:
    """Requests under one egress policy. `async with`."""

    def __init__(self, policy: EgressPolicy, clock: Clock, max_response_bytes: int, max_header_bytes: int) -> None:
        self._policy = policy
        self._clock = clock
        self._max_response_bytes = max_response_bytes
        self._max_header_bytes = max_header_bytes
        self.uses_paths = policy.uses_paths
        """Whether a request's destination must carry its path."""

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._resolver = Resolver()
        self._pool = Pool(Gate(self._policy), self._resolver)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._pool.close()
        self._resolver.close()

    def apply(self, policy: EgressPolicy) -> None:
        """Another policy from now on; no connection that was opened under the old one is used again."""
        self._policy, self.uses_paths = policy, policy.uses_paths
        self._pool.apply(Gate(policy))

    async def send(self, request: Request) -> Sent:
        """The outcome of one request. Raises nothing but CancelledError and what is a defect of ours."""
        progress = Progress(request.destination, request.method, request.options)
        progress.ends = self._loop.time() + request.options.timeout
        outcome = await self._exchange(request, progress)
        repeated = request.repeatable and progress.was_stale
        if repeated:
            progress.fresh = True
            outcome = await self._exchange(request, progress)
            if isinstance(outcome, TransportFailure):
                # The first one may have been taken, whatever became of the second.
                outcome = replace(outcome, sent=True)
        progress.enter(Phase.POLICY)
        phases = {phase: int(seconds * 1000) for phase, seconds in progress.seconds.items()}
        return Sent(outcome, progress.address, phases, repeated, progress.observed)

    async def _exchange(self, request: Request, progress: Progress) -> Outcome:
        wire: Wire | None = None
        outcome: Outcome | None = None
        try:
            until = min(progress.ends, self._loop.time() + request.options.first_byte_timeout)
            async with asyncio.timeout_at(until) as progress.deadline:
                wire = await self._pool.get(progress)
                progress.enter(Phase.WRITE)
                wire.ask(_written(request), self._max_header_bytes, self._max_response_bytes)
                progress.enter(Phase.FIRST_BYTE)
                head, body = await wire.answer()
                outcome = self._judge(head)
                if not body.is_eof():
                    progress.enter(Phase.BODY)
                    progress.deadline.reschedule(progress.ends)
                    await self._discard(body)
        except Stopped as stopped:
            return stopped.outcome
        except FAILURES as error:
            if wire is None:
                return TransportFailure(progress.phase, Fault.TIMEOUT)
            if outcome is None:
                outcome = _failure(error, wire)
                progress.was_stale = outcome.fault is Fault.RESET and not progress.opened and not wire.answered
            wire.abort()
        except BaseException:
            if wire is not None:
                wire.abort()
            raise
        else:
            if request.body:
                wire.force_close()
            self._pool.put(wire, progress)
        return outcome

    def _judge(self, head: RawResponseMessage) -> Outcome:
        status = head.code
        if 200 <= status <= 299:
            return _SUCCESS[status - 200]
        if not 100 <= status <= 999:
            return TransportFailure(Phase.FIRST_BYTE, Fault.MALFORMED_RESPONSE, sent=True)
        if 300 <= status <= 399:
            location = head.headers.get("Location")
            return Response(status, location=None if location is None else _host_of(location))
        after = head.headers.get("Retry-After")
        if after is None or not is_retried(Response(status)):
            return Response(status)
        now = parse_http_date(head.headers.get("Date", "")) or datetime.fromtimestamp(self._clock.wall() / 1000, UTC)
        return Response(status, retry_after=parse_retry_after(after, now))

    async def _discard(self, body: StreamReader) -> None:
        """Reads the body up to the limit, so that the connection can be used again."""
        left = self._max_response_bytes
        async for chunk in body.iter_any():
            left -= len(chunk)
            if left < 0:
                return


def _written(request: Request) -> bytes:
    """The request's bytes (RFC 9112 sections 3 and 5). Raises ValueError where a header would end early."""
    destination, body = request.destination, request.body
    proxy = request.options.proxy if destination.scheme == "http" else None
    headers = [f"{name}: {value}" for name, value in request.headers.items()]
    if proxy is not None and proxy.authorization is not None:
        headers.append(f"Proxy-Authorization: {proxy.authorization}")
    if body is not None or request.method != "GET":
        headers.append(f"Content-Length: {len(body or b'')}")
    if body:
        # A server that does not read it would take it for the next request on this connection.
        headers.append("Connection: close")
    if any(map(_UNSENDABLE.search, headers)):
        raise ValueError("a header has a character that ends it")
    target = _target(request.uri) if proxy is None else request.uri
    opening = _opening(destination, frozenset(_OURS.keys() & map(str.lower, request.headers)))
    head = "\r\n".join((f"{request.method} {target} HTTP/1.1", opening, *headers, "\r\n"))
    return head.encode("ascii") + (body or b"")


def _target(uri: str) -> str:
    """The request target in origin form: what follows the authority, as it was written."""
    shape = _AFTER_AUTHORITY.match(uri)
    assert shape is not None
    return shape[1] if shape[1].startswith("/") else f"/{shape[1]}"


@lru_cache(maxsize=4096)
def _opening(destination: Destination, replaced: frozenset[str]) -> str:
    """The headers that every request to that destination has, but for those that it brings itself."""
    port = "" if DEFAULT_PORTS[destination.scheme] == destination.port else f":{destination.port}"
    lines = [f"Host: {bracketed(destination.host)}{port}"]
    return "\r\n".join(lines + [line for name, line in _OURS.items() if name not in replaced])


def _host_of(location: str) -> str:
    """The host that a redirect names, if it is one; nothing else of the text is passed on."""
    try:
        host = urlsplit(location).hostname or "here"
    except ValueError:
        return "unreadable"
    return host if _HOST.match(host) else "unreadable"


def _failure(error: Exception, wire: Wire) -> TransportFailure:
    """What kept the status line from coming, once there was a connection."""
    phase = Phase.WRITE if wire.unsent else Phase.FIRST_BYTE
    match error:
        case TimeoutError():
            return TransportFailure(phase, Fault.TIMEOUT, sent=True)
        case HeadTooLarge():
            return TransportFailure(phase, Fault.HEADERS_TOO_LARGE, sent=True)
        case aiohttp.ClientResponseError() | HttpProcessingError():
            return TransportFailure(phase, Fault.MALFORMED_RESPONSE, sent=True)
        case aiohttp.ClientOSError(__cause__=ssl.SSLError(reason=str(reason))) if _OUR_CERTIFICATE.search(reason):
            # With TLS 1.3 the server looks at our certificate when we are done, but before it reads the request.
            return TransportFailure(Phase.TLS, Fault.HANDSHAKE)
        case _:
            return TransportFailure(phase, Fault.RESET, sent=True)
