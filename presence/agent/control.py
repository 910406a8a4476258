"""The control socket: what the person on this host asks of the running daemon. HTTP with JSON over a unix socket.

Only the agent's own user and root get an answer: the socket's mode says so, and the kernel says who is there.
"""

import asyncio
import contextlib
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from aiohttp import web

from presence.agent import listing
from presence.agent.control_path import reachable
from presence.agent.health import answer
from presence.agent.journal import Journal
from presence.agent.outage import Unwritable
from presence.agent.pause import Pause
from presence.domain.delivery import LONGEST_PAUSE, JournalState
from presence.errors import ConfigurationError, PresenceError
from presence.logs import get_logger

log = get_logger(__name__)

MOST_LISTED = 1000
RELEASE_SECONDS = 10.0
_CREDENTIALS = struct.Struct("3i")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.contextmanager
def control_socket(path: Path) -> Iterator[socket.socket]:
    """A listening socket at `path`, mode 0600, which is removed at the end. A stale one is replaced.

    Raises PresenceError if another agent answers there, and ConfigurationError where there can be no socket.
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        _refuse_a_second(path)
        # A name of its own until it is complete: nobody finds a socket with another mode, or one that does not listen.
        draft.unlink(missing_ok=True)
        with reachable(draft) as name:
            listening.bind(name)
        draft.chmod(0o600)
        listening.listen(64)
        draft.replace(path)
        made = path.stat().st_ino
    except OSError as error:
        listening.close()
        what = f"the control socket cannot be made: {error.strerror}"
        raise ConfigurationError(
            f"control.socket: {path}: {what}; choose a place in an existing directory that the agent may write to"
        ) from None
    try:
        yield listening
    finally:
        listening.close()
        with contextlib.suppress(OSError):
            if path.stat().st_ino == made:
                path.unlink()


def _refuse_a_second(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigurationError(f"control.socket: {path}: something else is there; remove it, or choose another place")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking, reachable(path) as name:
        asking.settimeout(2.0)
        try:
            asking.connect(name)
        except ConnectionRefusedError:
            return
        except TimeoutError:
            pass
    raise PresenceError(
        f"{path}: another presence agent is running and answers there; stop it, or set control.socket for this one"
    )


@web.middleware
async def known_peers_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers the agent's own user and root; says what is wrong as JSON."""
    peer = _user_of(request)
    if peer not in (0, os.geteuid()):
        log.warning("control refused", uid=peer)
        return answer({"error": "only the agent's own user and root may do this"}, 403)
    try:
        return await handler(request)
    except web.HTTPException as error:
        return answer({"error": error.text or error.reason}, error.status)
    except Unwritable as error:
        return answer({"error": str(error)}, 503)


def _user_of(request: web.Request) -> int:
    """The user at the other end, as the kernel knows it."""
    assert request.transport is not None
    with request.transport.get_extra_info("socket").dup() as peer:
        _, user, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(user)


def commands(journal: Journal, pause: Pause) -> list[web.RouteDef]:
    """What only the control socket offers, besides the pages of `health`."""

    async def listed(request: web.Request) -> web.Response:
        query = request.query
        state = query.get("state")
        page = listing.Page(
            journal.now(),
            _number(query.get("after", "0"), 2**62),
            _number(query.get("most", "100"), MOST_LISTED),
            None if state is None else _state(state),
            query.get("all") == "1",
        )
        return answer({"deliveries": await journal.look(listing.listed, page)})

    async def shown(request: web.Request) -> web.Response:
        delivery = request.match_info["delivery"]
        found = await journal.look(listing.shown, (delivery, journal.now()))
        return answer(found) if found is not None else _unknown(delivery)

    async def release(request: web.Request) -> web.Response:
        delivery = request.match_info["delivery"]
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                released = await journal.release(delivery, None)
        except TimeoutError:
            raise Unwritable("the journal cannot be written now; nothing was released, or it will be") from None
        if released:
            log.warning("released", delivery=delivery, by="a person on this host")
            return answer({"id": delivery, "state": JournalState.PENDING.value})
        found = await journal.look(listing.shown, (delivery, journal.now()))
        if found is None:
            return _unknown(delivery)
        return answer({"error": f"delivery {delivery} is not held: it is {found['state']}"}, 409)

    async def begin(request: web.Request) -> web.Response:
        try:
            seconds = (await request.json()).get("seconds")
        except (ValueError, AttributeError):
            raise web.HTTPBadRequest(text='send {"seconds": 7200}, or null for until further notice') from None
        if seconds is not None and not (type(seconds) in (int, float) and 0 < seconds <= LONGEST_PAUSE):
            raise web.HTTPBadRequest(text="a pause lasts more than 0 s and at most 366 days")
        await pause.begin(seconds)
        return answer({"paused": True, "remaining_s": seconds})

    async def end(_request: web.Request) -> web.Response:
        was_paused = await pause.end()
        return answer({"paused": False, "was_paused": was_paused, "waiting": len(journal.backlog)})

    return [
        web.get("/deliveries", listed),
        web.get("/deliveries/{delivery}", shown),
        web.post("/deliveries/{delivery}/release", release),
        web.post("/pause", begin),
        web.post("/resume", end),
    ]


def _unknown(delivery: str) -> web.Response:
    return answer(
        {"error": f"the journal has no delivery {delivery}; 'presence deliveries list' shows which it has"}, 404
    )


def _number(text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= most):
        raise web.HTTPBadRequest(text=f"'{text[:20]}' is no number up to {most}")
    return int(text)


def _state(text: str) -> str:
    if text not in set(JournalState):
        raise web.HTTPBadRequest(text=f"there is no state '{text[:20]}'; there are {', '.join(JournalState)}")
    return text
