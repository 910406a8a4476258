"""The step after an attempt: the table, the growing bound, what a target asks for, and that retries always end."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presence.domain.delivery import FinalState
from presence.domain.outcome import (
    CERTIFICATE_FAULTS,
    Fault,
    Outcome,
    Phase,
    Reason,
    Refused,
    Response,
    TransportFailure,
)
from presence.domain.retry import (
    CERTIFICATE_WAIT,
    LONGEST_RETRY_AFTER,
    Hold,
    RetryAfter,
    RetryPolicy,
    Settle,
    Step,
    is_retried,
    longest_wait,
    next_step,
    parse_http_date,
    parse_retry_after,
)
from presence.domain.webhook import OnUnknown

POLICY = RetryPolicy(max_attempts=5, initial=1_000, maximum=60_000, deadline=600_000)
DELIVERED = Settle(FinalState.SUCCEEDED, Reason.DELIVERED)
GONE = Settle(FinalState.FAILED, Reason.GONE)
STATUS_FINAL = Settle(FinalState.FAILED, Reason.STATUS_FINAL)
EXHAUSTED = Settle(FinalState.FAILED, Reason.ATTEMPTS_EXHAUSTED)
TOO_OLD = Settle(FinalState.FAILED, Reason.TOO_OLD)
RETRIED = Response(503)


def step(
    policy: RetryPolicy,
    outcome: Outcome,
    attempts: int = 1,
    age: int = 0,
    jitter: float = 0.5,
    on_unknown: OnUnknown = OnUnknown.FIRE,
) -> Step:
    return next_step(policy, outcome, attempts=attempts, age=age, jitter=jitter, on_unknown=on_unknown)


LONG = RetryPolicy(max_attempts=5, initial=1_000, maximum=60_000, deadline=86_400_000)
IN_A_QUARTER_OF_AN_HOUR = RetryAfter(900_000)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        *((Response(status), DELIVERED) for status in (200, 201, 204, 299)),
        *((Response(status), RetryAfter(625)) for status in (408, 425, 429, 500, 501, 502, 503, 504, 599)),
        *((Response(status), STATUS_FINAL) for status in (0, 100, 101, 199)),
        *((Response(status), STATUS_FINAL) for status in (300, 301, 302, 303, 304, 307, 308, 399)),
        *((Response(status), STATUS_FINAL) for status in (400, 401, 403, 404, 407, 409, 411, 424, 426, 428, 499)),
        (Response(410), GONE),
        *((Response(status), STATUS_FINAL) for status in (600, 999)),
        *((TransportFailure(phase, Fault.TIMEOUT), RetryAfter(625)) for phase in Phase),
        *(
            (TransportFailure(Phase.CONNECT, fault), RetryAfter(625))
            for fault in Fault
            if fault not in CERTIFICATE_FAULTS
        ),
        *((TransportFailure(Phase.TLS, fault), IN_A_QUARTER_OF_AN_HOUR) for fault in CERTIFICATE_FAULTS),
        *((TransportFailure(Phase.FIRST_BYTE, fault, sent=True), RetryAfter(625)) for fault in (Fault.RESET,)),
        *((Refused(reason), Settle(FinalState.REFUSED, reason)) for reason in Reason),
    ],
)
def test_step_of_an_outcome(outcome: Outcome, expected: Step) -> None:
    assert step(LONG, outcome) == expected
    assert is_retried(outcome) is isinstance(expected, RetryAfter)


@pytest.mark.parametrize(
    "outcome", [Response(200), Response(404), Response(503), Response(410), Refused(Reason.POISON)]
)
@pytest.mark.parametrize("on_unknown", OnUnknown)
def test_an_answer_or_a_refusal_is_never_held(outcome: Outcome, on_unknown: OnUnknown) -> None:
    assert step(LONG, outcome, on_unknown=on_unknown) == step(LONG, outcome)


@pytest.mark.parametrize("fault", Fault)
def test_a_failure_before_anything_was_sent_is_never_held(fault: Fault) -> None:
    failure = TransportFailure(Phase.CONNECT, fault, sent=False)
    assert step(LONG, failure, on_unknown=OnUnknown.HOLD) == step(LONG, failure)


@pytest.mark.parametrize("fault", [Fault.TIMEOUT, Fault.RESET, Fault.INTERRUPTED, Fault.MALFORMED_RESPONSE])
@pytest.mark.parametrize(("attempts", "age"), [(1, 0), (5, 0), (99, 0), (1, 10**12)])
def test_an_unknown_outcome_is_held_whatever_its_count_and_age(fault: Fault, attempts: int, age: int) -> None:
    failure = TransportFailure(Phase.FIRST_BYTE, fault, sent=True)
    assert step(LONG, failure, attempts, age, on_unknown=OnUnknown.HOLD) == Hold(Reason.UNKNOWN)


@pytest.mark.parametrize("outcome", [Response(200), Response(404), Response(410), Refused(Reason.NOT_ALLOWED)])
def test_what_is_not_retried_ends_the_same_at_any_count_and_age(outcome: Outcome) -> None:
    assert step(POLICY, outcome) == step(POLICY, outcome, attempts=99, age=10**12, jitter=0.0)


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [(1, RetryAfter(625)), (4, RetryAfter(4_125)), (5, EXHAUSTED), (6, EXHAUSTED), (10_000, EXHAUSTED)],
)
def test_attempts_are_bounded(attempts: int, expected: Step) -> None:
    assert step(POLICY, RETRIED, attempts) == expected


def test_a_single_attempt_is_never_retried() -> None:
    assert step(RetryPolicy(1, 1_000, 60_000, 600_000), RETRIED) == EXHAUSTED


@pytest.mark.parametrize(
    ("age", "jitter", "expected"),
    [
        (598_999, 0.999, RetryAfter(999)),
        (599_374, 0.5, RetryAfter(625)),
        (599_375, 0.5, TOO_OLD),  # due exactly at the deadline
        (599_376, 0.5, TOO_OLD),
        (599_749, 0.0, RetryAfter(250)),
        (599_750, 0.0, TOO_OLD),
        (600_000, 0.0, TOO_OLD),
        (10**12, 0.0, TOO_OLD),
    ],
)
def test_age_at_the_next_attempt_is_bounded(age: int, jitter: float, expected: Step) -> None:
    assert step(POLICY, RETRIED, age=age, jitter=jitter) == expected


@pytest.mark.parametrize(("age", "deadline"), [(700, 950), (200, 450), (1_000, 1_250), (86_399_750, 86_400_000)])
def test_due_exactly_at_the_deadline_is_too_old(age: int, deadline: int) -> None:
    assert step(RetryPolicy(9, 1_000, 1_000, deadline), RETRIED, age=age, jitter=0.0) == TOO_OLD


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


@pytest.mark.parametrize(("jitter", "delay"), [(0.0, 250), (0.25, 437), (0.5, 625), (0.9999999, 999)])
def test_jitter_is_full_above_a_quarter_of_the_first_wait(jitter: float, delay: int) -> None:
    assert step(POLICY, RETRIED, jitter=jitter) == RetryAfter(delay)


def test_the_least_wait_does_not_grow_with_the_bound() -> None:
    assert step(POLICY, RETRIED, 4, jitter=0.0) == RetryAfter(250)


def test_the_least_wait_stays_within_the_maximum() -> None:
    assert step(RetryPolicy(5, 10_000, 100, 600_000), RETRIED, jitter=0.9) == RetryAfter(100)


CERTIFICATE = TransportFailure(Phase.TLS, Fault.CERTIFICATE_EXPIRED)


@pytest.mark.parametrize("attempts", [1, 2, 4])
@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_a_certificate_is_looked_at_again_at_fixed_times(attempts: int, jitter: float) -> None:
    assert step(LONG, CERTIFICATE, attempts, jitter=jitter) == RetryAfter(CERTIFICATE_WAIT)


@pytest.mark.parametrize(
    ("attempts", "age", "expected"),
    [(5, 0, EXHAUSTED), (1, 86_400_000 - 900_000, TOO_OLD), (1, 86_400_000 - 900_001, IN_A_QUARTER_OF_AN_HOUR)],
)
def test_certificate_failures_are_bounded_by_attempts_and_age(attempts: int, age: int, expected: Step) -> None:
    assert step(LONG, CERTIFICATE, attempts, age) == expected


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
@pytest.mark.parametrize(
    ("asked", "delay"),
    [(0, 625), (1, 625), (624, 625), (626, 626), (60_000, 60_000), (7_200_000, 7_200_000), (7_200_001, 7_200_000)],
)
def test_what_the_target_asks_for_lengthens_the_wait_up_to_two_hours(status: int, asked: int, delay: int) -> None:
    assert step(LONG, Response(status, retry_after=asked)) == RetryAfter(delay)


def test_a_long_first_wait_may_be_doubled_by_the_target() -> None:
    policy = RetryPolicy(5, 5 * 3_600_000, 5 * 3_600_000, 10 * 86_400_000)
    assert step(policy, Response(503, retry_after=2**53 - 1)) == RetryAfter(10 * 3_600_000)


def test_what_the_target_asks_for_does_not_outlast_the_deadline() -> None:
    assert step(POLICY, Response(503, retry_after=700_000)) == TOO_OLD


@pytest.mark.parametrize("status", [204, 301, 404, 410])
def test_nothing_else_is_retried_because_the_target_asks(status: int) -> None:
    assert step(LONG, Response(status, retry_after=1)) == step(LONG, Response(status))


policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 50),
    initial=st.integers(0, 3_600_000),
    maximum=st.integers(0, 86_400_000),
    deadline=st.integers(0, 10 * 86_400_000),
)
jitters = st.floats(0, 1, exclude_max=True)


@given(policies, st.integers(1, 5_000), st.integers(0, 2**53), jitters, st.none() | st.integers(0, 2**53 - 1))
def test_delay_stays_within_its_bounds_and_before_the_deadline(
    policy: RetryPolicy, attempts: int, age: int, jitter: float, asked: int | None
) -> None:
    bound = longest_wait(policy, attempts)
    assert 0 <= bound <= policy.maximum
    match step(policy, Response(503, asked), attempts, age, jitter):
        case RetryAfter(delay):
            clamped = min(asked or 0, max(2 * policy.initial, LONGEST_RETRY_AFTER))
            assert max(clamped, min(policy.initial // 4, bound)) <= delay <= max(clamped, bound)
            assert attempts < policy.max_attempts
            assert age + delay < policy.deadline
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
        assert isinstance(taken, RetryAfter)
        age += taken.delay
    pytest.fail("no end within the most attempts that a policy here allows")


NOW = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("120", 120_000),
        (" 120\t", 120_000),
        ("0000000000000000000000000120", 120_000),
        ("9" * 64, 2**53 - 1),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60_000),
        ("Sunday, 06-Nov-94 08:50:37 GMT", 60_000),
        ("Sun Nov  6 08:50:37 1994", 60_000),
        ("Sun, 06 Nov 1994 08:48:37 GMT", 0),  # past
        ("Fri, 31 Dec 1999 23:59:59 GMT", 162_573_022_000),
    ],
)
def test_retry_after_in_each_of_its_forms(text: str, expected: int) -> None:
    assert parse_retry_after(text, NOW) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "-1", "+1", "1.5", "1e3", "1_000", "0x10", "1 2", "120 s", "\u0661\u0662", "9" * 65, "9" * 5_000,
        "soon",
        "Sun, 99 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 25:49:37 GMT", "Sun, 06 Nov 99999 08:49:37 GMT", "GMT",
        "Sun, 06 Nov 1994 08:49:37 +999999999999", "Sun, 06 Nov 1994 08:49:37 GMT" + "x" * 64, ",", ":", "\0", "\ud800",
    ],
)  # fmt: skip
def test_an_unusable_retry_after_says_nothing(text: str) -> None:
    assert parse_retry_after(text, NOW) is None


@given(st.text(max_size=80) | st.text("0123456789 ,:-+.SunNovGMT", max_size=80) | st.binary(max_size=64).map(str))
def test_no_retry_after_raises_or_is_negative(text: str) -> None:
    found = parse_retry_after(text, NOW)
    assert found is None or 0 <= found < 2**53


@given(st.integers(-(10**9), 10**9))
def test_a_date_is_read_back(seconds: int) -> None:
    date = NOW + timedelta(seconds=seconds)
    assert parse_http_date(format_datetime(date, usegmt=True)) == date
    assert parse_retry_after(format_datetime(date, usegmt=True), NOW) == max(0, seconds * 1000)
