"""Open connections under the egress policy, some of them kept for the next request to the same place.

Every connection that is handed out was decided on for this very attempt: a new one by `dial`, a kept one by the
address that it is connected to. One that was opened under another policy is not used again, nor one through a proxy.
"""

import asyncio
import ssl
from collections.abc import Mapping
from socket import socket
from typing import NamedTuple

from presence.agent.dial import Dialler, Gate, Progress, Stopped
from presence.agent.names import Resolver
from presence.agent.wire import Wire
from presence.domain.egress import Destination
from presence.domain.outcome import Fault, Phase, Refused, TransportFailure

KEPT = 4.0
"""Seconds an idle connection is kept: less than common servers do, so that they seldom close it under us."""


FAREWELL = 1.0
"""Seconds that a peer has to end its TLS session, where a connection is closed and not aborted."""

_Place = tuple[str, str, int]
"""Scheme, host and port."""


class _Kept(NamedTuple):
    wire: Wire
    place: _Place
    until: float


class Pool:
    """`apply` changes the policy, `close` ends what is kept."""

    def __init__(self, gate: Gate, resolver: Resolver) -> None:
        self._loop = asyncio.get_running_loop()
        self._resolver = resolver
        self._kept: dict[_Place, list[_Kept]] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self.apply(gate)

    def apply(self, gate: Gate) -> None:
        """Another policy from now on."""
        self._gate = gate
        self._dialler = Dialler(gate, self._resolver)
        for kept in self._take_all():
            kept.wire.abort()

    async def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        ending = []
        for kept in self._take_all():
            closed = kept.wire.closed
            kept.wire.abort()
            if closed is not None:
                ending.append(closed)
        await asyncio.gather(*ending, return_exceptions=True)

    async def get(self, progress: Progress) -> Wire:
        """A connection to the destination, kept or new. Raises Stopped."""
        progress.gate = self._gate
        kept = None if progress.fresh or progress.options.proxy is not None else self._find(progress.destination)
        if kept is None:
            return await self._open(progress)
        progress.address = kept.peer
        decided = self._gate.decide(progress.destination, progress.method, kept.peer)
        if isinstance(decided, Refused):
            kept.abort()
            raise Stopped(decided)
        progress.observed = decided.observed
        return kept

    def put(self, wire: Wire, progress: Progress) -> None:
        """Takes back a connection whose answer was read."""
        if not wire.can_be_kept or progress.gate is not self._gate or progress.options.proxy is not None:
            # What was asked is answered: nothing is to be waited for, neither TLS's farewell nor what is unsent.
            wire.abort()
            return
        place = _place(progress.destination)
        self._kept.setdefault(place, []).append(_Kept(wire, place, self._loop.time() + KEPT))
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(KEPT, self._sweep)

    def _find(self, destination: Destination) -> Wire | None:
        """The connection that was used last: it is the least likely to be closed by the other side."""
        place = _place(destination)
        there = self._kept.get(place)
        while there:
            kept = there.pop()
            if not there:
                del self._kept[place]
            if kept.wire.can_be_kept and kept.until >= self._loop.time():
                return kept.wire
            kept.wire.abort()
        return None

    def _sweep(self) -> None:
        """Closes what was not used for too long."""
        self._sweeping, now = None, self._loop.time()
        for kept in self._take_all():
            if kept.until > now and kept.wire.can_be_kept:
                self._kept.setdefault(kept.place, []).append(kept)
            else:
                kept.wire.abort()
        if self._kept:
            self._sweeping = self._loop.call_later(KEPT, self._sweep)

    def _take_all(self) -> list[_Kept]:
        everything = [kept for there in self._kept.values() for kept in there]
        self._kept.clear()
        return everything

    async def _open(self, progress: Progress) -> Wire:
        assert progress.deadline is not None
        progress.deadline.reschedule(progress.ends)
        # From then on the socket is the event loop's: closed here, its number would be another's too early.
        wire = await self._wrap(await self._dialler.open(progress), progress)
        progress.deadline.reschedule(min(progress.ends, self._loop.time() + progress.options.first_byte_timeout))
        return wire

    async def _wrap(self, connected: socket, progress: Progress) -> Wire:
        """The protocol on the socket, inside TLS for https: by name, whatever the address."""

        def make() -> Wire:
            return Wire(self._loop, progress.address or "")

        if progress.destination.scheme == "http":
            _, wire = await self._loop.create_connection(make, sock=connected)
            return wire
        progress.enter(Phase.TLS)
        try:
            async with asyncio.timeout(progress.options.tls_timeout):
                _, wire = await self._loop.create_connection(
                    make,
                    sock=connected,
                    ssl=progress.options.tls,
                    server_hostname=progress.destination.host,
                    ssl_shutdown_timeout=FAREWELL,
                )
        except TimeoutError:
            raise Stopped(TransportFailure(Phase.TLS, Fault.TIMEOUT)) from None
        except ssl.SSLCertVerificationError as error:
            fault = _CERTIFICATE_FAULTS.get(error.verify_code, Fault.CERTIFICATE_UNTRUSTED)
            raise Stopped(TransportFailure(Phase.TLS, fault)) from None
        except OSError as error:
            fault = Fault.HANDSHAKE if isinstance(error, ssl.SSLError) else Fault.RESET
            raise Stopped(TransportFailure(Phase.TLS, fault)) from None
        return wire


def _place(destination: Destination) -> _Place:
    return destination.scheme, destination.host, destination.port


_CERTIFICATE_FAULTS: Mapping[int, Fault] = {
    9: Fault.CERTIFICATE_NOT_YET_VALID,
    10: Fault.CERTIFICATE_EXPIRED,
    62: Fault.CERTIFICATE_OTHER_NAME,
    64: Fault.CERTIFICATE_OTHER_NAME,
}
"""OpenSSL's X509_V_ERR_* codes (x509_vfy.h)."""
