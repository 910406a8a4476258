"""Frames to messages and back. Everything that a peer can send is answered here by a value or by ProtocolViolation."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isinf
from typing import Any, Generic, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from presence.domain.ids import is_uuid
from presence.errors import CloseCode, ProtocolViolation
from presence.protocol import MAX_DEPTH, MAX_FRAME_BYTES
from presence.protocol.messages import AgentMessage, ControlPlaneMessage

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message of a type that this side does not know."""

    type: str


@dataclass(frozen=True, slots=True)
class UnreadableFire:
    """A fire with a readable id and content that is not; `fault` names fields, never values."""

    id: str
    fault: str


class Decoder(Generic[M]):
    """Decodes the frames of one side. `decode` gives messages, Unknown or UnreadableFire; else it raises."""

    def __init__(self, union: object) -> None:
        self._models: Mapping[str, type[M]] = {model.model_fields["type"].default: model for model in get_args(union)}

    def decode(self, frame: str | bytes) -> list[M | Unknown | UnreadableFire]:
        if isinstance(frame, bytes):
            raise ProtocolViolation(CloseCode.PROTOCOL_ERROR, "binary frame; messages travel as text")
        if len(frame) > MAX_FRAME_BYTES or (not frame.isascii() and _utf8_length(frame) > MAX_FRAME_BYTES):
            raise ProtocolViolation(CloseCode.TOO_BIG, f"frame larger than {MAX_FRAME_BYTES} bytes")
        value = _parse(frame)
        bodies = value if isinstance(value, list) else [value]
        if frame.count("{") + frame.count("[") > len(bodies) + 1:
            _check_depth(value)
        return [self._message(body) for body in bodies]

    def _message(self, body: object) -> M | Unknown | UnreadableFire:
        if not isinstance(body, dict):
            raise ProtocolViolation(CloseCode.INVALID_PAYLOAD, "a message must be a JSON object")
        kind = body.get("type")
        if not isinstance(kind, str):
            raise ProtocolViolation(CloseCode.INVALID_PAYLOAD, "a message must have a 'type' that is a string")
        model = self._models.get(kind)
        if model is None:
            return Unknown(kind[:64])
        try:
            return model.model_validate(body)
        except ValidationError as error:
            fields = ", ".join(sorted({".".join(map(str, fault["loc"])) for fault in error.errors()}))[:80]
            if kind == "fire" and isinstance(body.get("id"), str) and is_uuid(body["id"]):
                return UnreadableFire(body["id"], fields)
            raise ProtocolViolation(CloseCode.INVALID_PAYLOAD, f"bad '{kind}': {fields}") from None


from_agent: Decoder[AgentMessage] = Decoder(AgentMessage)
from_control_plane: Decoder[ControlPlaneMessage] = Decoder(ControlPlaneMessage)


def encode(messages: Iterable[BaseModel]) -> Iterator[str]:
    """The messages as frames, in order, as many in each as fit."""
    batch: list[str] = []
    size = 2
    for message in messages:
        text = message.model_dump_json(exclude_none=True)
        length = len(text) if text.isascii() else _utf8_length(text)
        if batch and size + length + 1 > MAX_FRAME_BYTES:
            yield _frame(batch)
            batch, size = [], 2
        batch.append(text)
        size += length + 1
    if batch:
        yield _frame(batch)


def _frame(batch: list[str]) -> str:
    return batch[0] if len(batch) == 1 else f"[{','.join(batch)}]"


def _parse(frame: str) -> object:
    try:
        return _JSON.decode(frame)
    except ProtocolViolation:
        raise
    except RecursionError:
        raise ProtocolViolation(CloseCode.INVALID_PAYLOAD, "nested too deeply") from None
    except ValueError:
        raise ProtocolViolation(CloseCode.INVALID_PAYLOAD, "not JSON") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ProtocolViolation(CloseCode.INVALID_PAYLOAD, "an object has the same key twice")
    return value


def _float(text: str) -> float:
    value = float(text)
    if isinf(value):
        raise ProtocolViolation(CloseCode.INVALID_PAYLOAD, "a number is too large")
    return value


def _constant(text: str) -> float:
    raise ProtocolViolation(CloseCode.INVALID_PAYLOAD, f"{text} is not JSON")


_JSON = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)


def _check_depth(value: object, depth: int = 0) -> None:
    """Depth counts from the message: the array around a batch is depth 0."""
    depth += isinstance(value, dict) or depth > 0
    if depth > MAX_DEPTH:
        raise ProtocolViolation(CloseCode.INVALID_PAYLOAD, "nested too deeply")
    items: Iterable[object] = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in items:
        if isinstance(item, dict | list):
            _check_depth(item, depth)


def _utf8_length(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
