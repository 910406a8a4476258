"""The agent as a process: its disk takes nothing for a while, or its journal is damaged. Nothing is lost, no storm."""

import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from presence.domain.delivery import FinalState
from presence.protocol.messages import Accepted, Busy, Canary, CanaryEcho, Hello
from tests.support.control_plane import ScriptedControlPlane
from tests.support.namespace import unavailable
from tests.support.processes import Program, agent_env
from tests.support.system import run
from tests.support.target import NO_CONTENT, Target, silence, status


@contextlib.asynccontextmanager
async def agent(cloud: ScriptedControlPlane, directory: Path, *wrapper: str, **settings: str) -> AsyncIterator[Program]:
    env = agent_env(cloud.url, cloud.key, directory, **settings)
    async with Program("run", env=env, before=wrapper) as program:
        await cloud.ready()
        yield program


def answer_all(target: Target) -> None:
    """Ends the requests that `silence` left open."""
    for writer in list(target._writers):
        writer.write(NO_CONTENT)
        writer.close()


async def refused(cloud: ScriptedControlPlane, uri: str) -> None:
    """Fires until the agent says that its journal cannot be written."""
    while (answer := await offered(cloud, uri)) is None or answer.reason != "journal_failed":
        pass


async def taken(cloud: ScriptedControlPlane, uri: str) -> str:
    """Fires until the agent takes one; its id."""
    while await offered(cloud, uri) is not None:
        pass
    return [said.id for said in cloud.heard if isinstance(said, Accepted)][-1]


async def offered(cloud: ScriptedControlPlane, uri: str) -> Busy | None:
    """Fires once; how it was refused."""
    (delivery,) = await cloud.fire(uri)

    def answer() -> Accepted | Busy | None:
        return next((said for said in cloud.heard if isinstance(said, Accepted | Busy) and said.id == delivery), None)

    said = await cloud.until(answer)
    return said if isinstance(said, Busy) else None


def states(program: Program) -> list[str]:
    return [line["state"] for line in program.lines if line.get("event") == "journal"]


async def test_what_ends_while_the_disk_is_full_is_reported_when_there_is_space(tmp_path: Path) -> None:
    async with Target(silence) as target, ScriptedControlPlane() as cloud, agent(cloud, tmp_path) as program:
        under_way = await cloud.fire(target.url(), count=6)
        await target.received(6)
        program.limit_files(1)
        await refused(cloud, target.url())
        await cloud.say(Canary(nonce="unanswered"))
        answer_all(target)
        await program.said("journal", state="failing")
        target.answer = status(204)
        with pytest.raises(TimeoutError):
            await cloud.until(lambda: cloud.reports, timeout=1.5)
        assert CanaryEcho(nonce="unanswered") not in cloud.heard
        program.limit_files()
        assert {report.state for report in await cloud.reported(*under_way)} == {FinalState.SUCCEEDED}
        await program.said("journal", state="written again")
        late = await taken(cloud, target.url())
        await cloud.reported(late)
        assert len(target.requests) == 7
        assert states(program) == ["failing", "written again"]
        assert "Traceback" not in program.text()


async def test_nothing_is_attempted_while_no_attempt_could_be_written_down(tmp_path: Path) -> None:
    async with (
        Target(status(503)) as target,
        ScriptedControlPlane() as cloud,
        agent(cloud, tmp_path, PRESENCE_RETRY__MAX_ATTEMPTS="1000") as program,
    ):
        deliveries = await cloud.fire(target.url(), count=5)
        await target.received(20)
        program.limit_files(1)
        await program.said("journal", state="failing")
        made = len(target.requests)
        with pytest.raises(TimeoutError):
            await target.received(made + 6, timeout=2)  # five that were under way
        target.answer = status(204)
        program.limit_files()
        assert {report.state for report in await cloud.reported(*deliveries)} == {FinalState.SUCCEEDED}
        assert len(target.requests) <= made + 10


async def test_it_connects_and_states_what_it_holds_while_the_disk_is_full(tmp_path: Path) -> None:
    async with Target(silence) as target, ScriptedControlPlane() as cloud, agent(cloud, tmp_path) as program:
        (delivery,) = await cloud.fire(target.url())
        await target.received(1)
        program.limit_files(1)
        await refused(cloud, target.url())
        assert cloud.connection is not None
        await cloud.connection.close()
        await cloud.until(lambda: sum(isinstance(said, Hello) for said in cloud.heard) == 2)
        await refused(cloud, target.url())
        program.limit_files()
        answer_all(target)
        (report,) = await cloud.reported(delivery)
        assert report.state is FinalState.SUCCEEDED


async def test_acknowledgements_wait_while_the_disk_is_full(tmp_path: Path) -> None:
    async with Target() as target, ScriptedControlPlane() as cloud, agent(cloud, tmp_path) as program:
        cloud.acknowledges = False
        deliveries = await cloud.fire(target.url(), count=5)
        await cloud.reported(*deliveries)
        program.limit_files(1)
        await refused(cloud, target.url())
        cloud.acknowledges = True
        assert cloud.connection is not None
        await cloud.connection.close()  # it reports again, and this time it is acknowledged
        await cloud.until(lambda: all(len(cloud.reports[delivery]) == 2 for delivery in deliveries))
        program.limit_files()
        for delivery in deliveries:
            await program.said("reported", delivery=delivery)
        assert len(target.requests) == 5


@pytest.mark.parametrize("name", ["journal.db", "journal.db-wal"])
async def test_a_removed_journal_takes_nothing_more_but_what_it_holds_is_finished(tmp_path: Path, name: str) -> None:
    """What is accepted into a file that nobody finds again would be lost at the next start."""
    async with Target(silence) as target, ScriptedControlPlane() as cloud, agent(cloud, tmp_path) as program:
        held = await cloud.fire(target.url(), count=3)
        await target.received(3)
        (tmp_path / name).rename(tmp_path / "aside")
        await cloud.say(Canary(nonce="unanswered"))
        await refused(cloud, target.url())
        line = await program.said("journal", state="removed")
        assert (line["level"], line["file"]) == ("error", str(tmp_path / name))
        assert "restart the agent" in line["remedy"]
        code, _, err = await run("healthcheck", "--ready", env=program.env)
        assert (code, "the journal's file was removed; restart the agent" in err) == (1, True)
        assert (await run("healthcheck", env=program.env))[0] == 0
        assert "NOT writable" in (await run("status", env=program.env))[1]
        answer_all(target)
        target.answer = status(204)
        assert {report.state for report in await cloud.reported(*held)} == {FinalState.SUCCEEDED}
        assert CanaryEcho(nonce="unanswered") not in cloud.heard
        assert states(program) == ["removed"]
        (tmp_path / "aside").rename(tmp_path / name)
        await cloud.say(Canary(nonce="answered"))
        await cloud.until(lambda: CanaryEcho(nonce="answered") in cloud.heard)
        await taken(cloud, target.url())
        assert states(program) == ["removed", "there again"]


async def test_after_a_journal_was_removed_a_restart_begins_a_new_one(tmp_path: Path) -> None:
    async with Target() as target, ScriptedControlPlane() as cloud:
        async with agent(cloud, tmp_path) as program:
            (tmp_path / "journal.db").unlink()
            await refused(cloud, target.url())
            assert await program.stop() == 0
        async with agent(cloud, tmp_path):
            await cloud.reported(await taken(cloud, target.url()))


async def test_sigterm_ends_it_within_the_grace_period_while_the_disk_is_full(tmp_path: Path) -> None:
    async with Target(silence) as target, ScriptedControlPlane() as cloud:
        async with agent(cloud, tmp_path, PRESENCE_DELIVERY__GRACE="1") as program:
            deliveries = await cloud.fire(target.url(), count=3)
            await target.received(3)
            program.limit_files(1)
            await refused(cloud, target.url())
            answer_all(target)
            assert await program.stop(timeout=8) == 0
            assert "Traceback" not in program.text()
        target.answer = status(204)
        async with agent(cloud, tmp_path):
            reports = await cloud.reported(*deliveries)
        assert {(report.state, report.attempts) for report in reports} == {(FinalState.SUCCEEDED, 2)}


async def test_sigkill_while_the_disk_is_full_loses_nothing_that_was_accepted(tmp_path: Path) -> None:
    async with Target(status(503)) as target, ScriptedControlPlane() as cloud:
        settings = {"PRESENCE_RETRY__MAX_ATTEMPTS": "1000"}
        async with agent(cloud, tmp_path, **settings) as program:
            deliveries = await cloud.fire(target.url(), count=100)
            await cloud.accepted(*deliveries)
            program.limit_files(1)
            await refused(cloud, target.url())
            program.signal(signal.SIGKILL)
            await program.exited()
        target.answer = status(204)
        async with agent(cloud, tmp_path, **settings):
            reports = await cloud.reported(*deliveries)
        assert {report.state for report in reports} == {FinalState.SUCCEEDED}


SMALL_DISK = 'mount -t tmpfs -o size=1m none {directory} && exec "$0" "$@"'
no_mount = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "")


@contextlib.asynccontextmanager
async def on_small_disk(
    cloud: ScriptedControlPlane, directory: Path, **settings: str
) -> AsyncIterator[tuple[Program, Path]]:
    """An agent whose journal is on a file system of one megabyte that only it sees; the way to it from here."""
    directory = directory / "disk"
    directory.mkdir()
    wrapper = ("unshare", "--map-root-user", "--mount", "sh", "-c", SMALL_DISK.format(directory=directory))
    async with agent(cloud, directory, *wrapper, **settings) as program:
        yield program, Path(f"/proc/{program.pid}/root{directory}")


@no_mount
async def test_a_disk_without_space_refuses_and_goes_on_when_there_is_some(tmp_path: Path) -> None:
    async with Target(silence) as target, ScriptedControlPlane() as cloud, on_small_disk(cloud, tmp_path) as opened:
        program, disk = opened
        under_way = await cloud.fire(target.url(), count=8)
        await target.received(8)
        with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(b"x" * 1024)
        await refused(cloud, target.url() + "x" * 1500)
        answer_all(target)
        target.answer = status(204)
        (disk / "filler").unlink()
        await cloud.reported(*under_way)
        accepted = [said.id for said in cloud.heard if isinstance(said, Accepted)]
        late = await taken(cloud, target.url())
        reports = await cloud.reported(*accepted, late)
        assert {report.state for report in reports} == {FinalState.SUCCEEDED}
        assert "Traceback" not in program.text()


async def test_a_journal_that_was_damaged_is_set_aside_and_what_is_readable_is_delivered(tmp_path: Path) -> None:
    async with Target(status(503)) as target, ScriptedControlPlane() as cloud:
        async with agent(cloud, tmp_path) as program:
            deliveries = await cloud.fire(target.url(), count=50)
            await cloud.accepted(*deliveries)
            assert await program.stop() == 0
        with (tmp_path / "journal.db").open("r+b") as file:
            file.write(b"\x00" * 200)
        target.answer = status(204)
        before = [said.instance for said in cloud.heard if isinstance(said, Hello)]
        async with agent(cloud, tmp_path) as program:
            line = await program.said("journal", state="set aside")
            assert Path(line["file"]).exists()  # noqa: ASYNC240
            reports = await cloud.reported(*deliveries)
        assert {report.state for report in reports} == {FinalState.SUCCEEDED}
        after = [(said.instance, said.epoch) for said in cloud.heard if isinstance(said, Hello)]
        assert {instance for instance, _ in after} == set(before)
        assert [epoch for _, epoch in after] == sorted({epoch for _, epoch in after})


async def test_a_journal_on_a_full_disk_cannot_be_opened_and_says_so(tmp_path: Path) -> None:
    async with ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path)
        shell = ("sh", "-c", 'ulimit -f 0 && exec "$0" "$@"')
        async with Program("run", env=env, before=shell) as program:
            assert await program.exited() == 1
            assert "the journal cannot be opened" in program.text()
            assert "Traceback" not in program.text()
