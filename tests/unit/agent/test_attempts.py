"""What the log says of attempts, and what is counted of them."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from presence.agent.attempts import (
    FLAPPING,
    GREETED,
    KINDS,
    MEASURED,
    REMEMBERED,
    REPEATED_EVERY,
    AttemptCounts,
    AttemptLog,
)
from presence.domain.delivery import FinalState
from presence.domain.outcome import Attempt, Fault, Outcome, Phase, Reason, Refused, Response, TransportFailure
from presence.domain.retry import Hold, RetryAfter, Settle, Step
from tests.support.clock import ManualClock
from tests.support.requests import claimed

URI = "https://Jenkins.corp:8443/{SubjectId}?secret=canary"


def logged(outcome: Outcome, step: Step, uri: str = URI, log: AttemptLog | None = None, **attempt: Any) -> list[Any]:
    """The lines for one attempt."""
    fields: dict[str, Any] = {"number": 1, "at": 0, "took": 12, "outcome": outcome, **attempt}
    with capture_logs() as lines:
        (log or AttemptLog(ManualClock()))(claimed(uri, authorization="Bearer canary"), Attempt(**fields), step)
    return lines


DELIVERED = Settle(FinalState.SUCCEEDED, Reason.DELIVERED)


class TestAttemptLog:
    """One line for each attempt that a person may want to know of."""

    def test_a_line_says_what_happened_and_nothing_that_is_confidential(self) -> None:
        failure = TransportFailure(Phase.CONNECT, Fault.TIMEOUT)
        (line,) = logged(failure, RetryAfter(5000), address="10.0.0.1", proxy="p:1", repeated=True, observed=True)
        assert line == {
            "event": "attempt",
            "log_level": "warning",
            "delivery": "0f8e0f4e-6d6a-4c39-9a5a-7c7f3f1f0c11",
            "target": "https://jenkins.corp:8443",
            "uri": "https://Jenkins.corp:8443/{SubjectId}?secret=***",
            "attempt": 1,
            "outcome": "connect: timeout",
            "hint": "host_down_or_filtered",
            "address": "10.0.0.1",
            "proxy": "p:1",
            "took_ms": 12,
            "repeated": True,
            "observed": True,
            "step": "retry",
            "retry_in_ms": 5000,
        }

    @pytest.mark.parametrize(
        ("outcome", "step", "expected"),
        [
            (Response(404), Settle(FinalState.FAILED, Reason.STATUS_FINAL), ("404", "failed", "status_final")),
            (
                Refused(Reason.NOT_ALLOWED),
                Settle(FinalState.REFUSED, Reason.NOT_ALLOWED),
                ("refused: not_allowed", "refused", "not_allowed"),
            ),
            (
                TransportFailure(Phase.FIRST_BYTE, Fault.RESET, sent=True),
                Hold(Reason.UNKNOWN),
                ("first-byte: reset", "held", "unknown"),
            ),
        ],
    )
    def test_how_it_ended(self, outcome: Outcome, step: Step, expected: tuple[str, str, str]) -> None:
        (line,) = logged(outcome, step)
        assert (line["outcome"], line["step"], line["reason"]) == expected
        assert line["log_level"] == "warning"

    @pytest.mark.parametrize(
        ("uri", "target"), [("http://[fd00::1]/x", "http://[fd00::1]:80"), ("http://{SubjectId}/", "invalid")]
    )
    def test_how_the_target_is_named(self, uri: str, target: str) -> None:
        (line,) = logged(Refused(Reason.TEMPLATE_INVALID), Settle(FinalState.REFUSED, Reason.TEMPLATE_INVALID), uri)
        assert line["target"] == target

    def test_the_uri_of_what_is_no_template_is_not_shown(self) -> None:
        (line,) = logged(
            Refused(Reason.TEMPLATE_INVALID), Settle(FinalState.REFUSED, Reason.TEMPLATE_INVALID), "http://u:p@h/"
        )
        assert "uri" not in line


UNAVAILABLE, RETRY = Response(503), RetryAfter(5000)


class Scene:
    """A log, its clock, and the levels of what it wrote."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.log = AttemptLog(self.clock)

    def fails(self, outcome: Outcome = UNAVAILABLE, step: Step = RETRY, uri: str = URI) -> str:
        (line,) = logged(outcome, step, uri, self.log)
        return str(line["log_level"])

    def succeeds(self, uri: str = URI) -> str:
        (line,) = logged(Response(204), DELIVERED, uri, self.log)
        return str(line["log_level"])


class TestRepeats:
    """A target that fails for ever does not fill the disk with its lines."""

    def test_the_first_success_of_a_target_and_the_one_that_ends_failures_are_worth_a_line(self) -> None:
        scene = Scene()
        assert [scene.succeeds(), scene.succeeds(), scene.succeeds("http://other.corp/")] == ["info", "debug", "info"]
        assert [scene.fails(), scene.succeeds(), scene.succeeds()] == ["warning", "info", "debug"]

    def test_what_repeats_is_told_every_ten_minutes_with_its_count(self) -> None:
        scene = Scene()
        assert [scene.fails() for _ in range(42)] == ["warning"] + ["debug"] * 41
        scene.clock.pass_time(REPEATED_EVERY - 1)
        assert scene.fails() == "debug"
        scene.clock.pass_time(1)
        (line,) = logged(UNAVAILABLE, RETRY, log=scene.log)
        assert (line["log_level"], line["repeats"]) == ("warning", 42)
        (line,) = logged(UNAVAILABLE, RETRY, log=scene.log)
        assert (line["log_level"], line.get("repeats")) == ("debug", None)

    def test_another_target_outcome_or_step_is_told_at_once(self) -> None:
        scene = Scene()
        assert scene.fails() == "warning"
        assert scene.fails(uri="http://other.corp/") == "warning"
        assert scene.fails(Response(500)) == "warning"
        assert scene.fails(step=Settle(FinalState.FAILED, Reason.ATTEMPTS_EXHAUSTED)) == "warning"
        assert scene.fails(Response(500)) == scene.fails() == "debug"

    def test_a_failure_after_a_success_is_news(self) -> None:
        scene = Scene()
        scene.fails()
        scene.clock.pass_time(FLAPPING)
        assert [scene.succeeds(), scene.fails(), scene.succeeds()] == ["info", "warning", "info"]

    def test_a_target_that_flaps_writes_two_lines_a_minute(self) -> None:
        scene = Scene()
        levels = []
        for _ in range(600):
            levels += [scene.fails(), scene.succeeds()]
            scene.clock.pass_time(1000)
        assert levels.count("warning") == levels.count("info") == 10

    def test_the_memory_is_bounded(self) -> None:
        scene = Scene()
        for number in range(2 * REMEMBERED):
            scene.fails(uri=f"http://h{number}.corp/")
            scene.fails(Response(302, location=f"h{number}.corp"))
        assert len(scene.log._told) <= REMEMBERED
        assert max(map(len, scene.log._told.values())) <= KINDS
        assert len(scene.log._failing) <= REMEMBERED
        for number in range(2 * GREETED):
            scene.succeeds(f"http://h{number}.corp/")
        assert len(scene.log._greeted) <= GREETED


class TestAttemptCounts:
    """Everything is counted once, in its class, and passed on."""

    @pytest.mark.parametrize(
        ("outcome", "name"),
        [
            *((Response(status), f"{status // 100}xx") for status in (100, 204, 302, 404, 503, 999)),
            *((TransportFailure(Phase.CONNECT, fault), fault.value) for fault in Fault),
            (Refused(Reason.DENIED_ALWAYS), "refused"),
        ],
    )
    def test_by_class(self, outcome: Outcome, name: str) -> None:
        passed_on: list[Attempt] = []
        counts = AttemptCounts(lambda _claimed, attempt, _step: passed_on.append(attempt))
        attempt = Attempt(1, 0, 12, outcome, phases={Phase.POLICY: 1, Phase.DNS: 0, Phase.FIRST_BYTE: 11})
        counts(claimed(URI), attempt, RETRY)
        assert dict(counts.outcomes) == {name: 1}
        assert (counts.seconds.sum, counts.seconds.buckets[-1]) == (0.012, ("+Inf", 1))
        assert {phase: (shown.buckets[-1][1], shown.sum) for phase, shown in counts.phases.items()} == {
            phase: {Phase.DNS: (1, 0.0), Phase.FIRST_BYTE: (1, 0.011)}.get(phase, (0, 0.0)) for phase in MEASURED
        }
        assert passed_on == [attempt]
