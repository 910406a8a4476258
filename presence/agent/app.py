"""The daemon: opens the resources, starts the stages, drains. The composition root; it holds no rule of its own."""

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from presence import __version__
from presence.agent.backlog import Backlog
from presence.agent.deliver import Deliver
from presence.agent.ends import first
from presence.agent.health import notify
from presence.agent.http import Http
from presence.agent.identity import Identity, Listener
from presence.agent.intake import Intake
from presence.agent.journal import Journal, open_journal
from presence.agent.keys import STORED, Keys
from presence.agent.ledger import Bounds
from presence.agent.link import Link
from presence.agent.outage import Unwritable
from presence.agent.reporter import Reporter
from presence.agent.seen import SEEN, Seen
from presence.agent.settings import AgentSettings
from presence.agent.targets import Targets
from presence.agent.worker import AttemptLog, Worker, host_limits
from presence.clock import SystemClock
from presence.domain.egress import EgressPolicy
from presence.errors import PresenceError
from presence.logs import get_logger

log = get_logger(__name__)

CREDIT = 512
"""Fires that the control plane may send ahead of our answers: enough to fill a commit, little memory."""
TIDY_EVERY = 60.0
"""Seconds between two looks at what is old in the journal. What was erased is in no file any more by then."""


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's event loop where the extra `fast` is installed, else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def run(settings: AgentSettings) -> None:
    """Runs the daemon until SIGTERM or SIGINT. Raises PresenceError where it cannot start."""
    settings.control_plane.require()
    # What was imported lives as long as the process: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_run(settings))
    except ExceptionGroup as group:
        # A stage that cannot go on ends the daemon; the supervisor starts it anew, and the journal has everything.
        error = first(group)
        if isinstance(error, PresenceError):
            raise error from group
        raise


async def _run(settings: AgentSettings) -> None:
    stop, hurry = _stop_events()
    clock = SystemClock()
    path, retry, policy = settings.journal.location(), settings.retry.policy(), settings.egress.policy()
    limits = settings.journal
    targets = Targets(settings)
    backlog = Backlog(settings.delivery.max_in_flight, host_limits(targets), settings.delivery.rate)
    async with (
        open_journal(path, clock, Bounds(limits.max_deliveries, limits.max_remembered, retry), backlog) as journal,
        Http(policy, clock, settings.delivery.max_response_bytes, settings.delivery.max_header_bytes) as http,
    ):
        deliver = Deliver(http, targets, retry, clock)
        seen = Seen(path.with_name(SEEN), AttemptLog()) if policy.mode == "observe" else None
        worker = Worker(journal, deliver, settings.delivery.max_in_flight, seen or AttemptLog())
        identity = Identity(journal.instance, str(uuid4()), CREDIT, journal.next_epoch, journal.meet, journal.held)
        keys = Keys(settings.control_plane, path.with_name(STORED))
        listener = Listener(ready=journal.settled.set, reconciling=worker.hold_back)
        link = Link(settings.control_plane, identity, keys, clock, listener)
        intake = Intake(link, journal, retry.deadline)
        reporter = Reporter(link, journal)
        held, _ = await journal.held()
        log.info("started", version=__version__, instance=journal.instance, journal=str(path), held=len(held))
        _warn_of_policy(policy)
        for secret in settings.control_plane.secret_files():
            _warn_of_readers(secret)
        notify("READY=1", "STATUS=running")
        async with asyncio.TaskGroup() as stages:
            # The link is the first to run: it holds the worker back until it was heard what is no longer the agent's.
            linking = stages.create_task(link.run(), name="link")
            working = stages.create_task(worker.run(), name="worker")
            others = [
                linking,
                stages.create_task(intake.run(), name="intake"),
                stages.create_task(reporter.run(), name="reporter"),
                stages.create_task(_tidy(journal, int(settings.journal.retention * 1000)), name="tidy"),
                *([stages.create_task(seen.run(), name="seen")] if seen else []),
            ]
            await stop.wait()
            notify("STOPPING=1", "STATUS=draining")
            log.info("draining", grace_s=settings.delivery.grace)
            intake.drain()
            link.drain()
            worker.drain()
            finished = await _within(settings.delivery.grace, hurry, _finish(working, reporter))
            for stage in (working, *others):
                stage.cancel()
    log.info("stopped", finished=finished)


async def _finish(working: asyncio.Task[None], reporter: Reporter) -> None:
    await asyncio.wait([working])
    await reporter.finish()


async def _within(seconds: float, hurry: asyncio.Event, finish: Coroutine[Any, Any, None]) -> bool:
    """Whether the work was finished before the grace period ended or someone asked to hurry."""
    finishing = asyncio.create_task(finish, name="finish")
    hurrying = asyncio.create_task(hurry.wait(), name="hurry")
    try:
        await asyncio.wait([finishing, hurrying], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return finishing.done()
    finally:
        for task in (finishing, hurrying):
            task.cancel()
        await asyncio.gather(finishing, hurrying, return_exceptions=True)


async def _tidy(journal: Journal, retention: int) -> None:
    """Ends what became too old while it waited, and forgets what is old and done."""
    while True:
        with suppress(Unwritable):
            await journal.tidy(retention)
        await asyncio.sleep(TIDY_EVERY)


def _warn_of_policy(policy: EgressPolicy) -> None:
    for network in policy.lifted:
        log.warning("egress.dangerously_lift opens what is never reached otherwise", network=str(network))
    if policy.mode == "observe":
        log.warning("egress.mode is observe: what only the default would refuse is sent", default=policy.default)


def _warn_of_readers(secret: Path) -> None:
    if secret.exists() and secret.stat().st_mode & 0o077:
        log.warning("a file with a secret can be read by others; give it mode 0600", file=str(secret))


def _stop_events() -> tuple[asyncio.Event, asyncio.Event]:
    """The first SIGTERM or SIGINT sets the first event, the next one the second."""
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stop, hurry
