"""What the agent counts and measures, for Prometheus. The stages count; here it is looked at when somebody asks.

Labels are bounded: each is one of an enumeration. Nothing here names a host, a webhook, a delivery or a subject.
What is not known has no sample: a canary's age without a session, the clock's offset before the first one, the oldest
delivery's age while the journal's thread does not answer.
"""

import asyncio
import platform
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from presence import __version__, logs
from presence.agent import listing
from presence.agent.attempts import AttemptCounts
from presence.agent.ends import Cause
from presence.agent.histogram import Histogram
from presence.agent.intake import Intake
from presence.agent.link_state import LinkState
from presence.agent.status import Parts, size_of
from presence.domain.circuit import CircuitState
from presence.domain.delivery import FinalState
from presence.domain.outcome import CONTENT_REFUSALS, POLICY_REFUSALS, Fault, Reason
from presence.protocol.messages import Busy

ANSWER_SECONDS = 2.0
"""Within so many the journal's thread says how old the oldest delivery is, or the page goes without it."""
OUTCOMES = (*(f"{hundreds}xx" for hundreds in range(1, 10)), *Fault, "refused")
BUSY: tuple[str, ...] = get_args(Busy.model_fields["reason"].annotation)
OPEN = (CircuitState.OPEN, CircuitState.HALF_OPEN)


class Metrics:
    """The page of /metrics."""

    def __init__(self, parts: Parts, intake: Intake, attempts: AttemptCounts) -> None:
        self._journal = parts.journal
        self._oldest: asyncio.Task[int | None] | None = None
        self._look = _Look(parts, intake, attempts)
        self._registry = CollectorRegistry()
        self._registry.register(self._look)
        ProcessCollector(namespace="presence_agent", registry=self._registry)

    async def page(self, accept: str) -> tuple[str, bytes]:
        """Content type and text for a scraper that accepts that."""
        self._look.oldest = await self._age_of_oldest()
        # prometheus_client's own choice fails where the version is none.
        if "application/openmetrics-text" in accept:
            text = openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call]
            return openmetrics.CONTENT_TYPE_LATEST, text
        return CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self._registry)

    async def _age_of_oldest(self) -> float | None:
        """Seconds. One question at a time: a thread that hangs must not be asked more and more."""
        if self._oldest is None or self._oldest.done():
            self._oldest = asyncio.create_task(self._journal.look(listing.oldest, None), name="metrics-oldest")
        await asyncio.wait([self._oldest], timeout=ANSWER_SECONDS)
        if not self._oldest.done():
            return None
        accepted_at = self._oldest.result()
        return 0.0 if accepted_at is None else max(0, self._journal.now() - accepted_at) / 1000


class _Look(Collector):
    """One look at everything. `oldest`: the oldest delivery's age in seconds, if it is known."""

    def __init__(self, parts: Parts, intake: Intake, attempts: AttemptCounts) -> None:
        self._parts, self._intake, self._attempts = parts, intake, attempts
        self.oldest: float | None = None

    def describe(self) -> Iterable[Metric]:
        """Nothing is looked at before somebody asks."""
        return ()

    def collect(self) -> Iterator[Metric]:
        build = {"version": __version__, "python": platform.python_version()}
        yield InfoMetricFamily("presence_agent_build", "The program.", build)
        dropped = logs.dropped()
        yield CounterMetricFamily("presence_agent_log_lines_dropped", "Log lines that nobody read in time.", dropped)
        yield from self._of_the_link()
        yield from self._of_deliveries()
        yield from self._of_attempts()
        yield from self._of_the_journal()

    def _of_the_link(self) -> Iterator[Metric]:
        link = self._parts.link
        status = link.status()
        state = {name: name is status.state for name in LinkState}
        yield _gauges("presence_agent_link_state", "1 for the state that the link is in.", "state", state)
        changes = _all(LinkState, link.changes)
        yield _counters("presence_agent_link_changes", "Changes of the link to a state.", "state", changes)
        failures = _all(Cause, link.failures)
        yield _counters("presence_agent_link_failures", "Connections that ended or failed.", "cause", failures)
        canary = _seconds(status.canary_ago)
        yield _gauge("presence_agent_canary_age_seconds", "Since the control plane's last sign of life.", canary)
        offset = _seconds(status.clock_offset)
        what = "What is to be added to this host's clock to get the control plane's."
        yield _gauge("presence_agent_clock_offset_seconds", what, offset)

    def _of_deliveries(self) -> Iterator[Metric]:
        journal, intake = self._parts.journal, self._intake
        ended = dict.fromkeys(FinalState, 0) | {FinalState.REFUSED: intake.unreadable}
        refused = dict.fromkeys((*CONTENT_REFUSALS, *POLICY_REFUSALS), 0) | {Reason.CONTENT_INVALID: intake.unreadable}
        for (state, reason), count in list(journal.tally.ends.items()):
            ended[state] += count
            if state is FinalState.REFUSED:
                refused[reason] += count
        yield _counters("presence_agent_deliveries", "Deliveries that ended, by how.", "state", ended)
        yield _counters("presence_agent_refusals", "Deliveries that were refused, by why.", "reason", refused)
        busy = _all(BUSY, intake.busy)
        yield _counters("presence_agent_busy", "Fires that were put off, by why.", "reason", busy)
        depth = {
            "waiting": len(journal.backlog),
            "held": journal.tally.held,
            "unreported": journal.tally.unreported,
        }
        yield _gauges("presence_agent_queued_deliveries", "Deliveries that are not done with.", "state", depth)
        what = "Age of the oldest delivery that is not done with."
        yield _gauge("presence_agent_oldest_delivery_age_seconds", what, self.oldest)
        circuits = _all(OPEN, {})
        for circuit in journal.backlog.circuits().values():
            circuits[circuit.state] += 1
        yield _gauges("presence_agent_circuits", "Hosts that are left alone for a while.", "state", circuits)
        yield _gauge("presence_agent_paused", "1 while no attempt starts by local wish.", journal.is_paused)

    def _of_attempts(self) -> Iterator[Metric]:
        attempts, in_flight = self._attempts, self._parts.journal.backlog.in_flight
        yield _gauge("presence_agent_attempts_in_flight", "Attempts under way.", in_flight)
        outcomes = _all(OUTCOMES, attempts.outcomes)
        yield _counters("presence_agent_attempts", "Attempts that ended, by what they gave.", "outcome", outcomes)
        whole = HistogramMetricFamily("presence_agent_attempt_seconds", "Whole attempts.")
        _add(whole, [], attempts.seconds)
        yield whole
        what = "Phases of attempts that were entered."
        phases = HistogramMetricFamily("presence_agent_attempt_phase_seconds", what, labels=["phase"])
        for phase, histogram in attempts.phases.items():
            _add(phases, [phase], histogram)
        yield phases

    def _of_the_journal(self) -> Iterator[Metric]:
        journal = self._parts.journal
        yield _gauge("presence_agent_journal_writable", "1 if the last commit succeeded.", journal.is_writable)
        yield _gauge("presence_agent_journal_size_bytes", "Size of the journal's files.", size_of(self._parts.path))
        remembered = journal.tally.rows
        yield _gauge("presence_agent_journal_deliveries", "Deliveries whose ids are remembered.", remembered)
        commits = HistogramMetricFamily("presence_agent_journal_commit_seconds", "Commits that wrote something.")
        _add(commits, [], journal.commit_seconds)
        yield commits


def _all(names: Iterable[str], counted: Mapping[Any, int]) -> dict[str, int]:
    """Zero where nothing was counted: a series that appears later hides its first increase."""
    return {name: counted.get(name, 0) for name in names}


def _gauge(name: str, what: str, value: float | None) -> Metric:
    return GaugeMetricFamily(name, what, value)


def _gauges(name: str, what: str, label: str, values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(name, what, labels=[label])
    for word, value in values.items():
        family.add_metric([word], value)
    return family


def _counters(name: str, what: str, label: str, values: Mapping[Any, float]) -> Metric:
    family = CounterMetricFamily(name, what, labels=[label])
    for word, value in values.items():
        family.add_metric([word], value)
    return family


def _add(family: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    family.add_metric(labels, histogram.buckets, histogram.sum)


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
