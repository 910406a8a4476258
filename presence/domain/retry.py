"""What to do after an attempt.

==========================================  =======================================
outcome                                     step
==========================================  =======================================
2xx                                         succeeded
408, 425, 429, 5xx                          retry
any other status (3xx included)             failed: redirects are not followed
no status line (DNS, connect, TLS, reset,   retry
time-out)
refused by policy or content                refused, never retried
==========================================  =======================================

A retry waits for a random time (full jitter) below an exponentially growing bound, and is bounded
by attempts and by age: a delivery out of attempts is `failed`, one that would be older than its
deadline is `expired` if it waits and `failed` if its last attempt was made.
Bounds and stops are tenacity's objects, evaluated against the journal's count: tenacity's own state
lives in memory only, the journal's survives a restart.
"""

from dataclasses import dataclass
from typing import assert_never, cast

from tenacity import BaseRetrying, RetryCallState, stop_after_attempt, stop_before_delay, wait_exponential

from presence.domain.delivery import FinalState
from presence.domain.outcome import Outcome, Reason, Refused, Response, TransportFailure

RETRIED_STATUSES = frozenset({408, 425, 429})


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


Step = Settle | RetryAfter


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


def next_step(policy: RetryPolicy, outcome: Outcome, *, attempts: int, age: int, jitter: float) -> Step:
    """The step after attempt number `attempts` of a delivery whose event is `age` milliseconds old.

    `jitter` is a random number in [0, 1) drawn by the caller.
    """
    match outcome:
        case Refused(reason):
            return Settle(FinalState.REFUSED, reason)
        case Response(status) if 200 <= status <= 299:
            return Settle(FinalState.SUCCEEDED, Reason.DELIVERED)
        case _ if not is_retried(outcome):
            return Settle(FinalState.FAILED, Reason.STATUS_FINAL)
    delay = int(longest_wait(policy, attempts) * jitter)
    state = _retry_state(attempts, age, delay)
    if stop_after_attempt(policy.max_attempts)(state):
        return Settle(FinalState.FAILED, Reason.ATTEMPTS_EXHAUSTED)
    if stop_before_delay(policy.deadline)(state):
        return Settle(FinalState.FAILED, Reason.TOO_OLD)
    return RetryAfter(delay)


def longest_wait(policy: RetryPolicy, attempts: int) -> int:
    """The bound of the wait after attempt number `attempts`, in milliseconds."""
    wait = wait_exponential(multiplier=policy.initial, max=policy.maximum)
    return int(wait(_retry_state(attempts, 0, 0)))


def _retry_state(attempts: int, age: int, delay: int) -> RetryCallState:
    """tenacity's view of a delivery: the call began `age` ago and would sleep for `delay` now."""
    state = RetryCallState(cast(BaseRetrying, None), None, (), {})
    state.attempt_number = attempts
    state.start_time = 0.0
    state.outcome_timestamp = age
    state.upcoming_sleep = delay
    return state
