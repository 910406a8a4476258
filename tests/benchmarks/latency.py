"""From the event to the GET on an idle system, beside a direct GET to the same target. Milliseconds."""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import aiohttp

from tests.support.processes import Program
from tests.support.system import control_plane
from tests.support.target import Target

EVENTS, WARM_UP = 300, 20


async def measure() -> dict[str, float]:
    """`answer_to_get`: from the event's 201 to the GET's arrival (negative: the GET was there first).

    `event_to_get`: from the moment the event is posted. `direct_get`: from sending a GET to its arrival.
    """
    answer_to_get, event_to_get, direct = [], [], []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        async with Target() as target, control_plane(directory) as cloud, aiohttp.ClientSession() as http:
            await cloud.api.webhook(cloud.presence_id, target.url())
            async with Program("run", env=cloud.agent_env(directory, PRESENCE_LOG__LEVEL="info")) as agent:
                await agent.said("link", state="online")
                for number in range(EVENTS):
                    posted = time.perf_counter()
                    (delivery,) = await cloud.api.event(number=str(number))
                    answered = time.perf_counter()
                    await target.received(len(direct) + number + 1)
                    event_to_get.append(target.arrivals[-1] - posted)
                    answer_to_get.append(target.arrivals[-1] - answered)
                    await cloud.api.ended(delivery)
                    sent = time.perf_counter()
                    async with http.get(target.url("/direct")):
                        direct.append(target.arrivals[-1] - sent)
    figures = {"answer_to_get": answer_to_get, "event_to_get": event_to_get, "direct_get": direct}
    table = {}
    for figure, seconds in figures.items():
        quantiles = statistics.quantiles([1000 * second for second in seconds[WARM_UP:]], n=100)
        table |= {f"{figure}_p50_ms": quantiles[49], f"{figure}_p99_ms": quantiles[98]}
    table["event_to_get_ratio"] = table["event_to_get_p50_ms"] / table["direct_get_p50_ms"]
    return table


if __name__ == "__main__":
    print(asyncio.run(measure()))
