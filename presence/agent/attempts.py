"""What is told of attempts: the canonical line of each in the log, and counts for metrics."""

import logging
from collections import Counter
from collections.abc import Callable
from typing import assert_never

from presence.agent.entries import Claimed, target_of
from presence.agent.histogram import Histogram
from presence.clock import Clock
from presence.domain.delivery import FinalState
from presence.domain.outcome import Attempt, Outcome, Phase, Refused, Response, TransportFailure, hint_of
from presence.domain.retry import RetryAfter, Settle, Step, name_of
from presence.domain.template import masked
from presence.logs import get_logger

log = get_logger("presence.agent.worker")

GREETED = 1000
"""Targets whose first success is worth a line at level info."""
REMEMBERED, KINDS = 1000, 50
"""Targets whose failures are known to repeat, and different failures of each."""
REPEATED_EVERY = 600_000
"""Milliseconds between two lines of the same failure."""
FLAPPING = 60_000
"""Milliseconds: a failure that was told so recently is not news again after a success."""
MEASURED = (Phase.DNS, Phase.CONNECT, Phase.TLS, Phase.WRITE, Phase.FIRST_BYTE, Phase.BODY)
_OF_HUNDREDS = [f"{hundreds}xx" for hundreds in range(10)]
_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

Observer = Callable[[Claimed, Attempt, Step], None]
"""Called after each attempt, once its outcome is in the journal."""


class AttemptCounts:
    """An observer of attempts that counts and passes on to `then`.

    `outcomes`: by `class_of`; `seconds`: whole attempts, `phases`: those of `MEASURED` that were entered, both in
    steps of a millisecond.
    """

    def __init__(self, then: Observer) -> None:
        self._then = then
        self.outcomes: Counter[str] = Counter()
        self.seconds = Histogram(_BOUNDS)
        self.phases = {phase: Histogram(_BOUNDS) for phase in MEASURED}
        self._histograms = self.phases | {Phase.POLICY: Histogram(())}

    def __call__(self, claimed: Claimed, attempt: Attempt, step: Step) -> None:
        self.outcomes[class_of(attempt.outcome)] += 1
        self.seconds.add(attempt.took / 1000)
        histograms = self._histograms
        for phase, took in attempt.phases.items():
            histograms[phase].add(took / 1000)
        self._then(claimed, attempt, step)


def class_of(outcome: Outcome) -> str:
    """`1xx` to `9xx` by the status, the fault, or `refused`."""
    match outcome:
        case Response():
            return _OF_HUNDREDS[outcome.status // 100]
        case TransportFailure(_, fault):
            return fault
        case Refused():
            return "refused"
    assert_never(outcome)


class AttemptLog:
    """Writes the line of each attempt: the first success of a target and what fails, the rest at level debug.

    A failure that comes again and again (the same target, outcome and step) is told at once, and then every ten
    minutes with the number of its `repeats`. So is the success that ends failures; what fails after it is news again,
    unless it was told within the last minute. The URI is shown as its template, without what its query says.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._greeted: set[str] = set()
        self._failing: set[str] = set()
        """Targets of which a failure was told, and no success since."""
        self._told: dict[str, dict[tuple[str, str], tuple[int, int]]] = {}
        """When each failure of a target was last told, and how often it came since."""

    def __call__(self, claimed: Claimed, attempt: Attempt, step: Step) -> None:
        target = target_of(claimed.uri)
        if isinstance(step, Settle) and step.state is FinalState.SUCCEEDED:
            level, repeats = self._level_of_success(target), 0
        else:
            level, repeats = self._level_of_failure(target, (attempt.describe(), name_of(step)))
        if log.is_enabled_for(level):
            log.log(level, "attempt", **_line(claimed, attempt, step, target, repeats))

    def _level_of_success(self, target: str) -> int:
        if not self._told and target in self._greeted:
            return logging.DEBUG
        is_news = target in self._failing or (target not in self._greeted and len(self._greeted) < GREETED)
        if is_news:
            self._failing.discard(target)
            if len(self._greeted) < GREETED:
                self._greeted.add(target)
        if target in self._told:
            since = self._clock.elapsed() - FLAPPING
            recent = {failure: told for failure, told in self._told.pop(target).items() if told[0] > since}
            if recent:
                self._told[target] = recent
        return logging.INFO if is_news else logging.DEBUG

    def _level_of_failure(self, target: str, failure: tuple[str, str]) -> tuple[int, int]:
        """The level, and how often it came since it was told."""
        now = self._clock.elapsed()
        if target not in self._told and len(self._told) >= REMEMBERED:
            self._told.clear()
            self._failing.clear()
        failures = self._told.setdefault(target, {})
        told_at, repeats = failures.get(failure, (None, 0))
        if told_at is not None and now - told_at < REPEATED_EVERY:
            failures[failure] = told_at, repeats + 1
            return logging.DEBUG, 0
        if len(failures) >= KINDS:
            failures.clear()
        failures[failure] = now, 0
        self._failing.add(target)
        return logging.WARNING, repeats


def _line(claimed: Claimed, attempt: Attempt, step: Step, target: str, repeats: int) -> dict[str, object]:
    """What the line says; nothing about what did not happen."""
    fields: dict[str, object] = {
        "delivery": claimed.id,
        "target": target,
        "uri": masked(claimed.uri),
        "attempt": attempt.number,
        "outcome": attempt.describe(),
        "hint": hint_of(attempt.outcome),
        "address": attempt.address,
        "proxy": attempt.proxy,
        "took_ms": attempt.took,
        "repeated": attempt.repeated or None,
        "observed": attempt.observed or None,
        "step": name_of(step),
        "reason": None if isinstance(step, RetryAfter) else step.reason,
        "retry_in_ms": step.delay if isinstance(step, RetryAfter) else None,
        "repeats": repeats or None,
    }
    return {name: value for name, value in fields.items() if value is not None}
