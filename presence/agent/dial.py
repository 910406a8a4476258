"""Opens connections that the egress policy allows: resolve, decide on every answer, connect to a checked address.

One name resolution for each new connection. Nothing is connected to that was not decided on, and the peer of the
connected socket is compared with what was. Through a proxy the proxy's address is checked and pinned likewise,
and the target's own addresses, as this host resolves them, are decided on as well.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from functools import lru_cache
from queue import SimpleQueue
from threading import Thread
from time import monotonic

from presence.agent.targets import Proxy, TargetOptions
from presence.domain.address import Address
from presence.domain.egress import Allowed, Destination, EgressPolicy
from presence.domain.outcome import Fault, Phase, Reason, Refused, TransportFailure

DNS_THREADS = 32
DECISIONS = 10_000
PROXY_HEAD = 16 * 1024


class Stopped(Exception):
    """An attempt ends before its request was sent; `outcome` says why."""

    def __init__(self, outcome: TransportFailure | Refused) -> None:
        self.outcome = outcome


class Gate:
    """The policy's answers, remembered: it is pure and frozen, so one answer serves every request to an address."""

    def __init__(self, policy: EgressPolicy) -> None:
        self.policy = policy
        self._known: dict[tuple[Destination, str, str], Allowed | Refused] = {}

    def decide(self, destination: Destination, method: str, address: str) -> Allowed | Refused:
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


class Resolver:
    """Resolves in threads of its own: a slow name server must stall nothing else, nor keep the process from ending.

    Who asks for a name while it is being resolved gets the same answer, so one name occupies one thread.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._under_way: dict[str, asyncio.Future[list[Address]]] = {}
        self._asked: SimpleQueue[str | None] = SimpleQueue()
        self._threads = 0

    async def addresses(self, host: str, timeout: float) -> list[Address]:
        """All addresses of the name or literal address, in the system's order.

        Raises socket.gaierror or TimeoutError. Nothing is remembered beyond the answer.
        """
        literal = as_address(host)
        if literal is not None:
            return [literal]
        found = self._under_way.get(host)
        if found is None:
            found = self._under_way[host] = self._loop.create_future()
            self._asked.put(host)
            if self._threads < min(DNS_THREADS, len(self._under_way)):
                self._threads += 1
                # Daemons: Python would wait for the threads of an executor before it ends.
                Thread(target=self._look_up_all, name=f"dns-{self._threads}", daemon=True).start()
        async with asyncio.timeout(timeout):
            return await asyncio.shield(found)

    def _look_up_all(self) -> None:
        """What each thread does."""
        while (host := self._asked.get()) is not None:
            answer: list[Address] | Exception
            try:
                answer = _look_up(host)
            except Exception as error:  # noqa: BLE001 - handed to those who asked, whose exception it is
                answer = error
            try:
                self._loop.call_soon_threadsafe(self._answer, host, answer)
            except RuntimeError:
                return  # nobody is there any more: the loop is closed

    def _answer(self, host: str, answer: list[Address] | Exception) -> None:
        found = self._under_way.pop(host)
        if isinstance(answer, Exception):
            found.set_exception(answer)
            found.exception()  # looked at, even if everyone who asked has given up
        else:
            found.set_result(answer)

    def close(self) -> None:
        for _ in range(self._threads):
            self._asked.put(None)


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
            if stopped.outcome == TransportFailure(Phase.DNS, Fault.TIMEOUT) and not options.proxy_resolves:
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
        except (OSError, UnicodeError):
            raise Stopped(TransportFailure(Phase.DNS, Fault.NAME_UNKNOWN)) from None

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
                return await _connect(address, port)
        except TimeoutError:
            failure = TransportFailure(Phase.CONNECT, Fault.TIMEOUT)
        except ConnectionRefusedError:
            failure = TransportFailure(Phase.CONNECT, Fault.CONNECTION_REFUSED)
        except ConnectionResetError:
            failure = TransportFailure(Phase.CONNECT, Fault.RESET)
        except OSError:
            failure = TransportFailure(Phase.CONNECT, Fault.UNREACHABLE)
    raise Stopped(failure)


async def _connect(address: Address, port: int) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    opened = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, socket.IPPROTO_TCP)
    try:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(opened, (str(address), port))
        if ipaddress.ip_address(opened.getpeername()[0]) != address:
            raise Stopped(Refused(Reason.DENIED_ALWAYS))
    except BaseException:
        opened.close()
        raise
    return opened


async def _tunnel(connected: socket.socket, proxy: Proxy, progress: Progress) -> None:
    """Asks the proxy for a tunnel (RFC 9110 section 9.3.6)."""
    destination = progress.destination
    authority = f"{bracketed(destination.host)}:{destination.port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(progress.options.connect_timeout):
            await loop.sock_sendall(connected, "\r\n".join([*lines, "", ""]).encode("ascii"))
            head = b""
            while b"\r\n\r\n" not in head and len(head) < PROXY_HEAD:
                received = await loop.sock_recv(connected, PROXY_HEAD)
                if not received:
                    break
                head += received
    except (OSError, TimeoutError) as error:
        connected.close()
        fault = Fault.TIMEOUT if isinstance(error, TimeoutError) else Fault.RESET
        raise Stopped(TransportFailure(Phase.CONNECT, fault)) from None
    except BaseException:
        connected.close()
        raise
    # Bytes after the head would be taken for the target's; an honest proxy sends none before the client's.
    if not (head.startswith((b"HTTP/1.1 2", b"HTTP/1.0 2")) and head.endswith(b"\r\n\r\n")):
        connected.close()
        raise Stopped(TransportFailure(Phase.CONNECT, Fault.PROXY_REFUSED))


@lru_cache(maxsize=4096)
def as_address(host: str) -> Address | None:
    """The host as an address, where it is one literally."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _look_up(host: str) -> list[Address]:
    found: Iterable[tuple[object, ...]] = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    texts = [str(entry[4][0]) for entry in found if isinstance(entry[4], tuple)]
    return list(dict.fromkeys(ipaddress.ip_address(text) for text in texts))
