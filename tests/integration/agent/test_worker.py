"""The worker on a real journal and real targets: what it lets start, and when not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from presence.agent.backlog import Backlog, HostLimits
from presence.agent.deliver import Deliver
from presence.agent.entries import Claimed, host_of
from presence.agent.http import Http
from presence.agent.journal import Journal, open_journal
from presence.agent.ledger import Bounds
from presence.agent.settings import AgentSettings
from presence.agent.targets import Targets
from presence.agent.worker import Worker
from presence.clock import SystemClock
from presence.domain.circuit import FAILURES
from presence.domain.outcome import Attempt
from presence.domain.retry import Step
from tests.support.control_plane import DAY, fire
from tests.support.target import Answer, Target, always, reset, silence, status

SETTINGS = AgentSettings.model_validate(
    {"egress": {"allow": ["127.0.0.0/8"]}, "retry": {"initial": 0.01, "maximum": 0.02, "max_attempts": 50}}
)


class Attempts:
    """What the worker made, as it is told to its observer."""

    def __init__(self) -> None:
        self.made: list[Attempt] = []
        self._more = asyncio.Event()

    def __call__(self, claimed: Claimed, attempt: Attempt, step: Step) -> None:
        self.made.append(attempt)
        self._more.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.made) < count:
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def working(directory: Path) -> AsyncIterator[tuple[Journal, Worker, Attempts]]:
    clock, retry, attempts = SystemClock(), SETTINGS.retry.policy(), Attempts()
    backlog = Backlog(8, lambda _: HostLimits(8, None))
    async with (
        open_journal(directory / "journal.db", clock, Bounds(1000, 1000, retry), backlog) as journal,
        Http(SETTINGS.egress.policy(), clock, 1000, 32_768) as http,
    ):
        worker = Worker(journal, Deliver(http, Targets(SETTINGS), retry, clock), 8, attempts)
        task = asyncio.create_task(worker.run())
        try:
            yield journal, worker, attempts
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def nothing_arrives(target: Target, seconds: float = 0.2) -> None:
    before = len(target.requests)
    with pytest.raises(TimeoutError):
        await target.received(before + 1, seconds)


async def test_nothing_starts_while_it_is_held_back(tmp_path: Path) -> None:
    async with Target() as target, working(tmp_path) as (journal, worker, attempts):
        worker.hold_back(True)
        await journal.accept([fire(target.url()) for _ in range(3)], DAY)
        await nothing_arrives(target)
        held, unattempted = await journal.held()
        assert set(held) == unattempted
        worker.hold_back(False)
        await attempts.until(3)


async def test_what_is_under_way_finishes_while_it_is_held_back(tmp_path: Path) -> None:
    async with Target(silence) as target, working(tmp_path) as (journal, worker, attempts):
        await journal.accept([fire(target.url())], DAY)
        await target.received(1)
        worker.hold_back(True)
        target.answer = status(204)
        for writer in list(target._writers):
            writer.write(b"HTTP/1.1 503 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            writer.close()
        await attempts.until(1)
        await nothing_arrives(target)  # its retry waits
        worker.hold_back(False)
        await attempts.until(2)


async def test_what_is_cancelled_while_it_is_held_back_never_starts(tmp_path: Path) -> None:
    async with Target() as target, working(tmp_path) as (journal, worker, attempts):
        worker.hold_back(True)
        gone, wanted = fire(target.url("/gone")), fire(target.url("/wanted"))
        await journal.accept([gone, wanted], DAY)
        await journal.cancel([gone.id])
        worker.hold_back(False)
        await attempts.until(1)
        assert [request.split()[1] for request in await target.received(1)] == [b"/wanted"]


async def test_it_stops_while_it_is_held_back(tmp_path: Path) -> None:
    async with working(tmp_path) as (journal, worker, _):
        worker.hold_back(True)
        worker.drain()
        await journal.accept([fire("http://127.0.0.1:1/")], DAY)
        async with asyncio.timeout(5):
            await worker.run()


async def test_nothing_starts_that_could_not_be_written_down_and_all_of_it_later(tmp_path: Path) -> None:
    async with Target() as target, working(tmp_path) as (journal, worker, attempts):
        worker.hold_back(True)
        await journal.accept([fire(target.url()) for _ in range(20)], DAY)
        await journal._commits.alone(lambda db: db.execute("PRAGMA query_only = ON"))
        worker.hold_back(False)
        await nothing_arrives(target)
        assert journal.pause > 0
        await journal._commits.alone(lambda db: db.execute("PRAGMA query_only = OFF"))
        await journal.accept([], DAY)  # a canary finds out first
        await attempts.until(20)
        assert len(target.requests) == 20


@pytest.mark.parametrize(
    ("answer", "is_up"),
    [
        (always(b"this is no HTTP\r\n\r\n"), True),
        (always(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 70_000 + b"\r\n\r\n"), True),
        (status(503), True),
        (reset, False),
    ],
    ids=["malformed", "long headers", "503", "reset"],
)
async def test_only_a_host_that_says_nothing_opens_its_circuit(tmp_path: Path, answer: Answer, is_up: bool) -> None:
    async with Target(answer) as target, working(tmp_path) as (journal, _, attempts):
        await journal.accept([fire(target.url())], DAY)
        await attempts.until(FAILURES)
        assert (host_of(target.url()) in journal.backlog.circuits()) is not is_up
