"""Events posted while things break, and the comparison of three records: what was acknowledged, what the judge saw,
what the delivery log says.
"""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import aiohttp

from tests.faults.findings import Findings
from tests.support.judge import Judge
from tests.support.system import FINAL, Api, Cloud

AGAIN = 0.05
"""Seconds until a post that was not answered is repeated; the event's id makes that harmless."""
POSTERS = 4
PAGE = 5000
FORGOTTEN = "the agent lost accepted deliveries"


class Load:
    """Posts `total` events, but no more than were allowed so far; `deliveries` are those that were acknowledged.

    `rate`: events in a second. `goes_on`: posts all the time, and more than `total` if it takes longer.
    """

    def __init__(self, api: Api, total: int, rate: float, *, goes_on: bool = False) -> None:
        self.deliveries: list[str] = []
        self.repeated = 0
        self._api, self._total, self._rate = api, total, rate
        self._allowed = total if goes_on else 0
        self._more = asyncio.Condition()
        self._numbers = itertools.count()
        self._goes_on = goes_on
        self._next_at = 0.0

    async def allow(self, share: float) -> None:
        """Lets this share of all events through, from 0 to 1."""
        async with self._more:
            self._allowed = max(self._allowed, round(self._total * share))
            self._more.notify_all()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Posts while entered; on leaving, all that is left is allowed and posted."""
        async with asyncio.TaskGroup() as posters:
            tasks = [posters.create_task(self._post_all()) for _ in range(POSTERS)]
            try:
                yield
            except BaseException:
                for task in tasks:
                    task.cancel()
                raise
            self._goes_on = False
            await self.allow(1.0)

    async def _post_all(self) -> None:
        for number in self._numbers:
            if number >= self._total and not self._goes_on:
                return
            async with self._more:
                await self._more.wait_for(lambda number=number: self._goes_on or number < self._allowed)
            await self._pace()
            while True:
                try:
                    self.deliveries += await self._api.event(number=str(number), subject=f"subject-{number}")
                    break
                except (aiohttp.ClientError, AssertionError, TimeoutError):
                    self.repeated += 1
                    await asyncio.sleep(AGAIN)

    async def _pace(self) -> None:
        """Waits for this event's turn; what was missed in the last second is made up for."""
        now = asyncio.get_running_loop().time()
        self._next_at = max(self._next_at, now - 1.0) + 1 / self._rate
        await asyncio.sleep(max(0.0, self._next_at - now))


async def delivery_log(api: Api) -> dict[str, str]:
    """The state of every delivery."""
    states: dict[str, str] = {}
    skip = 0
    while items := (await api.call("GET", f"Deliveries?$top={PAGE}&$skip={skip}"))["Items"]:
        states |= {item["Id"]: item["State"] for item in items}
        skip += len(items)
    return states


def expect_nothing_forgotten(found: Findings, cloud: Cloud) -> None:
    """The control plane gives again what an agent accepted and then does not know any more. Here no agent may need it:
    every journal lived on.
    """
    forgotten = [line for line in cloud.program.lines if str(line.get("event")).startswith(FORGOTTEN)]
    found.expect(not forgotten, f"deliveries were accepted and then not known: {forgotten[:3]}")


async def _all_arrived(judge: Judge, wanted: set[str], patience: float) -> bool:
    while missing := wanted - judge.delivered().keys():
        if not await judge.has(wanted, patience) and len(wanted - judge.delivered().keys()) == len(missing):
            return False
    return True


async def compare(
    found: Findings, api: Api, judge: Judge, deliveries: list[str], timeout: float, abandoned: Sequence[str] = ()
) -> None:
    """Waits until all is quiet, then writes down what is lost, what came twice and what the log has wrong.

    `timeout`: seconds in which nothing comes any more; a slow machine loses nothing.
    `abandoned`: those of which somebody decided that they shall not be attempted again.
    """
    arrived_all = await _all_arrived(judge, set(deliveries), timeout)
    end = asyncio.get_running_loop().time() + (timeout if arrived_all else 5.0)
    while set((states := await delivery_log(api)).values()) - FINAL:
        if asyncio.get_running_loop().time() > end:
            break
        await asyncio.sleep(0.2)
    delivered = judge.delivered()
    found.deliveries = len(deliveries)
    found.lost += [delivery for delivery in deliveries if delivery not in delivered]
    found.duplicates += sum(count - 1 for count in delivered.values())
    found.figures["states"] = dict(Counter(states[delivery] for delivery in deliveries))
    open_ones = [delivery for delivery in deliveries if states[delivery] not in FINAL]
    untrue = [delivery for delivery in delivered if states.get(delivery) not in ("succeeded", *open_ones)]
    claimed = [delivery for delivery in deliveries if states[delivery] == "succeeded" and delivery not in delivered]
    found.expect(not open_ones, f"{len(open_ones)} deliveries have no end in the delivery log: {open_ones[:5]}")
    found.expect(not untrue, f"{len(untrue)} arrived, but the delivery log says otherwise: {untrue[:5]}")
    found.expect(not claimed, f"{len(claimed)} are called succeeded and did not arrive: {claimed[:5]}")
    found.expect(
        states.keys() == {*deliveries, *abandoned},
        f"{len(states)} deliveries in the log, {len(deliveries) + len(abandoned)} were acknowledged",
    )
    fired = [delivery for delivery in abandoned if states[delivery] != "cancelled" or delivery in delivered]
    found.expect(not fired, f"{len(fired)} were abandoned, and attempted or not known as cancelled: {fired[:5]}")
