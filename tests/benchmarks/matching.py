"""Accepting an event among 10 webhooks and among 1,000, of which four fire each time; 10,000 applications.

On each kind of database, two organizations side by side, events in turn, durable as in production. The plan by which
the webhooks are found is printed, too.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from presence.clock import SystemClock
from presence.controlplane.access import ADMINISTRATOR, EVERY_ORGANIZATION, Capability, Principal
from presence.controlplane.bus import Bus
from presence.controlplane.metrics import Metrics
from presence.controlplane.services.events import Announcer, Events
from presence.controlplane.settings import Store
from presence.controlplane.store import accounts, users
from presence.controlplane.store.accounts import ApiKey
from presence.controlplane.store.engine import Database, open_database
from presence.controlplane.store.matching import MATCHING, asked, matching
from presence.controlplane.store.migrations import migrate
from presence.controlplane.store.users import NewUser
from presence.domain.events import EventType, Happening
from presence.domain.scope import Place
from presence.logs import configure
from presence.tracing import UNTRACED
from tests.support.matching import add_large_organization, plan
from tests.support.postgres import postgres

WEBHOOKS, APPLICATIONS, FIRING = {"few": 10, "many": 1000}, 10_000, 4
EVENTS, WARM_UP = 500, 50
SCAN = EventType.SCAN_EXECUTION_COMPLETED


async def measure() -> dict[str, float]:
    """`<database>_ratio`: the figure to keep at most 1.5, the median time among many by that among few; `_query_`: of
    finding the webhooks alone. Milliseconds."""
    configure("error")
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as directory:
        figures |= await _on("sqlite", Store(url=f"sqlite:///{directory}/control-plane.db"), lambda: None)
    with postgres(durable=True) as cluster:
        cluster.create("benchmark")
        figures |= await _on("postgresql", cluster.store("benchmark"), lambda: cluster.execute("ANALYZE", "benchmark"))
    return figures


async def _on(kind: str, store: Store, analyse: Callable[[], object]) -> dict[str, float]:
    await asyncio.to_thread(migrate, store)
    async with open_database(store) as database:
        shops: dict[str, Place] = {}
        producers: dict[str, Principal] = {}
        async with database.write(EVERY_ORGANIZATION) as transaction:
            for name, count in WEBHOOKS.items():
                roles = await accounts.add_organization(transaction, name, name, 0)
                producers[name] = await _producer(transaction, name, roles[ADMINISTRATOR])
                shops[name] = await add_large_organization(transaction, name, count, APPLICATIONS)
        analyse()
        await _show(kind, database, shops["many"])
        accepting = await _times(database, shops, producers)
        finding = await _query_times(database, shops)
    figures = {f"{kind}_ratio": accepting["many"] / accepting["few"]}
    figures |= {f"{kind}_{name}_ms": milliseconds for name, milliseconds in accepting.items()}
    figures |= {f"{kind}_query_ratio": finding["many"] / finding["few"]}
    return figures | {f"{kind}_query_{name}_ms": milliseconds for name, milliseconds in finding.items()}


async def _times(database: Database, shops: dict[str, Place], producers: dict[str, Principal]) -> dict[str, float]:
    """Median milliseconds for an event until its deliveries are on disk."""
    events, times = (
        Events(database, SystemClock(), Announcer(Bus(), Metrics(), UNTRACED)),
        {name: list[float]() for name in shops},
    )
    for _ in range(EVENTS):
        for name, shop in shops.items():
            happening = Happening("/benchmark", str(uuid4()), SCAN, "x", application_id=shop.application_id)
            start = time.perf_counter()
            (accepted,) = await events.accept(producers[name], [happening])
            times[name].append(1000 * (time.perf_counter() - start))
            assert len(accepted.deliveries) == FIRING
    return {name: statistics.median(taken[WARM_UP:]) for name, taken in times.items()}


async def _query_times(database: Database, shops: dict[str, Place]) -> dict[str, float]:
    times = {name: list[float]() for name in shops}
    for _ in range(EVENTS):
        for name, shop in shops.items():
            async with database.write(name) as transaction:
                start = time.perf_counter()
                found = await matching(transaction, name, SCAN, shop)
                times[name].append(1000 * (time.perf_counter() - start))
                assert len(found) == FIRING
    return {name: statistics.median(taken[WARM_UP:]) for name, taken in times.items()}


async def _show(kind: str, database: Database, shop: Place) -> None:
    async with database.write("many") as transaction:
        print(f"{kind}:\n{await plan(transaction, MATCHING[kind], asked('many', SCAN, shop))}\n")


async def _producer(transaction: AsyncConnection, organization_id: str, role_id: str) -> Principal:
    """A user who is logged in."""
    id_ = token_hash = f"of {organization_id}"
    await users.add(transaction, organization_id, [NewUser(id_, "u", None, role_id, None)], 0)
    await accounts.add_token(transaction, ApiKey(id_, organization_id, ""), token_hash, 0, 0)
    return Principal(id_, "u", organization_id, role_id, frozenset(Capability), frozenset(), token_hash)
