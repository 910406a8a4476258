"""The link cut at every protocol message and in every way, while deliveries run.

Several agents at once, each behind a proxy of its own and cut a few times, so that the waits between their
connections, which double, stay short. Heartbeats are scaled to half a second.
"""

import asyncio
import random
import statistics
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from tests.faults.decisions import Decisions
from tests.faults.findings import Findings
from tests.faults.load import Load, compare, expect_nothing_forgotten
from tests.faults.site import CONNECT_LIMIT, CUTS, LONGEST_WAIT, Measured, Site, a_site
from tests.support.fault_proxy import How, Moment, Trap
from tests.support.judge import Judge
from tests.support.system import Cloud, control_plane

KINDS = (
    *("hello", "welcome", "holding", "ready", "fire"),
    *("accepted", "report", "report_ack", "canary", "canary_echo"),
)
GREETING = KINDS[:4]
"""Said once in a session: the session before it is cut."""
SPECIALS = ("half_open", "silent_upgrade", "closing_port", "latency", "drip", "unanswered_request")
HEARTBEAT = {"PRESENCE_CP_DISPATCH__CANARY_EVERY": "0.5", "PRESENCE_CP_DISPATCH__CANARY_TIMEOUT": "1.0"}
HALF_OPEN_AFTER = (1.0, 8.0, 14.0, 21.0)
"""Seconds after the link is up."""
SETTLED_WITHIN = 20.0
BACK_WITHIN, NOTICED_WITHIN = 5.0, 30.0


async def link_cut(seed: int, large: bool) -> Findings:
    found, source = Findings(seed), random.Random(seed)
    async with asyncio.TaskGroup() as both:
        both.create_task(_cut_all(found, source, large))
        both.create_task(_go_half_open(found, source))
    return found


async def _cut_all(found: Findings, source: random.Random, large: bool) -> None:
    rounds, events = (10, 2_000) if large else (1, 200)
    measured = Measured()
    with tempfile.TemporaryDirectory(prefix="presence-faults-") as name:
        directory = Path(name)
        async with (
            Judge(directory, delay=0.005) as judge,
            control_plane(directory, **HEARTBEAT, PRESENCE_CP_AUTH__TOKEN_LIFETIME="604800") as cloud,
            AsyncExitStack() as stack,
        ):
            sites = [
                await stack.enter_async_context(a_site(number, directory, cloud, judge, measured, source))
                for number in range(len(KINDS) + 1)
            ]
            decisions = Decisions(sites[-1], cloud.api)
            load = Load(cloud.api, events, rate=4, goes_on=True)
            async with load.running():
                async with asyncio.TaskGroup() as running:
                    for number, (site, kind) in enumerate(zip(sites, KINDS, strict=False)):
                        running.create_task(_break(site, kind, SPECIALS[number % len(SPECIALS)], rounds))
                    running.create_task(decisions.run(rounds))
                so_far = load.deliveries + decisions.fired
                arrived = await judge.has(so_far, SETTLED_WITHIN)
                found.expect(arrived, "deliveries are stuck that a restart of the control plane would set free")
                await _send_away(found, cloud, sites)
            wanted, timeout = load.deliveries + decisions.fired, LONGEST_WAIT + CONNECT_LIMIT + events / 20
            await compare(found, cloud.api, judge, wanted, timeout, decisions.abandoned)
            assert not any(site.agent.ended for site in sites)
            expect_nothing_forgotten(found, cloud)
    _conclude(found, measured)


async def _go_half_open(found: Findings, source: random.Random) -> None:
    """With the default heartbeat, at different moments of it."""
    measured = Measured()
    with tempfile.TemporaryDirectory(prefix="presence-faults-") as name:
        directory = Path(name)
        async with Judge(directory) as judge, control_plane(directory) as cloud, AsyncExitStack() as stack:
            sites = [
                await stack.enter_async_context(a_site(number, directory, cloud, judge, measured, source))
                for number in range(len(HALF_OPEN_AFTER))
            ]
            async with asyncio.TaskGroup() as running:
                for site, seconds in zip(sites, HALF_OPEN_AFTER, strict=True):
                    running.create_task(_half_open_after(site, seconds))
    found.faults += measured.faults
    for side, values in (("the agent", measured.noticed), ("the control plane", measured.noticed_above)):
        found.figures[f"half_open_noticed_by_{side.replace(' ', '_')}_s"] = [round(value, 1) for value in values]
        slow = max(values)
        found.expect(
            slow <= NOTICED_WITHIN, f"with default intervals {side} noticed a half-open link after {slow:.1f} s"
        )


async def _half_open_after(site: Site, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await site.become_half_open()


def _conclude(found: Findings, measured: Measured) -> None:
    found.faults += measured.faults
    for name, values in (("back", measured.back), ("beyond_wait", measured.beyond)):
        quantiles = statistics.quantiles(values, n=100, method="inclusive")
        found.figures |= {f"{name}_p50_s": quantiles[49], f"{name}_p99_s": quantiles[98]}
    found.figures |= {"noticed_s": max(measured.noticed), "noticed_above_s": max(measured.noticed_above)}
    p99 = found.figures["beyond_wait_p99_s"]
    found.expect(p99 <= BACK_WITHIN, f"back {p99:.1f} s after healing and the drawn wait (p99), not {BACK_WITHIN} s")
    slowest = max(measured.noticed + measured.noticed_above)
    found.expect(slowest <= NOTICED_WITHIN, f"a half-open link was noticed after {slowest:.1f} s")
    found.expect(found.duplicates == 0, f"{found.duplicates} duplicates, though every agent lived on")


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
    await site.stay_away_and_heal()


async def _spring(site: Site, kind: str, moment: Moment, how: How) -> Trap:
    """Sets a trap and waits until it has sprung."""
    trap = site.proxy.trap(kind, moment, how)
    await site.sprung(trap)
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
        await site.become_half_open()
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
