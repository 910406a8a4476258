"""Both programs as processes: the presence key is replaced while deliveries run, and nothing is lost."""

import asyncio
import json
from pathlib import Path

from tests.support.processes import Program
from tests.support.system import control_plane
from tests.support.target import Target


async def test_a_key_is_rotated_without_an_outage(tmp_path: Path) -> None:
    async with Target() as target, control_plane(tmp_path) as cloud:
        await cloud.api.webhook(cloud.presence_id, target.url())
        env = cloud.agent_env(tmp_path)
        async with Program("run", env=env) as agent:
            await agent.said("link", state="online")
            (before,) = await cloud.api.event(number="1")
            await cloud.api.call("POST", f"Presences/{cloud.presence_id}/RotateKey")
            deliveries = [before, *[(await cloud.api.event(number=str(number)))[0] for number in range(2, 30)]]
            await agent.said("link", state="offline", cause="renewal")
            ended = await asyncio.gather(*map(cloud.api.ended, deliveries))
            assert {entry["State"] for entry in ended} == {"succeeded"}
            assert len(target.requests) == len(deliveries)
            assert await agent.stop() == 0
        assert not [line for line in agent.lines if line.get("level") == "error"]
        stored = json.loads((tmp_path / "presence.key").read_text())["Key"]
        assert stored != cloud.key
        async with Program("run", env=env) as agent:
            await agent.said("link", state="online")
            (delivery,) = await cloud.api.event(number="31")
            assert (await cloud.api.ended(delivery))["State"] == "succeeded"
        assert stored not in agent.text()
