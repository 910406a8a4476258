"""The agent's wall clock jumps by a day and by ten years, both ways, while deliveries wait for their second attempt;
and its host boots again with another uptime.

The judge refuses each first request. So there are two requests for each delivery, wherever the clock is: fewer are
lost or expired, more are a storm.
"""

import asyncio
import os
import random
import subprocess
import tempfile
from pathlib import Path
from uuid import UUID

from tests.faults.findings import Findings, NotPossible
from tests.faults.load import Load, compare
from tests.support.judge import Judge
from tests.support.processes import Program
from tests.support.system import Cloud, control_plane

LIBRARY = "faketime/libfaketimeMT.so.1"
DAY, TEN_YEARS = 86_400, 10 * 365 * 86_400
JUMPS = (DAY, -DAY, TEN_YEARS, -TEN_YEARS)
REQUESTS, IN_FLIGHT = 2, 8
RETRIES = {"PRESENCE_RETRY__INITIAL": "2", "PRESENCE_RETRY__MAXIMUM": "2"}
BETWEEN = 2.5
REBOOT = """
set -e
mount --bind {boot_id} /proc/sys/kernel/random/boot_id
exec "$@"
"""


class WallClock:
    """The clock of what runs with `env`; the clock that waits are measured with goes on undisturbed."""

    def __init__(self, directory: Path) -> None:
        libraries = list(Path("/usr/lib").glob(f"*/{LIBRARY}"))
        if not libraries:
            raise NotPossible("libfaketime is not installed (tests/debian)")
        self._file = directory / "wall-clock"
        self.env = {
            "LD_PRELOAD": str(libraries[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        self.jump(0)

    def jump(self, seconds: int) -> None:
        """Away from the true time."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._file)


async def clock(seed: int, large: bool) -> Findings:
    found, source = Findings(seed), random.Random(seed)
    reason = _no_boots()
    if reason:
        found.figures["reboots"] = f"not possible here: {reason}"
    for _ in range(5 if large else 1):
        await asyncio.gather(_jumps(found, source), *([] if reason else [_reboots(found, source)]))
    return found


def _no_boots() -> str:
    """Why no program can be given another uptime here; empty if it can."""
    tried = subprocess.run([*_boot_time(3600), "true"], capture_output=True, text=True)
    return tried.stderr.strip()


def _boot_time(uptime: int) -> list[str]:
    unshare = ["unshare", "--mount", "--time", f"--boottime={uptime}"]
    return unshare if os.geteuid() == 0 else [*unshare, "--map-root-user"]


async def _jumps(found: Findings, source: random.Random) -> None:
    """While it runs, and across a restart."""
    with tempfile.TemporaryDirectory(prefix="presence-faults-") as name:
        directory = Path(name)
        wall = WallClock(directory)
        async with Judge(directory, refuse=1) as judge, control_plane(directory) as cloud:
            await cloud.api.webhook(cloud.presence_id, judge.url())
            env = cloud.agent_env(directory, **RETRIES, **wall.env)
            load = Load(cloud.api, 300, rate=25, goes_on=True)
            async with load.running():
                async with Program("run", env=env) as agent:
                    await judge.beyond(10, 30.0)
                    for jump in source.sample(JUMPS, len(JUMPS)):
                        wall.jump(jump)
                        await asyncio.sleep(BETWEEN)
                    wall.jump(0)
                    assert not agent.ended, agent.text()
                    assert await agent.stop(timeout=30.0) == 0
                    years = len({line["timestamp"][:4] for line in agent.lines if "timestamp" in line})
                    found.expect(years >= 3, f"the log's times are of {years} years: the clock did not jump")
                for jump in source.sample(JUMPS, 2):
                    wall.jump(jump)
                    async with Program("run", env=env) as agent:
                        await asyncio.sleep(BETWEEN)
                        await agent.kill()
                wall.jump(0)
            async with Program("run", env=env):
                await _compare(found, cloud, judge, load, kills=2)
    found.faults += len(JUMPS) + 1 + 3


async def _reboots(found: Findings, source: random.Random) -> None:
    """A host that was killed comes back with another boot id, and an uptime of hours or of months."""
    with tempfile.TemporaryDirectory(prefix="presence-faults-") as name:
        directory = Path(name)
        async with Judge(directory, refuse=1) as judge, control_plane(directory) as cloud:
            await cloud.api.webhook(cloud.presence_id, judge.url())
            env = cloud.agent_env(directory, **RETRIES)
            load = Load(cloud.api, 100, rate=25, goes_on=True)
            boots = [0, 90 * DAY, 3600]
            async with load.running():
                for uptime in boots:
                    async with Program("run", env=env, before=_boot(directory, uptime, source)) as agent:
                        await agent.said("link", state="online")
                        await asyncio.sleep(BETWEEN)
                        await agent.kill()
            async with Program("run", env=env):
                await _compare(found, cloud, judge, load, kills=len(boots))
    found.faults += len(boots)


def _boot(directory: Path, uptime: int, source: random.Random) -> list[str]:
    """The command that runs another one on a host which was up for so many seconds more than this one is."""
    boot_id = directory / f"boot-{uptime}"
    boot_id.write_text(f"{UUID(int=source.getrandbits(128), version=4)}\n")
    return [*_boot_time(uptime), "sh", "-c", REBOOT.format(boot_id=boot_id), "sh"]


async def _compare(found: Findings, cloud: Cloud, judge: Judge, load: Load, kills: int) -> None:
    mine = Findings(found.seed)
    await compare(mine, cloud.api, judge, load.deliveries, timeout=60.0)
    requests = len(judge.arrivals())
    found.deliveries += mine.deliveries
    found.lost += mine.lost
    found.broken += mine.broken
    found.duplicates += mine.duplicates
    found.figures["requests"] = found.figures.get("requests", 0) + requests
    bound = REQUESTS * mine.deliveries + kills * IN_FLIGHT
    found.expect(requests <= bound, f"{requests} requests for {mine.deliveries} deliveries that need {REQUESTS} each")
