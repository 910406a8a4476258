"""Exit codes and close codes are promises to the outside: their numbers are written down once more here."""

import pytest

from presence import errors
from presence.errors import CloseCode, ExitCode, PresenceError, ProtocolViolation


def test_exit_codes() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "SUCCESS": 0,
        "FAILED": 1,
        "USAGE": 2,
        "REFUSED": 3,
        "UNREACHABLE": 69,
        "KEY_REFUSED": 77,
        "CONFIGURATION": 78,
    }


def test_close_codes() -> None:
    assert {code.name: code.value for code in CloseCode} == {
        "NORMAL": 1000,
        "GOING_AWAY": 1001,
        "PROTOCOL_ERROR": 1002,
        "INVALID_PAYLOAD": 1007,
        "TOO_BIG": 1009,
        "SERVICE_RESTART": 1012,
        "KEY_REVOKED": 4401,
        "CANARY_MISSED": 4408,
        "SUPERSEDED": 4409,
        "VERSION_UNSUPPORTED": 4426,
    }


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("PresenceError", ExitCode.FAILED),
        ("ConfigurationError", ExitCode.CONFIGURATION),
        ("Unreachable", ExitCode.UNREACHABLE),
        ("KeyRefused", ExitCode.KEY_REFUSED),
        ("JournalError", ExitCode.FAILED),
        ("DatabaseError", ExitCode.CONFIGURATION),
        ("ProtocolViolation", ExitCode.FAILED),
    ],
)
def test_exit_code_of_an_error(name: str, code: ExitCode) -> None:
    error = getattr(errors, name)
    assert issubclass(error, PresenceError)
    assert error.exit_code is code


def test_text_is_what_a_person_reads() -> None:
    assert str(errors.ConfigurationError("agent.toml: no key; run presence enrol")) == (
        "agent.toml: no key; run presence enrol"
    )


def test_protocol_violation_carries_code_and_reason() -> None:
    violation = ProtocolViolation(CloseCode.INVALID_PAYLOAD, "not JSON")
    assert (violation.close_code, violation.reason, str(violation)) == (1007, "not JSON", "not JSON")
