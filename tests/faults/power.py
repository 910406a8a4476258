"""The power cut under the journal: a loop-mounted ext4 is shut down without flushing its log.

What the agent said it has accepted must be there afterwards, and be delivered; what it reported must be known. The
same with a journal that is not synchronised must lose something: that shows that the cut bites.
"""

import asyncio
import random
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from presence.protocol.messages import Accepted
from tests.faults.findings import Findings, NotPossible
from tests.support.control_plane import ScriptedControlPlane, fire
from tests.support.disk import Ext4, ext4, loop_unavailable
from tests.support.judge import Judge
from tests.support.processes import Program, agent_env

BATCH = 40
IN_FLIGHT = 8
"""Requests to one host at once, the default."""
MOST_CARELESS = 12
"""Cuts until the journal that is not synchronised must have lost something; seven of twelve did when it was tried."""
CAREFUL, CARELESS = "presence", "tests.faults.careless"


async def power_cut(seed: int, large: bool) -> Findings:
    if reason := loop_unavailable():
        raise NotPossible(reason)
    cuts = 50 if large else 4
    found, source = Findings(seed, faults=cuts), random.Random(seed)
    for _ in range(cuts):
        await _trial(found, source)
    found.expect(
        found.duplicates <= cuts * IN_FLIGHT, f"{found.duplicates} duplicates, more than cuts times concurrency"
    )
    careless = Findings(seed)
    while careless.faults < MOST_CARELESS and (large or not careless.lost):
        await _trial(careless, source, CARELESS)
        careless.faults += 1
    found.figures |= {
        "careless_cuts": careless.faults,
        "careless_accepted": careless.deliveries,
        "careless_lost": len(careless.lost),
    }
    found.expect(bool(careless.lost), "a journal without synchronisation lost nothing: the cut does not bite")
    return found


async def _trial(found: Findings, source: random.Random, module: str = CAREFUL) -> None:
    """One journal from its first delivery to the cut, and what is left of it."""
    with tempfile.TemporaryDirectory(prefix="presence-faults-") as name:
        directory = Path(name)
        async with ext4(directory) as disk, Judge(directory) as judge, ScriptedControlPlane() as cloud:
            env = agent_env(cloud.url, cloud.key, disk.path, PRESENCE_LOG__LEVEL="warning")
            async with Program("run", env=env, module=module) as agent:
                await _until_the_cut(cloud, judge, disk, source)
                await agent.kill()
            accepted = {said.id for said in cloud.heard if isinstance(said, Accepted)}
            reported = set(cloud.reports)
            await disk.unmount()
            await disk.mount()
            lost = accepted - _known(disk.path / "journal.db")
            found.deliveries += len(accepted)
            found.lost += sorted(lost)
            found.figures["reported"] = found.figures.get("reported", 0) + len(reported)
            if module == CAREFUL:
                before = judge.delivered()
                async with Program("run", env=env):
                    arrived = await judge.has(accepted - lost, 30.0)
                found.expect(arrived, "accepted, in the journal, and not delivered after the cut")
                again = [each for each, count in judge.delivered().items() if count > before[each] and each in reported]
                found.expect(not again, f"{len(again)} were reported before the cut and fired again after it")
                found.duplicates += sum(count - 1 for count in judge.delivered().values())


async def _until_the_cut(cloud: ScriptedControlPlane, judge: Judge, disk: Ext4, source: random.Random) -> None:
    """Fires without a pause, within the agent's credit, and cuts at any moment."""

    async def fire_on() -> None:
        while True:
            await cloud.until(lambda: cloud.session is not None and cloud.session.free_credit >= BATCH)
            some = await cloud.fire_all([fire(judge.url()) for _ in range(source.randint(1, BATCH))])
            await _answered(cloud, some)

    await cloud.ready()
    firing = asyncio.create_task(fire_on())
    await asyncio.sleep(source.uniform(0.3, 1.5))
    disk.cut_power()
    # What is answered now was on the disk before: the commit precedes the answer.
    await asyncio.sleep(0.1)
    firing.cancel()
    await asyncio.gather(firing, return_exceptions=True)


async def _answered(cloud: ScriptedControlPlane, deliveries: Sequence[str]) -> None:
    assert cloud.session is not None
    session = cloud.session
    await cloud.until(lambda: not session.unanswered.intersection(deliveries))


def _known(journal: Path) -> set[str]:
    """What the journal holds after the remount; nothing, where even its tables are gone."""
    with closing(sqlite3.connect(f"file:{journal}?mode=rw", uri=True)) as database:
        try:
            return {row[0] for row in database.execute("SELECT id FROM delivery")}
        except sqlite3.OperationalError:
            return set()
