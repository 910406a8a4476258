"""Opens one connection to the control plane: name, socket, proxy, TLS, websocket. Each step has its own deadline.

Everything is fresh: settings' files, name, addresses, proxy. Of websockets only the connection is used: the library's
`connect` does not tell these steps apart, reads the environment, and follows redirects, which would carry the key
elsewhere.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from presence import __version__
from presence.agent.certificate import Certificate
from presence.agent.dial import bracketed, connect
from presence.agent.ends import CertificateRefused, ProxyRefused, Step
from presence.agent.keys import Key
from presence.agent.names import Resolver
from presence.agent.passage import pass_through
from presence.agent.route import LinkProxy
from presence.agent.settings import ControlPlane
from presence.agent.trust import shown_by, trust
from presence.clock import Clock
from presence.errors import ConfigurationError
from presence.protocol import MAX_FRAME_BYTES, SUBPROTOCOL

NAME_SECONDS, ADDRESS_SECONDS, STEP_SECONDS, OPENING_SECONDS = 5.0, 5.0, 10.0, 45.0
"""The bounds of a name's resolution, of one address, of any other step, and of all together."""
PING_EVERY, PONG_WITHIN, CLOSE_WITHIN = 15.0, 8.0, 2.0
UNACKNOWLEDGED = 30_000
"""Milliseconds: what was sent and not acknowledged for so long ends the connection, by the kernel's doing."""
FRAMES_AHEAD = 16

P = TypeVar("P", bound=asyncio.BaseProtocol)
Trusting = Callable[[ControlPlane], ssl.SSLContext]
"""Says whom to believe; called in a thread."""


class Websocket(ClientConnection):
    """A connection that remembers what cut the one below it."""

    lost: Exception | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = exc
        super().connection_lost(exc)


class Opening:
    """One try. `step` and `place` say how far it came, `trail` on which way: the last place of each step.

    `offset`: what is known of the host's clock, for an error. `date`: the time that the control plane's answer names.
    """

    def __init__(self, settings: ControlPlane, resolver: Resolver, clock: Clock, offset: int | None) -> None:
        self.step = Step.KEY
        self.place = ""
        self.trail: dict[Step, str] = {}
        self.date: str | None = None
        self._settings = settings
        self._resolver = resolver
        self._clock = clock
        self._offset = offset
        self._scheme, self._host, self._port = settings.endpoint()
        self._there = f"{bracketed(self._host)}:{self._port}"

    async def run(self, key: Key) -> Websocket:
        """The open websocket. Raises what `failures.EXPECTED` names."""
        async with asyncio.timeout(OPENING_SECONDS):
            connection = await self.connect(self._websocket)
            try:
                await self._upgrade(connection, key)
            except BaseException:
                connection.transport.abort()
                raise
        self._enter(Step.SESSION)
        return connection

    async def connect(self, make: Callable[[], P], trusting: Trusting = trust) -> P:
        """The protocol that `make` makes, on a connection to the control plane, inside TLS where its URL says so.

        Raises what `failures.EXPECTED` names; the caller bounds it.
        """
        self._enter(Step.PROXY)
        proxy = self._settings.link_proxy()
        context = None
        if self._scheme == "wss":
            self._enter(Step.TLS)
            context = await asyncio.to_thread(trusting, self._settings)
        return await self._secure(await self._reach(proxy), context, proxy, make)

    def _enter(self, step: Step, place: str = "") -> None:
        self.step, self.place = step, place
        self.trail[step] = place

    async def _reach(self, proxy: LinkProxy | None) -> socket.socket:
        """A socket on which the control plane is to be heard next."""
        if proxy is None:
            connected = await self._dial(self._host, self._port, Step.DNS, Step.TCP)
        else:
            connected = await self._dial(proxy.host, proxy.port, Step.PROXY, Step.PROXY)
        try:
            if proxy is not None:
                async with asyncio.timeout(STEP_SECONDS):
                    await pass_through(proxy, connected, self._host, self._port)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED)
        except BaseException:
            connected.close()
            raise
        return connected

    async def _dial(self, host: str, port: int, naming: Step, connecting: Step) -> socket.socket:
        """Connects to the first address that answers; raises the last one's error."""
        what = "proxy " if connecting is Step.PROXY else ""
        self._enter(naming, f"{what}{host}")
        failure = OSError("the name has no address")
        for address in await self._resolver.addresses(host, NAME_SECONDS):
            at = "" if str(address) == host else f" ({address})"
            self._enter(connecting, f"{what}{bracketed(host)}:{port}{at}")
            try:
                async with asyncio.timeout(ADDRESS_SECONDS):
                    return await connect(address, port)
            except OSError as error:
                failure = error
        raise failure

    async def _secure(
        self,
        connected: socket.socket,
        context: ssl.SSLContext | None,
        proxy: LinkProxy | None,
        make: Callable[[], P],
    ) -> P:
        """The protocol on the socket, inside TLS for wss."""
        self._enter(Step.TLS, self._there)
        name = self._host if context is not None else None
        try:
            async with asyncio.timeout(STEP_SECONDS):
                _, connection = await asyncio.get_running_loop().create_connection(
                    make, sock=connected, ssl=context, server_hostname=name
                )
        except ssl.SSLCertVerificationError as error:
            connected.close()
            shown = await self._shown(proxy)
            raise CertificateRefused(error, self._host, shown, self._clock.wall(), self._offset) from None
        except BaseException:
            connected.close()
            raise
        return connection

    def _websocket(self) -> Websocket:
        uri = parse_uri(self._settings.address())
        protocol = ClientProtocol(uri, subprotocols=[Subprotocol(SUBPROTOCOL)], max_size=MAX_FRAME_BYTES)
        return Websocket(
            protocol,
            ping_interval=PING_EVERY,
            ping_timeout=PONG_WITHIN,
            close_timeout=CLOSE_WITHIN,
            max_queue=FRAMES_AHEAD,
        )

    async def _upgrade(self, connection: Websocket, key: Key) -> None:
        self._enter(Step.UPGRADE, self._there)
        try:
            async with asyncio.timeout(STEP_SECONDS):
                await connection.handshake({"Authorization": f"Bearer {key.value}"}, f"Presence/{__version__}")
        except InvalidHandshake:
            # A server that wants a client certificate says so only after TLS 1.3's handshake.
            if isinstance(connection.lost, ssl.SSLError):
                raise connection.lost from None
            raise
        finally:
            self.date = connection.response.headers.get("Date") if connection.response is not None else None
        if connection.subprotocol != SUBPROTOCOL:
            raise InvalidHandshake(f"the server does not speak {SUBPROTOCOL}")
        connection.start_keepalive()

    async def _shown(self, proxy: LinkProxy | None) -> Certificate | None:
        """The certificate that was not believed: the failed handshake does not tell, so another one asks for it."""
        try:
            async with asyncio.timeout(STEP_SECONDS):
                return await shown_by(await self._reach(proxy), self._host)
        except (OSError, ProxyRefused, ConfigurationError):
            return None


async def close(connection: ClientConnection, code: int, reason: str = "") -> None:
    """Closes within a bound; a peer that does not answer is cut off."""
    try:
        async with asyncio.timeout(2 * CLOSE_WITHIN):
            await connection.close(code, reason[:100])
    except TimeoutError:
        connection.transport.abort()
