"""SIGKILL of either program, at named steps and at random moments, while deliveries run."""

import asyncio
import os
import random
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

from tests.faults.findings import Findings
from tests.faults.load import Load, compare, expect_nothing_forgotten
from tests.support.judge import Judge
from tests.support.processes import Program
from tests.support.system import Cloud, control_plane

IN_FLIGHT = 16
"""Requests that the agent has under way at once."""
PATIENCE = 3.0
"""Seconds that a named step is waited for; then the kill comes all the same."""
LINK_PATIENCE = 30.0
"""Seconds until the agent, whose waits between connections double, is expected back."""
AGENT_SETTINGS = {
    "PRESENCE_DELIVERY__PER_HOST": str(IN_FLIGHT),
    "PRESENCE_DELIVERY__MAX_IN_FLIGHT": str(IN_FLIGHT),
    "PRESENCE_RETRY__MAX_ATTEMPTS": "1000",
}
MEMORY = "/dev/shm"
LONG_RUN = {"PRESENCE_CP_AUTH__TOKEN_LIFETIME": "604800"}

Step = Callable[[Program, Judge, random.Random], Awaitable[object]]


async def starting(_agent: Program, _judge: Judge, source: random.Random) -> None:
    """At any moment of its start."""
    await asyncio.sleep(source.uniform(0.0, 1.2))


async def at_random(agent: Program, _judge: Judge, source: random.Random) -> None:
    await online(agent, _judge, source)
    await asyncio.sleep(source.uniform(0.0, 1.0))


async def online(agent: Program, _judge: Judge, _source: random.Random) -> None:
    await agent.logged(lambda line: line.get("event") == "link" and line.get("state") == "online", PATIENCE)


async def arrived(agent: Program, judge: Judge, source: random.Random) -> None:
    """While requests are under way."""
    await online(agent, judge, source)
    await judge.beyond(len(judge.arrivals()) + source.randrange(20), PATIENCE)


def logged(event: str) -> Step:
    """At the first to thirtieth line of that event."""

    async def step(agent: Program, _judge: Judge, source: random.Random) -> None:
        left = source.randint(1, 30)
        count = 0
        seen: set[int] = set()

        def is_the_one(line: dict[str, object]) -> bool:
            nonlocal count
            if line.get("event") == event and id(line) not in seen:
                seen.add(id(line))
                count += 1
            return count >= left

        await agent.logged(is_the_one, PATIENCE)

    return step


STEPS: dict[str, Step] = {
    "starting": starting,
    "online": online,
    "accepted": logged("accepted"),
    "arrived": arrived,
    "attempt": logged("attempt"),
    "reported": logged("reported"),
    "random": at_random,
}


async def agent_crash(seed: int, large: bool) -> Findings:
    """The judge answers always, so everything must arrive; what was journaled as delivered must not arrive again."""
    kills, events = (1000, 100_000) if large else (20, 2_000)
    return await kill_agent(seed, kills, events)


async def kill_agent(seed: int, kills: int, events: int) -> Findings:
    found, source, done = Findings(seed), random.Random(seed), dict[str, float]()
    with tempfile.TemporaryDirectory(prefix="presence-faults-") as name:
        directory = Path(name)
        async with Judge(directory, delay=0.01) as judge, control_plane(directory, **LONG_RUN) as cloud:
            await cloud.api.webhook(cloud.presence_id, judge.url())
            env = cloud.agent_env(directory, **AGENT_SETTINGS)
            load = Load(cloud.api, events, rate=200)
            async with load.running():
                for number in range(kills):
                    await load.allow((number + 1) / kills)
                    step = source.choice(list(STEPS)) if number >= len(STEPS) else list(STEPS)[number]
                    await _live_and_die(env, STEPS[step], judge, source)
                    found.figures[f"killed_{step}"] = found.figures.get(f"killed_{step}", 0) + 1
                    killed_at = time.time()
                    for delivery in succeeded(directory / "journal.db"):
                        done.setdefault(delivery, killed_at)
            async with Program("run", env=env):
                await compare(found, cloud.api, judge, load.deliveries, timeout=60 + events / 100)
            expect_nothing_forgotten(found, cloud)
            again = [each.id for each in judge.arrivals() if each.at > done.get(each.id, each.at)]
    found.faults = kills
    found.figures |= {"journaled_before_a_kill": len(done), "arrived_again": len(again)}
    found.expect(
        not again, f"{len(again)} arrived after a kill that their success had been journaled before: {again[:5]}"
    )
    bound = kills * IN_FLIGHT
    found.expect(found.duplicates <= bound, f"{found.duplicates} duplicates, more than kills times concurrency")
    return found


async def _live_and_die(env: dict[str, str], step: Step, judge: Judge, source: random.Random) -> None:
    async with Program("run", env=env) as agent:
        try:
            await step(agent, judge, source)
        except AssertionError:
            # The step did not come, for want of deliveries perhaps; an agent that ended by itself is another matter.
            assert not agent.ended, f"the agent ended by itself:\n{agent.text()}"
        await agent.kill()


def succeeded(journal: Path) -> set[str]:
    """Deliveries that a dead agent's journal has as succeeded. A copy is opened: opening changes the file.

    It is made in memory, where there is room: the disk is the agent's.
    """
    if not journal.exists():
        return set()
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as directory:
        for part in journal.parent.glob(f"{journal.name}*"):
            shutil.copy(part, directory)
        with closing(sqlite3.connect(Path(directory) / journal.name)) as database:
            try:
                return {row[0] for row in database.execute("SELECT id FROM delivery WHERE state = 'succeeded'")}
            except sqlite3.OperationalError:
                return set()  # killed before the schema was made


async def control_plane_crash(seed: int, large: bool) -> Findings:
    """What was acknowledged by 201 is delivered, and once: the agent, which lives on, knows repeats by their id."""
    kills, events = (50, 3_000) if large else (5, 300)
    return await kill_control_plane(seed, kills, events)


async def kill_control_plane(seed: int, kills: int, events: int) -> Findings:
    found, source = Findings(seed), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="presence-faults-") as name:
        directory = Path(name)
        async with Judge(directory, delay=0.01) as judge, control_plane(directory, **LONG_RUN) as cloud:
            await cloud.api.webhook(cloud.presence_id, judge.url())
            load = Load(cloud.api, events, rate=200)
            async with Program("run", env=cloud.agent_env(directory, **AGENT_SETTINGS)) as agent:
                await agent.said("link", state="online")
                async with load.running():
                    for number in range(kills):
                        await _kill_once(cloud, judge, load, source, (number + 1) / kills)
                await compare(found, cloud.api, judge, load.deliveries, timeout=90 + events / 100)
                assert not agent.ended, agent.text()
            expect_nothing_forgotten(found, cloud)
    found.faults = kills
    found.figures["posts_repeated"] = load.repeated
    found.expect(found.duplicates == 0, f"{found.duplicates} duplicates, though the agent lived on")
    return found


async def _kill_once(cloud: Cloud, judge: Judge, load: Load, source: random.Random, share: float) -> None:
    """In the middle of this share of the events: while they are posted, dispatched, delivered or reported."""
    await load.allow(share)
    if source.random() < 0.7:
        await judge.beyond(len(judge.arrivals()) + source.randrange(20), LINK_PATIENCE)
    else:
        await asyncio.sleep(source.uniform(0.0, 0.5))
    await cloud.kill_and_restart()
