"""One request at a time against real sockets."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from presence.agent.http import Http, Request, Sent
from presence.agent.settings import Delivery, Egress
from presence.domain.outcome import Fault, Phase, Reason, Refused, Response, TransportFailure
from tests.support.target import Answer, Target, always, head, silence, status

LIMITS = Delivery(connect_timeout=1.0, attempt_timeout=1.0, max_response_bytes=1000)


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    async with Http(LIMITS, Egress(allow=("127.0.0.0/8",)).policy()) as http:
        yield http


async def get(http: Http, uri: str, host: str = "127.0.0.1", port: int = 80) -> Sent:
    return await http.send(Request("GET", uri, host, port, {"webhook-id": "id-1", "webhook-timestamp": "1"}))


async def test_sends_the_uri_byte_for_byte_and_nothing_else(http: Http) -> None:
    path = "/%7Euser/a%2fb;c=1/d%20e?x=%41&y=a+b&z=%c3%bc/?"
    async with Target() as target:
        sent = await get(http, target.url(path), port=target.port)
        assert sent == Sent(Response(204), "127.0.0.1")
        line, headers = head(target.requests[0])
        assert line == f"GET {path} HTTP/1.1"
        assert set(headers) == {"host", "user-agent", "accept", "webhook-id", "webhook-timestamp"}
        assert headers["host"] == f"127.0.0.1:{target.port}"
        assert headers["accept"] == "*/*"


@pytest.mark.parametrize(("path", "expected"), [("", "/"), ("?a=1", "/?a=1"), ("/", "/")])
async def test_an_empty_path_becomes_a_slash(http: Http, path: str, expected: str) -> None:
    async with Target() as target:
        await get(http, target.url(path), port=target.port)
        assert head(target.requests[0])[0] == f"GET {expected} HTTP/1.1"


async def test_reuses_a_connection(http: Http) -> None:
    async with Target() as target:
        for _ in range(3):
            await get(http, target.url("/"), port=target.port)
        assert (len(target.requests), target.connections) == (3, 1)


async def test_a_lost_connection_is_one_failed_attempt_not_a_second_request(http: Http) -> None:
    async def hang_up(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with Target(hang_up) as target:
        sent = await get(http, target.url("/"), port=target.port)
        assert sent.outcome == TransportFailure(Phase.FIRST_BYTE, Fault.RESET, sent=True)
        assert len(target.requests) == 1
        target.answer = status(204)
        await get(http, target.url("/"), port=target.port)
        target.answer = hang_up
        again = await get(http, target.url("/"), port=target.port)
        assert again.outcome == TransportFailure(Phase.FIRST_BYTE, Fault.RESET, sent=True)
        assert len(target.requests) == 3


async def test_a_redirect_is_an_answer_and_is_not_followed(http: Http) -> None:
    async with Target() as elsewhere:
        moved = f"HTTP/1.1 302 Found\r\nLocation: {elsewhere.url('/')}\r\nContent-Length: 0\r\n\r\n"
        async with Target(always(moved.encode())) as target:
            sent = await get(http, target.url("/"), port=target.port)
            assert sent.outcome == Response(302)
            assert elsewhere.requests == []


async def test_no_cookie_is_kept(http: Http) -> None:
    answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n"
    async with Target(always(answer)) as target:
        for _ in range(2):
            await get(http, target.url("/"), port=target.port)
        assert "cookie" not in head(target.requests[1])[1]


async def test_no_proxy_of_the_environment_is_used(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Target() as proxy, Target() as target:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url(""))
        await get(http, target.url("/"), port=target.port)
        assert (len(proxy.requests), len(target.requests)) == (0, 1)


@pytest.mark.parametrize(
    "body",
    [b"x" * 500, b"x" * 5000, b"Content cut off"],
    ids=["within the limit", "over the limit", "shorter than promised"],
)
async def test_the_status_decides_whatever_the_body_does(http: Http, body: bytes) -> None:
    length = 1_000_000 if body.startswith(b"C") else len(body)

    async def answer(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (length, body))
        await writer.drain()
        if length != len(body):
            writer.close()

    async with Target(answer) as target:
        assert (await get(http, target.url("/"), port=target.port)).outcome == Response(200)


async def drip(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A body without end, a byte at a time."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (silence, TransportFailure(Phase.FIRST_BYTE, Fault.TIMEOUT, sent=True)),
        (always(b"no HTTP at all\r\n\r\n"), TransportFailure(Phase.FIRST_BYTE, Fault.MALFORMED_RESPONSE, sent=True)),
        (drip, Response(200)),
    ],
    ids=["silence", "malformed", "drip"],
)
async def test_every_attempt_ends_within_its_limit(http: Http, answer: Answer, outcome: object) -> None:
    async with Target(answer) as target, asyncio.timeout(10):
        assert (await get(http, target.url("/"), port=target.port)).outcome == outcome


async def test_nobody_listens(http: Http) -> None:
    async with Target() as target:
        closed = target.port
    sent = await get(http, f"http://127.0.0.1:{closed}/", port=closed)
    assert sent.outcome == TransportFailure(Phase.CONNECT, Fault.CONNECTION_REFUSED)


async def test_a_name_that_does_not_exist(http: Http) -> None:
    sent = await get(http, "http://nowhere.invalid/", host="nowhere.invalid")
    assert sent.outcome == TransportFailure(Phase.DNS, Fault.NAME_UNKNOWN)


@pytest.mark.parametrize(
    ("allow", "host", "reason"),
    [
        ((), "127.0.0.1", Reason.DENIED_LOOPBACK),
        ((), "localhost", Reason.DENIED_LOOPBACK),
        (("localhost",), "localhost", Reason.DENIED_LOOPBACK),
        (("0.0.0.0/0",), "169.254.169.254", Reason.DENIED_ALWAYS),
        ((), "8.8.8.8", Reason.NOT_ALLOWED),
    ],
)
async def test_the_policy_stops_it_before_a_connection(allow: tuple[str, ...], host: str, reason: Reason) -> None:
    async with Http(LIMITS, Egress(allow=allow).policy()) as http, Target() as target:
        sent = await get(http, f"http://{host}:{target.port}/", host=host, port=target.port)
        assert sent.outcome == Refused(reason)
        assert target.connections == 0


async def test_a_name_is_allowed_by_the_address_it_resolves_to() -> None:
    async with Http(LIMITS, Egress(allow=("127.0.0.0/8", "::1")).policy()) as http, Target() as target:
        sent = await get(http, f"http://localhost:{target.port}/", host="localhost", port=target.port)
        assert sent.outcome == Response(204)
