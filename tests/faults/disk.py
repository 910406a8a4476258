"""The journal's disk full, and read-only, under load; then well again.

Meanwhile nothing may be acknowledged that is not kept and the target may not be stormed. Afterwards the agent goes on
by itself or, where it has ended, when its supervisor starts it again.
"""

import asyncio
import random
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.faults.findings import Findings
from tests.faults.load import Load, compare
from tests.support.disk import command, ext4, fill, loop_unavailable, tmpfs
from tests.support.judge import Judge
from tests.support.processes import Line, Program
from tests.support.system import control_plane

IN_FLIGHT = 8
"""Requests to one host at once, the default."""
RESTART_AFTER = 1.0
"""Seconds until the supervisor starts it again."""
KILOBYTES = 8192
BROKEN_FOR = 3.0
LOUD_WITHIN, LOOK = 20.0, 0.05
PATIENCE = 150.0
"""Seconds until all is delivered: the agent asks for a minute of peace where its journal fails."""
HEARTBEAT = {"PRESENCE_CP_DISPATCH__CANARY_EVERY": "1", "PRESENCE_CP_DISPATCH__CANARY_TIMEOUT": "3"}

Episode = Callable[[Path, "Supervisor", random.Random], Awaitable[bool]]
"""Breaks the disk and makes it well again; whether the agent said so loudly."""


class Supervisor:
    """Starts the agent again whenever it ends, until `stop`. `said` counts what its lives have logged, by event."""

    def __init__(self, env: dict[str, str]) -> None:
        self._env = env
        self.starts = 0
        self.said: Counter[str] = Counter()
        self._lines: list[Line] = []

    async def loud(self) -> bool:
        """Whether an error about the journal was said, once it was or enough time has passed."""
        for _ in range(int(LOUD_WITHIN / LOOK)):
            if any(line.get("level", "error") == "error" and "journal" in str(line) for line in self._lines):
                return True
            await asyncio.sleep(LOOK)
        return False

    def start(self) -> None:
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """SIGKILL, and no other start."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self.starts += 1
            async with Program("run", env=self._env) as agent:
                self._lines = agent.lines
                try:
                    await agent.exited(timeout=3600.0)
                finally:
                    self.said.update(str(line.get("event")) for line in agent.lines)
            await asyncio.sleep(RESTART_AFTER)


async def disk(seed: int, large: bool) -> Findings:
    found, source = Findings(seed), random.Random(seed)
    episodes: dict[str, Episode] = {"full": full}
    if reason := loop_unavailable():
        found.figures["read_only"] = f"not possible here: {reason}"
    else:
        episodes |= {"read_only": read_only, "read_only_at_start": read_only_at_start}
    for _ in range(5 if large else 1):
        async with asyncio.TaskGroup() as together:
            for name, episode in episodes.items():
                together.create_task(_live_through(name, episode, found, random.Random(source.random())))
    return found


async def _live_through(name: str, episode: Episode, found: Findings, source: random.Random) -> None:
    """An agent and a control plane of its own for the episode."""
    mine = Findings(found.seed)
    with tempfile.TemporaryDirectory(prefix="presence-faults-") as temporary:
        directory = Path(temporary)
        async with (
            Judge(directory, delay=0.005) as judge,
            control_plane(directory, **HEARTBEAT) as cloud,
            _a_disk(name, directory) as path,
        ):
            await cloud.api.webhook(cloud.presence_id, judge.url())
            supervisor = Supervisor(cloud.agent_env(path))
            load = Load(cloud.api, 500, rate=100, goes_on=True)
            try:
                supervisor.start()
                async with load.running():
                    await judge.beyond(50, 30.0)
                    was_loud = await episode(path, supervisor, source)
                await compare(mine, cloud.api, judge, load.deliveries, PATIENCE)
            finally:
                await supervisor.stop()
            requests = len(judge.arrivals())
    found.expect(was_loud, f"{name}: nothing loud was said about the journal")
    _sum_up(name, mine, supervisor, requests, found)


def _sum_up(name: str, mine: Findings, supervisor: Supervisor, requests: int, found: Findings) -> None:
    found.deliveries += mine.deliveries
    found.faults += 1
    found.lost += mine.lost
    found.duplicates += mine.duplicates
    found.broken += [f"{name}: {words}" for words in mine.broken]
    figures = {"deliveries": mine.deliveries, "requests": requests, "starts": supervisor.starts}
    found.figures[name] = figures | {"busy": supervisor.said["busy"]}
    bound = mine.deliveries + supervisor.starts * IN_FLIGHT
    found.expect(requests <= bound, f"{name}: {requests} requests for {mine.deliveries} deliveries")
    found.expect(supervisor.said["busy"] <= 3 * mine.deliveries, f"{name}: a storm of {supervisor.said['busy']} busy")
    found.expect(supervisor.starts <= 2 + BROKEN_FOR + LOUD_WITHIN, f"{name}: {supervisor.starts} starts")


@asynccontextmanager
async def _a_disk(name: str, directory: Path) -> AsyncIterator[Path]:
    if name != "full":
        async with ext4(directory) as disk:
            yield disk.path
    else:
        async with tmpfs(directory / "small", KILOBYTES) as path:
            yield path


async def full(path: Path, supervisor: Supervisor, source: random.Random) -> bool:
    await asyncio.sleep(source.uniform(0.0, 0.5))
    ballast = fill(path)
    was_loud = await supervisor.loud()
    await asyncio.sleep(BROKEN_FOR)
    ballast.unlink()
    return was_loud


async def read_only(path: Path, supervisor: Supervisor, source: random.Random) -> bool:
    """As after an error of the disk. It can be mounted anew only when nobody uses it any more."""
    await asyncio.sleep(source.uniform(0.0, 0.5))
    await command("mount", "-o", "remount,abort", path)
    was_loud = await supervisor.loud()
    await asyncio.sleep(BROKEN_FOR)
    await supervisor.stop()
    await command("umount", path)
    await command("mount", "-o", "loop", path.with_suffix(".img"), path)
    supervisor.start()
    return was_loud


async def read_only_at_start(path: Path, supervisor: Supervisor, _source: random.Random) -> bool:
    await supervisor.stop()
    await command("mount", "-o", "remount,ro", path)
    supervisor.start()
    was_loud = await supervisor.loud()
    await asyncio.sleep(BROKEN_FOR)
    await command("mount", "-o", "remount,rw", path)
    return was_loud
