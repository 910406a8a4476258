"""Name resolution: in threads of its own, so that a slow name server stalls nothing else.

Names that resolved before have threads that other names cannot take: however many names of a dead zone the cloud asks
for, a healthy target is found. What nobody waits for any more is not looked up.
"""

import asyncio
import ipaddress
import os
import socket
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from threading import Condition, Thread

from presence.domain.address import Address

THREADS, RESERVED = 96, 16
"""Look-ups at once, and how many of them only for names that resolved before: more than attempts at once by default."""
RESOLVER_OPTIONS = "timeout:2 attempts:1"
"""For the C library, unless the host's administrator has set RES_OPTIONS: by itself it asks for up to half a minute."""
REMEMBERED = 10_000
"""Names that resolved before, the latest."""


@dataclass(slots=True)
class _Asked:
    """A look-up under way, or waiting for a thread; `waiting`: how many want to know."""

    found: asyncio.Future[list[Address]]
    waiting: int = 0


class Resolver:
    """Who asks for a name while it is being resolved gets the same answer, so one name occupies one thread.

    No answer is used again: only that there was one is remembered.
    """

    def __init__(self) -> None:
        os.environ.setdefault("RES_OPTIONS", RESOLVER_OPTIONS)
        self._loop = asyncio.get_running_loop()
        self._asked: dict[str, _Asked] = {}
        self._resolved: OrderedDict[str, None] = OrderedDict()
        self._changed = Condition()
        self._known: deque[str] = deque()
        self._unknown: deque[str] = deque()
        self._threads = 0
        self._is_open = True

    async def addresses(self, host: str, timeout: float) -> list[Address]:
        """All addresses of the name or literal address, in the system's order. Raises gaierror or TimeoutError."""
        literal = as_address(host)
        if literal is not None:
            return [literal]
        asked = self._asked.get(host) or self._ask(host)
        asked.waiting += 1
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(asked.found)
        finally:
            asked.waiting -= 1
            if not asked.waiting and not asked.found.done():
                self._take_back(host)

    def close(self) -> None:
        with self._changed:
            self._is_open = False
            self._changed.notify_all()

    def _ask(self, host: str) -> _Asked:
        asked = self._asked[host] = _Asked(self._loop.create_future())
        with self._changed:
            (self._known if host in self._resolved else self._unknown).append(host)
            self._changed.notify_all()
        if self._threads < min(THREADS, len(self._asked)):
            only_known = self._threads >= THREADS - RESERVED
            self._threads += 1
            # Daemons: Python would wait for the threads of an executor before it ends.
            Thread(target=self._work, args=(only_known,), name=f"dns-{self._threads}", daemon=True).start()
        return asked

    def _take_back(self, host: str) -> None:
        """Nobody waits: unless a thread has begun with it, it is not looked up."""
        with self._changed:
            for queue in (self._known, self._unknown):
                if host in queue:
                    queue.remove(host)
                    del self._asked[host]

    def _work(self, only_known: bool) -> None:
        """What each thread does."""
        queues = (self._known,) if only_known else (self._known, self._unknown)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: not self._is_open or any(queues))
                if not self._is_open:
                    return
                host = next(queue for queue in queues if queue).popleft()
            answer: list[Address] | Exception
            try:
                answer = _look_up(host)
            except Exception as error:  # noqa: BLE001 - handed to those who asked, whose exception it is
                answer = error
            try:
                self._loop.call_soon_threadsafe(self._answer, host, answer)
            except RuntimeError:
                return  # nobody is there any more: the loop is closed

    def _answer(self, host: str, answer: list[Address] | Exception) -> None:
        found = self._asked.pop(host).found
        if isinstance(answer, Exception):
            self._resolved.pop(host, None)
            found.set_exception(answer)
            found.exception()  # looked at, even if everyone who asked has given up
            return
        self._resolved[host] = None
        if len(self._resolved) > REMEMBERED:
            self._resolved.popitem(last=False)
        found.set_result(answer)


def is_no_such_name(error: Exception) -> bool:
    """Whether the name server itself says that the name does not exist: asking again would not help."""
    return isinstance(error, UnicodeError) or (isinstance(error, OSError) and error.errno == socket.EAI_NONAME)


@lru_cache(maxsize=4096)
def as_address(host: str) -> Address | None:
    """The host as an address, where it is one literally."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _look_up(host: str) -> list[Address]:
    found: Iterable[tuple[object, ...]] = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    texts = [str(entry[4][0]) for entry in found if isinstance(entry[4], tuple)]
    return list(dict.fromkeys(ipaddress.ip_address(text) for text in texts))
