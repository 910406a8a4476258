"""Deliveries whose outcome is unknown: the agent that has them holds them, and a person decides."""

import asyncio
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from presence.controlplane.app import InitResult, run_init
from presence.controlplane.settings import ControlPlaneSettings, Dispatch
from presence.domain.delivery import FinalState
from presence.protocol.messages import Accepted, Cancel, Draining, Fire, Held, Release, Report, ReportAck
from tests.integration.controlplane.peers import Agent, Caller, logged_in


@pytest.fixture
async def key(caller: Caller) -> str:
    """The key of a presence whose webhook asks for a person's decision."""
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id, OnUnknown="Hold")
    return key


async def held(caller: Caller, agent: Agent) -> Fire:
    """A delivery that the agent has accepted, attempted once, and holds."""
    await caller.event()
    fire = await agent.expect(Fire)
    assert fire.on_unknown == "hold"
    await agent.say(Accepted(id=fire.id))
    await agent.hold(fire)
    return fire


def standing(entry: dict[str, Any]) -> tuple[str, str | None, str | None]:
    return entry["State"], entry["Reason"], entry["InstanceId"]


async def succeed(agent: Agent, fire: Fire, attempts: int) -> None:
    report = Report(id=fire.id, state=FinalState.SUCCEEDED, reason="delivered", attempts=attempts, settled_ago=0)
    await agent.say(report)
    assert (await agent.expect(ReportAck)).id == fire.id


async def test_what_is_held_is_in_the_log_with_its_attempts(caller: Caller, key: str) -> None:
    async with Agent(caller.url, key) as agent:
        fire = await held(caller, agent)
    entry = await caller.delivery(fire.id)
    assert standing(entry) == ("held", "unknown", agent.instance)
    assert (entry["AttemptCount"], entry["SettledAt"]) == (1, None)
    (attempt,) = entry["Attempts"]
    assert (attempt["Phase"], attempt["Fault"], attempt["Unknown"]) == ("first-byte", "reset", True)


async def test_fire_releases_it_at_once_where_the_agent_is_connected(caller: Caller, key: str) -> None:
    async with Agent(caller.url, key) as agent:
        fire = await held(caller, agent)
        resolved = await caller.resolve(fire.id, "Fire")
        assert standing(resolved) == ("accepted", None, agent.instance)
        assert await agent.expect(Release) == Release(id=fire.id, attempts=1)
        await succeed(agent, fire, attempts=2)
    entry = await caller.delivery(fire.id)
    assert (entry["State"], entry["AttemptCount"]) == ("succeeded", 2)


async def test_each_unknown_outcome_needs_a_decision_of_its_own(caller: Caller, key: str) -> None:
    async with Agent(caller.url, key) as agent:
        fire = await held(caller, agent)
        await caller.resolve(fire.id, "Fire")
        assert (await agent.expect(Release)).attempts == 1
        await agent.hold(fire, attempts=2)
        assert agent.waiting(Release) == []
        entry = await caller.delivery(fire.id)
        assert standing(entry) == ("held", "unknown", agent.instance)
        assert (entry["AttemptCount"], len(entry["Attempts"])) == (2, 2)
        await caller.resolve(fire.id, "Fire")
        assert (await agent.expect(Release)).attempts == 2


async def test_abandon_ends_it_and_tells_the_agent_to_cancel(caller: Caller, key: str) -> None:
    async with Agent(caller.url, key) as agent:
        fire = await held(caller, agent)
        resolved = await caller.resolve(fire.id, "Abandon")
        assert standing(resolved) == ("cancelled", "abandoned", agent.instance)
        assert resolved["SettledAt"] is not None
        assert (await agent.expect(Cancel)).id == fire.id
        await agent.say(Report(id=fire.id, state=FinalState.CANCELLED, reason="cancelled", attempts=1, settled_ago=0))
        assert (await agent.expect(ReportAck)).id == fire.id
    assert await caller.delivery(fire.id) == resolved


async def test_an_agent_that_was_away_gets_the_release_when_it_asks_again(caller: Caller, key: str) -> None:
    async with Agent(caller.url, key) as agent:
        fire = await held(caller, agent)
    await caller.resolve(fire.id, "Fire")
    for _ in range(2):  # The first answer may be lost with its connection.
        async with Agent(caller.url, key, instance=agent.instance, held=[fire.id]) as agent:
            await agent.hold(fire)
            assert agent.waiting(Release) == [Release(id=fire.id, attempts=1)]
            assert standing(await caller.delivery(fire.id)) == ("accepted", None, agent.instance)


async def test_an_agent_that_was_away_is_told_to_cancel_what_was_abandoned(caller: Caller, key: str) -> None:
    async with Agent(caller.url, key) as agent:
        fire = await held(caller, agent)
    await caller.resolve(fire.id, "Abandon")
    async with Agent(caller.url, key, instance=agent.instance, held=[fire.id]) as agent:
        assert (await agent.expect(Cancel)).id == fire.id
        await agent.hold(fire)
        assert (await agent.expect(Cancel)).id == fire.id
    assert (await caller.delivery(fire.id))["State"] == "cancelled"


async def test_stating_and_asking_again_changes_nothing(caller: Caller, key: str) -> None:
    async with Agent(caller.url, key) as agent:
        fire = await held(caller, agent)
        await agent.hold(fire)
    before = await caller.delivery(fire.id)
    async with Agent(caller.url, key, instance=agent.instance, held=[fire.id]) as agent:
        await agent.settled()
        assert await caller.delivery(fire.id) == before
        await agent.hold(fire)
        await agent.settled()
        assert not agent.waiting(Cancel) + agent.waiting(Release) + agent.waiting(Fire)
    after = await caller.delivery(fire.id)
    assert standing(after) == standing(before)
    assert after["AttemptCount"] == 1


async def test_a_draining_agent_is_told_too(caller: Caller, key: str) -> None:
    async with Agent(caller.url, key) as agent:
        fire, other = await held(caller, agent), await held(caller, agent)
        await agent.say(Draining())
        await agent.settled()
        await caller.resolve(fire.id, "Fire")
        assert (await agent.expect(Release)).id == fire.id
        await caller.resolve(other.id, "Abandon")
        assert (await agent.expect(Cancel)).id == other.id


async def test_what_the_agent_let_go_itself_is_asked_about_anew(caller: Caller, key: str) -> None:
    async with Agent(caller.url, key) as agent:
        first, second = await held(caller, agent), await held(caller, agent)
        await agent.hold(first, attempts=2)
        assert (await caller.delivery(first.id))["AttemptCount"] == 2
        await caller.resolve(first.id, "Fire")
        assert (await agent.expect(Release)).attempts == 2
        await succeed(agent, second, attempts=2)
    assert (await caller.delivery(second.id))["State"] == "succeeded"


async def test_only_the_owner_asks(caller: Caller, key: str) -> None:
    async with Agent(caller.url, key) as agent:
        fire = await held(caller, agent)
        await caller.event("other")
        accepted = await agent.expect(Fire)
        await agent.say(Accepted(id=accepted.id))
        await agent.settled()
        before = await caller.deliveries()
        async with Agent(caller.url, key, held=[fire.id]) as other:
            assert (await other.expect(Cancel)).id == fire.id
            for asked in (fire, accepted):
                await other.hold(asked, attempts=7)
                assert (await other.expect(Cancel)).id == asked.id
            await other.hold(fire.model_copy(update={"id": str(uuid4())}))
            assert not other.waiting(Cancel) + other.waiting(Release)
        assert await caller.deliveries() == before


async def test_another_presence_asks_in_vain(caller: Caller, key: str) -> None:
    _, foreign = await caller.presence("elsewhere")
    async with Agent(caller.url, key) as agent, Agent(caller.url, foreign) as thief:
        fire = await held(caller, agent)
        before = await caller.delivery(fire.id)
        await thief.hold(fire, attempts=9)
        assert not thief.waiting(Cancel) + thief.waiting(Release)
        assert await caller.delivery(fire.id) == before


@pytest.mark.parametrize("decided", ["before the restart", "after the restart"])
async def test_a_restart_forgets_neither_the_question_nor_the_answer(
    settings: ControlPlaneSettings, administrator: InitResult, http: aiohttp.ClientSession, decided: str
) -> None:
    async with logged_in(settings, administrator, http) as caller:
        presence_id, key = await caller.presence()
        await caller.webhook(presence_id, OnUnknown="Hold")
        async with Agent(caller.url, key) as agent:
            fire = await held(caller, agent)
        if decided == "before the restart":
            await caller.resolve(fire.id, "Fire")
    async with logged_in(settings, administrator, http) as caller:
        async with Agent(caller.url, key, instance=agent.instance, held=[fire.id]) as agent:
            await agent.hold(fire)
            if decided == "after the restart":
                assert standing(await caller.delivery(fire.id)) == ("held", "unknown", agent.instance)
                await caller.resolve(fire.id, "Fire")
            assert (await agent.expect(Release)).attempts == 1
            await succeed(agent, fire, attempts=2)
        assert (await caller.delivery(fire.id))["State"] == "succeeded"


async def test_a_decision_reaches_an_agent_that_is_just_connecting(caller: Caller, key: str) -> None:
    async with Agent(caller.url, key) as agent:
        fire = await held(caller, agent)
    late = Agent(caller.url, key, instance=agent.instance, held=[fire.id])
    resolving = asyncio.create_task(caller.resolve(fire.id, "Fire"))
    async with late as agent:
        await agent.hold(fire)
        await resolving
        assert (await agent.expect(Release)).attempts == 1


async def test_what_waits_outlives_the_journal_of_the_agent(caller: Caller, key: str) -> None:
    async with Agent(caller.url, key) as agent:
        fire, other = await held(caller, agent), await held(caller, agent)
    async with Agent(caller.url, key, instance=agent.instance) as agent:
        await agent.settled()
        for id_ in (fire.id, other.id):
            assert standing(await caller.delivery(id_)) == ("held", "unknown", None)
        assert agent.waiting(Fire) == []
        assert (await caller.resolve(other.id, "Abandon"))["Reason"] == "abandoned"
        assert standing(await caller.resolve(fire.id, "Fire")) == ("queued", None, None)
        assert (await agent.expect(Fire)).id == fire.id
        # Its first attempt is not the one that was decided about.
        await agent.say(Accepted(id=fire.id))
        await agent.hold(fire)
        assert agent.waiting(Release) == []
        assert (await caller.delivery(fire.id))["State"] == "held"


async def test_what_cannot_be_resolved(caller: Caller, key: str, settings: ControlPlaneSettings) -> None:
    delivery = (await caller.event())["Deliveries"][0]
    for action in ("Fire", "Abandon"):
        refused = await caller.resolve(delivery, action, status=409)
        assert (refused["Key"], refused["FormatParams"]) == ("DELIVERY_IS_NOT_HELD", ["queued"])
    async with Agent(caller.url, key) as agent:
        fire = await agent.expect(Fire)
        await agent.say(Accepted(id=fire.id))
        await agent.settled()
        assert (await caller.resolve(delivery, "Fire", status=409))["FormatParams"] == ["accepted"]
        await agent.hold(fire)
        await caller.resolve(delivery, "drop", status=400)
        await caller.post(f"Deliveries/{delivery}/Resolve", {}, status=400)
        stranger = Caller(caller.url, caller.http)
        await stranger.resolve(delivery, "Fire", status=401)
        other = await asyncio.to_thread(run_init, settings, "other")
        await stranger.log_in(other.key_id, other.key_secret)
        assert (await stranger.resolve(delivery, "Fire", status=404))["Key"] == "RESOURCE_NOT_FOUND"
        assert (await caller.delivery(delivery))["State"] == "held"
        await caller.resolve(delivery, "Abandon")
        assert (await caller.resolve(delivery, "Fire", status=409))["FormatParams"] == ["cancelled"]


async def test_what_nobody_decides_expires(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id, OnUnknown="Hold", MaxAgeSeconds=2)
    async with Agent(caller.url, key) as agent:
        fire = await held(caller, agent)
        entry = await caller.until(fire.id, "expired")
        assert (entry["Reason"], entry["AttemptCount"]) == ("too_old", 1)
        await agent.say(Held(id=fire.id, reason="unknown", attempts=1))
        assert (await agent.expect(Cancel)).id == fire.id


class TestBrisk:
    """With short leases."""

    @pytest.fixture
    def dispatch(self) -> Dispatch:
        return Dispatch(lease=1, canary_every=0.1, canary_timeout=0.9)

    async def test_a_lease_that_ends_moves_nothing_that_waits_for_a_decision(self, caller: Caller, key: str) -> None:
        async with Agent(caller.url, key) as owner:
            fire = await held(caller, owner)
            await caller.event("accepted")
            accepted = await owner.expect(Fire)
            await owner.say(Accepted(id=accepted.id))
            await owner.settled()
        async with Agent(caller.url, key) as heir:
            # Nobody knows whether its request was sent, so a person decides about this one, too.
            entry = await caller.until(accepted.id, "held")
            assert (standing(entry), entry["TakeOvers"]) == (("held", "unknown", None), 1)
            entry = await caller.delivery(fire.id)
            assert (standing(entry), entry["TakeOvers"]) == (("held", "unknown", owner.instance), 0)
            assert heir.waiting(Fire) == []
            # Once it is decided, whoever is here carries it out.
            for decided in (fire, accepted):
                await caller.resolve(decided.id, "Fire")
                assert (await heir.expect(Fire)).id == decided.id
                await heir.deliver(decided)
        async with Agent(caller.url, key, instance=owner.instance, held=[fire.id, accepted.id]) as owner:
            assert {cancel.id for cancel in owner.before_ready} == {fire.id, accepted.id}
        for decided in (fire, accepted):
            assert standing(await caller.delivery(decided.id)) == ("succeeded", "delivered", heir.instance)

    async def test_an_owner_that_comes_back_goes_on_with_what_was_held_in_its_stead(
        self, caller: Caller, key: str
    ) -> None:
        await caller.event()
        async with Agent(caller.url, key) as owner:
            fire = await owner.expect(Fire)
            await owner.say(Accepted(id=fire.id))
            await owner.settled()
        async with Agent(caller.url, key) as heir:
            await caller.until(fire.id, "held")
            async with Agent(caller.url, key, instance=owner.instance, held=[fire.id]) as owner:
                await owner.settled()
                assert owner.waiting(Cancel) == []
                assert standing(await caller.delivery(fire.id)) == ("accepted", None, owner.instance)
                await owner.deliver(fire)
            assert heir.waiting(Fire) == []

    async def test_a_decision_that_the_owner_heard_is_asked_for_again_when_it_is_gone(
        self, caller: Caller, key: str
    ) -> None:
        async with Agent(caller.url, key) as owner:
            fire = await held(caller, owner)
            await caller.resolve(fire.id, "Fire")
            await owner.expect(Release)
        async with Agent(caller.url, key) as heir:
            assert standing(await caller.until(fire.id, "held")) == ("held", "unknown", None)
            await caller.resolve(fire.id, "Fire")
            assert (await heir.expect(Fire)).id == fire.id
