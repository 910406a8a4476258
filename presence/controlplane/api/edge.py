"""What happens to every request before and after its resource: the path's form, headers, metrics."""

from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from presence.controlplane.api.paths import API, Paths
from presence.controlplane.api.problems import method_not_allowed
from presence.controlplane.metrics import OTHER, Metrics

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
_NOT_STORED = (b"cache-control", b"no-store")
"""Answers of the API hold what others must not see, and are true only now."""


class Edge:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, paths: Paths, metrics: Metrics) -> None:
        self._app = app
        self._paths = paths
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        found = self._paths.find(scope["path"])
        if found is not None and found.path != scope["path"]:
            scope = {**scope, "path": found.path, "raw_path": found.path.encode()}
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

        # The router would go on to a resource whose path has a variable there, or name only some of the methods.
        app = self._app
        if found is not None and scope["method"] not in found.methods:
            app = method_not_allowed(found.methods)
        try:
            await app(scope, receive, answer)
        finally:
            method = scope["method"] if scope["method"] in METHODS else OTHER
            template = OTHER if found is None else found.template
            self._metrics.answered(method, template, status, perf_counter() - begun)
