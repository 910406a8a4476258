"""What each end of a connection means: the table, row by row."""

import socket
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import (
    ConnectionClosedError,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
)
from websockets.frames import Close
from websockets.http11 import Response

from presence.agent.certificate import Certificate
from presence.agent.ends import (
    EXPECTED,
    Cause,
    CertificateRefused,
    GoneAway,
    Leapt,
    ProxyRefused,
    Renewed,
    Retry,
    Silent,
    Step,
    first,
)
from presence.agent.failures import classify
from presence.errors import CloseCode, ConfigurationError, JournalError, ProtocolViolation
from presence.protocol.messages import GoAway

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
DAY = timedelta(days=1)


def caused_by(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def closed(code: int | None, reason: str = "", sent: Close | None = None, cut: Exception | None = None) -> Exception:
    error = ConnectionClosedError(None if code is None else Close(code, reason), sent)
    error.__cause__ = cut
    return error


def untrusted(code: int, shown: Certificate | None = None, offset: int | None = None) -> CertificateRefused:
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = code, "OpenSSL's words"
    return CertificateRefused(error, "cloud.example.com", shown, NOW_MS, offset)


def handshake(reason: str) -> ssl.SSLError:
    error = ssl.SSLError()
    error.reason = reason
    return error


BACKOFF, SLOWLY, RARELY, AT_ONCE = Retry.BACKOFF, Retry.SLOWLY, Retry.RARELY, Retry.AT_ONCE


@pytest.mark.parametrize(
    ("error", "step", "cause", "retry", "words"),
    [
        (ConfigurationError("/key: empty"), Step.KEY, Cause.AUTH, RARELY, "/key: empty"),
        (socket.gaierror(-2, "Name or service not known"), Step.DNS, Cause.DNS, BACKOFF, "here: the name does not"),
        (TimeoutError(), Step.DNS, Cause.DNS, BACKOFF, "here: no answer in time"),
        (ConnectionRefusedError(111, "x"), Step.TCP, Cause.TCP, BACKOFF, "here: connection refused"),
        (OSError(113, "x"), Step.TCP, Cause.TCP, BACKOFF, "here: no route to host"),
        (TimeoutError(), Step.TCP, Cause.TCP, BACKOFF, "here: no answer in time"),
        (TimeoutError(110, "x"), Step.TCP, Cause.TCP, BACKOFF, "here: connection timed out"),
        (socket.gaierror(-2, "x"), Step.PROXY, Cause.PROXY, BACKOFF, "here: the name does not resolve"),
        (ConnectionRefusedError(111, "x"), Step.PROXY, Cause.PROXY, BACKOFF, "here: connection refused"),
        (ProxyRefused("status 403", BACKOFF), Step.PROXY, Cause.PROXY, BACKOFF, "here: status 403"),
        (ProxyRefused("status 407", SLOWLY), Step.PROXY, Cause.PROXY, SLOWLY, "here: status 407"),
        (ConfigurationError("bad"), Step.PROXY, Cause.PROXY, RARELY, "bad"),
        (ConfigurationError("bad"), Step.TLS, Cause.TLS, SLOWLY, "bad"),
        (
            ConnectionResetError(104, "x"),
            Step.TLS,
            Cause.TLS,
            BACKOFF,
            "here: connection reset by peer in the TLS",
        ),
        (ConnectionResetError(), Step.TLS, Cause.TLS, BACKOFF, "here: the connection was cut in the TLS handshake"),
        (TimeoutError(), Step.TLS, Cause.TLS, BACKOFF, "here: no answer in time in the TLS handshake"),
        (handshake("WRONG_VERSION_NUMBER"), Step.TLS, Cause.TLS, SLOWLY, "the answer is not TLS but plain text"),
        (handshake("TLSV13_ALERT_CERTIFICATE_REQUIRED"), Step.TLS, Cause.TLS, SLOWLY, "set control_plane.client_cert"),
        (handshake("NO_PROTOCOLS_AVAILABLE"), Step.TLS, Cause.TLS, BACKOFF, "NO_PROTOCOLS_AVAILABLE"),
        (TimeoutError(), Step.UPGRADE, Cause.UPGRADE, BACKOFF, "here: no answer in time"),
        (InvalidURI("x", "y"), Step.UPGRADE, Cause.UPGRADE, SLOWLY, "control_plane.url"),
        (UnicodeError(), Step.DNS, Cause.UPGRADE, SLOWLY, "control_plane.url"),
        (InvalidHandshake("odd"), Step.UPGRADE, Cause.UPGRADE, BACKOFF, "no websocket there: odd"),
        (caused_by(InvalidMessage("x"), EOFError()), Step.UPGRADE, Cause.UPGRADE, BACKOFF, "the server hung up"),
        (caused_by(InvalidMessage("x"), ValueError()), Step.UPGRADE, Cause.UPGRADE, BACKOFF, "no websocket there: x"),
        (JournalError("read-only"), Step.KEY, Cause.JOURNAL, BACKOFF, "read-only"),
        (Silent("no canary"), Step.SESSION, Cause.IDLE, BACKOFF, "no canary"),
        (Leapt("slept"), Step.TCP, Cause.CLOCK, AT_ONCE, "slept"),
        (Renewed(), Step.SESSION, Cause.RENEWAL, AT_ONCE, "new key"),
        (ProtocolViolation(CloseCode.PROTOCOL_ERROR, "x"), Step.SESSION, Cause.PEER, BACKOFF, "broke the protocol: x"),
        (OSError(), Step.SESSION, Cause.PEER, BACKOFF, "the connection was cut"),
        (EOFError(), Step.SESSION, Cause.PEER, BACKOFF, "here: the connection was cut"),
        (closed(4401), Step.SESSION, Cause.AUTH, RARELY, "the key is refused"),
        (closed(4426, "speaks 2"), Step.SESSION, Cause.UPGRADE, RARELY, "no common version: speaks 2; upgrade"),
        (closed(4408), Step.SESSION, Cause.IDLE, BACKOFF, "no answer to its canaries"),
        (closed(4409), Step.SESSION, Cause.PEER, BACKOFF, "two hosts share one journal"),
        (closed(1012, "restart"), Step.SESSION, Cause.PEER, BACKOFF, "closed by the control plane: 1012 restart"),
        (closed(None), Step.SESSION, Cause.PEER, BACKOFF, "the connection was cut"),
        (closed(None, cut=TimeoutError()), Step.SESSION, Cause.IDLE, BACKOFF, "not acknowledged in time"),
        (
            closed(None, sent=Close(1011, "keepalive ping timeout")),
            Step.SESSION,
            Cause.IDLE,
            BACKOFF,
            "no answer to a websocket ping",
        ),
        (
            closed(None, sent=Close(1009, "too big")),
            Step.SESSION,
            Cause.PEER,
            BACKOFF,
            "the frame was refused: too big",
        ),
    ],
)
def test_every_row_of_the_table(error: Exception, step: Step, cause: Cause, retry: Retry, words: str) -> None:
    assert isinstance(error, EXPECTED)
    failure = classify(error, step, "here")
    assert (failure.cause, failure.retry, failure.not_before) == (cause, retry, 0.0)
    assert words in failure.reason


@pytest.mark.parametrize(("delay", "obeyed"), [(0, 0.0), (1500, 1.5), (2**52, 300.0)])
def test_go_away_is_obeyed_within_bounds(delay: int, obeyed: float) -> None:
    failure = classify(GoneAway(GoAway(reason="restart", delay=delay)), Step.SESSION)
    assert (failure.cause, failure.retry, failure.not_before) == (Cause.PEER, Retry.BACKOFF, obeyed)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (200, "is control_plane.url the address of a control plane?"),
        (302, "is control_plane.url the address of a control plane?"),
        (404, "is control_plane.url the address of a control plane?"),
        (408, "instead of a websocket"),
        (429, "instead of a websocket"),
        (502, "instead of a websocket"),
    ],
)
def test_a_status_is_retried_with_backoff(status: int, words: str) -> None:
    failure = classify(InvalidStatus(Response(status, "", Headers(), b"")), Step.UPGRADE)
    assert (failure.cause, failure.retry) == (Cause.UPGRADE, Retry.BACKOFF)
    assert failure.reason.endswith(words)


VALID_IN_JUNE = Certificate("Corp CA", NOW + 150 * DAY, NOW + 180 * DAY)
VALID_UNTIL_LAST_YEAR = Certificate("Corp CA", NOW - 180 * DAY, NOW - DAY)


@pytest.mark.parametrize(
    ("error", "cause", "words"),
    [
        (untrusted(20, VALID_IN_JUNE), Cause.TLS, "issued by 'Corp CA' is not trusted: looks like TLS inspection"),
        (untrusted(20), Cause.TLS, "is not trusted: OpenSSL's words; add its issuer with control_plane.ca_file"),
        (untrusted(18), Cause.TLS, "is its own issuer and not trusted"),
        (untrusted(62), Cause.TLS, "is not for cloud.example.com"),
        (
            untrusted(9, VALID_IN_JUNE),
            Cause.CLOCK,
            "(from 2026-05-31 00:00 UTC), and this host's clock says 2026-01-01",
        ),
        (untrusted(9), Cause.CLOCK, "set the clock (NTP)"),
        (untrusted(9, VALID_IN_JUNE, 0), Cause.TLS, "renew the certificate"),
        (untrusted(9, VALID_IN_JUNE, 160 * 86_400_000), Cause.CLOCK, "set the clock (NTP)"),
        (untrusted(10, VALID_UNTIL_LAST_YEAR), Cause.TLS, "has expired (until 2025-12-31 00:00 UTC)"),
        (untrusted(10, VALID_UNTIL_LAST_YEAR, -10 * 86_400_000), Cause.CLOCK, "set the clock (NTP)"),
        (untrusted(10, VALID_UNTIL_LAST_YEAR, 2**60), Cause.TLS, "renew the certificate"),
    ],
)
def test_a_certificate_that_is_not_believed_is_tried_slowly_and_says_why(
    error: CertificateRefused, cause: Cause, words: str
) -> None:
    failure = classify(error, Step.TLS)
    assert (failure.cause, failure.retry) == (cause, Retry.SLOWLY)
    assert words in failure.reason


def test_the_first_error_of_nested_groups_is_found() -> None:
    error = ValueError("it")
    assert first(ExceptionGroup("outer", [ExceptionGroup("inner", [error]), TypeError()])) is error
