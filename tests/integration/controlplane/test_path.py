"""The main path through a session: fire, accepted, report, and everything that may happen between."""

import asyncio
from datetime import datetime
from uuid import uuid4

from pydantic.alias_generators import to_pascal

from presence.domain.delivery import FinalState
from presence.protocol.messages import (
    Accepted,
    Attempted,
    AttemptRecord,
    Busy,
    Cancel,
    Draining,
    Fire,
    Report,
    ReportAck,
)
from tests.integration.controlplane.peers import Agent, Caller

SUBJECT = "9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b"


async def test_an_event_becomes_a_fire_a_report_and_an_entry_in_the_log(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    webhook = await caller.webhook(presence_id)
    async with Agent(caller.url, key) as agent:
        event = await caller.event(SUBJECT)
        fire = await agent.expect(Fire)
        assert [fire.id] == event["Deliveries"]
        assert (fire.webhook_id, fire.subject_id, fire.event) == (webhook["Id"], SUBJECT, "ScanExecutionCompleted")
        assert (fire.uri, fire.method) == ("http://myservice.com/ScanEnded/{SubjectId}", "GET")
        assert fire.max_age == 86_400_000
        assert fire.age < 5000
        assert (await caller.delivery(fire.id))["State"] == "dispatched"
        await agent.say(Accepted(id=fire.id))
        await caller.until(fire.id, "accepted")
        await agent.deliver(fire)
        entry = await caller.delivery(fire.id)
    assert entry["State"] == "succeeded"
    assert entry["Reason"] == "delivered"
    assert entry["AttemptCount"] == 1
    assert entry["InstanceId"] == agent.instance
    attempt = entry["Attempts"][0]
    assert (attempt["Number"], attempt["Took"], attempt["Status"], attempt["Address"]) == (1, 7, 204, "10.0.0.7")
    times = [entry[name] for name in ("CreatedAt", "DispatchedAt", "AcceptedAt")]
    assert times == sorted(times)
    assert datetime.fromisoformat(attempt["At"]) < datetime.fromisoformat(entry["SettledAt"])


async def test_a_fire_has_what_its_webhook_said_when_the_event_came(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    body = '{"patch_id": "{SubjectId}"}'
    await caller.webhook(
        presence_id, RequestMethod="POST", RequestBody=body, ContentType="application/json", OnUnknown="Hold"
    )
    event = await caller.event(SUBJECT)
    assert (await caller.delivery(event["Deliveries"][0]))["RequestMethod"] == "POST"
    async with Agent(caller.url, key) as agent:
        fire = await agent.expect(Fire)
    assert (fire.method, fire.body, fire.content_type) == ("POST", body, "application/json")
    assert (fire.on_unknown, fire.authorization) == ("hold", None)


async def test_an_attempt_is_shown_with_all_that_the_agent_tells_of_it(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    await caller.event()
    told = {
        "number": 1, "took": 40, "status": 302, "address": "10.0.0.7", "hint": "redirect_not_followed",
        "location": "login.corp:8443", "proxy": "proxy.corp:3128", "repeated": True, "observed": True,
        "dns": 1, "connect": 2, "tls": 3, "write": 0, "first_byte": 30, "body": 4,
    }  # fmt: skip
    async with Agent(caller.url, key) as agent:
        fire = await agent.expect(Fire)
        log = (AttemptRecord(ago=50, **told), AttemptRecord(number=2, ago=5, took=0, reason="not_allowed"))
        await agent.say(
            Accepted(id=fire.id),
            Report(id=fire.id, state=FinalState.FAILED, reason="x", attempts=2, settled_ago=0, log=log),
        )
        await agent.settled()
    full, plain = (await caller.delivery(fire.id))["Attempts"]
    assert full.pop("At") < plain.pop("At")
    assert full == {to_pascal(name): value for name, value in told.items()} | {
        "Unknown": False, "Phase": None, "Fault": None, "Reason": None,
    }  # fmt: skip
    assert {name for name, value in plain.items() if value} == {"Number", "Reason"}
    assert all(plain[name] is False for name in ("Unknown", "Repeated", "Observed"))


async def test_deliveries_queued_while_the_agent_is_away_are_fired_when_it_connects(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    events = [await caller.event(f"subject-{number}") for number in range(3)]
    assert {entry["State"] for entry in await caller.deliveries()} == {"queued"}
    async with Agent(caller.url, key) as agent:
        fires = await agent.fires(3)
        assert [fire.subject_id for fire in fires] == ["subject-0", "subject-1", "subject-2"]
        assert [[fire.id] for fire in fires] == [event["Deliveries"] for event in events]


async def test_only_global_webhooks_of_the_events_type_fire(caller: Caller) -> None:
    presence_id, _ = await caller.presence()
    wanted = await caller.webhook(presence_id)
    await caller.webhook(presence_id, Global=False)
    await caller.webhook(presence_id, Event="ApplicationCountersChanged")
    await caller.event()
    assert [entry["WebhookId"] for entry in await caller.deliveries()] == [wanted["Id"]]


async def test_a_repeated_event_makes_nothing_new(caller: Caller) -> None:
    presence_id, _ = await caller.presence()
    await caller.webhook(presence_id)
    first = await caller.event(id="7", source="/scanner")
    assert await caller.event(id="7", source="/scanner", status=200) == {**first, "Repeated": True}
    assert await caller.event(id="7", source="/other") != first
    assert len(await caller.deliveries()) == 2


async def test_no_more_unattempted_fires_than_the_credit(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    for number in range(8):
        await caller.event(f"subject-{number}")
    async with Agent(caller.url, key, credit=2) as agent:
        fires = await agent.fires(2)
        await agent.say(*(Accepted(id=fire.id) for fire in fires))
        await agent.settled()
        assert not agent.waiting(Fire), "accepted is not attempted"
        assert {entry["State"] for entry in (await caller.deliveries())[2:]} == {"queued"}
        await agent.say(Attempted(ids=tuple(fire.id for fire in fires)))
        third, fourth = await agent.fires(2)
        await agent.deliver(third)
        fifth = await agent.expect(Fire)
        await agent.say(Accepted(id=fourth.id))
        await agent.hold(fourth)
        sixth = await agent.expect(Fire)
        await agent.say(Busy(id=fifth.id, reason="journal_full", retry_in=0))
        assert (await agent.expect(Fire)).id == fifth.id
        fires += [third, fourth, fifth, sixth]
        assert [fire.subject_id for fire in fires] == [f"subject-{number}" for number in range(6)]


async def test_what_is_stated_as_unattempted_uses_credit(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    events = [await caller.event(f"subject-{number}") for number in range(4)]
    first, second, third, fourth = (event["Deliveries"][0] for event in events)
    async with Agent(caller.url, key, credit=2, held=[first, second], unattempted=[second]) as agent:
        assert (await agent.expect(Fire)).id == third
        await agent.settled()
        assert not agent.waiting(Fire)
        await agent.say(Attempted(ids=(second,)))
        assert (await agent.expect(Fire)).id == fourth


async def test_an_instance_that_is_busy_is_spared_and_another_goes_on(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    async with Agent(caller.url, key) as busy:
        await caller.event("first")
        await caller.event("second")
        fires = await busy.fires(2)
        await busy.say(Busy(id=fires[0].id, reason="memory_full", retry_in=60_000))
        await caller.until(fires[0].id, "queued")
        await caller.event("third")
        await busy.settled()
        assert not busy.waiting(Fire), "it said that it takes none"
        async with Agent(caller.url, key) as other:
            assert {fire.subject_id for fire in await other.fires(2)} == {"first", "third"}


async def test_busy_brings_the_delivery_back_after_the_asked_time(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    await caller.event()
    async with Agent(caller.url, key) as agent:
        fire = await agent.expect(Fire)
        await agent.say(Busy(id=fire.id, reason="journal_full", retry_in=300))
        asked_at = asyncio.get_running_loop().time()
        await caller.until(fire.id, "queued")
        assert (await agent.expect(Fire)).id == fire.id
        assert asyncio.get_running_loop().time() - asked_at >= 0.25


async def test_a_host_that_is_full_waits_and_the_others_go_on(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id, Uri="http://full:81/{SubjectId}")
    await caller.webhook(presence_id, Uri="http://full:82/{SubjectId}")
    async with Agent(caller.url, key) as agent:
        await caller.event("first")
        full = next(fire for fire in await agent.fires(2) if ":81" in fire.uri)
        await agent.say(Busy(id=full.id, reason="host_full", retry_in=1000))
        await caller.until(full.id, "queued")
        asked_at = asyncio.get_running_loop().time()
        async with Agent(caller.url, key) as other:
            for number in range(3):
                await caller.event(f"subject-{number}")
            fires = [await agent.expect(Fire), await other.expect(Fire)]
            fires.append(await (agent if len(agent.waiting(Fire)) else other).expect(Fire))
            assert all(":82" in fire.uri for fire in fires)
            assert asyncio.get_running_loop().time() - asked_at < 1
            back = [await agent.expect(Fire), await agent.expect(Fire)]
            back += [await other.expect(Fire), await other.expect(Fire)]
        assert all(":81" in fire.uri for fire in back)
        assert asyncio.get_running_loop().time() - asked_at >= 0.9


async def test_a_session_lost_before_accepted_puts_the_delivery_back_at_once(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    await caller.event()
    async with Agent(caller.url, key) as agent:
        fire = await agent.expect(Fire)
        agent.socket.transport.abort()
        await caller.until(fire.id, "queued")
    async with Agent(caller.url, key) as successor:
        assert (await successor.expect(Fire)).id == fire.id


async def test_accepted_and_gone_in_the_same_breath_is_accepted(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    await caller.event()
    async with Agent(caller.url, key) as agent:
        fire = await agent.expect(Fire)
        await agent.say(Accepted(id=fire.id))
    assert (await caller.until(fire.id, "accepted"))["InstanceId"] == agent.instance


async def test_what_an_agent_holds_is_not_sent_again(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    await caller.event("held")
    await caller.event("new")
    held = (await caller.deliveries())[0]["Id"]
    async with Agent(caller.url, key, held=[held]) as agent:
        assert (await agent.expect(Fire)).subject_id == "new"
        await agent.settled()
        assert not agent.waiting(Fire)
        assert (await caller.delivery(held))["State"] == "accepted"


async def test_what_an_agent_accepted_and_holds_no_more_is_sent_again(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    await caller.event()
    async with Agent(caller.url, key) as agent:
        fire = await agent.expect(Fire)
        await agent.say(Accepted(id=fire.id))
        await agent.settled()
    async with Agent(caller.url, key, instance=agent.instance) as after_the_loss:
        assert (await after_the_loss.expect(Fire)).id == fire.id


async def test_reports_are_acknowledged_always_and_count_once(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    await caller.event()
    async with Agent(caller.url, key) as agent:
        fire = await agent.expect(Fire)
        await agent.deliver(fire)
        await agent.say(Report(id=fire.id, state=FinalState.FAILED, reason="late", attempts=9, settled_ago=0))
        assert (await agent.expect(ReportAck)).id == fire.id
        unknown = str(uuid4())
        await agent.say(Report(id=unknown, state=FinalState.FAILED, reason="x", attempts=1, settled_ago=0))
        assert (await agent.expect(ReportAck)).id == unknown
    assert (await caller.delivery(fire.id))["State"] == "succeeded"


async def test_an_agent_cannot_touch_the_deliveries_of_another_presence(caller: Caller) -> None:
    presence_id, _ = await caller.presence()
    _, foreign_key = await caller.presence("elsewhere")
    await caller.webhook(presence_id)
    delivery = (await caller.event())["Deliveries"][0]
    async with Agent(caller.url, foreign_key, held=[delivery]) as thief:
        await thief.say(
            Accepted(id=delivery),
            Report(id=delivery, state=FinalState.SUCCEEDED, reason="x", attempts=1, settled_ago=0),
        )
        await thief.settled()
        assert (await caller.delivery(delivery))["State"] == "queued"


async def failing(agent: Agent, delivery: str, state: FinalState = FinalState.FAILED) -> None:
    await agent.say(Report(id=delivery, state=state, reason="attempts_exhausted", attempts=12, settled_ago=0))
    assert (await agent.expect(ReportAck)).id == delivery


async def test_a_former_owner_is_believed_only_if_it_succeeded(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    await caller.event("first")
    await caller.event("second")
    async with Agent(caller.url, key) as owner:
        first, second = await owner.fires(2)
        await owner.say(Accepted(id=first.id), Accepted(id=second.id))
        await owner.settled()
        async with Agent(caller.url, key, held=[first.id, second.id]) as former:
            await former.expect(Cancel)
            for state in set(FinalState) - {FinalState.SUCCEEDED}:
                await failing(former, first.id, state)
            entry = await caller.delivery(first.id)
            assert (entry["State"], entry["InstanceId"]) == ("accepted", owner.instance)
            await former.say(
                Report(id=second.id, state=FinalState.SUCCEEDED, reason="delivered", attempts=3, settled_ago=0)
            )
            await former.settled()
        entry = await caller.delivery(second.id)
        assert (entry["State"], entry["InstanceId"]) == ("succeeded", former.instance)
        await failing(owner, first.id)
    assert (await caller.delivery(first.id))["State"] == "failed"


async def test_nobody_but_an_owner_fails_a_queued_delivery(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    async with Agent(caller.url, key, credit=1) as agent:
        await caller.event("first")
        await caller.event("second")
        first = await agent.expect(Fire)
        waiting = (await caller.deliveries())[1]["Id"]
        await failing(agent, waiting)
        assert (await caller.delivery(waiting))["State"] == "queued"
        await agent.deliver(first)
        # It has the fire again, so it says again how that ended, and now it is the owner.
        assert (await agent.expect(Fire)).id == waiting
        await failing(agent, waiting)
        assert (await caller.delivery(waiting))["State"] == "failed"


async def test_a_draining_agent_gets_no_fires_and_its_reports_count(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    await caller.event("first")
    async with Agent(caller.url, key) as agent:
        fire = await agent.expect(Fire)
        await agent.say(Accepted(id=fire.id), Draining())
        await agent.settled()
        second = (await caller.event("second"))["Deliveries"][0]
        await agent.deliver(fire)
        assert not agent.waiting(Fire)
        assert (await caller.delivery(second))["State"] == "queued"


async def test_the_old_owner_of_a_finished_delivery_is_told_to_cancel(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    await caller.event()
    async with Agent(caller.url, key) as owner:
        fire = await owner.expect(Fire)
        await owner.deliver(fire)
    async with Agent(caller.url, key, held=[fire.id]) as former:
        assert (await former.expect(Cancel)).id == fire.id
        await former.say(Report(id=fire.id, state=FinalState.CANCELLED, reason="x", attempts=0, settled_ago=0))
        await former.expect(ReportAck)
    assert (await caller.delivery(fire.id))["State"] == "succeeded"
