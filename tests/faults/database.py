"""SIGKILL of PostgreSQL, and cut connections to it, while deliveries run."""

import asyncio
import random
import tempfile
from pathlib import Path

from tests.faults.crash import AGENT_SETTINGS, LINK_PATIENCE, LONG_RUN
from tests.faults.findings import Findings
from tests.faults.load import Load, compare, expect_nothing_forgotten
from tests.support.judge import Judge
from tests.support.postgres import Postgres, postgres
from tests.support.processes import Program
from tests.support.system import Cloud, control_plane

DATABASE = "faults"
PATIENCE = 60.0
"""Seconds until the control plane must have noticed that the right to serve is gone."""
CUTS_PER_KILL = 2


async def postgres_crash(seed: int, large: bool) -> Findings:
    """What was acknowledged by 201 is delivered, and once.

    Commits reach the disk; the control plane, which ends with the right to serve, is started again as systemd does.
    """
    kills, events = (50, 3_000) if large else (4, 300)
    return await kill_postgres(seed, kills, events)


async def kill_postgres(seed: int, kills: int, events: int) -> Findings:
    found, source = Findings(seed), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="presence-faults-") as name, postgres(durable=True) as cluster:
        cluster.create(DATABASE)
        directory, store = Path(name), cluster.store(DATABASE)
        assert store.owner_url is not None
        urls = {"PRESENCE_CP_DATABASE__URL": store.url, "PRESENCE_CP_DATABASE__OWNER_URL": store.owner_url}
        keys = {"PRESENCE_CP_AUTH__ENCRYPTION_KEYS_FILE": str(directory / "encryption.keys")}
        async with (
            Judge(directory, delay=0.01) as judge,
            control_plane(directory, **LONG_RUN, **urls, **keys) as cloud,
        ):
            await cloud.api.webhook(cloud.presence_id, judge.url())
            load = Load(cloud.api, events, rate=200)
            async with Program("run", env=cloud.agent_env(directory, **AGENT_SETTINGS)) as agent:
                await agent.said("link", state="online")
                async with load.running():
                    for number in range(kills):
                        await _kill_once(cluster, cloud, judge, load, source, (number + 1) / kills, found)
                await compare(found, cloud.api, judge, load.deliveries, timeout=90 + events / 100)
                assert not agent.ended, agent.text()
            expect_nothing_forgotten(found, cloud)
    found.faults = kills
    found.figures["posts_repeated"] = load.repeated
    found.expect(found.duplicates == 0, f"{found.duplicates} duplicates, though the agent lived on")
    return found


async def _kill_once(
    cluster: Postgres, cloud: Cloud, judge: Judge, load: Load, source: random.Random, share: float, found: Findings
) -> None:
    """In the middle of this share of the events: while they are posted, dispatched, delivered or reported."""
    await load.allow(share)
    for _ in range(source.randrange(CUTS_PER_KILL + 1)):
        await _middle(judge, source)
        _cut_connections(cluster)
        found.figures["connections_cut"] = found.figures.get("connections_cut", 0) + 1
    await _middle(judge, source)
    cluster.kill()
    code = await cloud.program.exited(PATIENCE)
    found.expect(code == 1, f"the control plane ended with {code}, by which systemd would not start it again")
    if source.random() < 0.5:
        async with Program("control-plane", "serve", env=cloud.env) as early:
            code = await early.exited()
            found.expect(code == 1, f"without a database the control plane ends with {code}, not with 1")
    cluster.start()
    await cloud.start_again()


async def _middle(judge: Judge, source: random.Random) -> None:
    if source.random() < 0.7:
        await judge.beyond(len(judge.arrivals()) + source.randrange(20), LINK_PATIENCE)
    else:
        await asyncio.sleep(source.uniform(0.0, 0.5))


def _cut_connections(cluster: Postgres) -> None:
    """All but the one that holds the right to serve: the control plane goes on."""
    cluster.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{DATABASE}'"
        " AND pid NOT IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')"
    )
