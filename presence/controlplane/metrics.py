"""What is counted and measured for operators: Prometheus, in a registry of its own.

Labels are bounded: routes are templates, states and types are enums. Nothing here names an organization, a user, a
presence or a webhook.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.openmetrics import exposition as openmetrics

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SLOW = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15, 60, 300, 3600, 21_600, 86_400)

OTHER: Final = "(other)"
"""In place of a route that there is not, and of a method that is not of HTTP."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits at this moment. `deliveries`: by state. `oldest_age`: of the queued ones, in seconds."""

    deliveries: dict[str, int]
    oldest_age: float


class Metrics:
    """One set for each control plane: two may run in one process, as they do in tests."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "presence_cp_requests", "Answered requests.", ["method", "route", "status"], registry=registry
        )
        self._request_seconds = Histogram(
            "presence_cp_request_seconds", "From request to answer.", ["route"], buckets=_FAST, registry=registry
        )
        self._events = Counter("presence_cp_events_accepted", "Events stored.", ["type"], registry=registry)
        self._changes = Counter(
            "presence_cp_delivery_changes", "Deliveries that changed to a state.", ["state"], registry=registry
        )
        self._dispatch_seconds = Histogram(
            "presence_cp_dispatch_seconds", "From an event to its fire.", buckets=_SLOW, registry=registry
        )
        self._transaction_seconds = Histogram(
            "presence_cp_transaction_seconds",
            "Database transactions, with the wait for their turn.",
            ["kind"],
            buckets=_FAST,
            registry=registry,
        )
        self._agents = Gauge("presence_cp_connected_agents", "Agents connected to this process.", registry=registry)
        self._waiting = Gauge("presence_cp_deliveries", "Deliveries that have not ended.", ["state"], registry=registry)
        self._oldest = Gauge(
            "presence_cp_oldest_queued_seconds", "Age of the oldest queued delivery.", registry=registry
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def event_accepted(self, kind: str) -> None:
        self._events.labels(kind).inc()

    def changed(self, state: str, count: int = 1) -> None:
        """So many deliveries changed to that state, or began in it."""
        self._changes.labels(state).inc(count)

    def dispatched(self, seconds: float) -> None:
        """A delivery was given to an agent, so long after its event."""
        self._dispatch_seconds.observe(max(0.0, seconds))

    @contextmanager
    def transaction(self, kind: str) -> Iterator[None]:
        """Measures one `read` or `write`."""
        begun = perf_counter()
        try:
            yield
        finally:
            self._transaction_seconds.labels(kind).observe(perf_counter() - begun)

    def page(self, agents: int, backlog: Backlog, accept: str) -> tuple[str, bytes]:
        """Content type and text for a scraper that accepts that."""
        self._agents.set(agents)
        for state, count in backlog.deliveries.items():
            self._waiting.labels(state).set(count)
        self._oldest.set(backlog.oldest_age)
        # prometheus_client's own choice fails where the version is none.
        if "application/openmetrics-text" in accept:
            text = openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call]
            return openmetrics.CONTENT_TYPE_LATEST, text
        return CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self._registry)
