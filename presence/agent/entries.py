"""What the journal gives and takes, as values. Times are in the journal's milliseconds."""

from functools import lru_cache
from typing import Any, NamedTuple

from presence.domain.delivery import FinalState
from presence.domain.outcome import Attempt, Phase, Refused, Response, TransportFailure, hint_of, is_unknown
from presence.domain.template import TemplateError, parse_template

LogEntry = dict[str, Any]
"""One attempt as the journal and the report have it: the fields of `protocol.messages.AttemptRecord`."""


class Claimed(NamedTuple):
    """A delivery whose attempt number `attempts` may begin now. `authorization` is a secret. `traceparent`: its
    place in a trace."""

    seq: int
    id: str
    webhook_id: str
    event: str
    subject_id: str
    uri: str
    method: str
    body: str | None
    content_type: str | None
    authorization: str | None
    on_unknown: str
    born_at: int
    expires_at: int
    attempts: int
    traceparent: str | None = None

    def __repr__(self) -> str:
        return f"Claimed({self.id}, attempt {self.attempts})"


class Settled(NamedTuple):
    """A delivery that has ended and whose report is not acknowledged."""

    id: str
    state: FinalState
    reason: str
    attempts: int
    log: list[LogEntry]
    order: int
    settled_at: int


class Waiting(NamedTuple):
    """A delivery that is held until a person decides."""

    id: str
    reason: str
    attempts: int
    log: list[LogEntry]
    order: int


def as_entry(attempt: Attempt) -> LogEntry:
    """The attempt as the journal keeps it: numbers, and words from enumerations. What is absent did not happen."""
    entry: LogEntry = {"number": attempt.number, "at": attempt.at, "took": attempt.took}
    outcome = attempt.outcome
    match outcome:
        case Response(status, _, location):
            entry["status"] = status
            if location is not None:
                entry["location"] = location
        case TransportFailure(phase, fault):
            entry |= {"phase": phase, "fault": fault}
        case Refused(reason):
            entry |= {"phase": Phase.POLICY, "reason": reason}
    hint = hint_of(outcome)
    if hint is not None:
        entry["hint"] = hint
    if is_unknown(outcome):
        entry["unknown"] = True
    for name in ("address", "proxy", "repeated", "observed"):
        value = getattr(attempt, name)
        if value:
            entry[name] = value
    for phase, took in attempt.phases.items():
        if took and phase is not Phase.POLICY:
            entry[phase.replace("-", "_")] = took
    return entry


@lru_cache(maxsize=4096)
def host_of(uri: str) -> str:
    """The host and port that a delivery of this URI goes to, as one word; empty for what is no URI template."""
    try:
        template = parse_template(uri)
    except TemplateError:
        return ""
    return f"{template.host}:{template.port}"


@lru_cache(maxsize=1024)
def target_of(uri: str) -> str:
    """Where a delivery of this URI goes, in words that hold no value of it: scheme, host and port."""
    try:
        template = parse_template(uri)
    except TemplateError:
        return "invalid"
    host = f"[{template.host}]" if ":" in template.host else template.host
    return f"{template.scheme}://{host}:{template.port}"
