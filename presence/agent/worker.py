"""The stage that makes attempts: claims what is due, as many at once as allowed, and settles each."""

import asyncio
from collections.abc import Callable
from functools import lru_cache

from presence.agent.deliver import Deliver
from presence.agent.journal import Claimed, Journal, LogEntry
from presence.domain.delivery import FinalState
from presence.domain.outcome import Attempt, Phase, Refused, Response, TransportFailure
from presence.domain.retry import RetryAfter, Settle, Step
from presence.domain.template import TemplateError, parse_template
from presence.logs import get_logger

log = get_logger(__name__)

IDLE = 60.0
"""Seconds after which the journal is looked at even if nothing woke the stage."""
GREETED = 1000
"""Targets whose first success is worth a line at level info."""


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
        self._claimed: asyncio.Queue[Claimed | None] = asyncio.Queue()

    def drain(self) -> None:
        self._draining = True
        self._journal.pending.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as lanes:
            for number in range(self._max_in_flight):
                lanes.create_task(self._attempt_all(), name=f"worker-{number}")
            while not self._draining:
                self._journal.pending.clear()
                await self._sleep(await self._claim())
            for _ in range(self._max_in_flight):
                self._claimed.put_nowait(None)

    async def _claim(self) -> float:
        """Claims what is due for the lanes that are free; how many seconds to wait unless something wakes us."""
        free = self._max_in_flight - self._in_flight
        if not free:
            return IDLE
        claim = await self._journal.claim(free)
        self._in_flight += len(claim.deliveries)
        for claimed in claim.deliveries:
            self._claimed.put_nowait(claimed)
        if claim.next_due is None or len(claim.deliveries) == free:
            return IDLE
        return min(IDLE, claim.next_due / 1000)

    async def _sleep(self, seconds: float) -> None:
        """Until something is pending, an attempt ends, or the time has passed."""
        try:
            async with asyncio.timeout(seconds):
                await self._journal.pending.wait()
        except TimeoutError:
            pass

    async def _attempt_all(self) -> None:
        while (claimed := await self._claimed.get()) is not None:
            await self._attempt(claimed)

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
        line = log.warning
        if isinstance(step, Settle) and step.state is FinalState.SUCCEEDED:
            line = log.debug if attempt.number == 1 else log.info
            if target not in self._greeted and len(self._greeted) < GREETED:
                self._greeted.add(target)
                line = log.info
        line(
            "attempt",
            delivery=claimed.id,
            target=target,
            attempt=attempt.number,
            outcome=attempt.describe(),
            took_ms=attempt.took,
            step=step.state if isinstance(step, Settle) else "retry",
            reason=step.reason if isinstance(step, Settle) else None,
            retry_in_ms=step.delay if isinstance(step, RetryAfter) else None,
        )


@lru_cache(maxsize=1024)
def _target(uri: str) -> str:
    try:
        template = parse_template(uri)
    except TemplateError:
        return "invalid"
    host = f"[{template.host}]" if ":" in template.host else template.host
    return f"{template.scheme}://{host}:{template.port}"


def as_entry(attempt: Attempt) -> LogEntry:
    """The attempt as the journal keeps it: numbers and words from enumerations."""
    entry: LogEntry = {"number": attempt.number, "at": attempt.at, "took": attempt.took}
    match attempt.outcome:
        case Response(status):
            entry["status"] = status
        case TransportFailure(phase, fault):
            entry |= {"phase": phase, "fault": fault}
        case Refused(reason):
            entry |= {"phase": Phase.POLICY, "reason": reason}
    if attempt.address is not None:
        entry["address"] = attempt.address
    return entry
