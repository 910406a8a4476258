"""One HTTP request to the control plane, on the way that the link takes: its name look-up, proxy, and trust."""

import asyncio
import json
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from presence import __version__
from presence.agent.dial import bracketed
from presence.agent.opening import Opening, Trusting
from presence.agent.settings import ControlPlane
from presence.agent.trust import trust
from presence.agent.wire import FAILURES, Wire
from presence.domain.uri import DEFAULT_PORTS
from presence.protocol import AGENT_PATH

HEAD_BYTES, BODY_BYTES = 32 * 1024, 64 * 1024
"""Of an answer; more is none of a control plane."""
SECONDS = 30.0
_HTTP = {"ws": "http", "wss": "https"}


class Answer(NamedTuple):
    """`body` may hold a secret."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Answer({self.status})"


async def inquire(
    opening: Opening, settings: ControlPlane, path: str, body: object = None, trusting: Trusting = trust
) -> Answer:
    """GET, or POST of the body as JSON; `path` begins at the control plane's root. Not repeated, no redirect followed.

    Raises what `ends.EXPECTED` names: what goes wrong with the answer is an OSError.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(SECONDS):
        wire = await opening.connect(lambda: Wire(loop, ""), trusting)
        try:
            wire.ask(_request(settings, path, body), HEAD_BYTES, BODY_BYTES)
            head, reader = await wire.answer()
            return Answer(head.code, head.headers, await reader.read())
        except FAILURES as error:
            if isinstance(error, OSError):
                raise
            raise ConnectionError("the answer is not HTTP") from None
        finally:
            wire.abort()


def _request(settings: ControlPlane, path: str, body: object) -> bytes:
    scheme, host, port = settings.endpoint()
    shown = "" if DEFAULT_PORTS[_HTTP[scheme]] == port else f":{port}"
    content = b"" if body is None else json.dumps(body).encode("ascii")
    lines = [
        f"{'GET' if body is None else 'POST'} {_root(settings)}{path} HTTP/1.1",
        f"Host: {bracketed(host)}{shown}",
        f"User-Agent: Presence/{__version__}",
        "Accept: application/json",
        "Connection: close",
    ]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + content


def _root(settings: ControlPlane) -> str:
    """The path below which the control plane is, without a slash at its end."""
    return urlsplit(settings.address()).path.removesuffix(AGENT_PATH).rstrip("/")
