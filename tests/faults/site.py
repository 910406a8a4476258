"""One agent behind a proxy, and how long it takes to come back."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.support.fault_proxy import FaultProxy, How, Moment, Trap
from tests.support.judge import Judge
from tests.support.processes import Program
from tests.support.system import Cloud

CUTS = ((Moment.BEFORE, How.CLOSE), (Moment.WITHIN, How.RESET), (Moment.AFTER, How.CLOSE))
LONGEST_WAIT, CONNECT_LIMIT = 60.0, 30.0
PATIENCE = 60.0
"""Seconds until somebody must have noticed."""


@dataclass
class Measured:
    """Seconds. `back`: from the healing to the first delivery; `beyond`: without the wait that the agent had drawn;
    `noticed`: until a half-open link was seen by the agent, and by the control plane.
    """

    back: list[float] = field(default_factory=list)
    beyond: list[float] = field(default_factory=list)
    noticed: list[float] = field(default_factory=list)
    noticed_above: list[float] = field(default_factory=list)
    faults: int = 0


@dataclass
class Site:
    """One agent behind its proxy; what is delivered to it has `path`."""

    proxy: FaultProxy
    agent: Program
    env: dict[str, str]
    cloud: Cloud
    judge: Judge
    path: str
    presence_id: str
    measured: Measured
    source: random.Random

    async def delivering(self, after: float | None = None, patience: float = LONGEST_WAIT + CONNECT_LIMIT) -> float:
        """When something arrived, after that time."""
        arrival = await self.judge.first(self.path, time.time() if after is None else after, patience)
        assert arrival is not None, f"nothing arrived for {patience} s; the log is:\n{self.agent.text()[-6000:]}"
        return arrival.at

    async def heal(self) -> None:
        """Lets connections through again and measures how long it takes until something arrives."""
        self.proxy.accepts = True
        healed_at = time.time()
        arrived_at = await self.delivering(healed_at)
        wanted_at = [
            time_of(line) + line.get("retry_in", 0.0)
            for line in self.agent.lines
            if is_offline(line) and time_of(line) < arrived_at
        ]
        self.measured.back.append(arrived_at - healed_at)
        self.measured.beyond.append(arrived_at - max([healed_at, *wanted_at]))

    async def sprung(self, trap: Trap) -> None:
        try:
            async with asyncio.timeout(LONGEST_WAIT + CONNECT_LIMIT):
                await trap.sprung.wait()
        except TimeoutError:
            raise AssertionError(f"no {trap.kind} came by; the log is:\n{self.agent.text()[-6000:]}") from None

    async def stay_away_and_heal(self) -> None:
        """After a cut: nobody gets through for a moment."""
        self.proxy.accepts = False
        await asyncio.sleep(self.source.uniform(0.1, 0.6))
        self.measured.faults += 1
        await self.heal()

    async def renew(self) -> None:
        """The agent stops, cut off while it says so, and starts: the waits between connections are short again."""
        trap = self.proxy.trap("draining", self.source.choice(list(Moment)), How.CLOSE)
        code = await self.agent.stop(timeout=30.0)
        assert code == 0, f"the agent stopped with {code}:\n{self.agent.text()[-6000:]}"
        self.proxy.disarm()
        self.measured.faults += trap.sprung.is_set()
        self.agent = Program("run", env=self.env)
        await self.agent.__aenter__()
        await self.agent.said("link", state="online")

    async def offline_after(self, moment: float) -> float:
        """When the agent saw, after that moment, that its link is gone."""
        return time_of(await self.agent.logged(lambda line: is_offline(line) and time_of(line) > moment, PATIENCE))

    async def gone_after(self, moment: float) -> float:
        """When the control plane saw, after that moment, that the agent is gone."""

        def says_so(line: dict[str, Any]) -> bool:
            is_gone = line.get("event") == "agent disconnected" and line.get("presence") == self.presence_id
            return is_gone and time_of(line) > moment

        return time_of(await self.cloud.program.logged(says_so, PATIENCE))

    async def become_half_open(self) -> None:
        """Nothing passes any more on the connection that is there, and nobody is told."""
        struck_at = time.time()
        self.proxy.strike(How.HOLE)
        self.measured.faults += 1
        above, below = await asyncio.gather(self.gone_after(struck_at), self.offline_after(struck_at))
        self.measured.noticed_above.append(above - struck_at)
        self.measured.noticed.append(below - struck_at)


@asynccontextmanager
async def a_site(
    number: int, directory: Path, cloud: Cloud, judge: Judge, measured: Measured, source: random.Random
) -> AsyncIterator[Site]:
    presence_id = (await cloud.api.call("POST", "Presences", {"PresenceName": f"site-{number}"}))["Id"]
    key = (await cloud.api.call("GET", f"Presences/{presence_id}/NewKey"))["Key"]
    path = f"/site-{number}/"
    await cloud.api.webhook(presence_id, judge.url(f"{path}{{SubjectId}}"))
    state = directory / f"site-{number}"
    state.mkdir()
    async with FaultProxy(int(cloud.api.url.rpartition(":")[2])) as proxy:
        url = {
            "PRESENCE_CONTROL_PLANE__URL": proxy.url,
            "PRESENCE_CONTROL_PLANE__KEY": key,
            "PRESENCE_DELIVERY__GRACE": "5",
        }
        env, mine = cloud.agent_env(state, **url), random.Random(source.random())
        site = Site(proxy, Program("run", env=env), env, cloud, judge, path, presence_id, measured, mine)
        await site.agent.__aenter__()
        try:
            await site.agent.said("link", state="online")
            yield site
        finally:
            await site.agent.__aexit__()


def is_offline(line: dict[str, Any]) -> bool:
    return line.get("event") == "link" and line.get("state") == "offline"


def time_of(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp()
