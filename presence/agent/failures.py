"""What the end of a connection means: one table, one function.

=============================================  =========  ==========================================
failure                                        cause      next try
=============================================  =========  ==========================================
the key file cannot be read                    auth       5 min, at once when the file changes
the name does not resolve                      dns        backoff
refused, unreachable, time-out                 tcp        backoff
certificate or handshake                       tls        backoff
401, 403, closed with 4401                     auth       5 min, at once when the file changes
closed with 4426 (no common version)           upgrade    5 min
any other status, no websocket                 upgrade    backoff, not before Retry-After
nothing heard for three canary intervals       idle       backoff
go_away                                        peer       backoff, not before the delay it names
closed or cut by the peer, protocol violation  peer       backoff
=============================================  =========  ==========================================
"""

import socket
import ssl
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from presence.errors import CloseCode, ConfigurationError, ProtocolViolation
from presence.protocol.messages import GoAway

SLOW_RETRY = 300.0
"""Seconds between tries where only a person can help: re-enabling needs no visit to the host."""


class Cause(StrEnum):
    """Classes of failures, bounded, for logs and metrics."""

    DNS = "dns"
    TCP = "tcp"
    TLS = "tls"
    UPGRADE = "upgrade"
    AUTH = "auth"
    IDLE = "idle"
    PEER = "peer"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a connection ended or did not come about. `wait`: seconds until the next try; None: backoff."""

    cause: Cause
    reason: str
    wait: float | None = None


class GoneAway(Exception):
    """The control plane asked to reconnect later."""

    def __init__(self, message: GoAway) -> None:
        self.message = message


EXPECTED = (
    ConfigurationError,
    OSError,
    TimeoutError,
    InvalidHandshake,
    InvalidURI,
    UnicodeError,
    ConnectionClosed,
    EOFError,
    GoneAway,
)


def classify(error: Exception) -> Failure:
    """What a failure means, by the table above."""
    match error:
        case ConfigurationError():
            return Failure(Cause.AUTH, str(error), SLOW_RETRY)
        case GoneAway(message=message):
            return Failure(Cause.PEER, f"control plane says: {message.reason}", min(message.delay / 1000, SLOW_RETRY))
        case ProtocolViolation(reason=reason):
            return Failure(Cause.PEER, f"control plane broke the protocol: {reason}")
        case InvalidStatus(response=response) if response.status_code in (401, 403):
            reason = f"the key is refused ({response.status_code}); install the newest key file, or create a new key"
            return Failure(Cause.AUTH, reason, SLOW_RETRY)
        case InvalidStatus(response=response):
            reason = f"HTTP status {response.status_code} instead of a websocket"
            if response.status_code < 500 and response.status_code not in (408, 429):
                reason += "; is control_plane.url the address of a control plane?"
            return Failure(Cause.UPGRADE, reason, _retry_after(response.headers))
        case InvalidURI() | UnicodeError():
            return Failure(Cause.UPGRADE, "control_plane.url is no usable address", SLOW_RETRY)
        case InvalidHandshake():
            return Failure(Cause.UPGRADE, f"no websocket there: {error}")
        case ConnectionClosed(rcvd=received):
            return _classify_close(received)
        case ssl.SSLCertVerificationError(verify_message=message):
            return Failure(Cause.TLS, f"certificate not trusted: {message}")
        case ssl.SSLError():
            return Failure(Cause.TLS, f"handshake failed: {error.reason}")
        case socket.gaierror():
            return Failure(Cause.DNS, f"the name does not resolve: {error.strerror}")
        case TimeoutError():
            return Failure(Cause.IDLE, "no answer in time")
        case OSError():
            return Failure(Cause.TCP, error.strerror or str(error))
        case _:
            return Failure(Cause.PEER, f"the connection was cut: {type(error).__name__}")


def _classify_close(received: Any) -> Failure:
    code = received.code if received is not None else None
    match code:
        case None:
            return Failure(Cause.PEER, "the connection was cut")
        case CloseCode.KEY_REVOKED:
            reason = "the key was replaced or revoked; install the newest key file, or create a new key"
            return Failure(Cause.AUTH, reason, SLOW_RETRY)
        case CloseCode.VERSION_UNSUPPORTED:
            return Failure(Cause.UPGRADE, f"no common version: {received.reason}; upgrade", SLOW_RETRY)
        case _:
            return Failure(Cause.PEER, f"closed by the control plane: {code} {received.reason}".strip())


def _retry_after(headers: Headers) -> float | None:
    seconds = [text for text in headers.get_all("Retry-After") if text.isascii() and text.isdigit() and len(text) < 10]
    return min(max(map(float, seconds)), SLOW_RETRY) if seconds else None


def first(group: ExceptionGroup[Any]) -> Exception:
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
