"""What one attempt gave: a value, built from enumerations only, so that it is safe to tell the cloud."""

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """How far an attempt came."""

    POLICY = "policy"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    FIRST_BYTE = "first-byte"
    BODY = "body"


class Fault(StrEnum):
    """What a transport can do to an attempt."""

    NAME_UNKNOWN = "name_unknown"
    TIMEOUT = "timeout"
    CONNECTION_REFUSED = "connection_refused"
    UNREACHABLE = "unreachable"
    RESET = "reset"
    CERTIFICATE = "certificate"
    HANDSHAKE = "handshake"
    MALFORMED_RESPONSE = "malformed_response"
    INTERRUPTED = "interrupted"
    """The agent stopped while the attempt was under way: the target may have got the request."""


class Reason(StrEnum):
    """Why a delivery is refused, or how it ended where the last outcome does not say it."""

    TEMPLATE_INVALID = "template_invalid"
    SUBJECT_INVALID = "subject_invalid"
    CONTENT_INVALID = "content_invalid"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    DENIED_ALWAYS = "denied_always"
    DENIED_BY_RULE = "denied_by_rule"
    DENIED_LOOPBACK = "denied_loopback"
    NOT_ALLOWED = "not_allowed"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    TOO_OLD = "too_old"
    STATUS_FINAL = "status_final"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"
    POISON = "poison"


@dataclass(frozen=True, slots=True)
class Response:
    """The target answered with a status line."""

    status: int


@dataclass(frozen=True, slots=True)
class TransportFailure:
    """No status line came. `sent` says that the target may have got the request all the same."""

    phase: Phase
    fault: Fault
    sent: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Our own policy or the request's content forbids it; nothing was sent. Never retried."""

    reason: Reason


Outcome = Response | TransportFailure | Refused


@dataclass(frozen=True, slots=True)
class Attempt:
    """The record of one attempt. Times in milliseconds; `at` in the journal's time."""

    number: int
    at: int
    took: int
    outcome: Outcome
    address: str | None = None

    def describe(self) -> str:
        """One short phrase for a person: `204`, `connect: connection_refused`, `refused: denied_always`."""
        match self.outcome:
            case Response(status):
                return str(status)
            case TransportFailure(phase, fault):
                return f"{phase}: {fault}"
            case Refused(reason):
                return f"refused: {reason}"
