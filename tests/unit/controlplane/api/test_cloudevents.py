"""CloudEvents 1.0 over HTTP: the three modes, by the specification's own rules."""

import json
from datetime import UTC, datetime, timedelta
from typing import ClassVar
from urllib.parse import quote

import pytest
from cloudevents.core.bindings.http import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from presence.controlplane.api.cloudevents import BATCH, STRUCTURED, Message, read
from presence.controlplane.services.refusal import Key, Refusal
from presence.domain.events import EventType, Happening

EVENT: dict[str, object] = {
    "specversion": "1.0", "id": "1", "source": "/scanner/1", "type": "ScanExecutionCompleted", "subject": "x",
}  # fmt: skip
HAPPENING = Happening("/scanner/1", "1", EventType.SCAN_EXECUTION_COMPLETED, "x")


def structured(event: object, content_type: str = STRUCTURED) -> Message:
    return read([("Content-Type", content_type)], json.dumps(event).encode())


def binary(headers: dict[str, str], body: bytes = b"") -> Message:
    return read([(f"ce-{name}", value) for name, value in headers.items()], body)


def refusal(event: object, content_type: str = STRUCTURED) -> str:
    with pytest.raises(Refusal) as refused:
        structured(event, content_type)
    text = refused.value.message
    for number, param in enumerate(refused.value.params):
        text = text.replace(f"{{{number}}}", param)
    return text


class TestStructured:
    @pytest.mark.parametrize(
        "content_type",
        [
            STRUCTURED,
            "Application/CloudEvents+JSON; charset=UTF-8",
            f'{STRUCTURED};charset="utf-8"',
            "application/json",
        ],
    )
    def test_is_read(self, content_type: str) -> None:
        assert structured(EVENT, content_type) == Message([HAPPENING], is_batch=False)

    def test_a_byte_order_mark_may_stand_before_it(self) -> None:
        marked = b"\xef\xbb\xbf" + json.dumps([EVENT]).encode()
        assert read([("content-type", BATCH)], marked) == Message([HAPPENING], is_batch=True)

    def test_all_attributes(self) -> None:
        more = {
            "time": "2018-04-05T17:31:00.25Z", "datacontenttype": "text/xml", "dataschema": "http://x/y",
            "applicationid": "a", "comexampleextension1": "value", "comexampleothervalue": 5, "flag": True,
            "unset": None, "data": {"deep": [1, {"NaN": None}]},
        }  # fmt: skip
        (happening,) = structured(EVENT | more).happenings
        assert happening.application_id == "a"
        assert happening.occurred_at == 1_522_949_460_250

    def test_data_in_base64(self) -> None:
        assert structured(EVENT | {"data_base64": "eA=="}).happenings == [HAPPENING]

    def test_the_alias_of_a_type(self) -> None:
        (happening,) = structured(EVENT | {"type": "ApplicationCountersChanged"}).happenings
        assert happening.type is EventType.APPLICATION_UPDATED

    @pytest.mark.parametrize("name", ["specversion", "id", "source", "type", "subject"])
    def test_what_is_required(self, name: str) -> None:
        assert refusal({key: value for key, value in EVENT.items() if key != name}) == f"{name}: is required"
        assert refusal(EVENT | {name: None}) == f"{name}: is required"
        assert refusal(EVENT | {name: 1}) == f"{name}: must be a string"
        assert refusal(EVENT | {name: ""}).startswith(f"{name}: ")

    @pytest.mark.parametrize(
        ("more", "says"),
        [
            ({"specversion": "0.3"}, "specversion: must be 1.0"),
            ({"type": "Other"}, "type: must be one of ScanExecutionCompleted, "),
            ({"subject": ".."}, "subject: '..' would change the path"),
            ({"subject": "."}, "subject: '.' would change the path"),
            ({"subject": "a\nb"}, "subject: it contains the character U+000A"),
            ({"subject": "x" * 257}, "subject: it is longer than 256 characters"),
            ({"subject": "\ufffe"}, "subject: has a control character"),
            ({"id": "x" * 257}, "id: must have 1 to 256 characters"),
            ({"id": "a\tb"}, "id: has a control character"),
            ({"source": "a b"}, "source: must be a URI"),
            ({"source": "/%zz"}, "source: must be a URI"),
            ({"source": "x" * 513}, "source: must have 1 to 512 characters"),
            ({"time": "yesterday"}, "time: must be an RFC 3339 time"),
            ({"time": "2018-04-05T17:31:00"}, "time: must be an RFC 3339 time"),
            ({"time": "2018-02-30T17:31:00Z"}, "time: must be an RFC 3339 time"),
            ({"time": 5}, "time: must be a string"),
            ({"applicationid": 5}, "applicationid: must be a string"),
            ({"dataschema": ""}, "dataschema: must not be empty"),
            ({"extension": 1.5}, "extension: must be a string, a boolean or an integer"),
            ({"extension": 2**31}, "extension: must be a string, a boolean or an integer"),
            ({"extension": {}}, "extension: must be a string, a boolean or an integer"),
            ({"Subject": "x"}, "names of attributes are made of"),
            ({"my_extension": "x"}, "names of attributes are made of"),
            ({"": "x"}, "names of attributes are made of"),
            ({"data": 1, "data_base64": "eA=="}, "data_base64: must not be beside data"),
        ],
    )
    def test_what_is_wrong_is_named(self, more: dict[str, object], says: str) -> None:
        assert refusal(EVENT | more).startswith(says)

    @pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"id": NaN}', b'{"id": "\\ud800"}', b"[" * 100_000])
    def test_what_is_not_json(self, body: bytes) -> None:
        with pytest.raises(Refusal, match="the body cannot be read"):
            read([("content-type", STRUCTURED)], body)

    @pytest.mark.parametrize("event", [None, 1, "x", [], [EVENT]])
    def test_what_is_not_an_object(self, event: object) -> None:
        assert refusal(event) == "an event must be a JSON object"

    @pytest.mark.parametrize("content_type", ["application/cloudevents+xml", "application/cloudevents-batch+xml"])
    def test_other_formats_are_refused(self, content_type: str) -> None:
        assert refusal(EVENT, content_type).startswith("Content-Type: must be application/cloudevents+json")

    def test_another_charset_is_refused(self) -> None:
        assert refusal(EVENT, f"{STRUCTURED}; charset=utf-16") == "Content-Type: the charset must be utf-8"

    def test_what_is_no_event_at_all_is_told_what_is_expected(self) -> None:
        assert refusal(EVENT, "text/plain").startswith("send a CloudEvent")


class TestBatch:
    def test_is_read_in_order(self) -> None:
        message = structured([EVENT | {"id": str(number)} for number in range(100)], BATCH)
        assert message.is_batch
        assert [happening.id for happening in message.happenings] == [str(number) for number in range(100)]

    def test_may_be_empty(self) -> None:
        assert structured([], BATCH) == Message([], is_batch=True)

    def test_has_at_most_a_hundred_events(self) -> None:
        with pytest.raises(Refusal) as refused:
            structured([EVENT] * 101, BATCH)
        assert refused.value.key is Key.LIST_TOO_LONG

    def test_what_is_wrong_is_found(self) -> None:
        assert refusal([EVENT, EVENT | {"id": ""}], BATCH) == "[1].id: must have 1 to 256 characters"
        assert refusal([EVENT, 5], BATCH) == "[1]: an event must be a JSON object"
        assert refusal(EVENT, BATCH) == "the body of a batch must be a JSON array of events"


class TestBinary:
    HEADERS: ClassVar = {name: str(value) for name, value in EVENT.items()}

    def test_is_read_and_its_body_is_not(self) -> None:
        assert binary(self.HEADERS, b"\xff\x00") == Message([HAPPENING], is_batch=False)

    def test_json_data_does_not_make_it_structured(self) -> None:
        headers = [
            ("Content-Type", "application/json"),
            *((f"CE-{name}", value) for name, value in self.HEADERS.items()),
        ]
        assert read(headers, b"[]") == Message([HAPPENING], is_batch=False)

    @pytest.mark.parametrize(
        ("header", "subject"),
        [
            ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
            ("100%25", "100%"),
            ("a+b", "a+b"),
            ('"a b"', "a b"),
            (r'"a\"b\\c"', r'a"b\c'),
            ("  x\t", "x"),
            ("%22x%22", '"x"'),
        ],
    )
    def test_values_are_decoded_once(self, header: str, subject: str) -> None:
        (happening,) = binary(self.HEADERS | {"subject": header}).happenings
        assert happening.subject == subject

    @pytest.mark.parametrize("header", ["100%", "%zz", "%F", "%FF", "caf\xe9", "%ED%A0%80"])
    def test_values_that_are_not_well_encoded(self, header: str) -> None:
        with pytest.raises(Refusal, match="must be percent-encoded"):
            binary(self.HEADERS | {"subject": header})

    def test_a_header_that_stands_twice(self) -> None:
        headers = [*((f"ce-{name}", value) for name, value in self.HEADERS.items()), ("Ce-Id", "2")]
        with pytest.raises(Refusal, match="stands twice"):
            read(headers, b"")

    @pytest.mark.parametrize("name", ["", "my-extension", "data_base64", "x_y"])
    def test_names_are_checked(self, name: str) -> None:
        with pytest.raises(Refusal, match="names of attributes"):
            binary(self.HEADERS | {name: "x"})

    def test_the_content_type_is_not_an_attribute_header(self) -> None:
        with pytest.raises(Refusal, match="must not be a ce- header"):
            binary(self.HEADERS | {"datacontenttype": "text/plain"})

    @given(st.text(min_size=1, max_size=40))
    def test_whatever_structured_mode_takes_binary_mode_takes_too(self, subject: str) -> None:
        try:
            expected = structured(EVENT | {"subject": subject}).happenings
        except Refusal:
            return
        assert binary(self.HEADERS | {"subject": quote(subject, safe="")}).happenings == expected


PRINTABLE = st.text(st.characters(blacklist_categories=["C"]), min_size=1, max_size=40)


@given(
    id_=PRINTABLE,
    subject=PRINTABLE.filter(lambda text: text not in (".", "..")),
    milliseconds=st.integers(0, 4 * 10**12),
    extension=PRINTABLE,
    data=st.none() | st.dictionaries(st.text(st.characters(blacklist_categories=["C"]), max_size=5), st.integers()),
)
def test_what_the_official_sdk_sends_is_read_alike_in_both_modes(
    id_: str, subject: str, milliseconds: int, extension: str, data: object
) -> None:
    attributes = {
        "specversion": "1.0", "id": id_, "source": "/scanner/1", "type": "NewPatchRequest", "subject": subject,
        "myextension": extension, "datacontenttype": "application/json",
        "time": datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds),
    }  # fmt: skip
    event = CloudEvent(attributes, data)
    expected = Happening(
        source="/scanner/1",
        id=id_,
        type=EventType.NEW_PATCH_REQUEST,
        subject=subject,
        occurred_at=milliseconds,
    )
    for sent in (to_structured(event, JSONFormat()), to_binary(event, JSONFormat())):
        assert read(sent.headers.items(), sent.body) == Message([expected], is_batch=False)


@given(st.binary(max_size=60), st.lists(st.tuples(st.sampled_from(["content-type", "ce-id", "ce-specversion"]),
                                                  st.text(st.characters(max_codepoint=255)))))  # fmt: skip
def test_nothing_but_a_refusal_comes_of_bad_input(body: bytes, headers: list[tuple[str, str]]) -> None:
    with pytest.raises(Refusal):
        read(headers, body)


@given(st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_nothing_but_a_refusal_comes_of_other_json(value: object) -> None:
    with pytest.raises(Refusal):
        structured(value)
