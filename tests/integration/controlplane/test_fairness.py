"""A host with a long queue, or one that does not answer, and what the others notice of it."""

import pytest

from presence.protocol.messages import Accepted, Fire
from tests.integration.controlplane.peers import Agent, Caller

CREDIT = 12
QUEUED = 60


@pytest.fixture
async def key(caller: Caller) -> str:
    """The key of a presence with a long queue for one host, and after it a short one for each of three others."""
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id, Uri="http://slow/{SubjectId}")
    for _ in range(QUEUED):
        await caller.event("early")
    for host in ("one", "two", "three"):
        await caller.webhook(presence_id, Uri=f"http://{host}/{{SubjectId}}", Event="ApplicationUpdated")
    for _ in range(4):
        await caller.event("late", type="ApplicationUpdated")
    return key


def is_slow(fire: Fire) -> bool:
    return fire.uri.startswith("http://slow/")


async def test_hosts_take_turns_whatever_waits_for_one_of_them(caller: Caller, key: str) -> None:
    async with Agent(caller.url, key, credit=CREDIT) as agent:
        fires = await agent.fires(CREDIT - 2)
    assert sum(is_slow(fire) for fire in fires) <= CREDIT // 4
    assert len({fire.uri for fire in fires}) == 4


async def test_a_host_that_does_not_answer_leaves_credit_for_the_others(caller: Caller, key: str) -> None:
    waiting: list[Fire] = []
    async with Agent(caller.url, key, credit=CREDIT) as agent:

        async def deliver_others(count: int) -> None:
            while count:
                fire = await agent.expect(Fire)
                if is_slow(fire):
                    await agent.say(Accepted(id=fire.id))
                    waiting.append(fire)
                else:
                    await agent.deliver(fire)
                    count -= 1

        await deliver_others(12)
        # What comes later finds some, too, though the slow host has more than enough to take it all.
        for _ in range(5):
            await caller.event("later", type="ApplicationUpdated")
            await deliver_others(3)
        assert 0 < len(waiting) <= 8
        # And when it answers again, it goes on.
        for fire in waiting:
            await agent.deliver(fire)
        for _ in range(QUEUED - len(waiting)):
            fire = await agent.expect(Fire)
            assert is_slow(fire)
            await agent.deliver(fire)
