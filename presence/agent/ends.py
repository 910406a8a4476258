"""What can end a connection to the control plane: causes, failures as values, and the exceptions of our own.

What each of them means: `presence.agent.failures`.
"""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from presence.agent.certificate import Certificate
from presence.errors import ConfigurationError, JournalError, ProtocolViolation
from presence.protocol.messages import GoAway


class Cause(StrEnum):
    """Classes of failures, bounded, for logs and metrics."""

    DNS = "dns"
    TCP = "tcp"
    PROXY = "proxy"
    TLS = "tls"
    UPGRADE = "upgrade"
    AUTH = "auth"
    IDLE = "idle"
    PEER = "peer"
    CLOCK = "clock"
    RENEWAL = "renewal"
    JOURNAL = "journal"


class Retry(StrEnum):
    """When the next try is made; the waits are `presence.agent.backoff`'s."""

    AT_ONCE = "at_once"
    BACKOFF = "backoff"
    SLOWLY = "slowly"
    RARELY = "rarely"


class Step(StrEnum):
    """How far a connection has come: what an error without words of its own is about."""

    KEY = "key"
    DNS = "dns"
    TCP = "tcp"
    PROXY = "proxy"
    TLS = "tls"
    UPGRADE = "upgrade"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a connection ended or did not come about. `not_before`: seconds that the peer asks us to stay away."""

    cause: Cause
    reason: str
    retry: Retry = Retry.BACKOFF
    not_before: float = 0.0


class GoneAway(Exception):
    """The control plane asked to reconnect later."""

    def __init__(self, message: GoAway) -> None:
        self.message = message


class Silent(Exception):
    """The connection is open, and what must come did not come; the text says what."""


class Leapt(Exception):
    """The host slept or its clock was set; the text says which."""


class Renewed(Exception):
    """A new key is stored, to be used from now on."""


class ProxyRefused(Exception):
    """The proxy answered, and gave no tunnel; `reason` says what it said and what to do."""

    def __init__(self, reason: str, retry: Retry) -> None:
        self.reason = reason
        self.retry = retry


class CertificateRefused(Exception):
    """The server's certificate was not believed. `code` is OpenSSL's; `shown`: the certificate, where it can be read.

    `now` is the host's wall clock; `offset`: the milliseconds by which it is known to be wrong, if they are known.
    """

    def __init__(
        self, error: ssl.SSLCertVerificationError, host: str, shown: Certificate | None, now: int, offset: int | None
    ) -> None:
        self.code, self.message = error.verify_code, error.verify_message
        self.host, self.shown, self.offset = host, shown, offset
        self.now = datetime.fromtimestamp(now / 1000, UTC)


EXPECTED = (
    ConfigurationError,
    JournalError,
    ProtocolViolation,
    OSError,
    InvalidHandshake,
    InvalidURI,
    UnicodeError,
    ConnectionClosed,
    EOFError,
    GoneAway,
    Silent,
    Leapt,
    Renewed,
    ProxyRefused,
    CertificateRefused,
)
"""What `failures.classify` knows; anything else is a defect of ours."""


def first(group: ExceptionGroup[Any]) -> Exception:
    """The first exception in it that is none of a group."""
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
