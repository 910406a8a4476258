"""The link cut at every protocol message and in every way, while deliveries run.

Several agents at once, each behind a proxy of its own and cut a few times, so that the waits between their
connections, which double, stay short. Heartbeats are scaled to half a second.
"""

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.faults.findings import Findings
from tests.faults.load import Load, compare, expect_nothing_forgotten
from tests.support.fault_proxy import FaultProxy, How, Moment, Trap
from tests.support.judge import Judge
from tests.support.processes import Program
from tests.support.system import Cloud, control_plane

KINDS = (
    *("hello", "welcome", "holding", "ready", "fire"),
    *("accepted", "report", "report_ack", "canary", "canary_echo"),
)
GREETING = KINDS[:4]
"""Said once in a session: the session before it is cut."""
CUTS = ((Moment.BEFORE, How.CLOSE), (Moment.WITHIN, How.RESET), (Moment.AFTER, How.CLOSE))
SPECIALS = ("half_open", "silent_upgrade", "closing_port", "latency", "drip", "unanswered_request")
HEARTBEAT = {"PRESENCE_CP_DISPATCH__CANARY_EVERY": "0.5", "PRESENCE_CP_DISPATCH__CANARY_TIMEOUT": "1.0"}
LONGEST_WAIT, CONNECT_LIMIT = 60.0, 30.0
SETTLED_WITHIN = 20.0
BACK_WITHIN, NOTICED_WITHIN = 5.0, 30.0


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
            _time(line) + line.get("retry_in", 0.0)
            for line in self.agent.lines
            if _is_offline(line) and _time(line) < arrived_at
        ]
        self.measured.back.append(arrived_at - healed_at)
        self.measured.beyond.append(arrived_at - max([healed_at, *wanted_at]))

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
        return _time(await self.agent.logged(lambda line: _is_offline(line) and _time(line) > moment, 40.0))


async def link_cut(seed: int, large: bool) -> Findings:
    rounds, events = (10, 2_000) if large else (1, 200)
    found, source, measured = Findings(seed), random.Random(seed), Measured()
    with tempfile.TemporaryDirectory(prefix="presence-faults-") as name:
        directory = Path(name)
        async with (
            Judge(directory, delay=0.005) as judge,
            control_plane(directory, **HEARTBEAT, PRESENCE_CP_AUTH__TOKEN_LIFETIME="604800") as cloud,
            AsyncExitStack() as stack,
        ):
            sites = [
                await stack.enter_async_context(_site(number, directory, cloud, judge, measured, source))
                for number in range(len(KINDS))
            ]
            load = Load(cloud.api, events, rate=6, goes_on=True)
            async with load.running():
                async with asyncio.TaskGroup() as running:
                    for number, site in enumerate(sites):
                        running.create_task(_break(site, KINDS[number], SPECIALS[number % len(SPECIALS)], rounds))
                so_far = load.deliveries.copy()
                arrived = await judge.has(so_far, SETTLED_WITHIN)
                found.expect(arrived, "deliveries are stuck that a restart of the control plane would set free")
                await _send_away(found, cloud, sites)
            await compare(found, cloud.api, judge, load.deliveries, timeout=LONGEST_WAIT + CONNECT_LIMIT + events / 20)
            assert not any(site.agent.ended for site in sites)
            expect_nothing_forgotten(found, cloud)
    _conclude(found, measured)
    return found


def _conclude(found: Findings, measured: Measured) -> None:
    found.faults = measured.faults
    for name, values in (("back", measured.back), ("beyond_wait", measured.beyond)):
        quantiles = statistics.quantiles(values, n=100, method="inclusive")
        found.figures |= {f"{name}_p50_s": quantiles[49], f"{name}_p99_s": quantiles[98]}
    found.figures |= {"noticed_by_agent_s": max(measured.noticed), "noticed_above_s": max(measured.noticed_above)}
    p99 = found.figures["beyond_wait_p99_s"]
    found.expect(p99 <= BACK_WITHIN, f"back {p99:.1f} s after healing and the drawn wait (p99), not {BACK_WITHIN} s")
    slowest = max(measured.noticed + measured.noticed_above)
    found.expect(slowest <= NOTICED_WITHIN, f"a half-open link was noticed after {slowest:.1f} s")
    found.expect(found.duplicates == 0, f"{found.duplicates} duplicates, though every agent lived on")


@asynccontextmanager
async def _site(
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


async def _break(site: Site, kind: str, special: str, rounds: int) -> None:
    """All cuts at one kind of message, and one of the other ways."""
    await site.delivering()
    for _ in range(rounds):
        for number, (moment, how) in enumerate(CUTS):
            await _cut(site, kind, moment, how)
            if number % 2:
                await site.renew()
        await getattr(_Special, special)(site)
        await site.renew()
        site.measured.faults += 1


async def _cut(site: Site, kind: str, moment: Moment, how: How) -> None:
    if kind == "holding":
        # Something must be held: a report that is not heard.
        await _spring(site, "report", Moment.BEFORE, How.RESET)
    elif kind in GREETING:
        site.proxy.strike(site.source.choice((How.CLOSE, How.RESET)))
    await _spring(site, kind, moment, how)
    site.proxy.accepts = False
    await asyncio.sleep(site.source.uniform(0.1, 0.6))
    site.measured.faults += 1
    await site.heal()


async def _spring(site: Site, kind: str, moment: Moment, how: How) -> Trap:
    """Sets a trap and waits until it has sprung."""
    trap = site.proxy.trap(kind, moment, how)
    try:
        async with asyncio.timeout(LONGEST_WAIT + CONNECT_LIMIT):
            await trap.sprung.wait()
    except TimeoutError:
        raise AssertionError(f"no {kind} came by; the log is:\n{site.agent.text()[-6000:]}") from None
    return trap


async def _send_away(found: Findings, cloud: Cloud, sites: list[Site]) -> None:
    """The control plane stops, each link is cut when it says so, and it starts again."""
    for number, site in enumerate(sites):
        site.proxy.trap("go_away", list(Moment)[number % len(Moment)], How.CLOSE)
    expect_nothing_forgotten(found, cloud)
    code = await cloud.stop_and_restart()
    assert code == 0, f"the control plane stopped with {code}"
    for site in sites:
        site.proxy.disarm()
        site.measured.faults += 1
    await asyncio.gather(*(site.heal() for site in sites))


class _Special:
    """What is no cut at a message."""

    @staticmethod
    async def half_open(site: Site) -> None:
        """Nothing passes on the connection that is there; a new one would work."""
        struck_at = time.time()
        site.proxy.strike(How.HOLE)
        above = await site.cloud.program.logged(
            lambda line: (
                line.get("event") == "agent disconnected"
                and line.get("presence") == site.presence_id
                and _time(line) > struck_at
            ),
            40.0,
        )
        site.measured.noticed_above.append(_time(above) - struck_at)
        noticed_at = await site.offline_after(struck_at)
        site.measured.noticed.append(noticed_at - struck_at)
        await site.heal()

    @staticmethod
    async def silent_upgrade(site: Site) -> None:
        """101, and then nothing."""
        await _reconnect_into(site, "response", Moment.AFTER)

    @staticmethod
    async def unanswered_request(site: Site) -> None:
        """The connection is there, the request is not answered."""
        await _reconnect_into(site, "request", Moment.BEFORE)

    @staticmethod
    async def closing_port(site: Site) -> None:
        """Accepts and closes, a few times."""
        before = site.proxy.connections
        site.proxy.accepts = False
        site.proxy.strike(How.CLOSE)
        async with asyncio.timeout(LONGEST_WAIT):
            while site.proxy.connections == before:  # noqa: ASYNC110 - the agent's own time
                await asyncio.sleep(0.05)
        await site.heal()

    @staticmethod
    async def latency(site: Site) -> None:
        """Slow, but alive: nothing is cut."""
        site.proxy.latency = 0.2
        await site.delivering()
        await site.delivering()
        site.proxy.latency = 0.0

    @staticmethod
    async def drip(site: Site) -> None:
        """A few bytes at a time."""
        site.proxy.drip = (64, 0.002)
        await site.delivering()
        await asyncio.sleep(1.0)
        site.proxy.drip = None
        await site.delivering()


async def _reconnect_into(site: Site, kind: str, moment: Moment) -> None:
    site.proxy.strike(How.RESET)
    trap = await _spring(site, kind, moment, How.HOLE)
    noticed_at = await site.offline_after(trap.at)
    site.measured.noticed.append(noticed_at - trap.at)
    await site.heal()


def _is_offline(line: dict[str, Any]) -> bool:
    return line.get("event") == "link" and line.get("state") == "offline"


def _time(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp()
