"""What a proxy's answer means; the passage itself is tested through real proxies."""

import asyncio
import socket
import sys

import pytest

from presence.agent.ends import ProxyRefused, Retry
from presence.agent.passage import pass_through
from presence.agent.route import LinkProxy
from presence.errors import ConfigurationError
from tests.support.target import Target, closing


async def refusal(answer: bytes, credentials: str | None = None) -> str:
    """What is said of a proxy that answers so."""
    async with Target(closing(answer)) as target:
        connected = await _connect(target.port)
        try:
            proxy = LinkProxy("http", "127.0.0.1", target.port, "HTTPS_PROXY", credentials)
            with pytest.raises(ProxyRefused) as caught:
                await pass_through(proxy, connected, "cloud.example.com", 443)
        finally:
            connected.close()
    assert (caught.value.retry is Retry.SLOWLY) is ("user and password" in caught.value.reason)
    return caught.value.reason


async def _connect(port: int) -> socket.socket:
    connected = socket.socket()
    connected.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connected, ("127.0.0.1", port))
    return connected


def status(code: int, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {code} X", "Content-Length: 0", *headers, "", ""]).encode()


BASIC, NEGOTIATE, NTLM = (f"Proxy-Authenticate: {scheme}" for scheme in ('Basic realm="x"', "Negotiate", "NTLM"))


@pytest.mark.parametrize(
    ("answer", "credentials", "words"),
    [
        (status(407, BASIC), None, "name it as control_plane.proxy_credentials_file"),
        (status(407, BASIC), "user:CANARY", "user and password are refused (407); correct those that belong to HTTPS"),
        (status(401), "user:CANARY", "user and password are refused (401)"),
        (status(407, NEGOTIATE, NTLM), "user:CANARY", "only by negotiate, ntlm; allow Basic there"),
        (status(407, NEGOTIATE, BASIC), None, "proxy_credentials_file"),
        (status(403), None, "no tunnel to cloud.example.com:443 (status 403): it must allow CONNECT to that port"),
        (status(502), None, "no tunnel to cloud.example.com:443 (status 502): it cannot reach that"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", None, "not that of an HTTP proxy; is the address in HTTPS_PROXY right?"),
        (b"", None, "not that of an HTTP proxy"),
        (status(200) + b"more", None, "(status 200): its answer has more than a tunnel's"),
    ],
)
async def test_an_answer_that_opens_no_tunnel_says_what_helps(
    answer: bytes, credentials: str | None, words: str
) -> None:
    said = await refusal(answer, credentials)
    assert words in said
    assert "CANARY" not in said


async def test_without_the_extra_a_socks_proxy_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_socks", None)
    async with Target() as target:
        connected = await _connect(target.port)
        try:
            with pytest.raises(ConfigurationError, match=r"ALL_PROXY names a SOCKS proxy.*pip install '.\[socks\]'"):
                await pass_through(LinkProxy("socks5", "127.0.0.1", target.port, "ALL_PROXY"), connected, "x", 1)
        finally:
            connected.close()
