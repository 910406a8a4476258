"""What happens to every request before and after its resource: its form, how long its body may be, headers, metrics.

What needs no resource to be refused is answered here: a path that names none, a method that it does not have, a body
that says of itself that it is too long. Under /api/v4 that counts for the address it comes from.
"""

import re
from time import perf_counter
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from presence.controlplane.api import problems
from presence.controlplane.api.limiting import Limiter
from presence.controlplane.api.paths import API, Found, Paths
from presence.controlplane.metrics import OTHER, Metrics
from presence.controlplane.services.refusal import Refusal

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
MAX_BODY_BYTES: Final = 1024 * 1024
_TEXT_JSON = re.compile(rb"\s*text/json(?=\s*(;|$))", re.IGNORECASE)
_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
_NOT_STORED = (b"cache-control", b"no-store")
"""Answers of the API hold what others must not see, and are true only now."""


class Edge:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, paths: Paths, limiter: Limiter, metrics: Metrics) -> None:
        self._app = app
        self._paths = paths
        self._limiter = limiter
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        found = self._paths.find(scope["path"])
        if found is not None and found.path != scope["path"]:
            scope = {**scope, "path": found.path, "raw_path": found.path.encode()}
        scope = _as_json(scope)
        is_api = scope["path"].startswith(API)
        begun, status = perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = list(message["headers"])
                names = {name.lower() for name, _ in given}
                extra = (*_HEADERS, _NOT_STORED) if is_api else _HEADERS
                message = {**message, "headers": given + [header for header in extra if header[0] not in names]}
            await send(message)

        app = self._refused(scope, found) or self._app
        try:
            await app(scope, _bounded(receive), answer)
        finally:
            method = scope["method"] if scope["method"] in METHODS else OTHER
            template = OTHER if found is None else found.template
            self._metrics.answered(method, template, status, perf_counter() - begun)

    def _refused(self, scope: Scope, found: Found | None) -> ASGIApp | None:
        """The answer to what no resource need look at; None where one must."""
        # The router would go on to a resource whose path has a variable there, or name only some of the methods.
        if found is None:
            answer = problems.not_found()
        elif scope["method"] not in found.methods:
            answer = problems.method_not_allowed(found.methods)
        elif _declared(scope) > MAX_BODY_BYTES:
            answer = problems.too_long()
        else:
            return None
        if scope["path"].startswith(API):
            try:
                self._limiter.stranger(Request(scope))
            except Refusal as refusal:
                return problems.answer_to(refusal)
        return answer


def _as_json(scope: Scope) -> Scope:
    """Where the body is `text/json`, as some clients of that API call it, calls it `application/json`."""
    headers = scope["headers"]
    if not any(name == b"content-type" and _TEXT_JSON.match(value) for name, value in headers):
        return scope
    renamed = [
        (name, _TEXT_JSON.sub(b"application/json", value) if name == b"content-type" else value)
        for name, value in headers
    ]
    return {**scope, "headers": renamed}


def _declared(scope: Scope) -> int:
    """How many bytes the body is said to have."""
    lengths = [value for name, value in scope["headers"] if name == b"content-length" and value.isdigit()]
    # The first digits that count say enough: Python reads no number of thousands of digits.
    return max((int(value.lstrip(b"0")[:20] or b"0") for value in lengths), default=0)


def _bounded(receive: Receive) -> Receive:
    """Counts what is read of a body. Raises HTTPException 413 where that is too much."""
    length = 0

    async def counted() -> Message:
        nonlocal length
        message = await receive()
        length += len(message.get("body", b""))
        if length > MAX_BODY_BYTES:
            raise HTTPException(413)
        return message

    return counted
