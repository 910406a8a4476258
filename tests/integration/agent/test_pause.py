"""Local maintenance: no attempt starts, nothing is lost, the control plane knows."""

import json
import time
from pathlib import Path

from presence.domain.delivery import FinalState
from presence.protocol.messages import Accepted, Paused
from tests.support.control_plane import ScriptedControlPlane, fire
from tests.support.processes import Program, agent_env
from tests.support.system import output, run
from tests.support.target import Target, status


def said_of_pauses(cloud: ScriptedControlPlane) -> list[int | None]:
    return [said.remaining for said in cloud.heard if isinstance(said, Paused)]


async def test_while_paused_fires_are_kept_and_nothing_is_attempted_not_even_after_a_restart(tmp_path: Path) -> None:
    async with Target() as target, ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path)
        async with Program("run", env=env) as agent:
            await cloud.ready()
            assert json.loads(await output("pause", "--json", env=env)) == {"paused": True, "remaining_s": None}
            await cloud.until(lambda: said_of_pauses(cloud) == [None])
            fired = await cloud.fire(target.url(), count=3)
            await cloud.accepted(*fired)
            await agent.kill()
        async with Program("run", env=env) as agent:
            await cloud.until(lambda: said_of_pauses(cloud) == [None, None])
            late = await cloud.fire(target.url())
            await cloud.accepted(*late)
            _, text, _ = await run("status", "--json", env=env)
            document = json.loads(text)
            assert document["paused"] == {"remaining_s": None}
            assert document["ready"] is True
            assert (document["journal"]["pending"], document["deliveries"]["in_flight"]) == (4, 0)
            assert target.requests == []
            assert (await output("resume", env=env)) == "resumed; 4 deliveries wait\n"
            reports = await cloud.reported(*fired, *late)
            assert {report.state for report in reports} == {FinalState.SUCCEEDED}
            assert {report.attempts for report in reports} == {1}
            assert said_of_pauses(cloud) == [None, None, 0]
            assert (await output("resume", env=env)) == "the agent was not paused\n"
            assert await agent.stop() == 0


async def test_a_pause_ends_by_itself_and_what_has_waited_starts_at_the_set_rate(tmp_path: Path) -> None:
    async with Target() as target, ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path, PRESENCE_DELIVERY__DRAIN_RATE="4")
        async with Program("run", env=env) as agent:
            await cloud.ready()
            await output("pause", "--for", "2s", env=env)
            fired = await cloud.fire(target.url(), count=12)
            await cloud.accepted(*fired)
            assert target.requests == []
            await agent.said("resumed")
            began = time.monotonic()
            await cloud.reported(*fired)
            # Four at once, and the other eight at four a second.
            assert time.monotonic() - began > 1.5
            first, last = said_of_pauses(cloud)
            assert 0 < (first or 0) <= 2000
            assert last == 0


async def test_a_retry_that_becomes_due_while_paused_uses_no_attempt(tmp_path: Path) -> None:
    async with Target(status(503, 204)) as target, ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path, PRESENCE_RETRY__INITIAL="1", PRESENCE_RETRY__MAXIMUM="1")
        async with Program("run", env=env):
            delivery = fire(target.url())
            await cloud.fire_all([delivery])
            await target.received(1)
            await output("pause", "--for", "3s", env=env)
            (report,) = await cloud.reported(delivery.id)
            assert (report.state, report.attempts) == (FinalState.SUCCEEDED, 2)
            first, second = report.log
            assert first.ago - second.ago >= 2500


async def test_an_accepted_delivery_can_be_paused_while_the_control_plane_is_away(tmp_path: Path) -> None:
    async with Target() as target, ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path)
        async with Program("run", env=env) as agent:
            await cloud.ready()
            await cloud.stop()
            await agent.said("link", state="offline")
            await output("pause", "--for", "1h", env=env)
            await cloud.start()
            (delivery,) = await cloud.fire(target.url())
            await cloud.accepted(delivery)
            assert all(0 < (remaining or 0) <= 3_600_000 for remaining in said_of_pauses(cloud))
            assert isinstance(cloud.heard[-1], Accepted)
            assert target.requests == []
            await output("resume", env=env)
            await cloud.reported(delivery)
