"""One connection to a target or its proxy, and one request after the other on it.

The request is written here, byte for byte; the answer is read by aiohttp's protocol and parser, which know HTTP/1's
framing. A whole client stands between those two in aiohttp; its second tries, redirects, cookies, normalisations and
half of its time are not wanted here.
"""

import asyncio
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import StreamReader

READ = 64 * 1024
FRAMING = 64 * 1024
_END_OF_HEAD = b"\r\n\r\n"
FAILURES = (aiohttp.ClientError, HttpProcessingError, OSError)
"""What reading an answer can raise, besides TimeoutError (an OSError)."""


class HeadTooLarge(aiohttp.ClientError):
    """The answer's status line and headers are larger than allowed."""


class BodyTooLarge(aiohttp.ClientError):
    """The answer's body is larger, framing included, than anything that is read."""


class Wire(ResponseHandler):
    """An open connection. `peer`: the address it is connected to; `answered`: something came since the last request."""

    def __init__(self, loop: asyncio.AbstractEventLoop, peer: str) -> None:
        super().__init__(loop)
        self.peer = peer
        self.answered = False
        self._limit = 0
        self._received = 0
        self._in_head = False
        self._body_left = 0
        self._ending = b""

    @property
    def unsent(self) -> int:
        """Bytes of the request that are not yet on their way."""
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    @property
    def can_be_kept(self) -> bool:
        """Whether another request may follow: the answer was read to its end, and nothing came after it."""
        if self.should_close or self.unsent or not self.is_connected():
            return False
        try:
            # The parser gives what it has begun to read, or says that it cannot read it.
            return self._parser is None or self._parser.feed_eof() is None
        except HttpProcessingError:
            return False

    def ask(self, request: bytes, limit: int, body_limit: int) -> None:
        """Sends a request; its answer's head may have `limit` bytes, its body so many, and as many for its framing."""
        self.answered, self._in_head = False, True
        self._limit, self._received, self._ending = limit, 0, b""
        self._body_left = FRAMING + 2 * body_limit
        self.set_response_params(
            read_until_eof=True,
            auto_decompress=False,
            read_bufsize=READ,
            max_line_size=limit,
            max_field_size=limit,
            max_headers=limit,
        )
        if self.transport is None:
            raise aiohttp.ServerDisconnectedError
        self.transport.write(request)

    async def answer(self) -> tuple[RawResponseMessage, StreamReader]:
        """The answer's head, and its body to be read. Interim answers (1xx but 101) are passed over."""
        while True:
            head, body = await self.read()
            if not _is_interim(head.code):
                return head, body

    def data_received(self, data: bytes) -> None:
        self.answered = True
        at = 0
        while self._in_head and at < len(data):
            # Each head is parsed alone: what comes after an answer must not spoil it. And no more than its limit.
            end = min(self._end_of_head(data, at), at + self._limit - self._received + 1)
            self._received += end - at
            super().data_received(data[at:end])
            at = end
            if self.exception() is not None:
                return
            if self._in_head and self._received > self._limit:
                self._refuse()
                return
        if at == len(data):
            return
        self._body_left -= len(data) - at
        if self._payload is not None and self._payload.is_eof():
            self.force_close()
        elif self._body_left < 0:
            self.set_exception(BodyTooLarge())
        else:
            super().data_received(data[at:])

    def _end_of_head(self, data: bytes, at: int) -> int:
        """Where the head's end is in the data, though it may have begun in what came before; else the data's end."""
        window = self._ending + data[at:]
        found = window.find(_END_OF_HEAD)
        if found < 0:
            self._ending = window[1 - len(_END_OF_HEAD) :]
            return len(data)
        end = at + found + len(_END_OF_HEAD) - len(self._ending)
        self._ending = b""
        return end

    def feed_data(self, data: Any, size: int = 0) -> None:
        """The parser has a whole head; bytes of the body may have come with it."""
        head: RawResponseMessage = data[0]
        if self._received > self._limit:
            length = sum(len(name) + len(value) + 4 for name, value in head.raw_headers)
            if length > self._limit:
                self._refuse()
                return
        # Interim answers count: they may not be repeated without end.
        self._in_head = _is_interim(head.code)
        super().feed_data(data, size)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        too_large = any(isinstance(error, LineTooLong) for error in cause)
        super().set_exception(HeadTooLarge() if too_large else exc, *cause)
        if self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(exc)

    def _refuse(self) -> None:
        self.set_exception(HeadTooLarge())
        if self.transport is not None:
            self.transport.abort()


def _is_interim(status: int) -> bool:
    """Whether the answer proper is still to come: after 101 no other does."""
    return 100 <= status <= 199 and status != 101
