"""The messages as values: the limits of every field, defaults, immutability, the secrets."""

import math
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from presence.protocol.messages import AgentMessage, AttemptRecord, ControlPlaneMessage, NewKey, Paused
from tests.unit.protocol.examples import BUSY_REASONS, EXAMPLES, ID, fire


def rebuilt(kind: str, **fields: Any) -> BaseModel:
    example = EXAMPLES[kind]
    return type(example).model_validate({**example.model_dump(), **fields})


def test_every_type_of_the_specification_exists_on_one_side() -> None:
    agent = {model.model_fields["type"].default for model in get_args(AgentMessage)}
    control_plane = {model.model_fields["type"].default for model in get_args(ControlPlaneMessage)}
    assert agent == {
        "hello", "holding", "stated", "ready", "accepted", "attempted", "busy", "report", "held", "canary_echo",
        "paused", "draining",
    }  # fmt: skip
    assert control_plane == {
        "welcome", "reconciled", "fire", "cancel", "release", "report_ack", "canary", "new_key", "go_away"
    }  # fmt: skip
    assert agent | control_plane == set(EXAMPLES)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_messages_do_not_change(kind: str) -> None:
    example = EXAMPLES[kind]
    with pytest.raises(ValidationError):
        example.type = "other"  # type: ignore[attr-defined]
    assert hash(example) == hash(rebuilt(kind))


UUIDS = [
    (ID, True),
    *((value, False) for value in ("", ID.upper(), ID[:-1], f"{ID}0", f"{ID}\n", 7)),
]
MILLISECONDS = [
    *((value, True) for value in (0, 1, 2**53 - 1)),
    *((value, False) for value in (-1, 2**53, 10**100, 1.0, 1.5, math.nan, math.inf, True, "1", None)),
]
COUNTS = [
    *((value, True) for value in (0, 2**31 - 1)),
    *((value, False) for value in (-1, 2**31, 1.0, math.nan, False, "1", None)),
]
TOKENS = [
    *((value, True) for value in ("", "a-b_c.d:9", "x" * 64)),
    *((value, False) for value in ("x" * 65, "a b", "a\n", "é", "a/b", "\ud800", 1, None)),
]


IDS = [((), True), ((ID,) * 5000, True), ((ID,) * 5001, False), (("x",), False), (ID, False)]


def record(**fields: Any) -> dict[str, Any]:
    return {"number": 1, "ago": 1, "took": 1, **fields}


MARKS = [(True, True), (None, True), (False, False), (0, False), (2, False), ("true", False)]
HOSTS = [
    *((value, True) for value in ("", "jenkins.corp:8080", "[fd00::1]:443", "x" * 270, None)),
    *((value, False) for value in ("x" * 271, "http://x", "a b", "user@x", "x\n", "é", 1)),
]
# What one record of a log may hold.
RECORD: dict[str, list[tuple[Any, bool]]] = {
    "number": COUNTS,
    "ago": MILLISECONDS,
    "took": MILLISECONDS,
    "status": [(100, True), (999, True), (None, True), (99, False), (1000, False), (200.0, False), ("200", False)],
    **{name: [*TOKENS[:-1], (None, True)] for name in ("phase", "fault", "reason", "hint")},
    "address": [
        *((value, True) for value in ("10.0.0.1", "fd00::1", None)),
        *((value, False) for value in ("myservice.com", "f" * 65, 1)),
    ],
    **dict.fromkeys(("location", "proxy"), HOSTS),
    **dict.fromkeys(("unknown", "repeated", "observed"), MARKS),
    **{phase: [*MILLISECONDS[:-1], (None, True)] for phase in ("dns", "connect", "tls", "write", "first_byte", "body")},
}
LOGS: list[tuple[Any, bool]] = [
    ((), True),
    ((record(),) * 64, True),
    ((record(),) * 65, False),
    (({},), False),
    ((None,), False),
    *(((record(**{name: value}),), accepted) for name, rows in RECORD.items() for value, accepted in rows),
]
LIMITS: dict[tuple[str, str], list[tuple[Any, bool]]] = {
    ("hello", "versions"): [
        *((value, True) for value in ((1,), (1,) * 16, (2**31 - 1,))),
        *((value, False) for value in ((), (1,) * 17, (-1,), (2**31,), ("1",), "1", 1)),
    ],
    ("hello", "instance"): UUIDS,
    ("hello", "epoch"): COUNTS,
    ("hello", "run"): UUIDS,
    ("hello", "credit"): [(1, True), (10_000, True), (0, False), (10_001, False), (1.0, False), (True, False)],
    ("hello", "agent_version"): TOKENS,
    ("hello", "host"): [("büro 7", True), ("x" * 256, True), ("x" * 257, False), ("\udfff", False), (1, False)],
    ("hello", "platform"): TOKENS,
    ("holding", "ids"): IDS,
    ("holding", "unattempted"): IDS,
    ("attempted", "ids"): IDS,
    ("accepted", "id"): UUIDS,
    ("busy", "id"): UUIDS,
    ("busy", "reason"): [
        *((value, True) for value in BUSY_REASONS),
        *((value, False) for value in ("", "tired", "PAUSED", None)),
    ],
    ("busy", "retry_in"): MILLISECONDS,
    ("report", "id"): UUIDS,
    ("report", "state"): [
        *((value, True) for value in ("succeeded", "failed", "refused", "expired", "cancelled")),
        *((value, False) for value in ("pending", "accepted", "", None, 1)),
    ],
    ("report", "reason"): TOKENS,
    ("report", "attempts"): COUNTS,
    ("report", "settled_ago"): MILLISECONDS,
    ("report", "log"): LOGS,
    ("held", "id"): UUIDS,
    ("held", "reason"): TOKENS,
    ("held", "attempts"): COUNTS,
    ("held", "log"): LOGS,
    ("canary_echo", "nonce"): TOKENS,
    ("paused", "remaining"): [*MILLISECONDS[:-1], (None, True)],
    ("welcome", "version"): COUNTS,
    ("welcome", "canary_every"): MILLISECONDS,
    ("welcome", "lease"): MILLISECONDS,
    ("welcome", "server_time"): MILLISECONDS,
    ("fire", "id"): UUIDS,
    ("fire", "webhook_id"): UUIDS,
    ("fire", "event"): TOKENS,
    ("fire", "subject_id"): [("", True), ("😀" * 256, True), ("x" * 257, False), ("\ud800", False), (1, False)],
    ("fire", "uri"): [("", True), ("x" * 2048, True), ("x" * 2049, False), ("\ud800", False), (None, False)],
    ("fire", "method"): [("GET", True), ("POST", True), ("PUT", True), ("get", False), ("DELETE", False), ("", False)],
    ("fire", "body"): [
        *((value, True) for value in ("", "😀" * 8192, None)),
        *((value, False) for value in ("x" * 8193, "\ud800", 1)),
    ],
    ("fire", "content_type"): [("", True), ("x" * 256, True), (None, True), ("x" * 257, False), (1, False)],
    ("fire", "authorization"): [
        *((value, True) for value in ("", "Basic eDp5", " ~", "x" * 4096, None)),
        *((value, False) for value in ("x" * 4097, "a\r\nb", "a\n", "\x7f", "é", 1)),
    ],
    ("fire", "on_unknown"): [("fire", True), ("hold", True), ("Hold", False), ("", False), (None, False)],
    ("fire", "age"): MILLISECONDS,
    ("fire", "max_age"): MILLISECONDS,
    ("fire", "traceparent"): [
        (f"00-{'a' * 32}-{'1' * 16}-01", True), (None, True), ("", False), (f"00-{'A' * 32}-{'1' * 16}-01", False),
        (f"00-{'a' * 32}-{'1' * 16}-01-x", False), (f"00-{'a' * 32}-{'1' * 16}-01\n", False), (1, False),
    ],
    ("cancel", "id"): UUIDS,
    ("release", "id"): UUIDS,
    ("release", "attempts"): COUNTS,
    ("report_ack", "id"): UUIDS,
    ("canary", "nonce"): TOKENS,
    ("new_key", "key"): [("k" * 16, True), ("k" * 256, True), ("k" * 15, False), ("k" * 257, False), (1, False)],
    ("go_away", "reason"): TOKENS,
    ("go_away", "delay"): MILLISECONDS,
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "value", "accepted"),
    [
        pytest.param(kind, name, value, accepted, id=f"{kind}.{name}-{number}")
        for (kind, name), rows in LIMITS.items()
        for number, (value, accepted) in enumerate(rows)
    ],
)
def test_limits_of_a_field(kind: str, name: str, value: Any, accepted: bool) -> None:
    if accepted:
        rebuilt(kind, **{name: value})
    else:
        with pytest.raises(ValidationError):
            rebuilt(kind, **{name: value})


def test_a_record_needs_its_number_and_times_only() -> None:
    required = {name for name, field in AttemptRecord.model_fields.items() if field.is_required()}
    assert required == {"number", "ago", "took"}
    assert set(RECORD) == set(AttemptRecord.model_fields)


def test_limits_are_written_down_for_every_field() -> None:
    fields = {(kind, name) for kind, example in EXAMPLES.items() for name in type(example).model_fields}
    assert set(LIMITS) == {(kind, name) for kind, name in fields if name != "type"}


@pytest.mark.parametrize(
    ("kind", "optional"),
    [
        ("hello", {"host", "platform"}),
        ("holding", {"unattempted"}),
        ("report", {"log"}),
        ("held", {"log"}),
        ("paused", {"remaining"}),
        ("fire", {"method", "body", "content_type", "authorization", "on_unknown", "age", "traceparent"}),
    ],
)
def test_optional_fields(kind: str, optional: set[str]) -> None:
    fields = type(EXAMPLES[kind]).model_fields
    assert {name for name, field in fields.items() if not field.is_required()} == optional | {"type"}


@pytest.mark.parametrize("kind", sorted(set(EXAMPLES) - {"hello", "holding", "report", "held", "paused", "fire"}))
def test_all_other_fields_are_required(kind: str) -> None:
    fields = type(EXAMPLES[kind]).model_fields
    assert [name for name, field in fields.items() if not field.is_required()] == ["type"]


def test_paused_until_further_notice_and_ended_are_told_apart() -> None:
    assert Paused().remaining is None
    assert Paused(remaining=0).remaining == 0


def test_new_key_is_hidden_wherever_it_is_shown() -> None:
    message = NewKey(key="hunter2-hunter2-hunter2")
    for shown in (repr(message), str(message), f"{message}", repr([message]), f"{message!r}"):
        assert "hunter2" not in shown
    assert message.key == "hunter2-hunter2-hunter2"


def test_the_authorization_of_a_fire_is_hidden_wherever_it_is_shown() -> None:
    message = fire().model_copy(update={"authorization": "Bearer hunter2"})
    for shown in (repr(message), str(message), f"{message}", repr([message])):
        assert "hunter2" not in shown
        assert "authorization" not in shown
