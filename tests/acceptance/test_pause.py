"""`presence pause` with both real programs: deliveries wait in the cloud, which shows why, and go on afterwards."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support.processes import Program
from tests.support.system import Cloud, control_plane, output
from tests.support.target import Target


async def shown(cloud: Cloud, paused: bool) -> dict[str, Any]:
    """The presence, once it is shown like that. The list has no event to wait for: it is asked."""
    async with asyncio.timeout(20):
        while (found := (await cloud.api.call("GET", "Presences"))["Items"][0])["Paused"] is not paused:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return dict(found)


async def test_deliveries_to_a_paused_agent_wait_in_the_cloud_until_it_resumes(tmp_path: Path) -> None:
    async with Target() as target, control_plane(tmp_path) as cloud:
        env = cloud.agent_env(tmp_path)
        async with Program("run", env=env) as agent:
            await agent.said("link", state="online")
            await cloud.api.webhook(cloud.presence_id, target.url())
            assert (await shown(cloud, False))["PausedUntil"] is None
            await output("pause", "--for", "1h", env=env)
            until = datetime.fromisoformat((await shown(cloud, True))["PausedUntil"])
            assert timedelta(minutes=59) < until - datetime.now(until.tzinfo) < timedelta(minutes=61)
            (delivery,) = await cloud.api.event()
            # A restart of either side changes nothing: the agent says it anew.
            await cloud.kill_and_restart()
            await shown(cloud, True)
            assert (await cloud.api.delivery(delivery))["State"] == "queued"
            assert target.requests == []
            await output("resume", env=env)
            await shown(cloud, False)
            assert (await cloud.api.ended(delivery))["State"] == "succeeded"
            assert len(target.requests) == 1
            assert await agent.stop() == 0
