"""Either program killed between any two steps: after a restart the delivery arrives, and its log entry is truthful."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.processes import Program
from tests.support.system import Cloud, control_plane
from tests.support.target import Target, head

Moment = Callable[[Program, Target], Awaitable[object]]


async def event_stored(_agent: Program, _target: Target) -> None:
    """At once after the 201."""


async def fire_accepted(agent: Program, _target: Target) -> None:
    await agent.said("accepted")


async def request_arrived(_agent: Program, target: Target) -> None:
    await target.received(1)


async def attempt_settled(agent: Program, _target: Target) -> None:
    await agent.said("attempt")


async def report_acknowledged(agent: Program, _target: Target) -> None:
    await agent.said("reported")


MOMENTS = [event_stored, fire_accepted, request_arrived, attempt_settled, report_acknowledged]


async def assert_delivered(cloud: Cloud, target: Target, delivery: str) -> None:
    entry = await cloud.api.ended(delivery)
    assert entry["State"] == "succeeded"
    assert {head(request)[1]["webhook-id"] for request in target.requests} == {delivery}
    # One request, or two where the first one's outcome died with the agent; the log counts what was sent.
    assert 1 <= len(target.requests) <= 2
    assert entry["AttemptCount"] >= len(target.requests)
    assert entry["Attempts"][-1]["Status"] == 204


@pytest.mark.parametrize("moment", MOMENTS)
async def test_the_agent_is_killed(tmp_path: Path, moment: Moment) -> None:
    async with Target() as target, control_plane(tmp_path) as cloud:
        env = cloud.agent_env(tmp_path)
        await cloud.api.webhook(cloud.presence_id, target.url())
        async with Program("run", env=env) as agent:
            await agent.said("link", state="online")
            (delivery,) = await cloud.api.event()
            await moment(agent, target)
            await agent.kill()
        async with Program("run", env=env):
            await assert_delivered(cloud, target, delivery)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_the_control_plane_is_killed(tmp_path: Path, moment: Moment) -> None:
    async with Target() as target, control_plane(tmp_path) as cloud:
        await cloud.api.webhook(cloud.presence_id, target.url())
        async with Program("run", env=cloud.agent_env(tmp_path)) as agent:
            await agent.said("link", state="online")
            (delivery,) = await cloud.api.event()
            await moment(agent, target)
            await cloud.kill_and_restart()
            await assert_delivered(cloud, target, delivery)


async def test_both_are_killed(tmp_path: Path) -> None:
    async with Target() as target, control_plane(tmp_path) as cloud:
        await cloud.api.webhook(cloud.presence_id, target.url())
        env = cloud.agent_env(tmp_path)
        async with Program("run", env=env) as agent:
            await agent.said("link", state="online")
            (delivery,) = await cloud.api.event()
            await fire_accepted(agent, target)
            await agent.kill()
        await cloud.kill_and_restart()
        async with Program("run", env=env):
            await assert_delivered(cloud, target, delivery)


async def test_events_wait_for_an_agent_that_is_away(tmp_path: Path) -> None:
    async with Target() as target, control_plane(tmp_path) as cloud:
        await cloud.api.webhook(cloud.presence_id, target.url())
        deliveries = [delivery for number in range(20) for delivery in await cloud.api.event(number=str(number))]
        async with Program("run", env=cloud.agent_env(tmp_path)):
            await target.received(20)
            for delivery in deliveries:
                assert (await cloud.api.ended(delivery))["State"] == "succeeded"
        assert len(target.requests) == 20
