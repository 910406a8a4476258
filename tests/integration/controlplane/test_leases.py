"""A wall clock that jumps takes no deliveries from agents that are here, and leaves none with those that are gone."""

import pytest

from presence.clock import SystemClock
from presence.controlplane.settings import Dispatch
from presence.protocol.messages import Accepted, Cancel, Fire
from tests.integration.controlplane.peers import Agent, Caller, before_the_next_look

JUMP_MS = 120_000
YEARS_MS = 10 * 365 * 86_400_000


class JumpingClock(SystemClock):
    ahead = 0

    def wall(self) -> int:
        return super().wall() + self.ahead


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> JumpingClock:
    """The control plane's clock; its leases last for 60 s."""
    clock = JumpingClock()
    monkeypatch.setattr("presence.controlplane.app.SystemClock", lambda: clock)
    return clock


async def jump(clock: JumpingClock, caller: Caller, bystander: str) -> None:
    """Returns when a whole sweep has seen the new time: each jump expires a delivery of a presence without agents."""
    for _ in range(2):
        await caller.webhook(bystander, MaxAgeSeconds=1, Event="ApplicationCountersChanged")
        expiring = (await caller.event(type="ApplicationCountersChanged"))["Deliveries"][0]
        clock.ahead += JUMP_MS
        await caller.until(expiring, "expired")


async def test_a_jump_takes_nothing_from_instances_that_are_connected(caller: Caller, clock: JumpingClock) -> None:
    presence_id, key = await caller.presence()
    bystander, _ = await caller.presence("elsewhere")
    await caller.webhook(presence_id)
    async with Agent(caller.url, key) as one, Agent(caller.url, key) as two:
        for agent in (one, two):
            await agent.settled()
        for number in range(4):
            await caller.event(f"subject-{number}")
        for agent, fires in ((one, await one.fires(2)), (two, await two.fires(2))):
            await agent.say(*(Accepted(id=fire.id) for fire in fires))
            await agent.settled()
        await jump(clock, caller, bystander)
        for agent in (one, two):
            await agent.settled()
            assert agent.waiting(Fire) == []
            assert agent.waiting(Cancel) == []
    owners = {entry["InstanceId"] for entry in await caller.deliveries() if entry["State"] == "accepted"}
    assert owners == {one.instance, two.instance}


class TestBrisk:
    """With short leases."""

    @pytest.fixture
    def dispatch(self) -> Dispatch:
        return Dispatch(lease=1, canary_every=0.1, canary_timeout=0.9)

    async def test_a_jump_back_keeps_no_lease_of_an_instance_that_is_gone(
        self, caller: Caller, clock: JumpingClock
    ) -> None:
        presence_id, key = await caller.presence()
        await caller.webhook(presence_id)
        async with Agent(caller.url, key) as gone:
            await caller.event()
            fire = await gone.expect(Fire)
            await gone.say(Accepted(id=fire.id))
            await gone.settled()
        clock.ahead -= YEARS_MS
        async with Agent(caller.url, key) as heir:
            assert (await heir.expect(Fire)).id == fire.id
            (shown,) = (await caller.get("Presences"))["Items"]
            assert (shown["Status"], shown["LastCanaryAgeSeconds"]) == ("Active", 0)
        while (shown := (await caller.get("Presences"))["Items"][0])["LastCanaryAgeSeconds"] == 0:
            await before_the_next_look()
        assert shown["Status"] == "Inactive"
