"""Opens connections that the egress policy allows: resolve, decide on every answer, connect to a checked address.

One name resolution for each new connection. Nothing is connected to that was not decided on, and the peer of the
connected socket is compared with what was. Through a proxy the proxy's address is checked and pinned likewise,
and the target's own addresses, as this host resolves them, are decided on as well.
"""

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Sequence
from time import monotonic

from presence.agent.names import Resolver, is_no_such_name
from presence.agent.targets import Proxy, TargetOptions
from presence.domain.address import Address
from presence.domain.egress import Allowed, Destination, EgressPolicy
from presence.domain.outcome import Fault, Phase, Reason, Refused, TransportFailure

DECISIONS = 10_000
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)
PROXY_HEAD = 16 * 1024


class Stopped(Exception):
    """An attempt ends before its request was sent; `outcome` says why.

    `no_such_name`: the name server says so itself; asking again would not help.
    """

    def __init__(self, outcome: TransportFailure | Refused, *, no_such_name: bool = False) -> None:
        self.outcome = outcome
        self.no_such_name = no_such_name


class Gate:
    """The policy's answers, remembered: it is pure and frozen, so one answer serves every request to an address."""

    def __init__(self, policy: EgressPolicy) -> None:
        self.policy = policy
        self._known: dict[tuple[Destination, str, str], Allowed | Refused] = {}

    def decide(self, destination: Destination, method: str, address: str) -> Allowed | Refused:
        if destination.path != "/":
            # Paths are without number, and long: they would only fill the memory.
            return self.policy.decide(destination, [ipaddress.ip_address(address)], method)
        key = destination, method, address
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= DECISIONS:
                self._known.clear()
            known = self.policy.decide(destination, [ipaddress.ip_address(address)], method)
            self._known[key] = known
        return known


class Progress:
    """How far one attempt has come. `seconds`: what each phase that has ended took."""

    __slots__ = (
        "_since",
        "address",
        "deadline",
        "destination",
        "ends",
        "fresh",
        "gate",
        "method",
        "observed",
        "opened",
        "options",
        "phase",
        "seconds",
        "was_stale",
    )  # fmt: skip

    def __init__(self, destination: Destination, method: str, options: TargetOptions) -> None:
        self.destination = destination
        self.method = method
        self.options = options
        self.phase = Phase.POLICY
        self.seconds: dict[Phase, float] = {}
        self.address: str | None = None
        self.fresh = False
        """Whether only a new connection will do."""
        self.opened = False
        """Whether a connection was opened for this attempt; else it is a reused one."""
        self.observed = False
        self.was_stale = False
        """Whether a kept connection turned out to be closed before anything came (RFC 9112 section 9.3.1)."""
        self.gate: Gate | None = None
        """The policy that was in force when it got its connection."""
        self.deadline: asyncio.Timeout | None = None
        self.ends = 0.0
        """When the whole attempt must have ended, in the event loop's time."""
        self._since = monotonic()

    def enter(self, phase: Phase) -> None:
        """The current phase ends, another begins."""
        now = monotonic()
        self.seconds[self.phase] = self.seconds.get(self.phase, 0.0) + now - self._since
        self.phase, self._since = phase, now


class Dialler:
    """Opens the sockets of one egress policy."""

    def __init__(self, gate: Gate, resolver: Resolver) -> None:
        self.gate = gate
        self._resolver = resolver

    async def open(self, progress: Progress) -> socket.socket:
        """A connected socket on which the target's own protocol, TLS or HTTP, comes next. Raises Stopped."""
        progress.opened = True
        progress.enter(Phase.DNS)
        proxy = progress.options.proxy
        if proxy is not None:
            return await self._open_through(proxy, progress)
        destination = progress.destination
        addresses = await self._resolve(destination.host, progress.options.dns_timeout)
        self._take(progress, self.gate.policy.decide(destination, addresses, progress.method))
        return await _connect_any(addresses, destination.port, progress)

    async def _open_through(self, proxy: Proxy, progress: Progress) -> socket.socket:
        destination, options = progress.destination, progress.options
        try:
            known: list[Address] | None = await self._resolve(destination.host, options.dns_timeout)
        except Stopped as stopped:
            # A name server that does not work now may work later; only a name that does not exist is no failure.
            if not (options.proxy_resolves or stopped.no_such_name):
                raise
            known = None
        decided = self.gate.policy.decide_proxied(
            destination, known, progress.method, proxy_resolves=options.proxy_resolves
        )
        self._take(progress, decided)
        addresses = await self._resolve(proxy.host, options.dns_timeout)
        refused = self.gate.policy.decide_proxy(proxy.host, proxy.port, addresses)
        if refused is not None:
            raise Stopped(refused)
        connected = await _connect_any(addresses, proxy.port, progress)
        if destination.scheme == "https":
            await _tunnel(connected, proxy, progress)
        return connected

    async def _resolve(self, host: str, timeout: float) -> list[Address]:
        try:
            return await self._resolver.addresses(host, timeout)
        except TimeoutError:
            raise Stopped(TransportFailure(Phase.DNS, Fault.TIMEOUT)) from None
        except (OSError, UnicodeError) as error:
            failure = TransportFailure(Phase.DNS, Fault.NAME_UNKNOWN)
            raise Stopped(failure, no_such_name=is_no_such_name(error)) from None

    @staticmethod
    def _take(progress: Progress, decided: Allowed | Refused) -> None:
        if isinstance(decided, Refused):
            raise Stopped(decided)
        progress.observed = decided.observed


async def _connect_any(addresses: Sequence[Address], port: int, progress: Progress) -> socket.socket:
    """Connects to the first address that answers; raises Stopped with the last one's failure."""
    progress.enter(Phase.CONNECT)
    failure = TransportFailure(Phase.CONNECT, Fault.UNREACHABLE)
    for address in addresses:
        progress.address = str(address)
        try:
            async with asyncio.timeout(progress.options.connect_timeout):
                return await connect(address, port)
        except WrongPeer:
            raise Stopped(Refused(Reason.DENIED_ALWAYS)) from None
        except TimeoutError:
            failure = TransportFailure(Phase.CONNECT, Fault.TIMEOUT)
        except ConnectionRefusedError:
            failure = TransportFailure(Phase.CONNECT, Fault.CONNECTION_REFUSED)
        except ConnectionResetError:
            failure = TransportFailure(Phase.CONNECT, Fault.RESET)
        except OSError as error:
            fault = Fault.AGENT_EXHAUSTED if error.errno in _EXHAUSTED else Fault.UNREACHABLE
            failure = TransportFailure(Phase.CONNECT, fault)
    raise Stopped(failure)


async def _tunnel(connected: socket.socket, proxy: Proxy, progress: Progress) -> None:
    destination = progress.destination
    try:
        async with asyncio.timeout(progress.options.connect_timeout):
            head = await ask_tunnel(connected, destination.host, destination.port, proxy.authorization)
    except (OSError, TimeoutError) as error:
        connected.close()
        fault = Fault.TIMEOUT if isinstance(error, TimeoutError) else Fault.RESET
        raise Stopped(TransportFailure(Phase.CONNECT, fault)) from None
    except BaseException:
        connected.close()
        raise
    if not is_tunnel(head):
        connected.close()
        raise Stopped(TransportFailure(Phase.CONNECT, Fault.PROXY_REFUSED))


class WrongPeer(OSError):
    """The connected socket's peer is not the address that was asked for."""


async def connect(address: Address, port: int) -> socket.socket:
    """A socket that is connected to that very address. Raises OSError; the caller bounds it."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    opened = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, socket.IPPROTO_TCP)
    try:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(opened, (str(address), port))
        if ipaddress.ip_address(opened.getpeername()[0]) != address:
            raise WrongPeer
    except BaseException:
        opened.close()
        raise
    return opened


async def ask_tunnel(connected: socket.socket, host: str, port: int, authorization: str | None) -> bytes:
    """Asks the proxy for a tunnel (RFC 9110 section 9.3.6); what it answered. Raises OSError; the caller bounds it.

    `authorization` is the value of `Proxy-Authorization`.
    """
    authority = f"{bracketed(host)}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if authorization:
        lines.append(f"Proxy-Authorization: {authorization}")
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connected, "\r\n".join([*lines, "", ""]).encode("ascii"))
    head = b""
    while b"\r\n\r\n" not in head and len(head) < PROXY_HEAD:
        received = await loop.sock_recv(connected, PROXY_HEAD)
        if not received:
            break
        head += received
    return head


def is_tunnel(head: bytes) -> bool:
    """Whether the proxy's answer opens the tunnel.

    Bytes after the head would be taken for the target's; an honest proxy sends none before the client's.
    """
    return head.startswith((b"HTTP/1.1 2", b"HTTP/1.0 2")) and head.endswith(b"\r\n\r\n")


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
