"""One HTTP request: `Http.send(request) -> Sent`. The only importer of aiohttp's client.

What aiohttp does by itself and must not do here is switched off: it sends nothing a second time, follows
no redirect, keeps no cookie, reads no netrc or proxy environment, decompresses nothing, normalises no URI.

The egress policy is enforced where the connection is made: every answer of the one name resolution is checked,
the socket factory opens sockets to checked addresses only, and the peer of the connection that is used is
checked once more, also when it was opened for an earlier request.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from presence import __version__
from presence.agent.settings import Delivery
from presence.domain.egress import Address, EgressPolicy
from presence.domain.outcome import Fault, Outcome, Phase, Refused, Response, TransportFailure

KEEPALIVE = 4.0
"""Seconds an idle connection is kept: less than common servers do, so that they seldom close it under us."""

DNS_THREADS = 8
DECISIONS = 10_000


@dataclass(frozen=True, slots=True)
class Request:
    """`uri` is expanded and checked; `host` and `port` are those of its template."""

    method: str
    uri: str
    host: str
    port: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of a request, and the address it went to, if it came that far."""

    outcome: Outcome
    address: str | None


@dataclass(slots=True)
class _Wire:
    """How far the request of the current task has come."""

    host: str
    port: int
    phase: Phase = Phase.DNS
    checked: tuple[str, ...] = ()
    refused: Refused | None = None
    address: str | None = None


_wire: ContextVar[_Wire] = ContextVar("wire")


class _Denied(OSError):
    """A connection that the egress policy forbids. An OSError, because aiohttp takes no other from a socket factory."""


class _Ended(aiohttp.ClientError):
    """A connection that ended before the answer; of a type that aiohttp does not answer by sending again."""


class Http:
    """A pool of connections under one egress policy. `async with`."""

    def __init__(self, limits: Delivery, policy: EgressPolicy) -> None:
        self._limits = limits
        self._policy = policy
        self._decisions = Decisions(policy)

    async def __aenter__(self) -> Self:
        limits = self._limits
        self._resolver = Resolver(self._policy, limits.connect_timeout)
        self._session = aiohttp.ClientSession(
            connector=_Connector(
                self._decisions,
                resolver=self._resolver,
                socket_factory=_open_socket,
                use_dns_cache=False,
                limit=0,
                keepalive_timeout=KEEPALIVE,
                happy_eyeballs_delay=None,
            ),
            timeout=aiohttp.ClientTimeout(
                total=limits.attempt_timeout, sock_connect=limits.connect_timeout, ceil_threshold=1e9
            ),
            headers={"User-Agent": f"Presence/{__version__}"},
            skip_auto_headers=("Accept-Encoding",),
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(_never_again,),
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._session.close()
        await self._resolver.close()

    async def send(self, request: Request) -> Sent:
        """The outcome of one request. Raises nothing but CancelledError and what is a defect of ours."""
        wire = _Wire(request.host, request.port)
        _wire.set(wire)
        if as_address(request.host) is not None:
            refused = self._decisions.decide(request.host, request.port, request.host)
            if refused is not None:
                return Sent(refused, None)
            wire.checked = (request.host,)
            wire.phase = Phase.CONNECT
        try:
            response = await self._session.request(
                request.method, URL(request.uri, encoded=True), headers=request.headers, allow_redirects=False
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Sent(wire.refused or _classify(error, wire), wire.address)
        async with response:
            await self._discard(response)
        if response.status < 100:
            return Sent(TransportFailure(Phase.FIRST_BYTE, Fault.MALFORMED_RESPONSE, sent=True), wire.address)
        return Sent(Response(response.status), wire.address)

    async def _discard(self, response: aiohttp.ClientResponse) -> None:
        """Reads the body up to the limit, so that the connection can be used again; the status has decided."""
        if response.content.at_eof():
            return
        left = self._limits.max_response_bytes
        try:
            async for chunk in response.content.iter_any():
                left -= len(chunk)
                if left < 0:
                    response.close()
                    return
        except (aiohttp.ClientError, TimeoutError, OSError):
            response.close()


class Decisions:
    """The policy's answers, remembered: it is pure and frozen, so one answer serves every request to an address."""

    def __init__(self, policy: EgressPolicy) -> None:
        self._policy = policy
        self._known: dict[tuple[str, int, str], Refused | None] = {}

    def decide(self, host: str, port: int, address: str) -> Refused | None:
        key = host, port, address
        if key not in self._known:
            if len(self._known) >= DECISIONS:
                self._known.clear()
            self._known[key] = self._policy.decide_all(host, port, [ipaddress.ip_address(address)])
        return self._known[key]


class Resolver(AbstractResolver):
    """Resolves in threads of its own (a slow name server must stall nothing else) and checks every answer."""

    def __init__(self, policy: EgressPolicy, timeout: float) -> None:
        self._policy = policy
        self._timeout = timeout
        self._threads = ThreadPoolExecutor(DNS_THREADS, thread_name_prefix="dns")

    async def addresses(self, host: str, port: int) -> list[Address]:
        """All addresses of the name, in the system's order. Raises socket.gaierror or TimeoutError."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._timeout):
            found = await loop.run_in_executor(self._threads, _look_up, host, port)
        return list(dict.fromkeys(ipaddress.ip_address(entry[4][0]) for entry in found))

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        wire = _wire.get()
        addresses = await self.addresses(host, port)
        wire.refused = self._policy.decide_all(wire.host, wire.port, addresses)
        if wire.refused is not None:
            raise _Denied(wire.refused.reason)
        wire.phase = Phase.CONNECT
        wire.checked = tuple(map(str, addresses))
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class _Connector(aiohttp.TCPConnector):
    """Checks the peer of each connection it hands out, a fresh one or one that is used again."""

    def __init__(self, decisions: "Decisions", **options: Any) -> None:
        super().__init__(**options)
        self._decisions = decisions

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:
        connection = await super().connect(req, traces, timeout)
        wire = _wire.get()
        peer = connection.transport.get_extra_info("peername") if connection.transport else None
        if peer is not None:
            wire.address = peer[0]
            wire.refused = self._decisions.decide(wire.host, wire.port, peer[0])
            if wire.refused is not None:
                connection.close()
                raise _Denied(wire.refused.reason)
        wire.phase = Phase.FIRST_BYTE
        return connection


@lru_cache(maxsize=1024)
def as_address(host: str) -> Address | None:
    """The host as an address, where it is one literally."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _look_up(host: str, port: int) -> list[Any]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def _open_socket(info: Any) -> socket.socket:
    family, kind, protocol, _, address = info
    if str(ipaddress.ip_address(address[0])) not in _wire.get().checked:
        raise _Denied(f"{address[0]} was not checked")
    opened = socket.socket(family, kind, protocol)
    opened.setblocking(False)
    return opened


async def _never_again(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
        raise _Ended from error


def _classify(error: Exception, wire: _Wire) -> TransportFailure:
    """What kept the status line from coming."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return TransportFailure(Phase.TLS, Fault.CERTIFICATE_UNTRUSTED)
        case aiohttp.ClientConnectorSSLError():
            return TransportFailure(Phase.TLS, Fault.HANDSHAKE)
        case TimeoutError():
            return TransportFailure(wire.phase, Fault.TIMEOUT, sent=wire.phase is Phase.FIRST_BYTE)
        case aiohttp.ClientConnectorDNSError() | socket.gaierror():
            return TransportFailure(Phase.DNS, Fault.NAME_UNKNOWN)
        case aiohttp.ClientConnectorError(os_error=ConnectionRefusedError()) | ConnectionRefusedError():
            return TransportFailure(Phase.CONNECT, Fault.CONNECTION_REFUSED)
        case aiohttp.ClientConnectorError(os_error=ConnectionResetError()):
            return TransportFailure(Phase.CONNECT, Fault.RESET)
        case aiohttp.ClientConnectorError():
            return TransportFailure(Phase.CONNECT, Fault.UNREACHABLE)
        case aiohttp.ClientResponseError() | aiohttp.InvalidURL():
            return TransportFailure(Phase.FIRST_BYTE, Fault.MALFORMED_RESPONSE, sent=True)
        case _:
            return TransportFailure(wire.phase, Fault.RESET, sent=wire.phase is Phase.FIRST_BYTE)
