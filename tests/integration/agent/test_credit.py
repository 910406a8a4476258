"""What the agent says of its room: which deliveries use credit, and what is full."""

from pathlib import Path

from presence.protocol.messages import Accepted, Attempted, Busy, Hello, Holding
from tests.support.control_plane import ScriptedControlPlane, fire
from tests.support.processes import Program, agent_env
from tests.support.target import Target, silence, status

PATIENT = {"PRESENCE_RETRY__INITIAL": "30", "PRESENCE_RETRY__MAXIMUM": "30"}


def attempted(cloud: ScriptedControlPlane) -> list[str]:
    return [id for said in cloud.heard if isinstance(said, Attempted) for id in said.ids]


async def test_what_waits_for_its_second_attempt_is_said_once_and_uses_no_credit(tmp_path: Path) -> None:
    async with (
        Target(status(503)) as target,
        ScriptedControlPlane() as cloud,
        Program("run", env=agent_env(cloud.url, cloud.key, tmp_path, **PATIENT)),
    ):
        waiting = await cloud.fire(target.url(), count=30)
        await cloud.until(lambda: set(attempted(cloud)) == set(waiting))
        target.answer = status(204)
        (ended,) = await cloud.fire(target.url())
        await cloud.reported(ended)
        assert sorted(attempted(cloud)) == sorted(waiting)
        assert cloud.session is not None
        assert cloud.session.unattempted == set()


async def test_a_new_session_is_told_what_had_no_attempt_yet(tmp_path: Path) -> None:
    async with Target(status(503)) as target, Target(silence) as slow, ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path, **PATIENT, PRESENCE_DELIVERY__PER_HOST="1")
        async with Program("run", env=env):
            waiting = await cloud.fire(target.url(), count=3)
            fresh = await cloud.fire(slow.url(), count=3)
            await cloud.accepted(*fresh)
            await cloud.until(lambda: set(attempted(cloud)) == set(waiting))
            await slow.received(1)
            assert cloud.connection is not None
            await cloud.connection.close()
            await cloud.until(lambda: sum(isinstance(said, Hello) for said in cloud.heard) == 2)
            await cloud.ready()
            holding = [said for said in cloud.heard if isinstance(said, Holding)][-1]
            assert (set(holding.ids), set(holding.unattempted)) == ({*waiting, *fresh}, set(fresh))
            slow.answer = status(503)
            for writer in list(slow._writers):
                writer.transport.abort()
            await cloud.until(lambda: cloud.session is not None and cloud.session.unattempted == set())


async def test_a_full_memory_answers_busy_and_knows_what_it_has(tmp_path: Path) -> None:
    async with Target() as target, ScriptedControlPlane() as cloud:
        bounds = {"PRESENCE_JOURNAL__MAX_DELIVERIES": "100", "PRESENCE_JOURNAL__MAX_REMEMBERED": "100"}
        async with Program("run", env=agent_env(cloud.url, cloud.key, tmp_path, **bounds)) as agent:
            delivered: list[str] = []
            for _ in range(5):
                delivered += await cloud.fire(target.url(), count=20)
                await cloud.reported(*delivered)
            (late,) = await cloud.fire(target.url())
            await cloud.until(lambda: any(isinstance(said, Busy) for said in cloud.heard))
            (busy,) = [said for said in cloud.heard if isinstance(said, Busy)]
            assert (busy.id, busy.reason) == (late, "memory_full")
            await agent.said("busy", reason="memory_full", deliveries=1)
            await cloud.send_again(fire(target.url(), id=delivered[0]))
            await cloud.until(lambda: cloud.heard.count(Accepted(id=delivered[0])) == 2)
            assert len(target.requests) == 100
