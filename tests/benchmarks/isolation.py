"""One agent, ten hosts, paced deliveries: what the nine hosts notice when the tenth takes connections and is silent.

Each round measures undisturbed, then with a tenth host that accepts and never answers, then with one whose queue of
new connections is full, each with an agent of its own; the limits for an attempt are the defaults.
"""

import asyncio
import socket
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.support.control_plane import ScriptedControlPlane, fire
from tests.support.processes import Program, agent_env
from tests.support.target import Target, head, silence, status

HOSTS = [f"127.0.0.{number}" for number in range(1, 11)]
ROUNDS, SECONDS, RATE = 3, 12.0, 100
WARM_UP = 1.0
"""Seconds whose deliveries do not count: connections are opened."""


async def measure() -> dict[str, float]:
    """`p99_ratio`: the figure to keep at most 1.5, the worse of the two kinds. Milliseconds from fire to arrival."""
    times: dict[str, list[float]] = {"undisturbed": [], "silent": [], "full": []}
    for _ in range(ROUNDS):
        for kind, found in times.items():
            found += await nine_hosts(kind)
    figures = {}
    for kind, found in times.items():
        quantiles = statistics.quantiles(found, n=100)
        figures |= {f"{kind}_p50_ms": quantiles[49], f"{kind}_p99_ms": quantiles[98], f"{kind}_worst_ms": max(found)}
    ratios = {kind: figures[f"{kind}_p99_ms"] / figures["undisturbed_p99_ms"] for kind in ("silent", "full")}
    return {
        "p99_ratio": max(ratios.values()),
        **{f"p99_ratio_{kind}": ratio for kind, ratio in ratios.items()},
        **figures,
        "deliveries": sum(map(len, times.values())),
    }


async def nine_hosts(kind: str) -> list[float]:
    """Milliseconds from fire to arrival at the nine hosts, all of which must arrive."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        targets = [await stack.enter_async_context(Target(status(204), host)) for host in HOSTS[:-1]]
        tenth = await stack.enter_async_context(tenth_host(kind))
        cloud = await stack.enter_async_context(ScriptedControlPlane())
        env = agent_env(cloud.url, cloud.key, directory, PRESENCE_LOG__LEVEL="error")
        for setting in ("PRESENCE_RETRY__INITIAL", "PRESENCE_RETRY__MAXIMUM"):
            del env[setting]  # the defaults, as with the limits
        await stack.enter_async_context(Program("run", env=env))
        await cloud.ready()
        fired = await paced(cloud, [*(target.url() for target in targets), tenth])
        for target in targets:
            await target.received(len(fired) // len(HOSTS), timeout=60)
        return [
            1000 * (arrived - fired[head(request)[1]["webhook-id"]])
            for target in targets
            for request, arrived in list(zip(target.requests, target.arrivals, strict=True))[
                int(WARM_UP * RATE) // 10 :
            ]
        ]


async def paced(cloud: ScriptedControlPlane, urls: list[str]) -> dict[str, float]:
    """Fires at each URL in turn, RATE in a second; the moment of each by its delivery."""
    fired: dict[str, float] = {}
    start = time.perf_counter()
    for number in range(int(SECONDS * RATE)):
        await asyncio.sleep(max(0.0, start + number / RATE - time.perf_counter()))
        message = fire(urls[number % len(urls)])
        fired[message.id] = time.perf_counter()
        await cloud.fire_all([message])
    return fired


@asynccontextmanager
async def tenth_host(kind: str) -> AsyncIterator[str]:
    """The URL of a host that answers, that takes the request and is silent, or whose queue of connections is full."""
    if kind != "full":
        async with Target(status(204) if kind == "undisturbed" else silence, HOSTS[-1]) as target:
            yield target.url()
        return
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind((HOSTS[-1], 0))
        full.listen(0)
        for filling in (first, second):
            filling.setblocking(False)
            filling.connect_ex(full.getsockname())
        yield f"http://{HOSTS[-1]}:{full.getsockname()[1]}/"
