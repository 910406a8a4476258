"""What to do after an attempt.

==================================================  ===========================================
outcome                                             step
==================================================  ===========================================
2xx                                                 succeeded
408, 425, 429, 5xx                                  retry, no sooner than `Retry-After` says
410                                                 failed: the target is gone, the webhook pauses
any other status (1xx and 3xx included)             failed: redirects are not followed
name not resolved, no connection, time-out, reset,  retry
TLS handshake, proxy refused, malformed response,
headers too large
a certificate that is not accepted                  retry every 15 minutes
any of these after the request may have been sent   held for a person if the webhook says so
refused by policy or content                        refused, never retried
==================================================  ===========================================

A retry waits for a random time (full jitter) below a bound that starts at `initial` and doubles up to `maximum`,
but at least a quarter of `initial`, so that no target is asked again after a few milliseconds. `Retry-After`
lengthens this wait, up to two hours (or twice `initial`, if that is more), and never shortens it.

Retries are bounded by attempts and by age: a delivery out of attempts is `failed`, one that would be older than its
deadline is `expired` if it waits and `failed` if its last attempt was made. A delivery that is held is not: it keeps
its attempts until a person has decided, and expires by its age.

Waits and stops are tenacity's objects, evaluated against the journal's count: tenacity's own state lives in memory
only, the journal's survives a restart.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import NamedTuple, assert_never, cast

from tenacity import BaseRetrying, RetryCallState, stop_after_attempt, stop_before_delay, wait_exponential, wait_fixed
from tenacity.stop import stop_base

from presence.domain.delivery import FinalState
from presence.domain.outcome import (
    CERTIFICATE_FAULTS,
    Outcome,
    Reason,
    Refused,
    Response,
    TransportFailure,
    is_unknown,
)
from presence.domain.webhook import OnUnknown

RETRIED_STATUSES = frozenset({408, 425, 429})
GONE = 410

CERTIFICATE_WAIT = 15 * 60_000
"""Milliseconds until a certificate is looked at again: a person has to change something first."""

LONGEST_RETRY_AFTER = 2 * 3_600_000
"""Milliseconds that a target's `Retry-After` can ask for."""

_USABLE_LENGTH = 64
_LONGEST_STATED = 2**53 - 1


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Bounds of the retries. Times in milliseconds."""

    max_attempts: int
    initial: int
    maximum: int
    deadline: int


@dataclass(frozen=True, slots=True)
class Settle:
    """The delivery has ended."""

    state: FinalState
    reason: Reason


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """The next attempt is due in `delay` milliseconds."""

    delay: int


@dataclass(frozen=True, slots=True)
class Hold:
    """No further attempt until a person has decided."""

    reason: Reason


Step = Settle | RetryAfter | Hold

DELIVERED = Settle(FinalState.SUCCEEDED, Reason.DELIVERED)


def name_of(step: Step) -> str:
    """The step in one word, for logs and traces."""
    match step:
        case Settle(state):
            return state
        case RetryAfter():
            return "retry"
        case Hold():
            return "held"
    assert_never(step)


def is_retried(outcome: Outcome) -> bool:
    """Whether the table above says `retry`."""
    match outcome:
        case Response(status):
            return status in RETRIED_STATUSES or 500 <= status <= 599
        case TransportFailure():
            return True
        case Refused():
            return False
    assert_never(outcome)


def next_step(
    policy: RetryPolicy, outcome: Outcome, *, attempts: int, age: int, jitter: float, on_unknown: OnUnknown
) -> Step:
    """The step after attempt number `attempts` of a delivery whose event is `age` milliseconds old.

    `jitter` is a random number in [0, 1) drawn by the caller.
    """
    match outcome:
        case Response(status) if 200 <= status <= 299:
            return DELIVERED
        case Refused(reason):
            return Settle(FinalState.REFUSED, reason)
        case Response(status) if not is_retried(outcome):
            return Settle(FinalState.FAILED, Reason.GONE if status == GONE else Reason.STATUS_FINAL)
        case _ if on_unknown is OnUnknown.HOLD and is_unknown(outcome):
            return Hold(Reason.UNKNOWN)
    rules = _rules(policy)
    state = _retry_state(attempts, age)
    delay = rules.delay(state, outcome, jitter)
    state.upcoming_sleep = delay
    for stop, reason in rules.stops:
        if stop(state):
            return Settle(FinalState.FAILED, reason)
    return RetryAfter(delay)


def longest_wait(policy: RetryPolicy, attempts: int) -> int:
    """The bound of the wait after attempt number `attempts`, in milliseconds, where the target asks for no longer."""
    return int(_rules(policy).backoff(_retry_state(attempts, 0)))


def parse_retry_after(text: str, now: datetime) -> int | None:
    """The milliseconds that a `Retry-After` asks to wait: seconds or a date (RFC 9110, 10.2.3). None: unusable.

    `now` is the target's time, with its zone; best the `Date` of the same response (`parse_http_date`), because its
    clock and ours may differ by days. The answer is not negative and below 2**53.
    """
    text = text.strip(" \t")
    if text.isascii() and text.isdigit() and len(text) <= _USABLE_LENGTH:
        return min(int(text) * 1000, _LONGEST_STATED)
    date = parse_http_date(text)
    return None if date is None else max(0, int((date - now).total_seconds() * 1000))


def parse_http_date(text: str) -> datetime | None:
    """The time that an HTTP header states, in any of the three forms of RFC 9110, 5.6.7. None: unusable."""
    if len(text) > _USABLE_LENGTH:
        return None
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


class _Rules(NamedTuple):
    """A policy as tenacity's objects."""

    floor: int
    longest_asked: int
    backoff: wait_exponential
    certificate: wait_fixed
    stops: tuple[tuple[stop_base, Reason], ...]

    def delay(self, state: RetryCallState, outcome: Outcome, jitter: float) -> int:
        match outcome:
            case TransportFailure(_, fault) if fault in CERTIFICATE_FAULTS:
                return int(self.certificate(state))
            case Response(_, int(asked)):
                return max(self._backoff(state, jitter), min(asked, self.longest_asked))
            case _:
                return self._backoff(state, jitter)

    def _backoff(self, state: RetryCallState, jitter: float) -> int:
        bound = int(self.backoff(state))
        floor = min(self.floor, bound)
        return floor + int((bound - floor) * jitter)


@lru_cache(maxsize=256)
def _rules(policy: RetryPolicy) -> _Rules:
    return _Rules(
        floor=policy.initial // 4,
        longest_asked=max(2 * policy.initial, LONGEST_RETRY_AFTER),
        backoff=wait_exponential(multiplier=policy.initial, max=policy.maximum),
        certificate=wait_fixed(CERTIFICATE_WAIT),
        stops=(
            (stop_after_attempt(policy.max_attempts), Reason.ATTEMPTS_EXHAUSTED),
            (stop_before_delay(policy.deadline), Reason.TOO_OLD),
        ),
    )


def _retry_state(attempts: int, age: int) -> RetryCallState:
    """tenacity's view of a delivery: the call began `age` ago."""
    state = RetryCallState(cast(BaseRetrying, None), None, (), {})
    state.attempt_number = attempts
    state.start_time = 0.0
    state.outcome_timestamp = age
    return state
