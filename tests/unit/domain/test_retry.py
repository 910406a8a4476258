"""The step after an attempt: the table, the growing bound, and that retries always end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presence.domain.delivery import FinalState
from presence.domain.outcome import Fault, Outcome, Phase, Reason, Refused, Response, TransportFailure
from presence.domain.retry import RetryAfter, RetryPolicy, Settle, Step, is_retried, longest_wait, next_step

POLICY = RetryPolicy(max_attempts=5, initial=1_000, maximum=60_000, deadline=600_000)
DELIVERED = Settle(FinalState.SUCCEEDED, Reason.DELIVERED)
STATUS_FINAL = Settle(FinalState.FAILED, Reason.STATUS_FINAL)
EXHAUSTED = Settle(FinalState.FAILED, Reason.ATTEMPTS_EXHAUSTED)
TOO_OLD = Settle(FinalState.FAILED, Reason.TOO_OLD)
RETRIED = Response(503)


def step(policy: RetryPolicy, outcome: Outcome, attempts: int = 1, age: int = 0, jitter: float = 0.5) -> Step:
    return next_step(policy, outcome, attempts=attempts, age=age, jitter=jitter)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        *((Response(status), DELIVERED) for status in (200, 201, 204, 299)),
        *((Response(status), RetryAfter(500)) for status in (408, 425, 429, 500, 501, 502, 503, 504, 599)),
        *((Response(status), STATUS_FINAL) for status in (100, 101, 199)),
        *((Response(status), STATUS_FINAL) for status in (300, 301, 302, 303, 304, 307, 308, 399)),
        *((Response(status), STATUS_FINAL) for status in (400, 401, 403, 404, 407, 409, 410, 424, 426, 428, 499)),
        *((Response(status), STATUS_FINAL) for status in (600, 999)),
        *((TransportFailure(phase, Fault.TIMEOUT), RetryAfter(500)) for phase in Phase),
        *((TransportFailure(Phase.CONNECT, fault), RetryAfter(500)) for fault in Fault),
        *((TransportFailure(Phase.FIRST_BYTE, fault, sent=True), RetryAfter(500)) for fault in Fault),
        *((Refused(reason), Settle(FinalState.REFUSED, reason)) for reason in Reason),
    ],
)
def test_step_of_an_outcome(outcome: Outcome, expected: Step) -> None:
    assert step(POLICY, outcome) == expected
    assert is_retried(outcome) is isinstance(expected, RetryAfter)


@pytest.mark.parametrize("outcome", [Response(200), Response(404), Refused(Reason.NOT_ALLOWED)])
def test_what_is_not_retried_ends_the_same_at_any_count_and_age(outcome: Outcome) -> None:
    assert step(POLICY, outcome) == step(POLICY, outcome, attempts=99, age=10**12, jitter=0.0)


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [(1, RetryAfter(500)), (4, RetryAfter(4_000)), (5, EXHAUSTED), (6, EXHAUSTED), (10_000, EXHAUSTED)],
)
def test_attempts_are_bounded(attempts: int, expected: Step) -> None:
    assert step(POLICY, RETRIED, attempts) == expected


def test_a_single_attempt_is_never_retried() -> None:
    assert step(RetryPolicy(1, 1_000, 60_000, 600_000), RETRIED) == EXHAUSTED


@pytest.mark.parametrize(
    ("age", "jitter", "expected"),
    [
        (598_999, 0.999, RetryAfter(999)),
        (599_499, 0.5, RetryAfter(500)),
        (599_500, 0.5, TOO_OLD),  # due exactly at the deadline
        (599_501, 0.5, TOO_OLD),
        (599_999, 0.0, RetryAfter(0)),
        (600_000, 0.0, TOO_OLD),
        (10**12, 0.0, TOO_OLD),
    ],
)
def test_age_at_the_next_attempt_is_bounded(age: int, jitter: float, expected: Step) -> None:
    assert step(POLICY, RETRIED, age=age, jitter=jitter) == expected


@pytest.mark.parametrize(("age", "deadline"), [(700, 800), (200, 300), (1_000, 1_100), (86_399_900, 86_400_000)])
def test_due_exactly_at_the_deadline_is_too_old(age: int, deadline: int) -> None:
    assert step(RetryPolicy(9, 1_000, 1_000, deadline), RETRIED, age=age, jitter=0.1) == TOO_OLD


@pytest.mark.parametrize("initial", [1, 999, 1_001, 1_003, 2_007, 86_399_999])
def test_bound_is_exact(initial: int) -> None:
    assert longest_wait(RetryPolicy(9, initial, 10**9, 1), 1) == initial


def test_attempts_are_named_before_age() -> None:
    assert step(POLICY, RETRIED, attempts=5, age=10**9) == EXHAUSTED


@pytest.mark.parametrize(
    ("attempts", "bound"),
    [(1, 1_000), (2, 2_000), (3, 4_000), (6, 32_000), (7, 60_000), (8, 60_000), (1_023, 60_000), (10**6, 60_000)],
)
def test_bound_doubles_up_to_the_maximum(attempts: int, bound: int) -> None:
    assert longest_wait(POLICY, attempts) == bound


def test_maximum_below_the_first_wait_wins() -> None:
    assert longest_wait(RetryPolicy(5, 10_000, 2_000, 600_000), 1) == 2_000


@pytest.mark.parametrize(("jitter", "delay"), [(0.0, 0), (0.25, 250), (0.5, 500), (0.9999999, 999)])
def test_jitter_is_full(jitter: float, delay: int) -> None:
    assert step(POLICY, RETRIED, jitter=jitter) == RetryAfter(delay)


policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 50),
    initial=st.integers(0, 3_600_000),
    maximum=st.integers(0, 86_400_000),
    deadline=st.integers(0, 10 * 86_400_000),
)
jitters = st.floats(0, 1, exclude_max=True)


@given(policies, st.integers(1, 5_000), st.integers(0, 2**53), jitters)
def test_delay_stays_below_the_bound_and_the_deadline(
    policy: RetryPolicy, attempts: int, age: int, jitter: float
) -> None:
    bound = longest_wait(policy, attempts)
    assert 0 <= bound <= policy.maximum
    match step(policy, RETRIED, attempts, age, jitter):
        case RetryAfter(delay):
            assert 0 <= delay <= bound
            assert attempts < policy.max_attempts
            assert age + delay <= policy.deadline
        case Settle(state, reason):
            assert state is FinalState.FAILED
            assert reason in (Reason.ATTEMPTS_EXHAUSTED, Reason.TOO_OLD)


@given(policies, st.integers(1, 5_000))
def test_bound_never_shrinks(policy: RetryPolicy, attempts: int) -> None:
    assert longest_wait(policy, attempts) <= longest_wait(policy, attempts + 1)


@given(policies, st.lists(jitters, min_size=50, max_size=50), st.integers(0, 60_000))
def test_retries_always_end(policy: RetryPolicy, draws: list[float], took: int) -> None:
    age = 0
    for attempt, jitter in enumerate(draws, start=1):
        age += took
        taken = step(policy, RETRIED, attempt, age, jitter)
        if isinstance(taken, Settle):
            assert attempt == policy.max_attempts or taken.reason is Reason.TOO_OLD
            return
        age += taken.delay
    pytest.fail("no end within the most attempts that a policy here allows")
