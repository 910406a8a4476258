"""Errors as `{Key, Message, FormatParams}`. Never an echo of the input, never a 500 for it."""

from collections.abc import Iterable, Mapping
from functools import cache
from http import HTTPStatus
from itertools import takewhile
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from presence.controlplane.api.schemas import Input
from presence.controlplane.services.refusal import Key, Refusal
from presence.errors import DatabaseError
from presence.logs import get_logger

_STATUS = {
    Key.USER_NOT_AUTHORIZED: 401,
    Key.WRONG_CREDENTIALS: 401,
    Key.TOKEN_EXPIRED: 401,
    Key.MISSING_CAPABILITIES: 403,
    Key.INPUT_TOO_LONG: 413,
    Key.TOO_MANY_REQUESTS: 429,
    Key.RESOURCE_NOT_FOUND: 404,
    Key.ROLE_NAME_EXISTS: 409,
    Key.DELIVERY_FINISHED: 409,
    Key.DELIVERY_NOT_FINISHED: 409,
    Key.DELIVERY_NOT_HELD: 409,
    Key.DELIVERY_WEBHOOK_DELETED: 409,
    Key.DELIVERY_WEBHOOK_PAUSED: 409,
    Key.PRESENCE_NOT_CONNECTED: 409,
    Key.EXECUTION_FINISHED: 409,
}
TOO_LONG: Final = "the body is larger than 1 MiB"
_OF_FRAMEWORK = {
    400: Refusal(Key.INVALID_INPUT, "the body is not valid JSON"),
    404: Refusal(Key.RESOURCE_NOT_FOUND, "there is no such resource"),
    413: Refusal(Key.INPUT_TOO_LONG, TOO_LONG),
}
_TEXTS = {
    "missing": "is required",
    "extra_forbidden": "has a field that is unknown",
    "uuid_parsing": "is not a UUID",
    "uuid_type": "is not a UUID",
    "model_attributes_type": "is not a JSON object",
    "model_type": "is not a JSON object",
    "dict_type": "is not a JSON object",
    "datetime_from_date_parsing": "is not an RFC 3339 time",
    "datetime_parsing": "is not an RFC 3339 time",
    "json_invalid": "is not JSON",
}
_log = get_logger(__name__)


def install(app: FastAPI) -> None:
    """Maps every exception that a request can end with to an answer."""

    @app.exception_handler(Refusal)
    async def refused(_request: Request, refusal: Refusal) -> Response:
        return answer_to(refusal)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return _answer(400, _first_fault(error.errors()))

    @app.exception_handler(HTTPException)
    async def refused_by_framework(_request: Request, error: HTTPException) -> JSONResponse:
        other = Refusal(Key.GENERAL_ERROR, HTTPStatus(error.status_code).phrase)
        return _answer(error.status_code, _OF_FRAMEWORK.get(error.status_code, other), error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(_request: Request, _error: ClientDisconnect) -> JSONResponse:
        return _answer(400, Refusal(Key.INVALID_INPUT, "the body ends too early"))

    @app.exception_handler(DatabaseError)
    async def unusable(request: Request, error: DatabaseError) -> JSONResponse:
        _log.error("request failed", method=request.method, path=request.url.path, error=str(error))
        refusal = Refusal(Key.GENERAL_ERROR, "the database cannot be used now; nothing was changed, try again")
        return _answer(503, refusal, {"Retry-After": "5"})

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        _log.error("request failed", method=request.method, path=request.url.path, error=type(error).__name__)
        return _answer(500, Refusal(Key.GENERAL_ERROR, "the control plane failed; its log says why"))


def answer_to(refusal: Refusal) -> Response:
    """With the status and the headers that belong to its key."""
    status = _STATUS.get(refusal.key, 400)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(refusal.retry_after)
    return _answer(status, refusal, headers)


def not_found() -> Response:
    """The answer to a path that names no resource."""
    return answer_to(_OF_FRAMEWORK[404])


def too_long() -> Response:
    """The answer to a body that is longer than any may be."""
    return answer_to(_OF_FRAMEWORK[413])


def method_not_allowed(methods: Iterable[str]) -> Response:
    """The answer to a method that a resource does not have."""
    refusal = Refusal(Key.GENERAL_ERROR, "the resource has no such method; the header Allow names those that it has")
    return _answer(405, refusal, {"Allow": ", ".join(sorted(methods))})


def _answer(status: int, refusal: Refusal, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(refusal.body(), status, headers)


def _first_fault(faults: Any) -> Refusal:
    """The first fault in our words; pydantic's own texts are used only where they hold none of the input."""
    fault = faults[0]
    place, *path = fault["loc"]
    if fault["type"] == "json_invalid":
        path = []
    elif place == "body":
        # Names of fields that we know; keys that somebody made up are input.
        path = list(takewhile(lambda part: isinstance(part, int) or part in _field_names(), path))
    name = ".".join(str(part) for part in path)
    text = _TEXTS.get(fault["type"]) or fault["msg"].removeprefix("Value error, ")
    return (
        Refusal(Key.INVALID_INPUT, f"{{0}}: {text}", name)
        if name
        else Refusal(Key.INVALID_INPUT, f"the {place} {text}")
    )


@cache
def _field_names() -> frozenset[str]:
    """All names of fields that a body of ours may have."""
    models: list[type[BaseModel]] = [Input]
    for model in models:
        models += model.__subclasses__()
    fields = [(name, field.alias) for model in models for name, field in model.model_fields.items()]
    return frozenset(alias or name for name, alias in fields)
