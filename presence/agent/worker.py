"""The stage that makes attempts: claims what is due, as many at once as allowed, and settles each."""

import asyncio
from collections.abc import Callable

from presence.agent.deliver import Deliver
from presence.agent.journal import Claimed, Journal, LogEntry
from presence.domain.outcome import Attempt, Refused, Response, TransportFailure
from presence.domain.retry import RetryAfter, Settle, Step
from presence.domain.template import TemplateError, parse_template
from presence.logs import get_logger

log = get_logger(__name__)

IDLE = 60.0
"""Seconds after which the journal is looked at even if nothing woke the stage."""


Observer = Callable[[Claimed, Attempt, Step], None]
"""Called after each attempt, once its outcome is in the journal."""


class Worker:
    """Attempts what is due. `drain()` stops claiming; `run` returns when the attempts under way are settled."""

    def __init__(self, journal: Journal, deliver: Deliver, max_in_flight: int, observe: Observer) -> None:
        self._journal = journal
        self._deliver = deliver
        self._max_in_flight = max_in_flight
        self._observe = observe
        self._draining = False
        self._in_flight = 0

    def drain(self) -> None:
        self._draining = True
        self._journal.pending.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as attempts:
            while not self._draining:
                self._journal.pending.clear()
                free = self._max_in_flight - self._in_flight
                wait = IDLE
                if free:
                    claim = await self._journal.claim(free)
                    for claimed in claim.deliveries:
                        self._in_flight += 1
                        attempts.create_task(self._attempt(claimed), name=f"attempt-{claimed.id}")
                    if claim.next_due is not None:
                        wait = min(IDLE, claim.next_due / 1000)
                    if len(claim.deliveries) == free:
                        wait = IDLE
                await self._sleep(wait)

    async def _sleep(self, seconds: float) -> None:
        """Until something is pending, an attempt ends, or the time has passed."""
        try:
            async with asyncio.timeout(seconds):
                await self._journal.pending.wait()
        except TimeoutError:
            pass

    async def _attempt(self, claimed: Claimed) -> None:
        attempt, step = await self._deliver.attempt(claimed, self._journal.now())
        entry = as_entry(attempt)
        match step:
            case Settle(state, reason):
                await self._journal.settle(claimed, entry, state, reason)
            case RetryAfter(delay):
                await self._journal.retry(claimed, entry, delay)
        self._in_flight -= 1
        self._journal.pending.set()
        self._observe(claimed, attempt, step)


class AttemptLog:
    """Writes the canonical line of each attempt. A URI is shown as its target: its values may be confidential."""

    def __init__(self) -> None:
        self._greeted: set[str] = set()

    def __call__(self, claimed: Claimed, attempt: Attempt, step: Step) -> None:
        target = _target(claimed.uri)
        line = log.debug
        if not (isinstance(attempt.outcome, Response) and 200 <= attempt.outcome.status <= 299):
            line = log.warning
        elif target not in self._greeted and len(self._greeted) < 1000:
            self._greeted.add(target)
            line = log.info
        line(
            "attempt",
            delivery=claimed.id,
            target=target,
            attempt=attempt.number,
            outcome=attempt.describe(),
            took_ms=attempt.took,
            step=step.state.value if isinstance(step, Settle) else "retry",
            retry_in_ms=step.delay if isinstance(step, RetryAfter) else None,
        )


def as_entry(attempt: Attempt) -> LogEntry:
    """The attempt as the journal keeps it: numbers and words from enumerations."""
    entry: LogEntry = {"number": attempt.number, "at": attempt.at, "took": attempt.took}
    match attempt.outcome:
        case Response(status):
            entry["status"] = status
        case TransportFailure(phase, fault):
            entry |= {"phase": phase.value, "fault": fault.value}
        case Refused(reason):
            entry |= {"phase": "policy", "reason": reason.value}
    if attempt.address is not None:
        entry["address"] = attempt.address
    return entry


def _target(uri: str) -> str:
    try:
        template = parse_template(uri)
    except TemplateError:
        return "invalid"
    return f"{template.scheme}://{template.host}:{template.port}"
