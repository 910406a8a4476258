"""Gets a proxy to connect a socket through: HTTP CONNECT, or SOCKS5 where the extra `socks` is installed."""

import re
import socket
from typing import Any

from presence.agent.dial import ask_tunnel, bracketed, is_tunnel
from presence.agent.ends import ProxyRefused, Retry
from presence.agent.files import basic
from presence.agent.route import LinkProxy
from presence.errors import ConfigurationError

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)")
_OFFERS = re.compile(rb"^proxy-authenticate:[ \t]*([A-Za-z]+)", re.I | re.M)


async def pass_through(proxy: LinkProxy, connected: socket.socket, host: str, port: int) -> None:
    """What is sent on the socket from now on goes to the host, whose name the proxy resolves.

    Raises ProxyRefused, OSError, or ConfigurationError without the extra; the caller bounds it and closes the socket.
    """
    if proxy.scheme == "socks5":
        await _pass_through_socks(proxy, connected, host, port)
        return
    authorization = basic(proxy.credentials) if proxy.credentials else None
    head = await ask_tunnel(connected, host, port, authorization)
    if not is_tunnel(head):
        raise _refusal(proxy, head, f"{bracketed(host)}:{port}")


def _refusal(proxy: LinkProxy, head: bytes, destination: str) -> ProxyRefused:
    """What the proxy's answer means, and what helps."""
    found = _STATUS.match(head)
    if found is None:
        what = f"the answer is not that of an HTTP proxy; is the address in {proxy.origin} right?"
        return ProxyRefused(what, Retry.BACKOFF)
    status = int(found[1])
    if status in (401, 407):  # tinyproxy says 401
        return ProxyRefused(_wanted(proxy, status, head), Retry.SLOWLY)
    hint = "it cannot reach that"
    if status in (400, 403, 405):
        hint = "it must allow CONNECT to that port"
    elif 200 <= status <= 299:
        hint = "its answer has more than a tunnel's"
    return ProxyRefused(f"no tunnel to {destination} (status {status}): {hint}", Retry.BACKOFF)


def _wanted(proxy: LinkProxy, status: int, head: bytes) -> str:
    offered = {scheme.decode().lower() for scheme in _OFFERS.findall(head)}
    if offered and "basic" not in offered:
        return (
            f"it wants user and password ({status}), but not by Basic, which is what this agent speaks, only by"
            f" {', '.join(sorted(offered))}; allow Basic there, or let this host pass without"
        )
    if proxy.credentials is not None:
        return f"user and password are refused ({status}); correct those that belong to {proxy.origin}"
    return (
        f"it wants user and password ({status}); write user:password into a file and name it as"
        " control_plane.proxy_credentials_file"
    )


class _Dialled:
    """Gives the SOCKS library a socket that is connected already."""

    def __init__(self, connected: socket.socket) -> None:
        self._connected = connected

    async def connect(self, **_: Any) -> socket.socket:
        return self._connected


async def _pass_through_socks(proxy: LinkProxy, connected: socket.socket, host: str, port: int) -> None:
    try:
        from python_socks import ProxyError, ProxyType
        from python_socks.async_.asyncio import Proxy
    except ImportError:
        raise ConfigurationError(
            f"{proxy.origin} names a SOCKS proxy, and python-socks is not installed;"
            " install Presence with its extra 'socks' (pip install '.[socks]')"
        ) from None
    user, _, password = (proxy.credentials or "").partition(":")
    dialled: Any = _Dialled(connected)
    through = Proxy(
        ProxyType.SOCKS5, proxy.host, proxy.port, user or None, password or None, rdns=True, forward=dialled
    )
    try:
        await through.connect(host, port)
    except ProxyError as error:
        # Without a code it was about user and password.
        retry = Retry.SLOWLY if error.error_code is None else Retry.BACKOFF
        raise ProxyRefused(f"no way to {bracketed(host)}:{port}: {error}", retry) from None
