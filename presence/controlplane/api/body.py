"""Request bodies: JSON as RFC 8259 has it, and nothing that a database or a log could stumble over."""

import json
from collections.abc import Iterator
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from presence.controlplane.api.auth import GATES
from presence.controlplane.services.refusal import Key, Refusal

MAX_DEPTH = 32
"""More than any body of ours needs; Python's own limit is near 1,000."""


def parse(text: str) -> object:
    """The JSON value. Raises ValueError for what is none, for NaN and infinities, for a key given twice, for deep
    nesting, and for strings with NUL or lone surrogates."""
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    _check(value, 1)
    return value


def _check(value: object, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, str):
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError("a string has NUL or a lone surrogate")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check(key, depth)
            _check(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("an object has the same key twice")
    return value


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return value


def _constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)


class _StrictRequest(Request):
    async def json(self) -> Any:
        # Files that Windows writes begin with a byte order mark.
        return parse((await self.body()).decode("utf-8-sig"))


def _is_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type.startswith("application/") and media_type.endswith(("/json", "+json"))


class StrictRoute(APIRoute):
    """A route that asks who it is before it reads a body, and whose JSON body, if it takes one, is parsed by `parse`;
    what that refuses is a 400."""

    def get_route_handler(self) -> Any:
        handler = super().get_route_handler()
        takes_body = self.body_field is not None
        gates = [call for call in _calls(self.dependant) if call in GATES]

        async def strict(request: Request) -> Response:
            for gate in gates:
                await gate(request)
            if takes_body and not _is_json(request.headers.get("content-type", "")):
                raise Refusal(
                    Key.INVALID_INPUT, "send the body as JSON, with the header Content-Type: application/json"
                )
            if not takes_body:
                async for _ in request.stream():
                    pass  # What nobody reads could be longer than a body may be.
            return await handler(_StrictRequest(request.scope, request.receive))

        return strict


def _calls(dependant: Dependant) -> Iterator[Any]:
    """The functions that a route depends on."""
    for dependency in dependant.dependencies:
        yield dependency.call
        yield from _calls(dependency)
