"""The stage that makes attempts, over a real journal and real sockets: bounds, steps, drain, and its circuits."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from presence.agent.backlog import Backlog, HostLimits
from presence.agent.deliver import Deliver
from presence.agent.entries import Claimed, Settled, Waiting
from presence.agent.journal import Journal, open_journal
from presence.agent.ledger import Bounds
from presence.agent.targets import Targets
from presence.agent.worker import Worker, host_limits
from presence.clock import SystemClock
from presence.domain.circuit import FAILURES
from presence.domain.delivery import FinalState
from presence.domain.outcome import Attempt
from presence.domain.retry import Hold, RetryPolicy, Step
from presence.protocol.messages import Fire
from tests.support.control_plane import DAY, fire
from tests.support.odd_hosts import closed_port
from tests.support.requests import Table, agent_settings, client
from tests.support.target import NO_CONTENT, Target, closing, hang_up, head, in_turn, silence, status

QUICK = RetryPolicy(max_attempts=3, initial=20, maximum=40, deadline=DAY)
SLOW = RetryPolicy(max_attempts=3, initial=900_000, maximum=900_000, deadline=DAY)


class Busy:
    """Answers nobody before `go`, and counts how many wait at once."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.now = self.most = 0

    async def __call__(self, _request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await self.go.wait()
        self.now -= 1
        writer.write(NO_CONTENT)


class Seen(list[tuple[Claimed, Attempt, Step]]):
    """What the worker's observer was told."""

    def __init__(self) -> None:
        self._more = asyncio.Event()

    def __call__(self, claimed: Claimed, attempt: Attempt, step: Step) -> None:
        self.append((claimed, attempt, step))
        self._more.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self) < count:
                self._more.clear()
                await self._more.wait()


class Running:
    """A worker at work, with its journal."""

    def __init__(self, journal: Journal, worker: Worker, seen: Seen) -> None:
        self.journal, self.worker, self.seen = journal, worker, seen

    async def accept(self, uri: str, count: int = 1, **fields: Any) -> list[Fire]:
        fires = [fire(uri, **fields) for _ in range(count)]
        assert await self.journal.accept(fires, DAY) == [None] * count
        return fires

    async def ended(self, count: int) -> list[Settled]:
        """What has ended, once it is so many."""
        async with asyncio.timeout(20):
            while len(found := await self.journal.unreported(0, 1000)) < count:
                self.journal.settled.clear()
                await self.journal.settled.wait()
        return found

    async def held(self, count: int = 1) -> list[Waiting]:
        async with asyncio.timeout(20):
            while len(found := await self.journal.waiting(0, 1000)) < count:
                self.journal.settled.clear()
                await self.journal.settled.wait()
        return found


@asynccontextmanager
async def running(
    directory: Path,
    *tables: Table,
    retry: RetryPolicy = QUICK,
    most: int = 8,
    rate: float | None = None,
    **delivery: Any,
) -> AsyncIterator[Running]:
    """A worker that is drained in the end."""
    seen = Seen()
    targets = Targets(agent_settings(*tables, **delivery))
    backlog = Backlog(most, host_limits(targets), rate)
    async with (
        open_journal(directory / "journal.db", SystemClock(), Bounds(1000, 10_000, retry), backlog) as journal,
        client(*tables, **delivery) as made,
        asyncio.TaskGroup() as stages,
    ):
        deliver = Deliver(made.http, targets, retry, SystemClock(), jitter=lambda: 0.0)
        worker = Worker(journal, deliver, most, seen)
        stages.create_task(worker.run())
        yield Running(journal, worker, seen)
        worker.drain()


class TestSteps:
    """What follows from an attempt is in the journal before anybody is told."""

    async def test_a_success_ends_it(self, tmp_path: Path) -> None:
        async with running(tmp_path) as agent, Target() as target:
            (accepted,) = await agent.accept(target.url())
            (settled,) = await agent.ended(1)
            assert (settled.id, settled.state, settled.attempts) == (accepted.id, FinalState.SUCCEEDED, 1)
            assert settled.log[0]["status"] == 204
            assert len(target.requests) == 1

    async def test_a_failure_is_tried_again_until_the_attempts_are_used_up(self, tmp_path: Path) -> None:
        async with running(tmp_path) as agent, Target(status(503)) as target:
            await agent.accept(target.url())
            (settled,) = await agent.ended(1)
            assert (settled.state, settled.reason, settled.attempts) == (FinalState.FAILED, "attempts_exhausted", 3)
            assert [entry["number"] for entry in settled.log] == [1, 2, 3]
            assert [attempt.number for _, attempt, _ in agent.seen] == [1, 2, 3]

    async def test_every_attempt_carries_the_same_id(self, tmp_path: Path) -> None:
        async with running(tmp_path) as agent, Target(status(503, 503, 204)) as target:
            (accepted,) = await agent.accept(target.url())
            await agent.ended(1)
            assert [head(request)[1]["webhook-id"] for request in target.requests] == [accepted.id] * 3

    async def test_what_nobody_knows_is_held_until_a_person_has_decided(self, tmp_path: Path) -> None:
        async with running(tmp_path) as agent, Target(in_turn(hang_up, status(204))) as target:
            (accepted,) = await agent.accept(target.url(), on_unknown="hold")
            (waiting,) = await agent.held()
            assert (waiting.id, waiting.reason, waiting.attempts) == (accepted.id, "unknown", 1)
            assert waiting.log[0]["unknown"]
            assert await agent.journal.release(accepted.id, 1)
            (settled,) = await agent.ended(1)
            assert (settled.state, settled.attempts) == (FinalState.SUCCEEDED, 2)
            assert isinstance(agent.seen[0][2], Hold)

    async def test_a_refusal_ends_it(self, tmp_path: Path) -> None:
        async with running(tmp_path) as agent:
            await agent.accept("http://169.254.169.254/")
            (settled,) = await agent.ended(1)
            assert (settled.state, settled.reason) == (FinalState.REFUSED, "denied_always")

    async def test_what_was_cancelled_before_its_turn_is_not_sent(self, tmp_path: Path) -> None:
        busy = Busy()
        async with running(tmp_path, per_host=1) as agent, Target(busy) as target:
            first, second, third = await agent.accept(target.url(), 3)
            await target.received(1)
            await agent.journal.cancel([second.id])
            busy.go.set()
            ended = {settled.id: settled.state for settled in await agent.ended(3)}
            assert ended[second.id] is FinalState.CANCELLED
            assert ended[first.id] is ended[third.id] is FinalState.SUCCEEDED
            assert len(target.requests) == 2

    async def test_what_became_too_old_before_its_turn_is_not_sent(self, tmp_path: Path) -> None:
        busy = Busy()
        async with running(tmp_path, per_host=1) as agent, Target(busy) as target:
            await agent.accept(target.url())
            await target.received(1)
            await agent.accept(target.url(), age=1000, max_age=1000)
            busy.go.set()
            ended = await agent.ended(2)
            assert {settled.state for settled in ended} == {FinalState.SUCCEEDED, FinalState.EXPIRED}
            assert len(target.requests) == 1

    async def test_what_is_in_the_journal_already_is_attempted(self, tmp_path: Path) -> None:
        async with Target(status(503)) as target:
            async with running(tmp_path, retry=SLOW) as agent:
                (accepted,) = await agent.accept(target.url())
                await target.received(1)
            async with running(tmp_path, retry=SLOW) as agent:
                assert [settled.id for settled in await agent.journal.unreported(0, 10)] == []
                assert agent.journal.backlog.next_due(agent.journal.now()) > 0  # type: ignore[operator]
                await agent.accept(target.url())
                await target.received(2)
        assert len({head(request)[1]["webhook-id"] for request in target.requests}) == 2
        assert head(target.requests[0])[1]["webhook-id"] == accepted.id


class TestBounds:
    """No more at once than is allowed, whatever waits."""

    @pytest.mark.parametrize(("most", "per_host", "expected"), [(3, 100, 3), (100, 2, 2)])
    async def test_overall_and_per_host(self, tmp_path: Path, most: int, per_host: int, expected: int) -> None:
        busy = Busy()
        async with running(tmp_path, most=most, per_host=per_host) as agent, Target(busy) as target:
            await agent.accept(target.url(), 20)
            await target.received(expected)
            busy.go.set()
            await agent.ended(20)
            assert busy.most == expected

    async def test_a_table_has_its_own_bound(self, tmp_path: Path) -> None:
        one, others = Busy(), Busy()
        table = {"host": "localhost", "max_in_flight": 1}
        async with (
            running(tmp_path, table, most=100, per_host=4) as agent,
            Target(one) as narrow,
            Target(others) as wide,
        ):
            await agent.accept(f"http://localhost:{narrow.port}/", 6)
            await agent.accept(wide.url(), 6)
            await narrow.received(1)
            await wide.received(4)
            one.go.set()
            others.go.set()
            await agent.ended(12)
            assert (one.most, others.most) == (1, 4)

    async def test_a_host_that_does_not_answer_does_not_hold_up_another(self, tmp_path: Path) -> None:
        async with running(tmp_path, most=8, per_host=4) as agent, Target(silence) as dead, Target() as alive:
            await agent.accept(dead.url(), 50)
            await dead.received(4)
            await agent.accept(alive.url(), 20)
            assert {settled.state for settled in await agent.ended(20)} == {FinalState.SUCCEEDED}
            assert len(dead.requests) == 4
            dead._server.close()
            for writer in list(dead._writers):
                writer.transport.abort()

    async def test_retries_leave_room_for_first_attempts(self, tmp_path: Path) -> None:
        busy = Busy()
        async with running(tmp_path, most=4, per_host=100) as agent, Target(status(503)) as target:
            await agent.accept(target.url(), 8)
            await target.received(8)
            target.answer = busy
            await target.received(8 + 3)
            async with Target() as other:
                await agent.accept(other.url())
                await other.received(1)
            busy.go.set()
            await agent.ended(9)

    async def test_the_rate_of_a_target_is_kept(self, tmp_path: Path) -> None:
        table = {"host": "127.0.0.1", "rate": 20}
        async with running(tmp_path, table, most=100, per_host=100) as agent, Target() as target:
            began = time.perf_counter()
            await agent.accept(target.url(), 30)
            await agent.ended(30)
            # As many at once as in a second, the others at the rate.
            assert target.arrivals[29] - began >= 0.45

    async def test_the_overall_rate_is_kept(self, tmp_path: Path) -> None:
        async with running(tmp_path, most=100, rate=20) as agent, Target() as one, Target() as other:
            began = time.perf_counter()
            await agent.accept(one.url(), 15)
            await agent.accept(other.url(), 15)
            await agent.ended(30)
            assert max(one.arrivals + other.arrivals) - began >= 0.45


class TestDrain:
    """What is under way is finished, nothing else begins."""

    async def test_ends_with_the_attempts_under_way(self, tmp_path: Path) -> None:
        busy = Busy()
        async with running(tmp_path, per_host=2) as agent, Target(busy) as target:
            await agent.accept(target.url(), 5)
            await target.received(2)
            agent.worker.drain()
            await agent.accept(target.url(), 2)
            busy.go.set()
            await agent.ended(2)
        assert len(target.requests) == 2

    async def test_ends_at_once_where_nothing_is_under_way(self, tmp_path: Path) -> None:
        async with asyncio.timeout(10), running(tmp_path):
            pass


class TestCircuit:
    """A host that is gone is left alone for a while."""

    async def test_opens_and_holds_what_waits(self, tmp_path: Path) -> None:
        port = closed_port()
        with capture_logs() as lines:
            async with running(tmp_path, retry=SLOW, per_host=1) as agent:
                await agent.accept(f"http://127.0.0.1:{port}/", FAILURES + 4)
                await agent.seen.until(FAILURES)
                assert set(agent.journal.backlog.circuits()) == {f"127.0.0.1:{port}"}
                async with Target() as alive:
                    await agent.accept(alive.url())
                    await agent.ended(1)
            assert len(agent.seen) == FAILURES + 1
        (line,) = [line for line in lines if line["event"] == "circuit"]
        assert (line["log_level"], line["host"], line["state"]) == ("warning", f"127.0.0.1:{port}", "open")
        assert 0 < line["probe_in_ms"] <= 10_000
        assert line["waiting"] == FAILURES + 4

    @pytest.mark.parametrize("code", [404, 503])
    async def test_an_answer_of_any_kind_keeps_it_closed(self, tmp_path: Path, code: int) -> None:
        async with running(tmp_path, retry=SLOW) as agent, Target(status(code)) as target:
            await agent.accept(target.url(), 3 * FAILURES)
            await target.received(3 * FAILURES)
            assert agent.journal.backlog.circuits() == {}

    async def test_an_answer_that_cannot_be_read_is_one_too(self, tmp_path: Path) -> None:
        async with running(tmp_path, retry=SLOW) as agent, Target(closing(b"no HTTP\r\n\r\n")) as target:
            await agent.accept(target.url(), 3 * FAILURES)
            await agent.seen.until(3 * FAILURES)
            assert agent.journal.backlog.circuits() == {}

    async def test_a_refusal_says_nothing_about_the_host(self, tmp_path: Path) -> None:
        async with running(tmp_path) as agent:
            await agent.accept("http://169.254.169.254/", 3 * FAILURES)
            await agent.ended(3 * FAILURES)
            assert agent.journal.backlog.circuits() == {}


class TestHostLimits:
    """The bounds of a host are those of its target."""

    @pytest.mark.parametrize(
        ("word", "expected"),
        [
            ("h.corp:80", HostLimits(2, 5.0)),
            ("h.corp:81", HostLimits(7, None)),
            ("fd00::1:80", HostLimits(1, None)),
            ("", HostLimits(7, None)),
        ],
    )
    def test_by_the_word_that_the_journal_has_for_it(self, word: str, expected: HostLimits) -> None:
        tables: list[Mapping[str, Any]] = [
            {"host": "h.corp:80", "max_in_flight": 2, "rate": 5},
            {"host": "fd00::/8", "max_in_flight": 1},
        ]
        assert host_limits(Targets(agent_settings(*map(dict, tables), per_host=7)))(word) == expected
