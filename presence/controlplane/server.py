"""The control plane's port: the listening socket, TLS, and uvicorn as it is here."""

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn
from fastapi import FastAPI

from presence.controlplane.gateway import Gateway
from presence.controlplane.settings import Server as Settings
from presence.errors import AddressUnavailable, ConfigurationError
from presence.protocol import MAX_FRAME_BYTES

GRACE_SECONDS = 5
AGENT_GRACE_SECONDS = 3.0
STALLED_MS = 30_000
"""For how long sent bytes may stay unacknowledged until the kernel cuts the connection."""
TICK_SECONDS = 0.1
TICKS_A_DAY = 864_000


class _FalseAlarm(logging.Filter):
    """uvicorn calls it an error when a handshake is answered with a denial."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.msg != "ASGI callable returned without completing handshake."


_FALSE_ALARM = _FalseAlarm()


class Server(uvicorn.Server):
    """uvicorn without its signal handlers, which tells agents before it cuts them off."""

    def __init__(self, app: FastAPI, gateway: Gateway, settings: Settings) -> None:
        config = uvicorn.Config(
            app,
            http="httptools",
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            ws_max_size=MAX_FRAME_BYTES,
            ws_ping_interval=15,
            ws_ping_timeout=8,
            timeout_graceful_shutdown=GRACE_SECONDS,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
            ssl_certfile=settings.tls_certificate,
            ssl_keyfile=settings.tls_key,
        )
        super().__init__(config)
        logging.getLogger("uvicorn.error").addFilter(_FALSE_ALARM)
        self.up = asyncio.Event()
        self._leaving = asyncio.Event()
        self._gateway = gateway

    def leave(self) -> None:
        """Begins to stop."""
        self.should_exit = True
        self._leaving.set()

    async def main_loop(self) -> None:
        """As uvicorn's, but it ends at once."""
        tick = 0
        while not await self.on_tick(tick):
            tick = (tick + 1) % TICKS_A_DAY
            with suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), TICK_SECONDS)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._gateway.drain(AGENT_GRACE_SECONDS)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """A bound and listening socket. Raises AddressUnavailable or ConfigurationError where the address cannot be had, or
    the certificate cannot be shown.
    """
    _check_certificate(settings)
    host, port = settings.host, settings.port
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        # asyncio sets TCP_NODELAY only where the protocol is named; without it an answer takes 40 ms.
        listener = socket.socket(family, kind, socket.IPPROTO_TCP)
    except OSError as error:
        raise ConfigurationError(f"server.host '{host}' cannot be listened on: {error.strerror}") from None
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_MS)
        try:
            listener.bind(address)
            listener.listen(2048)
        except OSError as error:
            unusable = AddressUnavailable if error.errno in AddressUnavailable.GROUNDS else ConfigurationError
            raise unusable(
                f"server.host, server.port: cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}"
            ) from None
        yield listener


def _check_certificate(settings: Settings) -> None:
    """Raises ConfigurationError where the server could not show its certificate."""
    if settings.tls_certificate is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_certificate, settings.tls_key, lambda: "")
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | PermissionError)
        reason = error.strerror if missing else "they are no certificate with its key"
        raise ConfigurationError(
            f"server.tls_certificate, server.tls_key: {settings.tls_certificate}, {settings.tls_key}: {reason};"
            " name a PEM file with the certificate and its chain, and one with its key, which has no password"
        ) from None


def url_of(settings: Settings, listener: socket.socket) -> str:
    """The base URL of what listens there."""
    name = f"[{settings.host}]" if ":" in settings.host else settings.host
    scheme = "http" if settings.tls_certificate is None else "https"
    return f"{scheme}://{name}:{listener.getsockname()[1]}"


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's event loop where the extra `fast` is installed, else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
