"""Frames: everything valid survives the way there and back, everything else is a ProtocolViolation."""

import json
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from presence.errors import CloseCode, ProtocolViolation
from presence.protocol import MAX_DEPTH, MAX_FRAME_BYTES
from presence.protocol.codec import Decoder, Unknown, UnreadableFire, encode, from_agent, from_control_plane
from presence.protocol.messages import AttemptRecord, Canary, Held, Holding, NewKey, Paused, Report
from tests.unit.protocol.examples import (
    AGENT_EXAMPLES,
    CONTROL_PLANE_EXAMPLES,
    EXAMPLES,
    ID,
    agent_messages,
    control_plane_messages,
    fire,
    fires,
    make_id,
)

DECODERS: list[Decoder[Any]] = [from_agent, from_control_plane]
LONGEST_REASON = 123
"""Bytes that a close frame has for the reason (RFC 6455 section 5.5)."""


def decoder_of(kind: str) -> Decoder[Any]:
    return from_agent if kind in AGENT_EXAMPLES else from_control_plane


def body_of(message: BaseModel) -> dict[str, Any]:
    body: dict[str, Any] = json.loads("".join(encode([message])))
    return body


def violation(decoder: Decoder[Any], frame: str | bytes) -> ProtocolViolation:
    with pytest.raises(ProtocolViolation) as raised:
        decoder.decode(frame)
    assert 0 < len(raised.value.reason.encode()) <= LONGEST_REASON
    assert raised.value.reason.isascii()
    return raised.value


def decode_or_violation(decoder: Decoder[Any], frame: str) -> list[Any] | ProtocolViolation:
    """What decoding gave; any exception but a ProtocolViolation goes on and fails the test."""
    items = None
    with suppress(ProtocolViolation):
        items = decoder.decode(frame)
    if items is None:
        raised = violation(decoder, frame)
        assert raised.close_code in (CloseCode.INVALID_PAYLOAD, CloseCode.TOO_BIG)
        return raised
    assert all(isinstance(item, BaseModel | Unknown | UnreadableFire) for item in items)
    return items


# The way there and back


@given(st.lists(agent_messages, max_size=5))
def test_agent_messages_survive(messages: list[Any]) -> None:
    assert [item for frame in encode(messages) for item in from_agent.decode(frame)] == messages


@given(st.lists(control_plane_messages, max_size=5))
def test_control_plane_messages_survive(messages: list[Any]) -> None:
    assert [item for frame in encode(messages) for item in from_control_plane.decode(frame)] == messages


@pytest.mark.parametrize("kind", EXAMPLES)
def test_one_message_is_an_object_with_its_type(kind: str) -> None:
    (frame,) = encode([EXAMPLES[kind]])
    assert json.loads(frame)["type"] == kind
    assert decoder_of(kind).decode(frame) == [EXAMPLES[kind]]


@pytest.mark.parametrize("examples", [AGENT_EXAMPLES, CONTROL_PLANE_EXAMPLES])
def test_several_messages_are_an_array_in_order(examples: dict[str, BaseModel]) -> None:
    (frame,) = encode(examples.values())
    assert [body["type"] for body in json.loads(frame)] == list(examples)
    assert decoder_of(next(iter(examples))).decode(frame) == list(examples.values())


def test_nothing_to_say_is_no_frame() -> None:
    assert list(encode([])) == []


def test_empty_array_says_nothing() -> None:
    assert from_agent.decode("[]") == []


def test_absent_is_not_null_on_the_wire() -> None:
    assert body_of(Paused()) == {"type": "paused"}
    assert body_of(Paused(remaining=0)) == {"type": "paused", "remaining": 0}


def test_new_key_travels_in_full() -> None:
    assert body_of(NewKey(key="hunter2-hunter2-hunter2"))["key"] == "hunter2-hunter2-hunter2"


def test_the_authorization_of_a_fire_travels_in_full() -> None:
    assert body_of(fire().model_copy(update={"authorization": "Bearer hunter2"}))["authorization"] == "Bearer hunter2"


def test_messages_of_the_other_side_are_unknown() -> None:
    assert from_agent.decode('{"type":"fire"}') == [Unknown("fire")]
    assert from_control_plane.decode('{"type":"report"}') == [Unknown("report")]


def test_unknown_fields_are_ignored() -> None:
    body = {**body_of(fire()), "priority": [1, {"a": None}], "comment": "\ud800", "": ""}
    assert from_control_plane.decode(json.dumps(body)) == [fire()]


@pytest.mark.parametrize("kind", ["", "Fire", "fire ", "from_the_future", "x" * 64, "\u00e9\n"])
def test_unknown_type_is_a_value(kind: str) -> None:
    for decoder in DECODERS:
        assert decoder.decode(json.dumps({"type": kind, "id": 7})) == [Unknown(kind)]


def test_unknown_type_is_kept_short() -> None:
    assert from_agent.decode(json.dumps({"type": "x" * 10_000})) == [Unknown("x" * 64)]


def test_unknown_type_among_known_ones_keeps_its_place() -> None:
    frame = json.dumps([{"type": "ready"}, {"type": "later"}, {"type": "draining"}])
    known, unknown, last = from_agent.decode(frame)
    assert (known.type, unknown, last.type) == ("ready", Unknown("later"), "draining")


# The frame limit


@given(st.lists(fires, max_size=20), st.integers(1, 40))
@settings(max_examples=25)
def test_frames_stay_within_the_limit_and_keep_the_order(messages: list[Any], times: int) -> None:
    messages = messages * times
    frames = list(encode(messages))
    assert all(len(frame.encode()) <= MAX_FRAME_BYTES for frame in frames)
    assert [item for frame in frames for item in from_control_plane.decode(frame)] == messages


@pytest.mark.parametrize("letter", ["a", "é", "日", "😀", "\x01", '"'])
def test_frames_are_as_full_as_they_can_be(letter: str) -> None:
    messages = [fire(make_id(number), uri=letter * 2048) for number in range(300)]
    frames = list(encode(messages))
    assert len(frames) > 1
    assert [item for frame in frames for item in from_control_plane.decode(frame)] == messages
    for frame, following in pairwise(frames):
        size = len(frame.encode())
        (first,) = encode(from_control_plane.decode(following)[:1])
        assert size <= MAX_FRAME_BYTES <= size + 1 + len(first.encode())


def test_largest_messages_fit_into_a_frame() -> None:
    record = AttemptRecord(
        number=2**31 - 1, ago=2**53 - 1, took=2**53 - 1, status=999, phase="x" * 64, fault="x" * 64, reason="x" * 64,
        address="f" * 64, hint="x" * 64, location="x" * 270, proxy="x" * 270,
        unknown=True, repeated=True, observed=True,
        **dict.fromkeys(("dns", "connect", "tls", "write", "first_byte", "body"), 2**53 - 1),
    )  # fmt: skip
    largest = [
        Holding(ids=(ID,) * 5000),
        Report(id=ID, state="succeeded", reason="x" * 64, attempts=1, settled_ago=1, log=(record,) * 64),
        Held(id=ID, reason="x" * 64, attempts=2**31 - 1, log=(record,) * 64),
        fire(uri="\x01" * 2048).model_copy(
            update={"body": "\x01" * 8192, "content_type": "\x01" * 256, "authorization": '"' * 4096}
        ),
        NewKey(key="\x01" * 256),
    ]
    for message in largest:
        (frame,) = encode([message])
        assert len(frame.encode()) <= MAX_FRAME_BYTES


@pytest.mark.parametrize(
    ("filling", "count", "fits"),
    [
        (" ", MAX_FRAME_BYTES - 16, True),
        (" ", MAX_FRAME_BYTES - 15, False),
        (" ", 10 * MAX_FRAME_BYTES, False),
    ],
)
def test_frame_limit_when_receiving(filling: str, count: int, fits: bool) -> None:
    frame = '{"type":"ready"}' + filling * count
    if fits:
        assert len(from_agent.decode(frame)) == 1
    else:
        assert violation(from_agent, frame).close_code is CloseCode.TOO_BIG


@pytest.mark.parametrize("letter", ["é", "日", "😀", "\ud800"])
def test_frame_limit_counts_bytes_of_utf8(letter: str) -> None:
    width = len(letter.encode("utf-8", "surrogatepass"))
    empty = '{"type":"ready","x":""}'
    longest = (MAX_FRAME_BYTES - len(empty)) // width
    assert len(from_agent.decode(empty.replace('""', f'"{letter * longest}"'))) == 1
    too_long = empty.replace('""', f'"{letter * (longest + 1)}"')
    assert len(too_long) < MAX_FRAME_BYTES
    assert violation(from_agent, too_long).close_code is CloseCode.TOO_BIG


# What is wrong


@pytest.mark.parametrize("frame", [b"", b"{}", b'{"type":"ready"}', b"\xff\x00"])
def test_binary_frame_closes_with_1002(frame: bytes) -> None:
    for decoder in DECODERS:
        assert violation(decoder, frame).close_code is CloseCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ("", "not JSON"),
        (" ", "not JSON"),
        ("hello", "not JSON"),
        ('{"type":"ready"', "not JSON"),
        ('{"type":"ready"}}', "not JSON"),
        ('{"type":"ready"}{"type":"ready"}', "not JSON"),
        ('{"type":"ready"}\n{"type":"ready"}', "not JSON"),
        ("{'type':'ready'}", "not JSON"),
        ('{"type":"ready",}', "not JSON"),
        ('[{"type":"ready"},]', "not JSON"),
        ('{"type":"ready"} // comment', "not JSON"),
        ('\ufeff{"type":"ready"}', "not JSON"),
        ('{"type":"rea\ndy"}', "not JSON"),
        ('{"type":"ready","x":"\x00"}', "not JSON"),
        ('{"type":"ready","x":01}', "not JSON"),
        ('{"type":"ready","x":+1}', "not JSON"),
        ('{"type":"ready","x":.5}', "not JSON"),
        ('{"type":"ready","x":0x1}', "not JSON"),
        ('{"type":"ready","x":1_000}', "not JSON"),
        ('{"type":"ready","x":nan}', "not JSON"),
        ('{"type":"ready","x":undefined}', "not JSON"),
        ('{"type":"ready","x":"\\u12"}', "not JSON"),
        ('{"type":"ready","x":"\\x41"}', "not JSON"),
        ("\ud800", "not JSON"),
        # JSON has no such numbers, though Python's parser takes them
        ('{"type":"ready","x":NaN}', "NaN is not JSON"),
        ('{"type":"ready","x":Infinity}', "Infinity is not JSON"),
        ('{"type":"ready","x":[-Infinity]}', "-Infinity is not JSON"),
        ("NaN", "NaN is not JSON"),
        ('{"type":"ready","x":1e999}', "a number is too large"),
        ('{"type":"ready","x":-1e999}', "a number is too large"),
        ('{"type":"ready","x":{"y":[1.5e400]}}', "a number is too large"),
        ('{"type":"later","x":1e999}', "a number is too large"),
        (f'{{"type":"ready","x":{"9" * 5_000}}}', "not JSON"),
        (f'{{"type":"ready","x":-{"9" * 200_000}}}', "not JSON"),
        # the same key twice, wherever
        ('{"type":"ready","type":"ready"}', "same key twice"),
        ('{"type":"ready","type":"draining"}', "same key twice"),
        ('{"type":"ready","x":{"a":1,"a":1}}', "same key twice"),
        ('{"type":"ready","x":[[{"a":1,"b":2,"\\u0061":3}]]}', "same key twice"),
        ('[{"type":"ready"},{"type":"ready","x":1,"x":2}]', "same key twice"),
        ('{"type":"later","x":1,"x":2}', "same key twice"),
        # no message
        ("null", "must be a JSON object"),
        ("true", "must be a JSON object"),
        ("1", "must be a JSON object"),
        ('"ready"', "must be a JSON object"),
        ("[[]]", "must be a JSON object"),
        ('[[{"type":"ready"}]]', "must be a JSON object"),
        ('[{"type":"ready"},null]', "must be a JSON object"),
        ("{}", "must have a 'type'"),
        ('{"Type":"ready"}', "must have a 'type'"),
        ('{"type":null}', "must have a 'type'"),
        ('{"type":1}', "must have a 'type'"),
        ('{"type":["ready"]}', "must have a 'type'"),
        ('{"type":{"ready":1}}', "must have a 'type'"),
        ('[{"type":"ready"},{}]', "must have a 'type'"),
    ],
)
def test_no_message_closes_with_1007(frame: str, reason: str) -> None:
    for decoder in DECODERS:
        raised = violation(decoder, frame)
        assert raised.close_code is CloseCode.INVALID_PAYLOAD
        assert reason in raised.reason


def _nested(opening: str, closing: str, depth: int) -> str:
    """A ready message whose field holds `depth` levels; the message itself is one more."""
    return f'{{"type":"ready","x":{opening * depth}1{closing * depth}}}'


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_depth_is_bounded(opening: str, closing: str) -> None:
    levels = 2 if opening.startswith("[{") else 1
    deepest = (MAX_DEPTH - 1) // levels
    assert len(from_agent.decode(_nested(opening, closing, deepest))) == 1
    assert len(from_agent.decode(f"[{_nested(opening, closing, deepest)}]")) == 1
    for depth in (deepest + 1, deepest + 2, 100):
        raised = violation(from_agent, _nested(opening, closing, depth))
        assert (raised.close_code, raised.reason) == (CloseCode.INVALID_PAYLOAD, "nested too deeply")


@pytest.mark.parametrize(
    "frame",
    ["[" * 250_000, '{"a":' * 50_000, '{"type":"later","x":' + "[" * 200_000, "[" * 100_000 + "]" * 100_000],
)
def test_nesting_without_end_is_no_crash(frame: str) -> None:
    for decoder in DECODERS:
        assert violation(decoder, frame).close_code is CloseCode.INVALID_PAYLOAD


@pytest.mark.parametrize("kind", sorted(set(EXAMPLES) - {"fire"}))
def test_bad_field_closes_with_1007_and_is_named(kind: str) -> None:
    body = body_of(EXAMPLES[kind])
    for name in set(body) - {"type"}:
        raised = violation(decoder_of(kind), json.dumps({**body, name: {"wrong": "form"}}))
        assert raised.close_code is CloseCode.INVALID_PAYLOAD
        assert raised.reason.startswith(f"bad '{kind}': {name}")


@pytest.mark.parametrize("kind", sorted(set(EXAMPLES) - {"fire"}))
def test_missing_field_closes_with_1007_and_is_named(kind: str) -> None:
    example = EXAMPLES[kind]
    for name, field in type(example).model_fields.items():
        if field.is_required():
            body = body_of(example)
            del body[name]
            assert violation(decoder_of(kind), json.dumps(body)).reason == f"bad '{kind}': {name}"


def test_depth_is_bounded_in_unknown_types_too() -> None:
    assert violation(from_agent, _nested("[", "]", MAX_DEPTH).replace("ready", "later")).reason == "nested too deeply"


def test_one_bad_message_refuses_the_whole_frame() -> None:
    violation(from_agent, json.dumps([{"type": "ready"}, {"type": "accepted", "id": "x"}]))


def test_many_bad_fields_keep_the_reason_short() -> None:
    raised = violation(from_agent, json.dumps({"type": "holding", "ids": ["x"] * 5000}))
    assert raised.reason.startswith("bad 'holding': ids.0")


@pytest.mark.parametrize("value", ["\ud800", "a\udfff", "\udc00\ud800"])
@pytest.mark.parametrize("escaped", [True, False])
def test_lone_surrogates_are_bad_text(value: str, escaped: bool) -> None:
    frame = json.dumps({**body_of(EXAMPLES["hello"]), "host": value}, ensure_ascii=escaped)
    assert violation(from_agent, frame).reason == "bad 'hello': host"
    (unreadable,) = from_control_plane.decode(
        json.dumps({**body_of(fire()), "subject_id": value}, ensure_ascii=escaped)
    )
    assert unreadable == UnreadableFire(ID, "subject_id")


@pytest.mark.parametrize("number", [2**53, 2**63, 2**64, 10**30, 10**4_000, -1, 1.0, 1e308, True, "1", None])
def test_numbers_outside_of_the_range_are_bad(number: Any) -> None:
    frame = json.dumps({**body_of(EXAMPLES["welcome"]), "server_time": number})
    assert violation(from_control_plane, frame).reason == "bad 'welcome': server_time"


# Fires that cannot be read


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"uri": "x" * 2049}, "uri"),
        ({"uri": None}, "uri"),
        ({"method": "BREW"}, "method"),
        ({"body": "x" * 8193}, "body"),
        ({"content_type": 7}, "content_type"),
        ({"authorization": "a\r\nb"}, "authorization"),
        ({"on_unknown": "drop"}, "on_unknown"),
        ({"subject_id": 7}, "subject_id"),
        ({"max_age": -1}, "max_age"),
        ({"max_age": 10**30}, "max_age"),
        ({"age": 1.5}, "age"),
        ({"webhook_id": ID.upper()}, "webhook_id"),
        ({"event": "a b", "method": "BREW", "age": "soon"}, "age, event, method"),
    ],
)
def test_unreadable_fire_with_readable_id_is_a_value(change: dict[str, Any], fault: str) -> None:
    frame = json.dumps([{**body_of(fire()), **change}, body_of(Canary(nonce="n"))])
    assert from_control_plane.decode(frame) == [UnreadableFire(ID, fault), Canary(nonce="n")]


def test_fire_with_nothing_but_its_id_is_a_value() -> None:
    (unreadable,) = from_control_plane.decode(json.dumps({"type": "fire", "id": ID}))
    assert unreadable == UnreadableFire(ID, "event, max_age, subject_id, uri, webhook_id")


@pytest.mark.parametrize("delivery", [None, "", 7, ID.upper(), f"{ID}\n", [ID], "\ud800", "٩" + ID[1:]])
@pytest.mark.parametrize("change", [{}, {"method": "BREW"}])
def test_fire_with_unreadable_id_closes_with_1007(delivery: Any, change: dict[str, Any]) -> None:
    raised = violation(from_control_plane, json.dumps({**body_of(fire()), **change, "id": delivery}))
    assert raised.close_code is CloseCode.INVALID_PAYLOAD
    assert raised.reason.startswith("bad 'fire': id")


def test_fire_without_id_closes_with_1007() -> None:
    body = body_of(fire())
    del body["id"]
    assert violation(from_control_plane, json.dumps(body)).reason == "bad 'fire': id"


# Nothing of the frame comes back in a reason: it goes to the peer and into logs

MARKER = "hunter2-canary"


@pytest.mark.parametrize("kind", EXAMPLES)
@pytest.mark.parametrize(
    "wrong", [f"{MARKER} \n", MARKER * 1_000, [MARKER], {MARKER: MARKER}, [{MARKER: 1}], [[MARKER]]]
)
def test_reasons_name_fields_never_values(kind: str, wrong: Any) -> None:
    body = body_of(EXAMPLES[kind])
    for name in body:
        frame = json.dumps({**body, name: wrong, MARKER: {MARKER: MARKER}})
        match decode_or_violation(decoder_of(kind), frame):
            case ProtocolViolation() as raised:
                assert MARKER not in raised.reason
                assert raised.__suppress_context__ or raised.__context__ is None
            case [UnreadableFire() as unreadable]:
                assert MARKER not in unreadable.fault


@pytest.mark.parametrize(
    "frame",
    [MARKER, f'{{"{MARKER}":1,"{MARKER}":2}}', f'{{"type":["{MARKER}"]}}', f'["{MARKER}"]', f'{{"{MARKER}": NaN}}'],
)
def test_reasons_for_no_message_hold_nothing_of_the_frame(frame: str) -> None:
    assert MARKER not in violation(from_agent, frame).reason


def test_bad_new_key_is_not_told() -> None:
    assert MARKER not in violation(from_control_plane, json.dumps({"type": "new_key", "key": MARKER * 30})).reason


# Anything at all

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
field_names = sorted({name for example in EXAMPLES.values() for name in type(example).model_fields})


@given(st.text(st.characters()) | st.text(st.sampled_from('{}[]":,typeready0129.eE-\\u \n'), max_size=60))
def test_any_text_decodes_or_is_a_violation(frame: str) -> None:
    for decoder in DECODERS:
        decode_or_violation(decoder, frame)


@given(json_values, st.booleans())
def test_any_json_decodes_or_is_a_violation(value: Any, escaped: bool) -> None:
    for decoder in DECODERS:
        decode_or_violation(decoder, json.dumps(value, ensure_ascii=escaped))


@given(st.sampled_from(sorted(EXAMPLES)), st.dictionaries(st.sampled_from(field_names), json_values, max_size=8))
def test_any_fields_decode_or_are_a_violation(kind: str, fields: dict[str, Any]) -> None:
    for decoder in DECODERS:
        decode_or_violation(decoder, json.dumps({**fields, "type": kind}))


@given(st.sampled_from(sorted(EXAMPLES)), st.data())
def test_one_field_replaced_decodes_or_is_a_violation(kind: str, data: st.DataObject) -> None:
    body = body_of(EXAMPLES[kind])
    name = data.draw(st.sampled_from(sorted(body)))
    result = decode_or_violation(decoder_of(kind), json.dumps({**body, name: data.draw(json_values)}))
    if isinstance(result, list):
        (item,) = result
        assert isinstance(item, Unknown | UnreadableFire) or item.type == kind


@given(st.one_of(agent_messages, control_plane_messages), st.data())
def test_mutated_frame_decodes_or_is_a_violation(message: BaseModel, data: st.DataObject) -> None:
    (frame,) = encode([message])
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(frame)))
        end = data.draw(st.integers(start, min(len(frame), start + 20)))
        inserted = data.draw(st.text(st.characters(), max_size=3) | st.sampled_from(['"', "{", "}", "[", ",", "1e999"]))
        frame = frame[:start] + inserted + frame[end:]
    for decoder in DECODERS:
        decode_or_violation(decoder, frame)


@given(st.one_of(agent_messages, control_plane_messages), st.data())
def test_frame_that_is_cut_is_a_violation(message: BaseModel, data: st.DataObject) -> None:
    (frame,) = encode([message, message])
    cut = data.draw(st.integers(0, len(frame) - 1))
    for decoder in DECODERS:
        assert violation(decoder, frame[:cut]).close_code is CloseCode.INVALID_PAYLOAD


@given(fires, st.dictionaries(st.sampled_from(field_names), json_values, min_size=1))
def test_fire_with_a_readable_id_never_closes(message: BaseModel, fields: dict[str, Any]) -> None:
    body = {**body_of(message), **fields, "type": "fire", "id": ID}
    match decode_or_violation(from_control_plane, json.dumps(body)):
        case ProtocolViolation() as raised:
            # what is no JSON at all, or too deep, is answered before there is an id
            assert raised.reason in ("nested too deeply", "a number is too large") or "is not JSON" in raised.reason
        case [item]:
            assert item.id == ID
