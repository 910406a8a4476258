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
        return [self._message(body) for body in bodies]

    def _message(self, body: object) -> M | Unknown | UnreadableFire:
        if not isinstance(body, dict):
            raise ProtocolViolation(CloseCode.INVALID_PAYLOAD, "a message must be a JSON object")
        kind = body.get("type")
        if not isinstance(kind, str):
            raise ProtocolViolation(CloseCode.INVALID_PAYLOAD, "a message must have a 'type' that is a string")
        for value in body.values():
            if value.__class__ is dict or value.__class__ is list:
                _check_depth(value)
        model = self._models.get(kind)
        if model is None:
            return Unknown(kind[:64])
        try:
            # What model_validate does, without its options.
            message: M = model.__pydantic_validator__.validate_python(body)
        except ValidationError as error:
            fields = ", ".join(sorted({".".join(map(str, fault["loc"])) for fault in error.errors()}))[:80]
            if kind == "fire" and isinstance(body.get("id"), str) and is_uuid(body["id"]):
                return UnreadableFire(body["id"], fields)
            raise ProtocolViolation(CloseCode.INVALID_PAYLOAD, f"bad '{kind}': {fields}") from None
        return message


from_agent: Decoder[AgentMessage] = Decoder(AgentMessage)
from_control_plane: Decoder[ControlPlaneMessage] = Decoder(ControlPlaneMessage)


def encode(messages: Iterable[BaseModel]) -> Iterator[str]:
    """The messages as frames, in order, as many in each as fit."""
    batch: list[bytes] = []
    size = 2
    for message in messages:
        # What model_dump_json does, without its options and its decoding.
        text = message.__pydantic_serializer__.to_json(message, exclude_none=True)
        if batch and size + len(text) + 1 > MAX_FRAME_BYTES:
            yield _frame(batch)
            batch, size = [], 2
        batch.append(text)
        size += len(text) + 1
    if batch:
        yield _frame(batch)


def _frame(batch: list[bytes]) -> str:
    return (batch[0] if len(batch) == 1 else b"[%b]" % b",".join(batch)).decode()


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


def _check_depth(value: dict[str, Any] | list[Any], depth: int = 2) -> None:
    """The message itself is depth 1."""
    if depth > MAX_DEPTH:
        raise ProtocolViolation(CloseCode.INVALID_PAYLOAD, "nested too deeply")
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, dict | list):
            _check_depth(item, depth + 1)


def _utf8_length(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
