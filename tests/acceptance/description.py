"""The example of the original description, run by test_description.py in a network where myservice.com exists."""

import asyncio
import json
import tempfile
from pathlib import Path

from tests.support.namespace import ADDRESS
from tests.support.processes import Program
from tests.support.system import control_plane
from tests.support.target import Target


async def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        async with Target(host=ADDRESS, port=80) as target, control_plane(directory) as cloud:
            env = cloud.agent_env(directory)
            del env["PRESENCE_EGRESS__ALLOW"]  # a private address needs no rule
            async with Program("run", env=env) as agent:
                await agent.said("link", state="online")
                await cloud.api.webhook(cloud.presence_id, "http://myservice.com/ScanEnded/{SubjectId}")
                (delivery,) = await cloud.api.event()
                (request,) = await target.received(1)
                entry = await cloud.api.ended(delivery)
                print(json.dumps({"request": request.decode("latin-1"), "delivery": entry}))


if __name__ == "__main__":
    asyncio.run(main())
