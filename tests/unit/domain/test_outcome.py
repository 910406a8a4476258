"""The short phrase for a person, and that outcomes are made of enumerations only."""

import re
from itertools import product

import pytest

from presence.domain.outcome import Attempt, Fault, Outcome, Phase, Reason, Refused, Response, TransportFailure


@pytest.mark.parametrize(
    ("outcome", "phrase"),
    [
        (Response(204), "204"),
        (Response(503), "503"),
        (TransportFailure(Phase.CONNECT, Fault.CONNECTION_REFUSED), "connect: connection_refused"),
        (TransportFailure(Phase.FIRST_BYTE, Fault.TIMEOUT, sent=True), "first-byte: timeout"),
        (TransportFailure(Phase.DNS, Fault.NAME_UNKNOWN), "dns: name_unknown"),
        (Refused(Reason.DENIED_ALWAYS), "refused: denied_always"),
    ],
)
def test_phrase(outcome: Outcome, phrase: str) -> None:
    assert Attempt(1, 0, 5, outcome).describe() == phrase


def test_every_outcome_has_a_phrase_of_its_own() -> None:
    outcomes: list[Outcome] = [
        *(Response(status) for status in (100, 200, 302, 404, 500, 999)),
        *(TransportFailure(phase, fault) for phase, fault in product(Phase, Fault)),
        *(Refused(reason) for reason in Reason),
    ]
    phrases = [Attempt(1, 0, 0, outcome).describe() for outcome in outcomes]
    assert len(set(phrases)) == len(outcomes)
    assert all(phrases)


@pytest.mark.parametrize("name", [*Phase, *Fault, *Reason])
def test_names_fit_the_wire(name: str) -> None:
    assert re.fullmatch(r"[a-z_\-]{1,64}", name)
