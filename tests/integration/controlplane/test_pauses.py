"""Webhooks whose target is gone (410): paused where everybody sees it, until somebody resumes them."""

import asyncio

import pytest

from presence.controlplane.app import run_init
from presence.controlplane.settings import ControlPlaneSettings
from presence.domain.delivery import FinalState
from presence.protocol.messages import Accepted, Busy, Draining, Fire, Report
from tests.integration.controlplane.peers import Agent, Caller


def gone(delivery: str, reason: str = "gone") -> Report:
    return Report(id=delivery, state=FinalState.FAILED, reason=reason, attempts=1, settled_ago=0)


async def paused_by(caller: Caller, agent: Agent, **event: object) -> str:
    """The delivery whose report pauses its webhook; the agent drains, so that others stay queued."""
    await caller.event("first", **event)
    fire = await agent.expect(Fire)
    await agent.say(Accepted(id=fire.id), Draining())
    await agent.settled()
    await caller.event("second", **event)
    await agent.say(gone(fire.id))
    await agent.settled()
    return fire.id


async def test_a_target_that_is_gone_pauses_its_webhook_and_holds_its_deliveries(
    caller: Caller, capsys: pytest.CaptureFixture[str]
) -> None:
    presence_id, key = await caller.presence()
    webhook = await caller.webhook(presence_id)
    other = await caller.webhook(presence_id, Uri="http://other/")
    async with Agent(caller.url, key) as agent:
        await caller.event("first")
        fires = {fire.webhook_id: fire for fire in await agent.fires(2)}
        await agent.say(*(Accepted(id=fire.id) for fire in fires.values()), Draining())
        await agent.settled()
        await caller.event("second")
        await agent.say(gone(fires[webhook["Id"]].id))
        await agent.settled()
    shown, untouched = (await caller.get("Webhooks"))["Items"]
    assert (shown["Paused"], shown["PausedReason"]) == (True, "gone")
    assert shown["PausedAt"] is not None
    assert (untouched["Id"], untouched["Paused"]) == (other["Id"], False)
    output = "".join(capsys.readouterr())
    assert "webhook paused, its target answered 410" in output
    assert webhook["Id"] in output
    await caller.event("third")
    entries = [(entry["State"], entry["Reason"], entry["WebhookId"]) for entry in await caller.deliveries()]
    assert set(entries[2:]) == {("held", "webhook_paused", webhook["Id"]), ("queued", None, other["Id"])}
    async with Agent(caller.url, key, instance=agent.instance, held=[fires[other["Id"]].id]) as agent:
        assert {fire.webhook_id for fire in await agent.fires(2)} == {other["Id"]}
        await agent.settled()
        assert agent.waiting(Fire) == []


async def test_resume_queues_again_what_was_held(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    webhook = await caller.webhook(presence_id)
    async with Agent(caller.url, key) as agent:
        await paused_by(caller, agent)
    await caller.event("third")
    async with Agent(caller.url, key) as agent:
        await agent.settled()
        assert agent.waiting(Fire) == []
        resumed = await caller.resume(webhook["Id"])
        assert (resumed["Paused"], resumed["PausedReason"], resumed["PausedAt"]) == (False, None, None)
        fires = await agent.fires(2)
        assert [fire.subject_id for fire in fires] == ["second", "third"]
        assert {(await caller.delivery(fire.id))["Reason"] for fire in fires} == {None}
        await caller.event("fourth")
        assert (await agent.expect(Fire)).subject_id == "fourth"


async def test_resuming_what_is_not_paused_changes_nothing(caller: Caller, settings: ControlPlaneSettings) -> None:
    presence_id, key = await caller.presence()
    webhook = await caller.webhook(presence_id)
    nothing = {"Id": webhook["Id"], "Paused": False, "PausedReason": None, "PausedAt": None}
    assert await caller.resume(webhook["Id"]) == nothing
    async with Agent(caller.url, key) as agent:
        await paused_by(caller, agent)
    stranger = Caller(caller.url, caller.http)
    await stranger.resume(webhook["Id"], status=401)
    other = await asyncio.to_thread(run_init, settings, "other")
    await stranger.log_in(other.key_id, other.key_secret)
    assert (await stranger.resume(webhook["Id"], status=400))["Key"] == "INVALID_WEBHOOK_IDENTIFIER"
    assert (await caller.get("Webhooks"))["Items"][0]["Paused"] is True


async def test_only_the_first_report_of_the_owner_pauses(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    webhook = await caller.webhook(presence_id)
    async with Agent(caller.url, key) as agent:
        await caller.event()
        fire = await agent.expect(Fire)
        await agent.say(Accepted(id=fire.id))
        await agent.settled()
        async with Agent(caller.url, key) as other:
            await other.say(gone(fire.id))
            await other.settled()
        assert (await caller.get("Webhooks"))["Items"][0]["Paused"] is False
        await agent.say(gone(fire.id))
        await agent.settled()
        assert (await caller.resume(webhook["Id"]))["Paused"] is False
        await agent.say(gone(fire.id))
        await agent.settled()
        await caller.event("next")
        fire = await agent.expect(Fire)
        await agent.say(Accepted(id=fire.id), gone(fire.id, "status_final"))
        await agent.settled()
    assert (await caller.get("Webhooks"))["Items"][0]["Paused"] is False


async def test_what_comes_back_from_an_agent_after_the_pause_is_held_too(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    async with Agent(caller.url, key) as agent:
        await caller.event("first")
        await caller.event("second")
        await caller.event("third")
        first, second, third = await agent.fires(3)
        await agent.say(gone(first.id), Busy(id=second.id, reason="journal_full", retry_in=0))
        await agent.settled()
        assert (await caller.until(second.id, "held"))["Reason"] == "webhook_paused"
        agent.socket.transport.abort()
        await caller.until(third.id, "queued")
    async with Agent(caller.url, key) as agent:
        assert (await caller.until(third.id, "held"))["Reason"] == "webhook_paused"
        assert agent.waiting(Fire) == []


async def test_what_an_agent_turns_out_to_have_is_its_own_all_the_same(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    async with Agent(caller.url, key) as owner:
        await caller.event("first")
        await caller.event("second")
        first, second = await owner.fires(2)
        await owner.say(gone(first.id))
        await owner.settled()
    async with Agent(caller.url, key) as other:
        await caller.until(second.id, "held")
        async with Agent(caller.url, key, instance=owner.instance, held=[second.id]) as owner:
            await owner.settled()
            entry = await caller.delivery(second.id)
            assert (entry["State"], entry["Reason"], entry["InstanceId"]) == ("accepted", None, owner.instance)
            await owner.deliver(second)
        assert other.waiting(Fire) == []


async def test_resolve_points_to_resume(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    webhook = await caller.webhook(presence_id)
    async with Agent(caller.url, key) as agent:
        await paused_by(caller, agent)
    waiting = (await caller.deliveries())[1]["Id"]
    for action in ("Fire", "Abandon"):
        refused = await caller.resolve(waiting, action, status=409)
        assert (refused["Key"], refused["FormatParams"]) == ("DELIVERY_WAITS_FOR_PAUSED_WEBHOOK", [webhook["Id"]])
        assert "Resume" in refused["Message"]
    assert (await caller.delivery(waiting))["State"] == "held"


async def test_what_waits_for_a_paused_webhook_expires(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    webhook = await caller.webhook(presence_id, MaxAgeSeconds=2)
    async with Agent(caller.url, key) as agent:
        await paused_by(caller, agent)
        delivery = (await caller.event("third"))["Deliveries"][0]
        assert (await caller.delivery(delivery))["State"] == "held"
        assert (await caller.until(delivery, "expired"))["Reason"] == "too_old"
        await caller.resume(webhook["Id"])
        assert {entry["State"] for entry in await caller.deliveries()} == {"failed", "expired"}
