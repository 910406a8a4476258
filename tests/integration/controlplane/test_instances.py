"""Several instances of one presence: who owns what, and what each is told of the others."""

from uuid import uuid4

import aiohttp
import pytest

from presence.clock import SystemClock
from presence.controlplane.app import InitResult
from presence.controlplane.runs import CONFLICT_LASTS
from presence.controlplane.settings import ControlPlaneSettings, Dispatch
from presence.domain.delivery import FinalState
from presence.errors import CloseCode
from presence.protocol.messages import Accepted, Cancel, Fire, Report
from tests.integration.controlplane.peers import Agent, Caller, before_the_next_look, logged_in


@pytest.fixture
async def key(caller: Caller) -> str:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    return key


async def accepted(caller: Caller, agent: Agent) -> Fire:
    await caller.event()
    fire = await agent.expect(Fire)
    await agent.say(Accepted(id=fire.id))
    await agent.settled()
    return fire


async def presence_of(caller: Caller) -> dict[str, object]:
    (listed,) = (await caller.get("Presences"))["Items"]
    shown: dict[str, object] = listed
    return shown


async def test_the_owner_is_told_at_once_what_another_has_delivered(caller: Caller, key: str) -> None:
    async with Agent(caller.url, key) as owner, Agent(caller.url, key) as other:
        await other.settled()
        await caller.event()
        await caller.event()
        fire = await owner.expect(Fire)
        await owner.say(Accepted(id=fire.id))
        await owner.settled()
        await other.say(Report(id=fire.id, state=FinalState.SUCCEEDED, reason="delivered", attempts=1, settled_ago=0))
        assert (await owner.expect(Cancel)).id == fire.id
        assert other.waiting(Cancel) == []
        # The owner's own end is acknowledged, and changes nothing.
        await owner.say(Report(id=fire.id, state=FinalState.CANCELLED, reason="cancelled", attempts=0, settled_ago=0))
        await owner.settled()
    assert (await caller.delivery(fire.id))["State"] == "succeeded"


async def test_a_repeated_success_tells_the_owner_nothing_new(caller: Caller, key: str) -> None:
    async with Agent(caller.url, key) as owner:
        fire = await accepted(caller, owner)
        await owner.deliver(fire)
        async with Agent(caller.url, key) as other:
            report = Report(id=fire.id, state=FinalState.SUCCEEDED, reason="delivered", attempts=1, settled_ago=0)
            await other.say(report)
            await other.settled()
        await owner.settled()
        assert owner.waiting(Cancel) == []


async def test_all_that_is_no_longer_its_own_is_cancelled_before_an_agent_may_go_on(caller: Caller, key: str) -> None:
    """However many pages it states: 2,500 ids that others own, have ended, or that are its own."""
    async with Agent(caller.url, key) as owner:
        fires = [await accepted(caller, owner) for _ in range(3)]
        await owner.deliver(fires[0])
        strange = [str(uuid4()) for _ in range(2500)]
        held = [fires[0].id, *strange, fires[1].id]
        async with Agent(caller.url, key, held=held) as other:
            assert {message.id for message in other.before_ready} == {fires[0].id, fires[1].id}
            await other.settled()
            assert other.waiting(Fire) == []
        async with Agent(caller.url, key, instance=owner.instance, held=[fires[1].id, fires[2].id]) as owner:
            assert owner.before_ready == []


async def test_the_least_busy_instance_is_given_the_next(caller: Caller, key: str) -> None:
    async with Agent(caller.url, key) as busy:
        for _ in range(3):
            await accepted(caller, busy)
        async with Agent(caller.url, key) as idle:
            await idle.settled()
            for _ in range(3):
                await accepted(caller, idle)
            assert busy.waiting(Fire) == []
            await caller.event()
            await caller.event()
            await busy.expect(Fire)
            await idle.expect(Fire)


async def test_what_an_agent_states_counts_as_busy(caller: Caller, key: str) -> None:
    held = [(await caller.event())["Deliveries"][0] for _ in range(2)]
    async with Agent(caller.url, key, held=held) as busy, Agent(caller.url, key) as idle:
        await idle.settled()
        for _ in range(2):
            await accepted(caller, idle)
        assert busy.waiting(Fire) == []


async def test_before_accepted_another_instance_has_it_at_once(caller: Caller, key: str) -> None:
    async with Agent(caller.url, key) as gone:
        await caller.event()
        fire = await gone.expect(Fire)
        async with Agent(caller.url, key) as other:
            await other.settled()
            gone.socket.transport.abort()
            assert (await other.expect(Fire)).id == fire.id
            await other.deliver(fire)
    entry = await caller.delivery(fire.id)
    assert (entry["State"], entry["InstanceId"], entry["TakeOvers"]) == ("succeeded", other.instance, 0)


async def test_copies_of_one_journal_are_a_conflict(
    caller: Caller, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    instance, runs = str(uuid4()), [str(uuid4()), str(uuid4())]
    async with Agent(caller.url, key, instance=instance, run=runs[0], host="rack-1") as one:
        await one.settled()
        async with Agent(caller.url, key, instance=instance, run=runs[1], host="rack-2") as two:
            # It may have been started again: only the first one's return shows that both are alive.
            assert await one.closed() == CloseCode.SUPERSEDED
            assert (await presence_of(caller))["Conflict"] is False
            assert "instance conflict" not in "".join(capsys.readouterr())
            async with Agent(caller.url, key, instance=instance, run=runs[0], host="rack-1"):
                assert await two.closed() == CloseCode.SUPERSEDED
                shown = await presence_of(caller)
    assert (shown["Conflict"], shown["ConflictHosts"]) == (True, ["rack-1", "rack-2"])
    output = "".join(capsys.readouterr())
    assert "instance conflict" in output
    assert "rack-1" in output
    assert "rack-2" in output


async def test_a_conflict_is_remembered_through_a_restart_and_forgotten_after_an_hour(
    settings: ControlPlaneSettings,
    administrator: InitResult,
    http: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SystemClock()
    late = 0
    monkeypatch.setattr(clock, "wall", lambda: SystemClock.wall(clock) + late)
    monkeypatch.setattr("presence.controlplane.app.SystemClock", lambda: clock)
    instance, runs = str(uuid4()), [str(uuid4()), str(uuid4())]
    async with logged_in(settings, administrator, http) as caller:
        _, key = await caller.presence()
        for number in (0, 1):
            async with Agent(caller.url, key, instance=instance, run=runs[number], host=f"rack-{number}"):
                pass
    async with (
        logged_in(settings, administrator, http) as caller,
        Agent(caller.url, key, instance=instance, run=runs[0], host="rack-0"),
    ):
        assert (await presence_of(caller))["ConflictHosts"] == ["rack-0", "rack-1"]
    async with logged_in(settings, administrator, http) as caller:
        assert (await presence_of(caller))["Conflict"] is True
    late = CONFLICT_LASTS
    async with logged_in(settings, administrator, http) as caller:
        shown = await presence_of(caller)
        assert (shown["Conflict"], shown["ConflictHosts"]) == (False, [])


async def test_a_program_that_starts_again_and_reconnects_is_no_conflict(caller: Caller, key: str) -> None:
    instance = str(uuid4())
    for _ in range(3):
        run = str(uuid4())
        for _ in range(2):
            async with Agent(caller.url, key, instance=instance, run=run):
                pass
    assert (await presence_of(caller))["Conflict"] is False


class TestBrisk:
    """With short leases."""

    @pytest.fixture
    def dispatch(self) -> Dispatch:
        return Dispatch(lease=1, canary_every=0.1, canary_timeout=0.9)

    async def test_what_is_taken_over_is_shown_as_a_possible_duplicate(
        self, caller: Caller, key: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        async with Agent(caller.url, key) as owner:
            fire = await accepted(caller, owner)
        async with Agent(caller.url, key) as heir:
            assert (await heir.expect(Fire)).id == fire.id
            assert "a duplicate is possible" in "".join(capsys.readouterr())
            assert (await caller.delivery(fire.id))["TakeOvers"] == 1
            await heir.say(Accepted(id=fire.id))
            await heir.settled()
            async with Agent(caller.url, key, instance=owner.instance, held=[fire.id]) as owner:
                assert owner.before_ready == [Cancel(id=fire.id)]
            await heir.deliver(fire)
        entry = await caller.delivery(fire.id)
        assert (entry["State"], entry["InstanceId"], entry["TakeOvers"]) == ("succeeded", heir.instance, 1)

    async def test_an_agent_that_is_alone_loses_nothing_when_its_lease_ends(self, caller: Caller, key: str) -> None:
        async with Agent(caller.url, key) as owner:
            fire = await accepted(caller, owner)
        # Two sweeps later its lease has ended.
        presence_id = (await presence_of(caller))["Id"]
        await caller.webhook(str(presence_id), MaxAgeSeconds=2, Event="ApplicationUpdated")
        await caller.until((await caller.event(type="ApplicationUpdated"))["Deliveries"][0], "expired")
        async with Agent(caller.url, key, instance=owner.instance, held=[fire.id]) as owner:
            assert owner.before_ready == []
            await owner.deliver(fire)
        assert (await caller.delivery(fire.id))["TakeOvers"] == 0

    async def test_the_age_of_the_last_canary_grows_when_nobody_answers(self, caller: Caller, key: str) -> None:
        async with Agent(caller.url, key) as agent:
            await agent.settled()
        shown = await presence_of(caller)
        while shown["LastCanaryAgeSeconds"] != 1:
            assert shown["LastCanaryAgeSeconds"] == 0
            await before_the_next_look()
            shown = await presence_of(caller)
        assert shown["Status"] == "Inactive"
