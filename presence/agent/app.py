"""The daemon: opens the resources, starts the stages, drains. The composition root; it holds no rule of its own."""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from presence import __version__
from presence.agent import listeners
from presence.agent.attempts import AttemptCounts, AttemptLog
from presence.agent.backlog import Backlog
from presence.agent.control import commands, control_socket, known_peers_only
from presence.agent.control_path import settings_file
from presence.agent.deliver import Deliver
from presence.agent.ends import first
from presence.agent.health import Serving, pages
from presence.agent.http import Http
from presence.agent.identity import Identity, Listener
from presence.agent.intake import Intake
from presence.agent.journal import Journal, open_journal
from presence.agent.keys import STORED, Keys
from presence.agent.ledger import Bounds
from presence.agent.link import Link
from presence.agent.metrics import Metrics
from presence.agent.outage import Unwritable
from presence.agent.pause import Pause
from presence.agent.pulse import Pulse
from presence.agent.reload import Reload, Stages, warn_of
from presence.agent.reporter import Reporter
from presence.agent.seen import SEEN, Seen
from presence.agent.settings import AgentSettings, load_settings
from presence.agent.status import Parts, Status, describe
from presence.agent.targets import Targets
from presence.agent.worker import Worker, host_limits
from presence.clock import SystemClock
from presence.errors import PresenceError
from presence.logs import get_logger
from presence.protocol.messages import Paused
from presence.supervisor import Watchdog, notify, watchdog_seconds
from presence.tracing import UNTRACED, Spans, traced

log = get_logger(__name__)

CREDIT = 512
"""Fires that the control plane may send ahead of our answers: enough to fill a commit, little memory."""
TIDY_EVERY, TIDY_SECONDS = 60.0, 300.0
"""Seconds between two looks at what is old in the journal, and what one look may take. What was erased is in no file
any more by then."""
END_SECONDS = 6.0
"""Within so many of its cancellation a stage has ended: the link closes its connection politely."""


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's event loop where the extra `fast` is installed, else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def run(settings: AgentSettings, config: Path | None) -> None:
    """Runs the daemon until SIGTERM or SIGINT; SIGHUP reads the settings again. Raises PresenceError at its start.

    `config`: the file that was asked for, as for `load_settings`.
    """
    settings.control_plane.require()
    # What was imported lives as long as the process: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_run(settings, config))
    except ExceptionGroup as group:
        # A stage that cannot go on ends the daemon; the supervisor starts it anew, and the journal has everything.
        error = first(group)
        if isinstance(error, PresenceError):
            raise error from group
        raise


async def _run(settings: AgentSettings, config: Path | None) -> None:
    signals = Signals()
    path, limits = settings.journal.location(), settings.journal
    policy, targets = settings.egress.policy(), Targets(settings)
    clock = SystemClock()
    bounds = Bounds(limits.max_deliveries, limits.max_remembered, settings.retry.policy())
    backlog = Backlog(settings.delivery.max_in_flight, host_limits(targets), settings.delivery.rate)
    async with AsyncExitStack() as resources:
        journal = await resources.enter_async_context(open_journal(path, clock, bounds, backlog))
        control = resources.enter_context(control_socket(settings.control_socket()))
        sockets = listeners.listen("health.listen", settings.health.listen)
        for listening in sockets:
            resources.callback(listening.close)
        own = replace(policy, own=listeners.reachable_at(sockets))
        reading = settings.delivery.max_response_bytes, settings.delivery.max_header_bytes
        http = await resources.enter_async_context(Http(own, clock, *reading))
        spans = await resources.enter_async_context(traced(settings.tracing, "presence-agent"))
        agent = Agent(settings, config, journal, http, targets, sockets, spans)
        await resources.enter_async_context(Serving(sockets, pages(agent.status, agent.metrics)))
        asked = [*pages(agent.status, agent.metrics), *commands(journal, agent.pause)]
        await resources.enter_async_context(Serving([control], asked, [known_peers_only]))
        held, _ = await journal.held()
        log.info(
            "started", version=__version__, instance=journal.instance, journal=str(path), held=len(held),
            health=[listeners.place_of(listening) for listening in sockets], control=str(settings.control_socket()),
        )  # fmt: skip
        warn_of(policy)
        for secret in settings.control_plane.secret_files():
            _warn_of_readers(secret)
        notify("READY=1", "STATUS=running")
        finished = await agent.run(signals)
    log.info("stopped", finished=finished)


class Agent:
    """The stages, put together around an open journal; `run` runs them until a signal has ended them."""

    def __init__(
        self,
        settings: AgentSettings,
        config: Path | None,
        journal: Journal,
        http: Http,
        targets: Targets,
        sockets: Sequence[socket.socket],
        spans: Spans,
    ) -> None:
        clock, run = SystemClock(), str(uuid4())
        self._path = settings.journal.location()
        self._journal = journal
        self._attempts = AttemptCounts(AttemptLog(clock))
        self._seen: Seen | None = None
        self._sees = asyncio.Event()
        retry = settings.retry.policy()
        deliver = Deliver(http, targets, retry, clock, spans=None if spans is UNTRACED else spans)
        self._worker = Worker(journal, deliver, settings.delivery.max_in_flight, self._attempts)
        self.pause = Pause(journal, settings.delivery.drain_rate, lambda paused: self._say(paused))
        identity = Identity(
            journal.instance, run, CREDIT, journal.next_epoch, journal.meet, journal.held, self.pause.message
        )
        keys = Keys(settings.control_plane, self._path.with_name(STORED))
        listener = Listener(journal.settled.set, self._worker.hold_back, lambda: self._tell_state())
        self._link = Link(settings.control_plane, identity, keys, clock, listener)
        self._intake = Intake(self._link, journal, retry.deadline)
        self._reporter = Reporter(self._link, journal)
        own = partial(listeners.reachable_at, sockets)
        stages = Stages(http, self._worker, self._intake, self.pause, own, self._observe)
        self._reload = Reload(settings, partial(load_settings, config), stages)
        self._tidying = Pulse("tidy")
        pulses = (
            self._link.pulse, self._intake.pulse, *self._worker.pulses, *self._reporter.pulses,
            self.pause.pulse, self._reload.pulse, self._tidying,
        )  # fmt: skip
        places = tuple(listeners.place_of(listening) for listening in sockets)
        parts = Parts(
            journal, self._path, self._link, self._worker, self.pause, pulses, self._reload, settings_file(config), run,
            places,
        )  # fmt: skip
        self.status = Status(parts)
        self.metrics = Metrics(parts, self._intake, self._attempts)
        self._observe(settings.egress.mode)

    async def run(self, signals: "Signals") -> bool:
        """Whether everything that was under way was finished and reported before it ended."""
        signals.on_reload(self._reload.wanted.set)
        watchdog = watchdog_seconds(os.environ)
        async with asyncio.TaskGroup() as stages:
            # The link is the first to run: it holds the worker back until it was heard what is no longer the agent's.
            linking = stages.create_task(self._link.run(), name="link")
            working = stages.create_task(self._worker.run(), name="worker")
            running = [
                linking,
                working,
                stages.create_task(self._intake.run(), name="intake"),
                stages.create_task(self._reporter.run(), name="reporter"),
                stages.create_task(self.pause.run(), name="pause"),
                stages.create_task(self._reload.run(), name="reload"),
                stages.create_task(self._tidy(), name="tidy"),
                stages.create_task(self._see(), name="seen"),
                stages.create_task(self.status.run(), name="status"),
            ]
            if watchdog is not None:
                feeding = Watchdog(watchdog, self.status.hanging, self._tell_state)
                running.append(stages.create_task(feeding.run(), name="watchdog"))
            await signals.stop.wait()
            finished = await self._drain(signals.hurry, working)
            await _end(running)
        return finished

    async def _drain(self, hurry: asyncio.Event, working: asyncio.Task[None]) -> bool:
        grace = self._reload.settings.delivery.grace
        patience = int((grace + 10) * 1_000_000)
        notify("STOPPING=1", "STATUS=draining", f"EXTEND_TIMEOUT_USEC={patience}")
        log.info("draining", grace_s=grace)
        self._intake.drain()
        self._link.drain()
        self._worker.drain()
        return await _within(grace, hurry, _finish(working, self._reporter))

    def _say(self, paused: Paused) -> None:
        """What the control plane should know; what it cannot be told now, the next session begins with."""
        self._link.say(paused, self._link.sessions)
        self._tell_state()

    def _tell_state(self) -> None:
        paused = ", paused" if self._journal.is_paused else ""
        notify(f"STATUS={describe(self._link.status())}{paused}")

    def _observe(self, mode: str) -> None:
        """What was reached is written down while the policy only observes."""
        if mode == "observe" and self._seen is None:
            self._seen = Seen(self._path.with_name(SEEN), self._attempts)
            self._sees.set()
        self._worker.observe = self._seen if mode == "observe" and self._seen else self._attempts

    async def _see(self) -> None:
        await self._sees.wait()
        assert self._seen is not None
        await self._seen.run()

    async def _tidy(self) -> None:
        """Ends what became too old while it waited, and forgets what is old and done."""
        while True:
            self._tidying.promise(TIDY_SECONDS)
            with suppress(Unwritable):
                await self._journal.tidy(int(self._reload.settings.journal.retention * 1000))
            self._tidying.promise(TIDY_EVERY + TIDY_SECONDS)
            await asyncio.sleep(TIDY_EVERY)


async def _finish(working: asyncio.Task[None], reporter: Reporter) -> None:
    await asyncio.wait([working])
    await reporter.finish()


async def _end(running: Iterable[asyncio.Task[None]]) -> None:
    """Cancels them. One that goes on is told a second time: what kept it from hearing may be over."""
    for task in running:
        task.cancel()
    _, deaf = await asyncio.wait(running, timeout=END_SECONDS)
    for task in deaf:
        log.error("a stage has not ended in time; it is cancelled once more", stage=task.get_name())
        task.cancel()


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


def _warn_of_readers(secret: Path) -> None:
    if secret.exists() and secret.stat().st_mode & 0o077:
        log.warning("a file with a secret can be read by others; give it mode 0600", file=str(secret))


class Signals:
    """SIGTERM and SIGINT: the first sets `stop`, the next one `hurry`. SIGHUP is nothing until `on_reload`."""

    def __init__(self) -> None:
        self.stop, self.hurry = asyncio.Event(), asyncio.Event()
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._end)
        self.on_reload(lambda: None)

    def on_reload(self, reload: Callable[[], None]) -> None:
        self._loop.add_signal_handler(signal.SIGHUP, reload)

    def _end(self) -> None:
        (self.hurry if self.stop.is_set() else self.stop).set()
