"""The agent's CPU for one delivery, journal on, 64 in flight, against a bare aiohttp loop's CPU for one GET."""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from presence.protocol.messages import Accepted
from tests.benchmarks.peers import IN_FLIGHT
from tests.support.control_plane import ScriptedControlPlane, fire
from tests.support.processes import Program, agent_env

DELIVERIES, WARM_UP, ROUNDS = 10_000, 1_000, 5
CREDIT = 500


async def measure() -> dict[str, float]:
    """`cpu_ratio`: the figure to keep at most 3.0; the rest says what it is made of."""
    ours, theirs = [], []
    async with target() as url:
        for _ in range(ROUNDS):
            theirs.append(await bare(url))
            ours.append(await agent(url))
    ratios = [mine["cpu"] / other["cpu"] for mine, other in zip(ours, theirs, strict=True)]
    return {
        "cpu_ratio": statistics.median(ratios),
        "cpu_ratio_worst": max(ratios),
        "cpu_us_per_delivery": statistics.median(run["cpu"] for run in ours) / DELIVERIES * 1e6,
        "loop_us_per_delivery": statistics.median(run["loop"] for run in ours) / DELIVERIES * 1e6,
        "journal_us_per_delivery": statistics.median(run["cpu"] - run["loop"] for run in ours) / DELIVERIES * 1e6,
        "bare_cpu_us_per_get": statistics.median(run["cpu"] for run in theirs) / DELIVERIES * 1e6,
        "deliveries_per_second": DELIVERIES / statistics.median(run["wall"] for run in ours),
        "bare_gets_per_second": DELIVERIES / statistics.median(run["wall"] for run in theirs),
    }


@asynccontextmanager
async def target() -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.benchmarks.peers", "target", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    port = int(await process.stdout.readline())
    try:
        yield f"http://127.0.0.1:{port}/ScanEnded/"
    finally:
        process.terminate()
        await process.wait()


async def bare(url: str) -> dict[str, float]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.benchmarks.peers", "bare", url, str(DELIVERIES), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return dict(json.loads(output))


async def agent(url: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as directory:
        async with ScriptedControlPlane() as cloud:
            env = agent_env(
                cloud.url,
                cloud.key,
                Path(directory),
                PRESENCE_LOG__LEVEL="info",
                PRESENCE_DELIVERY__MAX_IN_FLIGHT=str(IN_FLIGHT),
                PRESENCE_DELIVERY__PER_HOST=str(IN_FLIGHT),
            )
            async with Program("run", env=env) as program:
                await feed(cloud, url, WARM_UP)
                cpu, loop, wall = cpu_seconds(program.pid), loop_seconds(program.pid), time.perf_counter()
                await feed(cloud, url, DELIVERIES)
                return {
                    "cpu": cpu_seconds(program.pid) - cpu,
                    "loop": loop_seconds(program.pid) - loop,
                    "wall": time.perf_counter() - wall,
                }


async def feed(cloud: ScriptedControlPlane, url: str, count: int) -> None:
    """Fires as far as the credit allows until all are reported."""
    await cloud.ready()
    assert cloud.session is not None
    done, left = len(cloud.reports) + count, count
    while left:
        room = min(left, cloud.session.free_credit, CREDIT)
        if room:
            await cloud.fire_all([fire(url + "{SubjectId}", subject_id=str(uuid.uuid4())) for _ in range(room)])
            left -= room
        else:
            await cloud.until(lambda: cloud.session is not None and cloud.session.free_credit > 0)
    await cloud.until(lambda: len(cloud.reports) >= done, timeout=120)
    assert sum(isinstance(said, Accepted) for said in cloud.heard) >= count
    cloud.heard.clear()


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of the process so far."""
    return _seconds(Path(f"/proc/{pid}/stat"))


def loop_seconds(pid: int) -> float:
    """The same of the event loop's thread; the rest is the journal's."""
    return _seconds(Path(f"/proc/{pid}/task/{pid}/stat"))


def _seconds(stat: Path) -> float:
    """proc(5), stat, fields 14 and 15."""
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
