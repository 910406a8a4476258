"""Answers as no target should give them, each with the outcomes that would be right, in the words of `told`."""

import asyncio
import zlib

from presence.protocol.messages import AttemptRecord
from tests.support.target import Answer, always, break_off, closing, endless, hang_up, reset, silence

Rows = dict[str, tuple[Answer, set[str]]]

HEAD = b"HTTP/1.1 200 OK\r\n"
EMPTY = b"Content-Length: 0\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LATE = "first-byte: timeout, unknown"
RESET = "first-byte: reset, unknown"
TOO_LARGE = "first-byte: headers_too_large, unknown"
MALFORMED = "first-byte: malformed_response, unknown"


def told(attempt: AttemptRecord) -> str:
    """`200`, or phase and fault, and whether it is unknown what the request did."""
    if attempt.status is not None:
        return str(attempt.status)
    return f"{attempt.phase}: {attempt.fault or attempt.reason}" + (", unknown" if attempt.unknown else "")


def gzip_bomb() -> bytes:
    """1 GiB of zeros, about 1 MB long: the same compressed MiB a thousand times."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1024 * 1024)) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + 1024 * block + packer.flush()


def in_pieces(*pieces: bytes) -> Answer:
    """Answers with these bytes, each piece in a segment of its own."""

    async def answer(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.05)

    return answer


def cut_after(start: bytes) -> Answer:
    """Answers with these bytes and ends with RST once they are on their way."""

    async def answer(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        await writer.drain()
        await asyncio.sleep(0.1)  # RST overtakes what is not yet read
        break_off(writer)

    return answer


def headers(count: int, size: int) -> bytes:
    return HEAD + count * (b"X: " + b"x" * (size - 5) + b"\r\n")


def _bomb() -> Answer:
    packed = gzip_bomb()
    return always(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed)


BODIES: Rows = {
    "endless body": (endless(HEAD + b"\r\n", bytes(65536)), {"200"}),
    "endless chunks": (endless(CHUNKED, b"400\r\n" + bytes(1024) + b"\r\n"), {"200"}),
    "gzip bomb": (_bomb(), {"200"}),
    "body at a byte a second": (endless(HEAD + b"Content-Length: 100\r\n\r\n", b"x", pause=1), {"200"}),
    "no body where one is promised": (always(HEAD + b"Content-Length: 10\r\n\r\n"), {"200"}),
    "RST in mid-body": (cut_after(HEAD + b"Content-Length: 1000\r\n\r\nxyz"), {"200"}),
    "body shorter than said": (closing(HEAD + b"Content-Length: 100\r\n\r\nfew"), {"200"}),
    "body longer than said": (always(HEAD + b"Content-Length: 3\r\n\r\nmore than that"), {"200"}),
    "garbage for chunks": (always(CHUNKED + b"zz\r\nnot hexadecimal"), {"200"}),
    "garbage after a head's end in two pieces": (in_pieces(CHUNKED[:-1], b"\nzz\r\nnot hexadecimal"), {"200"}),
    "chunk of 2**80 bytes": (always(CHUNKED + b"100000000000000000000\r\nx"), {"200"}),
    "chunk extension without end": (endless(CHUNKED + b"1;", b"x" * 4096), {"200"}),
    "trailers without end": (endless(CHUNKED + b"0\r\n", b"X: " + b"x" * 1000 + b"\r\n"), {"200"}),
    "large trailers without end": (endless(CHUNKED + b"0\r\n", b"X: " + b"x" * 30_000 + b"\r\n"), {"200"}),
    "small trailers without end": (endless(CHUNKED + b"0\r\n", b"X: x\r\n" * 1000), {"200"}),
    "chunk size without end": (endless(CHUNKED, b"0" * 4096), {"200"}),
    "gzip that is none": (always(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 7\r\n\r\nno gzip"), {"200"}),
    "unknown encoding": (always(HEAD + b"Content-Encoding: rot13\r\nContent-Length: 3\r\n\r\nxyz"), {"200"}),
    "a few interim answers": (always(3 * b"HTTP/1.1 103 Early Hints\r\n\r\n" + HEAD + EMPTY), {"200"}),
    "status line without reason": (always(b"HTTP/1.1 200\r\n" + EMPTY), {"200"}),
    "HTTP/1.0": (closing(b"HTTP/1.0 200 OK\r\n\r\nbody"), {"200"}),
    "31 kB of headers": (always(headers(31, 1000) + EMPTY), {"200"}),
    "300 headers in 3 kB": (always(headers(300, 10) + EMPTY), {"200"}),
    "a header of 20 kB": (always(headers(1, 20_000) + EMPTY), {"200"}),
    "a second answer": (always(HEAD + EMPTY + b"HTTP/1.1 500 X\r\n" + EMPTY), {"200"}),
    "upgrade that nobody wanted": (
        always(b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"),
        {"101"},
    ),
}

HEADS: Rows = {
    "no answer at all": (silence, {LATE}),
    "head at a byte a second": (endless(b"HTTP/1.1 2", b"0", pause=1), {LATE}),
    "interim answers": (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", pause=0.05), {LATE}),
    "interim answers in a flood": (endless(b"", 100 * b"HTTP/1.1 100 Continue\r\n\r\n"), {LATE, TOO_LARGE}),
    "RST after the request": (reset, {RESET}),
    "FIN after the request": (hang_up, {RESET}),
    "RST in the head": (cut_after(HEAD + b"Content-Le"), {RESET}),
    "FIN in the status line": (closing(b"HTTP/1.1 20"), {MALFORMED, RESET}),
    "FIN in the head": (closing(HEAD + b"Content-Le"), {MALFORMED, RESET}),
    "100 kB of headers": (always(headers(100, 1000) + EMPTY), {TOO_LARGE}),
    "a header of 100 kB": (always(headers(1, 100_000) + EMPTY), {TOO_LARGE}),
    "100,000 short headers": (always(headers(100_000, 6) + EMPTY), {TOO_LARGE}),
    "a header without end": (endless(HEAD + b"X: ", b"x" * 4096), {TOO_LARGE}),
    "headers without end": (endless(HEAD, b"X: x\r\n" * 100), {TOO_LARGE}),
    "status line without end": (endless(b"HTTP/1.1 200 ", b"x" * 4096), {TOO_LARGE, MALFORMED}),
    "folded header without end": (endless(HEAD + b"X: x\r\n", b" x\r\n" * 100), {TOO_LARGE, MALFORMED}),
    "empty lines without end": (endless(b"", b"\r\n" * 1000), {TOO_LARGE, MALFORMED, LATE}),
}

_NO_HTTP: dict[str, bytes] = {
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HTTP/0.9": b"<html>hello</html>",
    "zeros": bytes(100),
    "TLS": bytes.fromhex("15030300020250"),
    "shoutcast": b"ICY 200 OK\r\n\r\n",
    "no version": b"HTTP 200 OK\r\n\r\n",
    "no status": b"HTTP/1.1\r\n\r\n",
    "status of letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "status below 100": b"HTTP/1.1 099 OK\r\n" + EMPTY,
    "negative status": b"HTTP/1.1 -200 OK\r\n\r\n",
    "status in other digits": "HTTP/1.1 \uff12\uff10\uff10 OK\r\n\r\n".encode(),
    "header without colon": HEAD + b"what is this\r\n\r\n",
    "header without name": HEAD + b": x\r\n\r\n",
    "NUL in a header": HEAD + b"X: a\0b\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "negative length": HEAD + b"Content-Length: -1\r\n\r\n",
    "length of letters": HEAD + b"Content-Length: many\r\n\r\n",
}
NO_HTTP: Rows = {name: (closing(response), {MALFORMED}) for name, response in _NO_HTTP.items()}
