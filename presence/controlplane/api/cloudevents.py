"""CloudEvents 1.0 over HTTP, as far as receiving them goes: structured, binary and batch mode, strictly read.

Pure: a request's headers and body in, happenings out. What is not an event by the specification, or not one of ours, is
a Refusal that names the attribute; `data` and extensions of others are accepted and not looked into.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import unquote_to_bytes

from presence.controlplane.api.body import parse
from presence.controlplane.services.refusal import Key, Refusal
from presence.domain.events import (
    MAX_EVENT_ID_LENGTH,
    MAX_SOURCE_LENGTH,
    EventType,
    Happening,
    parse_event_type,
    subject_fault,
)
from presence.domain.trace import parse_traceparent

MAX_BATCH: Final = 100
STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
JSON: Final = "application/json"

_FAMILY = "application/cloudevents"
_PREFIX = "ce-"
_DATA = frozenset({"data", "data_base64"})
_REQUIRED = ("specversion", "id", "source", "type", "subject")
_TEXTS = frozenset({*_REQUIRED, "time", "datacontenttype", "dataschema", "applicationid"})
_NAME = re.compile(r"[a-z0-9]+")
_INT32 = 2**31
# Of the type String: no control characters, no surrogates, no noncharacters.
_FORBIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(f"{chr(plane * 0x10000 + 0xFFFE)}{chr(plane * 0x10000 + 0xFFFF)}" for plane in range(17))
    + "]"
)
_URI_REFERENCE = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Message:
    """What a request says. `is_batch`: its answer is a list, too."""

    happenings: list[Happening]
    is_batch: bool


def read(headers: Iterable[tuple[str, str]], body: bytes) -> Message:
    """The events of a request; header names in any case, values as Latin-1 has them.

    An event that does not say where in a trace it belongs belongs where the request does (header `traceparent`). Raises
    Refusal INVALID_INPUT, or LIST_TOO_LONG for a batch of more than `MAX_BATCH`.
    """
    listed = [(name.lower(), value) for name, value in headers]
    message = _read(listed, body)
    request = parse_traceparent(dict(listed).get("traceparent"))
    if request is None:
        return message
    happenings = [replace(one, traceparent=one.traceparent or request) for one in message.happenings]
    return replace(message, happenings=happenings)


def _read(listed: Sequence[tuple[str, str]], body: bytes) -> Message:
    media_type = _media_type(dict(listed).get("content-type", ""))
    has_attributes = any(name.startswith(_PREFIX) for name, _ in listed)
    if media_type == BATCH:
        return Message(_batch(_json(body)), is_batch=True)
    if media_type == STRUCTURED or (media_type == JSON and not has_attributes):
        return Message([_happening(_attributes(_json(body)))], is_batch=False)
    if media_type.startswith(_FAMILY):
        raise Refusal(Key.INVALID_INPUT, f"{{0}}: must be {STRUCTURED} or {BATCH}", "Content-Type")
    if not has_attributes:
        raise Refusal(
            Key.INVALID_INPUT,
            f"send a CloudEvent: as {STRUCTURED}, as {BATCH}, or with its attributes in ce- headers",
        )
    return Message([_happening(_binary(listed))], is_batch=False)


def _media_type(content_type: str) -> str:
    """Raises Refusal for JSON in another encoding than UTF-8."""
    media_type, *parameters = (part.strip().lower() for part in content_type.split(";"))
    charsets = [parameter[8:].strip('"') for parameter in parameters if parameter.startswith("charset=")]
    if media_type.startswith(_FAMILY) and set(charsets) - {"utf-8", "us-ascii"}:
        raise Refusal(Key.INVALID_INPUT, "{0}: the charset must be utf-8", "Content-Type")
    return media_type


def _json(body: bytes) -> object:
    try:
        return parse(body.decode("utf-8-sig"))
    except ValueError as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else "it is not valid JSON"
        raise Refusal(Key.INVALID_INPUT, f"the body cannot be read: {reason}") from None


def _batch(value: object) -> list[Happening]:
    if not isinstance(value, list):
        raise Refusal(Key.INVALID_INPUT, "the body of a batch must be a JSON array of events")
    if len(value) > MAX_BATCH:
        raise Refusal(Key.LIST_TOO_LONG, "a batch has at most {0} events; send several", str(MAX_BATCH))
    happenings = []
    for number, item in enumerate(value):
        try:
            happenings.append(_happening(_attributes(item)))
        except Refusal as refusal:
            params = (f"[{number}].{refusal.params[0]}", *refusal.params[1:]) if refusal.params else ()
            message = refusal.message if params else f"[{number}]: {refusal.message}"
            raise Refusal(refusal.key, message, *params) from None
    return happenings


def _attributes(value: object) -> dict[str, str]:
    """The attributes of an event in JSON, without its data, each in its canonical text."""
    if not isinstance(value, dict):
        raise Refusal(Key.INVALID_INPUT, "an event must be a JSON object")
    if value.keys() >= _DATA:
        raise Refusal(Key.INVALID_INPUT, "{0}: must not be beside data", "data_base64")
    return {
        _checked_name(name): _text(name, item) for name, item in value.items() if name not in _DATA and item is not None
    }


def _text(name: str, value: object) -> str:
    match value:
        case str():
            return value
        case _ if name in _TEXTS:
            raise _fault(name, "must be a string")
        case bool():
            return "true" if value else "false"
        case int() if -_INT32 <= value < _INT32:
            return str(value)
        case _:
            raise _fault(name, "must be a string, a boolean or an integer of 32 bits")


def _binary(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The attributes that stand in headers."""
    found: dict[str, str] = {}
    for header, value in headers:
        if header.startswith(_PREFIX):
            name = _checked_name(header.removeprefix(_PREFIX))
            if name in found or name in ("data", "datacontenttype"):
                raise _fault(name, "stands twice" if name in found else "must not be a ce- header")
            found[name] = _decoded(name, value)
    return found


def _decoded(name: str, value: str) -> str:
    """A header's value without its quotes and percent-encoding. Raises Refusal where that is not well-formed."""
    text = value.strip(" \t")
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = re.sub(r"\\(.)", r"\1", text[1:-1])
    if not text.isascii() or re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise _fault(name, "must be percent-encoded where it has other characters than printable ASCII, or %")
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise _fault(name, "must be percent-encoded UTF-8") from None


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise Refusal(Key.INVALID_INPUT, "names of attributes are made of the letters a to z and digits")
    return name


def _happening(attributes: Mapping[str, str]) -> Happening:
    """Checks them by the specification, and by what we take."""
    for name in _REQUIRED:
        if name not in attributes:
            raise _fault(name, "is required")
    if attributes["specversion"] != "1.0":
        raise _fault("specversion", "must be 1.0")
    kind = parse_event_type(attributes["type"])
    if kind is None:
        raise _fault("type", f"must be one of {', '.join(EventType)}")
    fault = subject_fault(attributes["subject"])
    if fault is not None:
        raise _fault("subject", fault)
    for name, value in attributes.items():
        if _FORBIDDEN.search(value):
            raise _fault(name, "has a control character or one that stands for nothing")
    _check_length("id", attributes["id"], MAX_EVENT_ID_LENGTH)
    _check_length("source", attributes["source"], MAX_SOURCE_LENGTH)
    if not _URI_REFERENCE.fullmatch(attributes["source"]):
        raise _fault("source", "must be a URI or a path, such as /scanner/1")
    for name in ("datacontenttype", "dataschema"):
        if attributes.get(name) == "":
            raise _fault(name, "must not be empty")
    return Happening(
        source=attributes["source"],
        id=attributes["id"],
        type=kind,
        subject=attributes["subject"],
        application_id=attributes.get("applicationid"),
        occurred_at=_time(attributes["time"]) if "time" in attributes else None,
        # Of the extension Distributed Tracing. One that cannot be read is no fault of the event.
        traceparent=parse_traceparent(attributes.get("traceparent")),
    )


def _check_length(name: str, value: str, longest: int) -> None:
    if not 1 <= len(value) <= longest:
        raise _fault(name, f"must have 1 to {longest} characters")


def _time(text: str) -> int:
    """Milliseconds since the Unix epoch. Raises Refusal."""
    try:
        if not _TIME.fullmatch(text) or not text.isascii():
            raise ValueError
        return (datetime.fromisoformat(text.upper()) - _EPOCH) // timedelta(milliseconds=1)
    except ValueError:
        raise _fault("time", "must be an RFC 3339 time with its offset, such as 2026-01-31T12:00:00Z") from None


def _fault(name: str, what: str) -> Refusal:
    """`name` has been checked, or is one of ours: nothing that could break a line."""
    return Refusal(Key.INVALID_INPUT, f"{{0}}: {what}", name[:64])
