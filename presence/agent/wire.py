"""One connection to a target or its proxy, and one request after the other on it.

The request is written here, byte for byte; the answer is read by aiohttp's protocol and parser, which know HTTP/1's
framing. A whole client stands between those two in aiohttp; its second tries, redirects, cookies, normalisations and
half of its time are not wanted here.
"""

import asyncio
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import StreamReader

READ = 64 * 1024
FAILURES = (aiohttp.ClientError, HttpProcessingError, OSError)
"""What reading an answer can raise, besides TimeoutError (an OSError)."""


class HeadTooLarge(aiohttp.ClientError):
    """The answer's status line and headers are larger than allowed."""


class Wire(ResponseHandler):
    """An open connection. `peer`: the address it is connected to; `answered`: something came since the last request."""

    def __init__(self, loop: asyncio.AbstractEventLoop, peer: str) -> None:
        super().__init__(loop)
        self.peer = peer
        self.answered = False
        self._limit = 0
        self._received = 0
        self._in_head = False

    @property
    def unsent(self) -> int:
        """Bytes of the request that are not yet on their way."""
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    @property
    def can_be_kept(self) -> bool:
        """Whether another request may follow: the answer was read to its end, and nothing came after it."""
        return not self.should_close and self.is_connected()

    def ask(self, request: bytes, limit: int) -> None:
        """Sends a request; its answer's head may have `limit` bytes."""
        self.answered, self._in_head = False, True
        self._limit, self._received = limit, 0
        self.set_response_params(read_until_eof=True, auto_decompress=False, read_bufsize=READ)
        if self.transport is None:
            raise aiohttp.ServerDisconnectedError
        self.transport.write(request)

    async def answer(self) -> tuple[RawResponseMessage, StreamReader]:
        """The answer's head, and its body to be read. Interim answers (1xx but 101) are passed over."""
        while True:
            head, body = await self.read()
            if not 100 <= head.code <= 199 or head.code == 101:
                return head, body

    def data_received(self, data: bytes) -> None:
        self.answered = True
        self._received += len(data)
        super().data_received(data)
        if self._in_head and self._received > self._limit:
            self._refuse()

    def feed_data(self, data: Any, size: int = 0) -> None:
        """The parser has a whole head; bytes of the body may have come with it."""
        head: RawResponseMessage = data[0]
        if self._received > self._limit:
            length = sum(len(name) + len(value) + 4 for name, value in head.raw_headers)
            if length > self._limit:
                self._refuse()
                return
        # Interim answers count: they may not be repeated without end.
        self._in_head = 100 <= head.code <= 199
        super().feed_data(data, size)

    def _refuse(self) -> None:
        if self.exception() is None:
            self.set_exception(HeadTooLarge())
        if self.transport is not None:
            self.transport.abort()
