"""One connection at a time: what an answer may look like, and when another request may follow."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aiohttp
import pytest
from aiohttp.http_exceptions import HttpProcessingError

from presence.agent.wire import FAILURES, BodyTooLarge, HeadTooLarge, Wire
from tests.support.target import Answer, Target, always, closing, endless, hang_up, in_turn, reset, silence

ASKED = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
LIMIT = 32 * 1024
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"

Connect = Callable[[Target], AbstractAsyncContextManager[Wire]]


@asynccontextmanager
async def connected(target: Target) -> AsyncIterator[Wire]:
    loop = asyncio.get_running_loop()
    _, wire = await loop.create_connection(lambda: Wire(loop, "127.0.0.1"), "127.0.0.1", target.port)
    try:
        yield wire
    finally:
        closed = wire.closed
        wire.abort()
        if closed is not None:
            await asyncio.wait([closed])


async def asked(wire: Wire, limit: int = LIMIT) -> tuple[int, bytes]:
    """Status and body of the answer to one request."""
    async with asyncio.timeout(20):
        wire.ask(ASKED, limit, 200_000)
        head, body = await wire.answer()
        return head.code, await body.read()


def chunks(*pieces: bytes) -> Answer:
    """Answers with these bytes, each of which arrives alone."""

    async def answer(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)

    return answer


async def test_asks_and_answers_one_after_the_other_on_one_connection() -> None:
    async with Target(always(OK)) as target, connected(target) as wire:
        for _ in range(3):
            assert await asked(wire) == (200, b"ok")
            assert wire.can_be_kept
            assert wire.answered
        assert target.requests == [ASKED] * 3
        assert target.connections == 1


async def test_the_connection_knows_its_peer_and_whether_something_came() -> None:
    async with Target(silence) as target, connected(target) as wire:
        assert (wire.peer, wire.answered, wire.unsent) == ("127.0.0.1", False, 0)
        wire.ask(ASKED, LIMIT, LIMIT)
        await target.received(1)
        assert not wire.answered


async def test_bytes_that_the_target_does_not_take_are_unsent() -> None:
    async def deaf(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await gone.wait()
        writer.transport.abort()

    gone = asyncio.Event()
    server = await asyncio.start_server(deaf, "127.0.0.1", 0, limit=1)
    async with server:
        loop = asyncio.get_running_loop()
        port = server.sockets[0].getsockname()[1]
        _, wire = await loop.create_connection(lambda: Wire(loop, "127.0.0.1"), "127.0.0.1", port)
        wire.ask(b"x" * 64 * 1024 * 1024, LIMIT, LIMIT)
        assert wire.unsent > 0
        wire.abort()
        gone.set()


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", 304, b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b""),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, b"ok"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b", 200, b"\x1f\x8b"),
        (b"HTTP/1.1 599 Whatever\r\nContent-Length: 0\r\n\r\n", 599, b""),
    ],
    ids=["204", "304", "empty", "no reason phrase", "chunked", "gzip is left as it is", "an odd status"],
)
async def test_an_answer_that_is_read_to_its_end_leaves_the_connection_usable(
    answer: bytes, status: int, body: bytes
) -> None:
    async with Target(always(answer)) as target, connected(target) as wire:
        assert await asked(wire) == (status, body)
        assert wire.can_be_kept


@pytest.mark.parametrize(
    "answer",
    [
        always(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"),
        always(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        closing(b"HTTP/1.1 200 OK\r\n\r\nuntil the end"),
        always(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
    ],
    ids=["connection: close", "HTTP/1.0", "a body until the end", "an upgrade"],
)
async def test_an_answer_that_ends_the_connection_is_honoured(answer: Answer) -> None:
    async with Target(answer) as target, connected(target) as wire:
        wire.ask(ASKED, LIMIT, LIMIT)
        head, body = await wire.answer()
        assert head.code in (101, 200, 204)
        if head.code != 101:
            await body.read()
        assert not wire.can_be_kept


async def test_a_connection_whose_body_is_not_read_to_its_end_is_not_usable() -> None:
    async with Target(always(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfew")) as target, connected(target) as wire:
        wire.ask(ASKED, LIMIT, LIMIT)
        await wire.answer()
        assert not wire.can_be_kept


LEFTOVERS = [b"x", b"HTT", b"garbage and more\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-", OK]


@pytest.mark.parametrize("leftover", LEFTOVERS)
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ],
    ids=["204", "empty", "with length", "chunked"],
)
async def test_bytes_after_an_answer_do_not_spoil_it_and_no_request_follows(answer: bytes, leftover: bytes) -> None:
    async with Target(always(answer + leftover)) as target, connected(target) as wire:
        assert (await asked(wire))[0] in (200, 204)
        assert not wire.can_be_kept


@pytest.mark.parametrize("leftover", LEFTOVERS)
async def test_bytes_that_come_while_nothing_is_asked_end_its_use(leftover: bytes) -> None:
    more = asyncio.Event()

    async def answer(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await more.wait()
        writer.write(leftover)
        writer.close()

    async with Target(answer) as target, connected(target) as wire:
        assert await asked(wire) == (200, b"ok")
        assert wire.can_be_kept
        closed = wire.closed
        assert closed is not None
        more.set()
        await closed
        assert not wire.can_be_kept


async def test_interim_answers_are_passed_over() -> None:
    answers = in_turn(always(INTERIM * 3 + OK), chunks(INTERIM, INTERIM, OK[:10], OK[10:]))
    async with Target(answers) as target, connected(target) as wire:
        for _ in range(2):
            assert await asked(wire) == (200, b"ok")
            assert wire.can_be_kept


@pytest.mark.parametrize(
    "answer",
    [endless(b"", INTERIM), endless(b"", INTERIM * 5000), chunks(INTERIM * 3000)],
    ids=["one after the other", "in floods", "at once"],
)
async def test_interim_answers_without_end_are_too_large(answer: Answer) -> None:
    async with Target(answer) as target, connected(target) as wire:
        with pytest.raises(HeadTooLarge):
            await asked(wire)
        assert not wire.can_be_kept


def headers(count: int, size: int) -> bytes:
    """A head of a 200 with so many headers of that many bytes each."""
    each = b"X: " + b"x" * (size - 5) + b"\r\n"
    return b"HTTP/1.1 200 OK\r\n" + each * count + b"Content-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(("count", "size"), [(1, 30_000), (30, 1000), (3000, 10)])
@pytest.mark.parametrize("pieces", [1, 20])
async def test_a_head_up_to_the_limit_is_read(count: int, size: int, pieces: int) -> None:
    async with Target(_split(headers(count, size), pieces)) as target, connected(target) as wire:
        assert await asked(wire) == (200, b"ok")
        assert wire.can_be_kept


@pytest.mark.parametrize(("count", "size"), [(1, 33_000), (33, 1000), (3300, 10), (1, 100_000), (100_000, 6)])
@pytest.mark.parametrize("pieces", [1, 20])
async def test_a_head_beyond_the_limit_is_refused_however_it_comes(count: int, size: int, pieces: int) -> None:
    async with Target(_split(headers(count, size), pieces)) as target, connected(target) as wire:
        with pytest.raises(HeadTooLarge):
            await asked(wire)
        assert not wire.can_be_kept


def _split(response: bytes, pieces: int) -> Answer:
    each = len(response) // pieces + 1
    return chunks(*[response[at : at + each] for at in range(0, len(response), each)])


@pytest.mark.parametrize(
    "more",
    [b"x" * 4096, b"X: x\r\n" * 100],
    ids=["a header", "headers"],
)
async def test_a_head_without_end_is_refused(more: bytes) -> None:
    async with Target(endless(b"HTTP/1.1 200 OK\r\nX: ", more)) as target, connected(target) as wire:
        with pytest.raises(HeadTooLarge):
            await asked(wire)


async def test_the_limit_is_for_the_head_not_for_the_body_that_comes_with_it() -> None:
    body = bytes(200_000)
    answer = always(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + body)
    async with Target(answer) as target, connected(target) as wire:
        assert await asked(wire, limit=1024) == (200, body)
        assert wire.can_be_kept


async def test_line_ends_without_a_carriage_return_are_read() -> None:
    answer = always(b"HTTP/1.1 200 OK\nContent-Length: 50000\n\n" + bytes(50_000))
    async with Target(answer) as target, connected(target) as wire:
        assert await asked(wire) == (200, bytes(50_000))


@pytest.mark.parametrize(
    "answer",
    [
        closing(b"SSH-2.0-OpenSSH_9.6\r\n"),
        closing(b"HTTP/1.1 abc OK\r\n\r\n"),
        closing(b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n"),
        closing(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
        closing(b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n"),
    ],
    ids=["another protocol", "status", "header", "two lengths", "NUL"],
)
async def test_what_is_no_http_is_an_error(answer: Answer) -> None:
    async with Target(answer) as target, connected(target) as wire:
        with pytest.raises((HttpProcessingError, aiohttp.ClientResponseError)):
            await asked(wire)
        assert not wire.can_be_kept


@pytest.mark.parametrize(
    "answer",
    [
        always(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n"),
        chunks(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", b"no chunk\r\n"),
        closing(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfew"),
    ],
    ids=["no chunk", "no second chunk", "too short"],
)
async def test_a_body_that_breaks_its_framing_ends_with_an_error_at_once(answer: Answer) -> None:
    async with Target(answer) as target, connected(target) as wire:
        wire.ask(ASKED, LIMIT, LIMIT)
        head, body = await wire.answer()
        assert head.code == 200
        with pytest.raises((aiohttp.ClientError, HttpProcessingError)):
            async with asyncio.timeout(20):
                await body.read()
        assert not wire.can_be_kept


@pytest.mark.parametrize("answer", [hang_up, reset], ids=["FIN", "RST"])
async def test_a_connection_that_ends_instead_is_a_failure(answer: Answer) -> None:
    async with Target(answer) as target, connected(target) as wire:
        with pytest.raises(FAILURES):
            await asked(wire)
        assert not wire.answered
        assert not wire.can_be_kept
        with pytest.raises(aiohttp.ServerDisconnectedError):
            wire.ask(ASKED, LIMIT, LIMIT)


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nBad Header: x\r\n", id="a head that cannot be read"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: y\r\n", id="a head that is not whole"),
        pytest.param(b"\x00\x01", id="something else"),
    ],
)
async def test_what_follows_an_answer_in_its_segment_makes_the_connection_unusable(rest: bytes) -> None:
    answer = always(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + rest)
    async with Target(answer) as target, connected(target) as wire:
        assert await asked(wire) == (200, b"ok")
        assert not wire.can_be_kept


@pytest.mark.parametrize("frame", [b"X: " + b"x" * 1000 + b"\r\n", b"1;" + b"x" * 1000 + b"\r\n0\r\n"])
async def test_framing_without_end_is_not_read_without_end(frame: bytes) -> None:
    """Trailers, or chunk sizes: they are no body, and so no chunk of it counts them."""
    start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"0\r\n" if frame[:1] == b"X" else b"")
    answer = always(start + frame * 1000)
    async with Target(answer) as target, connected(target) as wire:
        wire.ask(ASKED, LIMIT, LIMIT)
        _, body = await wire.answer()
        with pytest.raises(BodyTooLarge):
            await body.read()
