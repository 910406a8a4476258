"""One agent, ten hosts, paced deliveries: what the nine hosts notice when the tenth takes connections and is silent.

Each round measures undisturbed, then with a tenth host that accepts and never answers, then with one whose queue of
new connections is full, each with an agent of its own.
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
KINDS = ("undisturbed", "silent", "full")
ROUNDS, SECONDS, RATE = 5, 12.0, 100
FIRST_BYTE_TIMEOUT = "5"
"""Seconds, like the default of the connect timeout: long enough to fill an agent that does not keep hosts apart."""
WARM_UP = 1.0
"""Seconds whose deliveries do not count: connections are opened."""


async def measure() -> dict[str, float]:
    """`p99_ratio`: the figure to keep at most 1.5, the worse of the two kinds. Milliseconds from fire to arrival.

    Each round's 99th percentile is compared with its own undisturbed one; the median of the rounds counts, because
    one busy moment of the machine decides the percentile of all rounds together (`p99_ratio_pooled`).
    """
    rounds = [{kind: await nine_hosts(kind) for kind in KINDS} for _ in range(ROUNDS)]
    p99s = {kind: [_percentile(times[kind], 99) for times in rounds] for kind in KINDS}
    ratios = {
        kind: statistics.median(p99 / undisturbed for p99, undisturbed in zip(p99s[kind], p99s[KINDS[0]], strict=True))
        for kind in KINDS[1:]
    }
    figures = {"p99_ratio": max(ratios.values()), **{f"p99_ratio_{kind}": ratio for kind, ratio in ratios.items()}}
    for kind in KINDS:
        pooled = [time for times in rounds for time in times[kind]]
        figures |= {f"{kind}_p50_ms": _percentile(pooled, 50), f"{kind}_p99_ms": _percentile(pooled, 99)}
        figures[f"{kind}_worst_ms"] = max(pooled)
    figures["p99_ratio_pooled"] = max(figures[f"{kind}_p99_ms"] for kind in KINDS[1:]) / figures[f"{KINDS[0]}_p99_ms"]
    return figures


def _percentile(times: list[float], percent: int) -> float:
    return statistics.quantiles(times, n=100)[percent - 1]


async def nine_hosts(kind: str) -> list[float]:
    """Milliseconds from fire to arrival at the nine hosts, all of which must arrive."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        targets = [await stack.enter_async_context(Target(status(204), host)) for host in HOSTS[:-1]]
        tenth = await stack.enter_async_context(tenth_host(kind))
        cloud = await stack.enter_async_context(ScriptedControlPlane())
        limits = {"PRESENCE_DELIVERY__FIRST_BYTE_TIMEOUT": FIRST_BYTE_TIMEOUT, "PRESENCE_LOG__LEVEL": "error"}
        env = agent_env(cloud.url, cloud.key, directory, **limits)
        for setting in ("PRESENCE_RETRY__INITIAL", "PRESENCE_RETRY__MAXIMUM"):
            del env[setting]  # the defaults
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
