"""The stage that makes attempts: takes what may start from the backlog, claims it in the journal, settles each."""

import asyncio
from collections.abc import Callable
from typing import assert_never

from presence.agent.attempts import Observer
from presence.agent.backlog import HostLimits
from presence.agent.deliver import Deliver
from presence.agent.entries import Claimed, as_entry, host_of, target_of
from presence.agent.journal import Journal
from presence.agent.outage import Unwritable
from presence.agent.pulse import REST, Pulse
from presence.agent.targets import Targets
from presence.domain.circuit import Circuit, CircuitState
from presence.domain.delivery import FinalState
from presence.domain.outcome import CERTIFICATE_FAULTS, Fault, Outcome, Refused, Response, TransportFailure
from presence.domain.retry import Hold, RetryAfter, Settle
from presence.logs import get_logger

log = get_logger(__name__)

TURN_SECONDS = 30.0
"""Within so many what may start is claimed, and what an attempt gave is settled, unless the disk takes nothing."""
ANSWERED = CERTIFICATE_FAULTS | {Fault.MALFORMED_RESPONSE, Fault.HEADERS_TOO_LARGE}
"""Faults that a host shows which is up: it says something, though nothing useful."""


class Worker:
    """Attempts what is due. `drain()` stops claiming; `run` returns when the attempts under way are settled.

    `hold_back(True)` lets no attempt start until `hold_back(False)`, nor does a pause that the journal knows of; those
    under way, or claimed already, finish. `deliver` and `observe` may be replaced: the next attempt takes the new one.
    """

    def __init__(self, journal: Journal, deliver: Deliver, max_in_flight: int, observe: Observer) -> None:
        self._journal = journal
        self._backlog = journal.backlog
        self.deliver = deliver
        self.observe = observe
        self.last_success: tuple[int, str] | None = None
        """When the last delivery succeeded, in the journal's time, and to which target."""
        self._max_in_flight = max_in_flight
        self.pulses = [Pulse("worker"), *(Pulse(f"worker-{number}") for number in range(max_in_flight))]
        self._draining = False
        self._held_back = False
        self._claimed: asyncio.Queue[Claimed | None] = asyncio.Queue()

    def drain(self) -> None:
        self._draining = True
        self._journal.pending.set()

    def hold_back(self, held_back: bool) -> None:
        self._held_back = held_back
        self._journal.pending.set()

    def limit(self, limits: Callable[[str], HostLimits], rate: float | None) -> None:
        """Other bounds of the hosts, and another rate over all, from now on."""
        self._backlog.limit(limits, rate)
        self._journal.pending.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as lanes:
            pulse, *others = self.pulses
            for lane in others:
                lanes.create_task(self._attempt_all(lane), name=lane.name)
            while not self._draining:
                pulse.promise(REST + TURN_SECONDS)
                self._journal.pending.clear()
                waits = self._held_back or self._journal.is_paused or self._journal.pause
                taken = [] if waits else self._backlog.take(self._journal.now())
                if taken:
                    await self._claim(taken)
                else:
                    await self._sleep()
            pulse.rest()
            for _ in others:
                self._claimed.put_nowait(None)

    async def _claim(self, taken: list[str]) -> None:
        """Hands to the lanes what the journal lets go; the rest was cancelled, is too old or has ended already.

        Where the journal cannot be written nothing starts: an attempt that nobody knows of could be made for ever.
        """
        try:
            claimed = await self._journal.claim(taken)
        except Unwritable:
            for id in taken:
                self._backlog.put_back(id, self._journal.now())
            return
        for delivery in claimed:
            self._claimed.put_nowait(delivery)
        if len(claimed) < len(taken):
            for gone in set(taken).difference(delivery.id for delivery in claimed):
                self._backlog.finished(gone, self._journal.now(), None)

    async def _sleep(self) -> None:
        """Until something is pending, an attempt ends, or the next one is due and the journal can be written."""
        held_back = self._held_back or self._journal.is_paused
        due = None if held_back else self._backlog.next_due(self._journal.now())
        try:
            async with asyncio.timeout(REST if due is None else min(REST, max(due / 1000, self._journal.pause))):
                await self._journal.pending.wait()
        except TimeoutError:
            pass

    async def _attempt_all(self, pulse: Pulse) -> None:
        while (claimed := await self._claimed.get()) is not None:
            pulse.promise(self.deliver.targets.longest + TURN_SECONDS)
            await self._attempt(claimed)
            pulse.rest()

    async def _attempt(self, claimed: Claimed) -> None:
        attempt, step = await self.deliver.attempt(claimed, self._journal.now())
        entry = as_entry(attempt)
        match step:
            case Settle(state, reason):
                await self._journal.settle(claimed, entry, state, reason)
            case RetryAfter(delay):
                await self._journal.retry(claimed, entry, delay)
            case Hold(reason):
                await self._journal.hold(claimed, entry, reason)
            case _:
                assert_never(step)
        circuit = self._backlog.finished(claimed.id, self._journal.now(), _reached(attempt.outcome))
        if circuit is not None:
            host = host_of(claimed.uri)
            _log_circuit(host, circuit, self._journal.now(), self._backlog.waiting(host))
        self._journal.pending.set()
        if isinstance(step, Settle) and step.state is FinalState.SUCCEEDED:
            self.last_success = self._journal.now(), target_of(claimed.uri)
        self.observe(claimed, attempt, step)


def host_limits(targets: Targets) -> Callable[[str], HostLimits]:
    """The bounds of a host, by the word that `host_of` has for it."""

    def limits(word: str) -> HostLimits:
        host, _, port = word.rpartition(":")
        options = targets.of(host, int(port or 0))
        return HostLimits(options.max_in_flight, options.rate)

    return limits


def _reached(outcome: Outcome) -> bool | None:
    """Whether the host answered, if only with nonsense; None where it was not asked."""
    match outcome:
        case Response():
            return True
        case TransportFailure(_, fault) if fault in ANSWERED:
            return True
        case TransportFailure(_, Fault.AGENT_EXHAUSTED | Fault.AGENT_DEFECT):
            return None
        case TransportFailure():
            return False
        case Refused():
            return None
    assert_never(outcome)


def _log_circuit(host: str, circuit: Circuit, now: int, waiting: int) -> None:
    if circuit.state is CircuitState.OPEN:
        probe = max(0, circuit.probe_at - now)
        log.warning("circuit", host=host, state=circuit.state, probe_in_ms=probe, waiting=waiting)
    elif circuit.state is CircuitState.CLOSED:
        log.info("circuit", host=host, state=circuit.state, waiting=waiting)
