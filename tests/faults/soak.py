"""Twenty deliveries a second for minutes, with a fault every few seconds: nothing may grow.

Both programs are killed in the first quarter, so that all that is measured afterwards is of one life of each. Then the
second half of the time is compared with the first.
"""

import asyncio
import random
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.faults.findings import Findings
from tests.faults.load import Load, compare
from tests.support.fault_proxy import FaultProxy, How, Moment
from tests.support.judge import Judge
from tests.support.processes import Program
from tests.support.system import Cloud, control_plane

RATE = 20
WARM_UP = 0.25
"""Share of the time in which the programs are killed and their memory comes to rest."""
FAULT_EVERY = (4.0, 10.0)
SETTINGS = {"PRESENCE_CP_DISPATCH__CANARY_EVERY": "1", "PRESENCE_CP_DISPATCH__CANARY_TIMEOUT": "3"}
IN_FLIGHT = 8
MEGABYTE = 1 << 20
RSS_GROWTH, RSS_SLACK = 1.05, 4 * MEGABYTE
MORE_DESCRIPTORS = 4
MORE_THREADS = 2
BYTES_FOR_A_DELIVERY = 1500
"""What the journal may keep of a delivery, whose id it must remember for more than a day."""
LARGEST_LOG = 24 * MEGABYTE
"""What the journal's write-ahead log may take: it grows until it is written back, and is emptied every minute."""


@dataclass(frozen=True)
class Sample:
    """What a program uses. Bytes, and counts. `file`: its database; `log`: the write-ahead log beside that."""

    rss: int
    descriptors: int
    threads: int
    file: int
    log: int
    delivered: int


def sample(pid: int, file: Path, delivered: int) -> Sample | None:
    """None while there is no such process."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines)
        descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        rss, threads = int(status["VmRSS"].split()[0]) * 1024, int(status["Threads"])
    except (OSError, KeyError):
        return None
    log = file.with_name(f"{file.name}-wal")
    sizes = [each.stat().st_size if each.exists() else 0 for each in (file, log)]
    return Sample(rss, descriptors, threads, *sizes, delivered)


class Soak:
    """The system with a proxy in the link, and what was seen of it."""

    def __init__(self, cloud: Cloud, proxy: FaultProxy, judge: Judge, env: dict[str, str], directory: Path) -> None:
        self.cloud, self.proxy, self.judge, self.env = cloud, proxy, judge, env
        self.agent = Program("run", env=env)
        self.faults = self.kills = 0
        self.samples: dict[str, list[Sample]] = {"agent": [], "control_plane": []}
        self._files = {"agent": directory / "journal.db", "control_plane": directory / "control-plane.db"}

    async def kill_both(self) -> None:
        await self.agent.kill()
        await self.agent.__aexit__()
        self.agent = Program("run", env=self.env)
        await self.agent.__aenter__()
        await self.agent.said("link", state="online")
        await self.cloud.kill_and_restart()
        self.kills += 2

    async def watch(self) -> None:
        while True:
            delivered = len(self.judge.arrivals())
            for name, program in (("agent", self.agent), ("control_plane", self.cloud.program)):
                if (seen := sample(program.pid, self._files[name], delivered)) is not None:
                    self.samples[name].append(seen)
                program.lines.clear()
            await asyncio.sleep(1.0)

    async def disturb(self, source: random.Random) -> None:
        """One thing after the other happens to the link."""
        while True:
            await asyncio.sleep(source.uniform(*FAULT_EVERY))
            self.faults += 1
            match source.choice(("cut", "message", "hole", "slow", "drip", "closed")):
                case "cut":
                    self.proxy.strike(source.choice((How.CLOSE, How.RESET)))
                case "message":
                    kind = source.choice(("fire", "accepted", "report", "report_ack", "canary", "hello", "ready"))
                    self.proxy.trap(kind, source.choice(list(Moment)), source.choice((How.CLOSE, How.RESET)))
                case "hole":
                    self.proxy.strike(How.HOLE)
                case "slow":
                    self.proxy.latency = 0.1
                    await asyncio.sleep(2.0)
                    self.proxy.latency = 0.0
                case "drip":
                    self.proxy.drip = (100, 0.002)
                    await asyncio.sleep(2.0)
                    self.proxy.drip = None
                case "closed":
                    self.proxy.accepts = False
                    self.proxy.strike(How.CLOSE)
                    await asyncio.sleep(2.0)
                    self.proxy.accepts = True

    def calm(self) -> None:
        self.proxy.disarm()
        self.proxy.latency, self.proxy.drip, self.proxy.accepts = 0.0, None, True


async def soak(seed: int, large: bool) -> Findings:
    seconds = 1200.0 if large else 120.0
    found, source = Findings(seed), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="presence-faults-") as name:
        directory = Path(name)
        async with (
            Judge(directory, delay=0.005, refuse=1, one_in=10) as judge,
            control_plane(directory, **SETTINGS, PRESENCE_CP_AUTH__TOKEN_LIFETIME="604800") as cloud,
            FaultProxy(int(cloud.api.url.rpartition(":")[2])) as proxy,
        ):
            await cloud.api.webhook(cloud.presence_id, judge.url())
            env = cloud.agent_env(directory, PRESENCE_CONTROL_PLANE__URL=proxy.url, PRESENCE_LOG__LEVEL="info")
            system = Soak(cloud, proxy, judge, env, directory)
            await system.agent.__aenter__()
            try:
                await system.agent.said("link", state="online")
                load = Load(cloud.api, int(seconds * RATE), RATE)
                started = time.perf_counter()
                async with load.running():
                    await load.allow(1.0)
                    await _go_through(system, source, seconds)
                found.figures["posted_per_s"] = len(load.deliveries) / (time.perf_counter() - started)
                await compare(found, cloud.api, judge, load.deliveries, timeout=180.0)
                assert not system.agent.ended, system.agent.text()
            finally:
                await system.agent.__aexit__()
    found.faults = system.faults + system.kills
    bound = system.kills * IN_FLIGHT
    found.expect(found.duplicates <= bound, f"{found.duplicates} duplicates, more than kills times concurrency")
    for name, samples in system.samples.items():
        _compare_halves(name, samples[int(len(samples) * WARM_UP) :], found)
    return found


async def _go_through(system: Soak, source: random.Random, seconds: float) -> None:
    watching = asyncio.create_task(system.watch())
    await asyncio.sleep(seconds * WARM_UP / 2)
    await system.kill_both()
    disturbing = asyncio.create_task(system.disturb(source))
    try:
        await asyncio.wait([watching, disturbing], timeout=seconds * (1 - WARM_UP / 2))
    finally:
        for task in (watching, disturbing):
            task.cancel()
        await asyncio.gather(watching, disturbing, return_exceptions=True)
        system.calm()


def _compare_halves(name: str, samples: list[Sample], found: Findings) -> None:
    """The figures are pairs: the median of the first half, and of the second."""
    halves = samples[: len(samples) // 2], samples[len(samples) // 2 :]
    first, second = (
        {what: statistics.median(getattr(each, what) for each in half) for what in ("rss", "descriptors", "threads")}
        for half in halves
    )
    for what in first:
        scale = MEGABYTE if what == "rss" else 1
        unit = "_mb" if what == "rss" else ""
        found.figures[f"{name}_{what}{unit}"] = [round(half[what] / scale, 1) for half in (first, second)]
    delivered = samples[-1].delivered - samples[0].delivered
    grown = (samples[-1].file - samples[0].file) / max(1, delivered)
    log = max(each.log for each in samples)
    found.figures[f"{name}_bytes_for_a_delivery"] = grown
    found.figures[f"{name}_file_mb"] = samples[-1].file / MEGABYTE
    found.figures[f"{name}_log_mb"] = log / MEGABYTE
    bound = first["rss"] * RSS_GROWTH + RSS_SLACK
    found.expect(second["rss"] <= bound, f"{name}: memory grew from {first['rss']:.0f} to {second['rss']:.0f}")
    for what, more in (("descriptors", MORE_DESCRIPTORS), ("threads", MORE_THREADS)):
        found.expect(second[what] <= first[what] + more, f"{name}: {what} grew from {first[what]} to {second[what]}")
    if name == "agent":
        found.expect(grown <= BYTES_FOR_A_DELIVERY, f"the journal grew by {grown:.0f} bytes for each delivery")
        found.expect(log <= LARGEST_LOG, f"the journal's write-ahead log took {log} bytes")
