"""The short phrase for a person, the hints, and that outcomes are made of enumerations only."""

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presence.domain.outcome import (
    CERTIFICATE_FAULTS,
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
    is_unknown,
)

OUTCOMES: list[Outcome] = [
    *(Response(status) for status in range(100, 1000)),
    *(TransportFailure(phase, fault, sent) for phase, fault, sent in product(Phase, Fault, (False, True))),
    *(Refused(reason) for reason in Reason),
]


@pytest.mark.parametrize(
    ("outcome", "phrase"),
    [
        (Response(204), "204"),
        (Response(503), "503"),
        (Response(302, location="login.corp:8443"), "302 to login.corp:8443"),
        (TransportFailure(Phase.CONNECT, Fault.CONNECTION_REFUSED), "connect: connection_refused"),
        (TransportFailure(Phase.FIRST_BYTE, Fault.TIMEOUT, sent=True), "first-byte: timeout"),
        (TransportFailure(Phase.DNS, Fault.NAME_UNKNOWN), "dns: name_unknown"),
        (Refused(Reason.DENIED_ALWAYS), "refused: denied_always"),
    ],
)
def test_phrase(outcome: Outcome, phrase: str) -> None:
    assert Attempt(1, 0, 5, outcome).describe() == phrase


def test_every_outcome_has_a_phrase_of_its_own() -> None:
    outcomes = [outcome for outcome in OUTCOMES if not is_unknown(outcome)]
    phrases = [Attempt(1, 0, 0, outcome).describe() for outcome in outcomes]
    assert len(set(phrases)) == len(outcomes)
    assert all(phrases)


@pytest.mark.parametrize("name", [*Phase, *Fault, *Reason, *Hint])
def test_names_fit_the_wire(name: str) -> None:
    assert re.fullmatch(r"[a-z_\-]{1,64}", name)


def test_only_what_may_have_been_sent_and_got_no_status_line_is_unknown() -> None:
    assert [outcome for outcome in OUTCOMES if is_unknown(outcome)] == [
        TransportFailure(phase, fault, sent=True) for phase, fault in product(Phase, Fault)
    ]


@pytest.mark.parametrize(
    ("outcome", "hint"),
    [
        (TransportFailure(Phase.DNS, Fault.NAME_UNKNOWN), Hint.CHECK_NAME),
        (TransportFailure(Phase.DNS, Fault.TIMEOUT), Hint.NAME_SERVER_SILENT),
        (TransportFailure(Phase.CONNECT, Fault.TIMEOUT), Hint.HOST_DOWN_OR_FILTERED),
        (TransportFailure(Phase.CONNECT, Fault.CONNECTION_REFUSED), Hint.NOTHING_LISTENS),
        (TransportFailure(Phase.CONNECT, Fault.PROXY_REFUSED), Hint.CHECK_PROXY),
        (TransportFailure(Phase.TLS, Fault.TIMEOUT), Hint.TARGET_SLOW),
        (TransportFailure(Phase.TLS, Fault.HANDSHAKE), Hint.NO_COMMON_TLS),
        (TransportFailure(Phase.TLS, Fault.CERTIFICATE_UNTRUSTED), Hint.ADD_CA_FILE),
        (TransportFailure(Phase.TLS, Fault.CERTIFICATE_NOT_YET_VALID), Hint.CHECK_CLOCK),
        (TransportFailure(Phase.FIRST_BYTE, Fault.TIMEOUT, sent=True), Hint.TARGET_SLOW),
        (TransportFailure(Phase.FIRST_BYTE, Fault.RESET, sent=True), Hint.TARGET_DROPPED_CONNECTION),
        (TransportFailure(Phase.WRITE, Fault.INTERRUPTED, sent=True), Hint.AGENT_RESTARTED),
        (Refused(Reason.NOT_ALLOWED), Hint.ADD_ALLOW_RULE),
        (Refused(Reason.METHOD_NOT_ALLOWED), Hint.ADD_ALLOW_RULE),
        (Refused(Reason.DENIED_ALWAYS), Hint.CHANGE_WEBHOOK),
        (Refused(Reason.BODY_INVALID), Hint.CHANGE_WEBHOOK),
        (Response(200), None),
        (Response(204), None),
        (Response(301, location="other.corp"), Hint.REDIRECT_NOT_FOLLOWED),
        (Response(400), None),
        (Response(401), Hint.CREDENTIALS_NEEDED),
        (Response(404), Hint.CHECK_PATH),
        (Response(405), Hint.CHECK_METHOD),
        (Response(410), Hint.CHANGE_WEBHOOK),
        (Response(429), Hint.TARGET_OVERLOADED),
        (Response(500), Hint.TARGET_ERROR),
        (Response(503), Hint.TARGET_OVERLOADED),
    ],
)
def test_hint(outcome: Outcome, hint: Hint | None) -> None:
    assert hint_of(outcome) is hint


@given(st.sampled_from(OUTCOMES))
def test_every_outcome_but_an_answer_that_needs_none_has_a_hint(outcome: Outcome) -> None:
    hint = hint_of(outcome)
    if isinstance(outcome, Response) and not 300 <= outcome.status <= 399 and outcome.status < 500:
        assert hint is None or outcome.status >= 400
    else:
        assert isinstance(hint, Hint)


def test_every_hint_is_given_for_some_outcome() -> None:
    assert {hint_of(outcome) for outcome in OUTCOMES} == {None, *Hint}


def test_certificate_faults_are_told_apart_from_the_others() -> None:
    assert {fault for fault in Fault if fault.startswith("certificate_")} == CERTIFICATE_FAULTS
    assert Fault.HANDSHAKE not in CERTIFICATE_FAULTS
