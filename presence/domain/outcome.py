"""What one attempt gave: a value, built from enumerations and addresses only, so that it is safe to tell the cloud."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class Phase(StrEnum):
    """The phases of an attempt, in their order; that of a failure says how far it came."""

    POLICY = "policy"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    WRITE = "write"
    FIRST_BYTE = "first-byte"
    BODY = "body"


class Fault(StrEnum):
    """What a transport can do to an attempt."""

    NAME_UNKNOWN = "name_unknown"
    TIMEOUT = "timeout"
    CONNECTION_REFUSED = "connection_refused"
    UNREACHABLE = "unreachable"
    RESET = "reset"
    PROXY_REFUSED = "proxy_refused"
    AGENT_EXHAUSTED = "agent_exhausted"
    """The agent's host has no sockets or ports left."""
    AGENT_DEFECT = "agent_defect"
    """The agent met something that it does not understand; its log has the details."""
    CERTIFICATE_UNTRUSTED = "certificate_untrusted"
    CERTIFICATE_EXPIRED = "certificate_expired"
    CERTIFICATE_NOT_YET_VALID = "certificate_not_yet_valid"
    CERTIFICATE_OTHER_NAME = "certificate_other_name"
    HANDSHAKE = "handshake"
    MALFORMED_RESPONSE = "malformed_response"
    HEADERS_TOO_LARGE = "headers_too_large"
    INTERRUPTED = "interrupted"
    """The agent stopped while the attempt was under way: the target may have got the request."""


CERTIFICATE_FAULTS = frozenset(fault for fault in Fault if fault.name.startswith("CERTIFICATE"))


class Reason(StrEnum):
    """Why a delivery is refused or held, or how it ended where the last outcome does not say it."""

    TEMPLATE_INVALID = "template_invalid"
    SUBJECT_INVALID = "subject_invalid"
    CONTENT_INVALID = "content_invalid"
    BODY_INVALID = "body_invalid"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    DENIED_ALWAYS = "denied_always"
    DENIED_BY_RULE = "denied_by_rule"
    DENIED_LOOPBACK = "denied_loopback"
    DENIED_OWN_LISTENER = "denied_own_listener"
    NOT_ALLOWED = "not_allowed"
    OTHER_NETWORK = "other_network"
    PATH_AMBIGUOUS = "path_ambiguous"
    PROXY_NEEDS_RULE = "proxy_needs_rule"
    PROXY_UNRESOLVED = "proxy_unresolved"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    TOO_OLD = "too_old"
    STATUS_FINAL = "status_final"
    GONE = "gone"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"
    POISON = "poison"
    UNKNOWN = "unknown"
    """Held: the request may have been sent, and nobody knows whether it took effect; a person decides."""


CONTENT_REFUSALS = (Reason.TEMPLATE_INVALID, Reason.SUBJECT_INVALID, Reason.CONTENT_INVALID, Reason.BODY_INVALID)
POLICY_REFUSALS = (
    *(Reason.METHOD_NOT_ALLOWED, Reason.DENIED_ALWAYS, Reason.DENIED_BY_RULE, Reason.DENIED_LOOPBACK),
    *(Reason.DENIED_OWN_LISTENER, Reason.NOT_ALLOWED, Reason.OTHER_NETWORK, Reason.PATH_AMBIGUOUS),
    *(Reason.PROXY_NEEDS_RULE, Reason.PROXY_UNRESOLVED),
)
"""Why a delivery can be `Refused`."""


@dataclass(frozen=True, slots=True)
class Response:
    """The target answered with a status line. `retry_after` in milliseconds; `location`: a redirect's host."""

    status: int
    retry_after: int | None = None
    location: str | None = None


@dataclass(frozen=True, slots=True)
class TransportFailure:
    """No status line came. `sent`: the target may have got the request all the same, so the outcome is unknown."""

    phase: Phase
    fault: Fault
    sent: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Our own policy or the request's content forbids it; nothing was sent. Never retried."""

    reason: Reason


Outcome = Response | TransportFailure | Refused


def is_unknown(outcome: Outcome) -> bool:
    """Whether the request may have taken effect without our knowing."""
    return isinstance(outcome, TransportFailure) and outcome.sent


class Attempt(NamedTuple):
    """The record of one attempt. Times in milliseconds; `at` in the journal's time.

    `phases`: how long each phase took that was entered. `proxy`: the proxy it went through. `repeated`: a reused
    connection turned out to be closed, so the request was sent again at once on a fresh one. `observed`: only
    `mode = "observe"` let it pass.
    """

    number: int
    at: int
    took: int
    outcome: Outcome
    address: str | None = None
    phases: Mapping[Phase, int] = MappingProxyType({})
    proxy: str | None = None
    repeated: bool = False
    observed: bool = False

    def describe(self) -> str:
        """One short phrase for a person: `204`, `connect: connection_refused`, `refused: denied_always`."""
        match self.outcome:
            case Response(status, location=None):
                return str(status)
            case Response(status, location=location):
                return f"{status} to {location}"
            case TransportFailure(phase, fault):
                return f"{phase}: {fault}"
            case Refused(reason):
                return f"refused: {reason}"


class Hint(StrEnum):
    """What a person may look at; one for each kind of outcome that has a usual cause."""

    CHECK_NAME = "check_name"
    NAME_SERVER_SILENT = "name_server_silent"
    NOTHING_LISTENS = "nothing_listens"
    HOST_DOWN_OR_FILTERED = "host_down_or_filtered"
    NO_ROUTE = "no_route"
    TARGET_SLOW = "target_slow"
    TARGET_DROPPED_CONNECTION = "target_dropped_connection"
    AGENT_RESTARTED = "agent_restarted"
    ADD_CA_FILE = "add_ca_file"
    RENEW_CERTIFICATE = "renew_certificate"
    CHECK_CLOCK = "check_clock"
    CERTIFICATE_FOR_OTHER_NAME = "certificate_for_other_name"
    NO_COMMON_TLS = "no_common_tls"
    NOT_HTTP = "not_http"
    CHECK_PROXY = "check_proxy"
    CHECK_AGENT = "check_agent"
    REDIRECT_NOT_FOLLOWED = "redirect_not_followed"
    CREDENTIALS_NEEDED = "credentials_needed"
    CHECK_PATH = "check_path"
    CHECK_METHOD = "check_method"
    TARGET_OVERLOADED = "target_overloaded"
    TARGET_ERROR = "target_error"
    ADD_ALLOW_RULE = "add_allow_rule"
    CHANGE_WEBHOOK = "change_webhook"


_FAULT_HINTS: Mapping[Fault, Hint] = {
    Fault.NAME_UNKNOWN: Hint.CHECK_NAME,
    Fault.CONNECTION_REFUSED: Hint.NOTHING_LISTENS,
    Fault.UNREACHABLE: Hint.NO_ROUTE,
    Fault.TIMEOUT: Hint.TARGET_SLOW,
    Fault.RESET: Hint.TARGET_DROPPED_CONNECTION,
    Fault.PROXY_REFUSED: Hint.CHECK_PROXY,
    Fault.AGENT_EXHAUSTED: Hint.CHECK_AGENT,
    Fault.AGENT_DEFECT: Hint.CHECK_AGENT,
    Fault.CERTIFICATE_UNTRUSTED: Hint.ADD_CA_FILE,
    Fault.CERTIFICATE_EXPIRED: Hint.RENEW_CERTIFICATE,
    Fault.CERTIFICATE_NOT_YET_VALID: Hint.CHECK_CLOCK,
    Fault.CERTIFICATE_OTHER_NAME: Hint.CERTIFICATE_FOR_OTHER_NAME,
    Fault.HANDSHAKE: Hint.NO_COMMON_TLS,
    Fault.MALFORMED_RESPONSE: Hint.NOT_HTTP,
    Fault.HEADERS_TOO_LARGE: Hint.NOT_HTTP,
    Fault.INTERRUPTED: Hint.AGENT_RESTARTED,
}
_TIMEOUT_HINTS: Mapping[Phase, Hint] = {
    Phase.DNS: Hint.NAME_SERVER_SILENT,
    Phase.CONNECT: Hint.HOST_DOWN_OR_FILTERED,
}
_STATUS_HINTS: Mapping[int, Hint] = {
    401: Hint.CREDENTIALS_NEEDED,
    403: Hint.CREDENTIALS_NEEDED,
    404: Hint.CHECK_PATH,
    405: Hint.CHECK_METHOD,
    407: Hint.CHECK_PROXY,
    410: Hint.CHANGE_WEBHOOK,
    429: Hint.TARGET_OVERLOADED,
    503: Hint.TARGET_OVERLOADED,
}
_RULE_REASONS = frozenset({Reason.NOT_ALLOWED, Reason.METHOD_NOT_ALLOWED, Reason.DENIED_LOOPBACK, Reason.OTHER_NETWORK,
                           Reason.PROXY_NEEDS_RULE, Reason.PROXY_UNRESOLVED})  # fmt: skip


def hint_of(outcome: Outcome) -> Hint | None:
    """What to look at after that outcome; None where it needs no hint."""
    match outcome:
        case TransportFailure(phase, Fault.TIMEOUT):
            return _TIMEOUT_HINTS.get(phase, Hint.TARGET_SLOW)
        case TransportFailure(_, fault):
            return _FAULT_HINTS[fault]
        case Refused(reason):
            return Hint.ADD_ALLOW_RULE if reason in _RULE_REASONS else Hint.CHANGE_WEBHOOK
        case Response(status):
            if 300 <= status <= 399:
                return Hint.REDIRECT_NOT_FOLLOWED
            return _STATUS_HINTS.get(status, Hint.TARGET_ERROR if status >= 500 else None)
