"""What the journal gives and takes: every outcome as an entry that a report can carry."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presence.agent.entries import Claimed, Settled, Waiting, as_entry, host_of
from presence.domain.delivery import FinalState
from presence.domain.outcome import (
    Attempt,
    Fault,
    Hint,
    Outcome,
    Phase,
    Reason,
    Refused,
    Response,
    TransportFailure,
    hint_of,
)
from presence.protocol.messages import AttemptRecord

FAILURES = st.builds(TransportFailure, st.sampled_from(Phase), st.sampled_from(Fault), st.booleans())
RESPONSES = st.builds(
    Response,
    st.integers(100, 999),
    st.none() | st.integers(0, 2**53 - 1),
    st.none() | st.sampled_from(["here", "unreadable", "elsewhere.corp", "10.0.0.1", "fd00::1"]),
)
OUTCOMES = st.one_of(RESPONSES, FAILURES, st.builds(Refused, st.sampled_from(Reason)))
ATTEMPTS = st.builds(
    Attempt,
    number=st.integers(1, 1000),
    at=st.integers(0, 2**40),
    took=st.integers(0, 10**6),
    outcome=OUTCOMES,
    address=st.none() | st.sampled_from(["10.0.0.1", "fd00::1"]),
    phases=st.dictionaries(st.sampled_from(Phase), st.integers(0, 10**6)),
    proxy=st.none() | st.sampled_from(["proxy.corp:3128", "10.0.0.1:8080"]),
    repeated=st.booleans(),
    observed=st.booleans(),
)


@given(ATTEMPTS)
def test_every_attempt_can_be_written_and_reported_in_full(attempt: Attempt) -> None:
    entry = as_entry(attempt)
    assert json.loads(json.dumps(entry)) == entry
    record = AttemptRecord.model_validate(entry | {"ago": 5})
    assert record.model_dump(exclude_none=True, exclude={"ago"}) == {
        name: value for name, value in entry.items() if name != "at"
    }


@given(ATTEMPTS)
def test_an_entry_says_what_happened_and_nothing_of_what_did_not(attempt: Attempt) -> None:
    entry = as_entry(attempt)
    assert (entry["number"], entry["at"], entry["took"]) == (attempt.number, attempt.at, attempt.took)
    assert all(value or name in ("at", "took") for name, value in entry.items())
    for name in ("address", "proxy", "repeated", "observed"):
        assert entry.get(name) == (getattr(attempt, name) or None)
    assert entry.get("hint") == hint_of(attempt.outcome)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Response(204), {"status": 204}),
        (Response(503, 5000), {"status": 503, "hint": Hint.TARGET_OVERLOADED}),
        (Response(302, None, "evil.corp"), {"status": 302, "location": "evil.corp", "hint": "redirect_not_followed"}),
        (
            TransportFailure(Phase.CONNECT, Fault.CONNECTION_REFUSED),
            {"phase": "connect", "fault": "connection_refused", "hint": "nothing_listens"},
        ),
        (
            TransportFailure(Phase.FIRST_BYTE, Fault.RESET, sent=True),
            {"phase": "first-byte", "fault": "reset", "hint": "target_dropped_connection", "unknown": True},
        ),
        (Refused(Reason.NOT_ALLOWED), {"phase": "policy", "reason": "not_allowed", "hint": "add_allow_rule"}),
    ],
)
def test_what_each_outcome_says(outcome: Outcome, expected: dict[str, Any]) -> None:
    assert as_entry(Attempt(2, 7, 9, outcome)) == {"number": 2, "at": 7, "took": 9, **expected}


def test_the_phases_that_took_any_time_are_told_in_milliseconds() -> None:
    phases = {Phase.POLICY: 9, Phase.DNS: 1, Phase.CONNECT: 0, Phase.TLS: 2, Phase.FIRST_BYTE: 3, Phase.BODY: 4}
    entry = as_entry(Attempt(1, 0, 10, Response(204), phases=phases))
    assert entry == {"number": 1, "at": 0, "took": 10, "status": 204, "dns": 1, "tls": 2, "first_byte": 3, "body": 4}


@pytest.mark.parametrize(
    ("uri", "word"),
    [
        ("http://H.corp/{SubjectId}", "h.corp:80"),
        ("https://h.corp/", "h.corp:443"),
        ("https://h.corp:80/", "h.corp:80"),
        ("http://bücher.corp/", "xn--bcher-kva.corp:80"),
        ("http://[fd00::0:1]:81/", "fd00::1:81"),
        ("http://{SubjectId}/", ""),
        ("no URI", ""),
        ("http://0x7f.1/", ""),
    ],
)
def test_the_host_of_a_delivery_is_one_word(uri: str, word: str) -> None:
    assert host_of(uri) == word


def test_no_repr_shows_the_authorization_or_the_subject() -> None:
    claimed = Claimed(
        1, "id-1", "w", "E", "subject-canary", "http://h/canary", "POST", "body-canary", "text/plain",
        "Bearer canary", "fire", 0, 10, 3,
    )  # fmt: skip
    assert repr(claimed) == "Claimed(id-1, attempt 3)"
    assert f"{claimed}" == repr(claimed)


def test_an_end_and_a_hold_carry_no_secret_at_all() -> None:
    assert Settled._fields == ("id", "state", "reason", "attempts", "log", "order", "settled_at")
    assert Waiting._fields == ("id", "reason", "attempts", "log", "order")
    assert Settled("i", FinalState.FAILED, "gone", 1, [], 1, 2).state is FinalState.FAILED
