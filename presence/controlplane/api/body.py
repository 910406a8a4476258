"""Request bodies: JSON as RFC 8259 has it, and nothing that a database or a log could stumble over."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from presence.controlplane.api.auth import GATES, identify_again
from presence.controlplane.services.refusal import Key, Refusal

MAX_DEPTH = 32
"""More than any body of ours needs; Python's own limit is near 1,000."""
BODY_SECONDS = 30.0
"""For a body to arrive, once it is known who sends it."""


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
    """A route that asks who it is before it reads a body, and again when the body is there: whoever sends it may have
    lost its rights meanwhile. A JSON body, if it takes one, is parsed by `parse`; what that refuses is a 400."""

    def get_route_handler(self) -> Any:
        handler = super().get_route_handler()
        takes_json = self.body_field is not None
        takes_body = takes_json or "requestBody" in (self.openapi_extra or {})
        gates = [call for call in _calls(self.dependant) if call in GATES]

        async def strict(request: Request) -> Response:
            request = _StrictRequest(request.scope, request.receive)
            for gate in gates:
                await gate(request)
            if takes_json and not _is_json(request.headers.get("content-type", "")):
                raise Refusal(
                    Key.INVALID_INPUT, "send the body as JSON, with the header Content-Type: application/json"
                )
            # What nobody reads could be longer than a body may be, too.
            await _arrival(request)
            if takes_body or await request.body():
                await identify_again(request)
            return await handler(request)

        return strict


async def _arrival(request: Request) -> None:
    """Waits until the request has its whole body. Raises Refusal INVALID_INPUT where that takes too long."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            await request.body()
    except TimeoutError:
        raise Refusal(Key.INVALID_INPUT, f"send the whole body within {BODY_SECONDS:g} seconds") from None
    except ClientDisconnect:
        raise Refusal(Key.INVALID_INPUT, "the connection ended before the body did") from None


def _calls(dependant: Dependant) -> Iterator[Any]:
    """The functions that a route depends on."""
    for dependency in dependant.dependencies:
        yield dependency.call
        yield from _calls(dependency)
