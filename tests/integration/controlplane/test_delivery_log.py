"""The delivery log over HTTP: who sees what, and what people do about deliveries."""

import asyncio
from typing import Any

import pytest

from presence.controlplane.app import InitResult
from presence.controlplane.settings import ControlPlaneSettings
from presence.domain.delivery import FinalState
from presence.protocol.messages import Accepted, AttemptRecord, Busy, Cancel, Fire, Report
from tests.integration.controlplane.peers import Agent, Caller, logged_in
from tests.integration.controlplane.people import group, person, stranger

SUBJECT = "9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b"
HOOKS = "CreateModifyWebhooks"


async def cancel(caller: Caller, delivery_id: str, status: int = 200) -> Any:
    return await caller.call("POST", f"Deliveries/{delivery_id}/Cancel", status)


async def redeliver(caller: Caller, delivery_id: str, status: int = 201) -> Any:
    return await caller.call("POST", f"Deliveries/{delivery_id}/Redeliver", status)


async def tried(caller: Caller, webhook_id: str, subject: str = SUBJECT, status: int = 201) -> Any:
    return await caller.post(f"Webhooks/{webhook_id}/Test", {"SubjectId": subject}, status)


async def finished(caller: Caller, key: str) -> str:
    """One delivered event's delivery."""
    (delivery_id,) = (await caller.event(SUBJECT))["Deliveries"]
    async with Agent(caller.url, key) as agent:
        await agent.deliver(await agent.expect(Fire))
    return str(delivery_id)


async def test_one_delivery_tells_its_time_line(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    webhook = await caller.webhook(presence_id)
    (delivery_id,) = (await caller.event(SUBJECT))["Deliveries"]
    async with Agent(caller.url, key) as agent:
        fire = await agent.expect(Fire)
        await agent.say(Accepted(id=fire.id))
        await agent.settled()
        log = (
            AttemptRecord(number=1, ago=0, took=9, phase="first-byte", fault="timeout", unknown=True),
            AttemptRecord(number=2, ago=0, took=7, status=204),
        )
        await agent.say(
            Report(id=fire.id, state=FinalState.SUCCEEDED, reason="delivered", attempts=2, settled_ago=0, log=log)
        )
        await agent.settled()
    shown = await caller.get(f"Deliveries/{delivery_id}")
    assert (shown["State"], shown["WebhookId"], shown["SubjectId"]) == ("succeeded", webhook["Id"], SUBJECT)
    assert (shown["RedeliveryOf"], shown["AssetGroupId"], shown["AttemptCount"]) == (None, None, 2)
    assert [moment["Text"] for moment in shown["TimeLine"]] == [
        "made",
        "dispatched to an agent",
        "accepted by the agent",
        "attempt 1: timeout in the phase first-byte after 9 ms",
        "attempt 2: status 204 after 7 ms",
        "succeeded: delivered",
    ]
    times = [moment["At"] for moment in shown["TimeLine"]]
    assert times == sorted(times)
    listed = (await caller.get("Deliveries"))["Items"]
    assert listed == [{name: value for name, value in shown.items() if name != "TimeLine"}]


async def test_a_quick_attempt_is_shown_after_its_acceptance(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    (delivery_id,) = (await caller.event(SUBJECT))["Deliveries"]
    async with Agent(caller.url, key) as agent:
        fire = await agent.expect(Fire)
        await caller.until(delivery_id, "dispatched")
        log = (AttemptRecord(number=1, ago=1, took=1, status=204),)
        end = Report(id=fire.id, state=FinalState.SUCCEEDED, reason="delivered", attempts=1, settled_ago=1, log=log)
        await agent.say(Accepted(id=fire.id), end)
        await agent.settled()
    shown = await caller.get(f"Deliveries/{delivery_id}")
    assert [moment["Text"] for moment in shown["TimeLine"]] == [
        "made",
        "dispatched to an agent",
        "accepted by the agent",
        "attempt 1: status 204 after 1 ms",
        "succeeded: delivered",
    ]
    times = [moment["At"] for moment in shown["TimeLine"]]
    assert times == sorted(times)


async def test_what_an_agent_says_was_before_the_delivery_is_shown_at_its_making(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    (delivery_id,) = (await caller.event(SUBJECT))["Deliveries"]
    async with Agent(caller.url, key) as agent:
        fire = await agent.expect(Fire)
        log = (AttemptRecord(number=1, ago=3_600_000, took=7, status=204),)
        end = Report(
            id=fire.id, state=FinalState.SUCCEEDED, reason="delivered", attempts=1, settled_ago=3_600_000, log=log
        )
        await agent.say(Accepted(id=fire.id), end)
        await agent.settled()
    shown = await caller.get(f"Deliveries/{delivery_id}")
    assert shown["TimeLine"][0]["Text"] == "made"
    assert shown["Attempts"][0]["At"] == shown["SettledAt"] == shown["CreatedAt"]


async def test_deliveries_are_filtered(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    webhook = await caller.webhook(presence_id)
    other = await caller.webhook(presence_id, Uri="http://other/", Event="ApplicationUpdated")
    done = await finished(caller, key)
    (waiting,) = (await caller.event("x%y"))["Deliveries"]
    (updated,) = (await caller.event("z", type="ApplicationUpdated"))["Deliveries"]
    finds = {
        "State eq 'queued'": {waiting, updated},
        "State in ('succeeded','failed')": {done},
        f"WebhookId eq {other['Id']}": {updated},
        f"PresenceId eq {presence_id} and State ne 'succeeded'": {waiting, updated},
        "Event eq 'ScanExecutionCompleted' and contains(SubjectId,'%')": {waiting},
        f"SubjectId eq {SUBJECT}": {done},
        "SettledAt ne null": {done},
        "AttemptCount ge 1": {done},
        "CreatedAt gt 2020-01-01T00:00:00Z": {done, waiting, updated},
        "CreatedAt gt 2999-01-01T00:00:00Z": set(),
        "startswith(Host,'other')": {updated},
        "RedeliveryOf ne null": set(),
    }
    for text, found in finds.items():
        answer = await caller.call("GET", "Deliveries", 200, params={"$filter": text, "$count": "true"})
        assert ({item["Id"] for item in answer["Items"]}, answer["Count"]) == (found, len(found)), text
    newest = await caller.get("Deliveries?$orderby=CreatedAt desc&$select=Id,State&$top=2&$skip=1")
    assert newest == {"Items": [{"Id": waiting, "State": "queued"}, {"Id": done, "State": "succeeded"}], "Count": None}
    assert webhook["Id"] != other["Id"]


async def test_a_redelivery_is_a_new_delivery_of_the_same_request(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    webhook = await caller.webhook(presence_id)
    done = await finished(caller, key)
    await caller.call("PUT", f"Webhooks/{webhook['Id']}", 200, json={"Uri": "http://myservice.com/Other/{SubjectId}"})
    first, second = await redeliver(caller, done), await redeliver(caller, done)
    assert first["Id"] != second["Id"]
    for made in (first, second):
        assert (made["RedeliveryOf"], made["State"], made["Attempts"]) == (done, "queued", [])
    async with Agent(caller.url, key) as agent:
        for fire in await agent.fires(2):
            assert (fire.uri, fire.subject_id) == ("http://myservice.com/ScanEnded/{SubjectId}", SUBJECT)
            await agent.deliver(fire)
    again = await redeliver(caller, first["Id"])
    assert again["RedeliveryOf"] == first["Id"]
    shown = (await caller.get(f"Deliveries/{first['Id']}"))["TimeLine"][0]["Text"]
    assert shown == "made, as a redelivery"
    audits = (await caller.get("Audits?$filter=Activity eq 'Redeliver'"))["Items"]
    assert {(audit["EntityType"], audit["EntityId"]) for audit in audits} == {
        ("Delivery", done), ("Delivery", first["Id"]),
    }  # fmt: skip


async def test_what_has_not_ended_is_not_redelivered_and_what_has_ended_is_not_cancelled(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    webhook = await caller.webhook(presence_id)
    done = await finished(caller, key)
    (waiting,) = (await caller.event("x"))["Deliveries"]
    assert (await redeliver(caller, waiting, 409))["Key"] == "DELIVERY_IS_NOT_FINISHED"
    assert (await cancel(caller, done, 409))["Key"] == "DELIVERY_IS_FINISHED"
    await caller.call("DELETE", f"Webhooks/{webhook['Id']}", 204)
    refused = await redeliver(caller, done, 409)
    assert refused["Key"] == "DELIVERY_WEBHOOK_WAS_DELETED"
    assert (await caller.get(f"Deliveries/{waiting}"))["State"] == "cancelled"


async def test_what_no_agent_has_is_cancelled_at_once(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    webhook = await caller.webhook(presence_id)
    (waiting,) = (await caller.event("x"))["Deliveries"]
    cancelled = await cancel(caller, waiting)
    assert (cancelled["State"], cancelled["Reason"]) == ("cancelled", "cancelled")
    assert (await cancel(caller, waiting, 409))["FormatParams"] == ["cancelled"]
    await caller.call("POST", f"Webhooks/{webhook['Id']}/Pause", 200)
    (held,) = (await caller.event("y"))["Deliveries"]
    assert (await cancel(caller, held))["State"] == "cancelled"
    async with Agent(caller.url, key) as agent:
        await agent.settled()
        assert agent.waiting(Fire) == []


async def test_what_an_agent_has_is_being_cancelled_until_it_says_how_it_ended(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    await caller.event("x")
    await caller.event("y")
    async with Agent(caller.url, key) as agent:
        first, second = await agent.fires(2)
        await agent.say(Accepted(id=first.id), Accepted(id=second.id))
        await agent.settled()
        for fire in (first, second):
            assert (await cancel(caller, fire.id))["State"] == "cancelling"
            assert (await agent.expect(Cancel)).id == fire.id
            assert (await cancel(caller, fire.id))["State"] == "cancelling"
        await agent.say(
            Report(id=first.id, state=FinalState.CANCELLED, reason="cancelled", attempts=0, settled_ago=0),
            Report(id=second.id, state=FinalState.SUCCEEDED, reason="delivered", attempts=1, settled_ago=0),
        )
        await agent.settled()
    assert (await caller.get(f"Deliveries/{first.id}"))["State"] == "cancelled"
    assert (await caller.get(f"Deliveries/{second.id}"))["State"] == "succeeded"
    audits = await caller.get("Audits?$filter=Activity eq 'Cancel'&$count=true")
    assert audits["Count"] == 2


async def test_a_cancel_of_what_was_not_accepted_yet(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    for subject in ("busy", "accepted", "lost"):
        await caller.event(subject)
    async with Agent(caller.url, key) as agent:
        fires = {fire.subject_id: fire for fire in await agent.fires(3)}
        for fire in fires.values():
            assert (await cancel(caller, fire.id))["State"] == "cancelling"
        await agent.say(Busy(id=fires["busy"].id, reason="journal_full", retry_in=0), Accepted(id=fires["accepted"].id))
        await agent.settled()
        assert (await caller.get(f"Deliveries/{fires['busy'].id}"))["State"] == "cancelled"
        assert (await caller.get(f"Deliveries/{fires['accepted'].id}"))["State"] == "cancelling"
        # Told with the cancel itself, and once more as it had accepted it meanwhile.
        assert [cancel.id for cancel in agent.waiting(Cancel)].count(fires["accepted"].id) == 2
    # It says what it has, and that does not hold the one that the connection took with it.
    async with Agent(caller.url, key, instance=agent.instance, held=[fires["accepted"].id]) as agent:
        assert [told.id for told in agent.before_ready if isinstance(told, Cancel)] == [fires["accepted"].id]
    assert (await caller.get(f"Deliveries/{fires['lost'].id}"))["State"] == "cancelled"
    assert (await caller.get(f"Deliveries/{fires['accepted'].id}"))["State"] == "cancelling"


async def test_a_cancel_survives_a_restart(
    settings: ControlPlaneSettings, administrator: InitResult, http: Any
) -> None:
    async with logged_in(settings, administrator, http) as caller:
        presence_id, key = await caller.presence()
        await caller.webhook(presence_id)
        await caller.event("x")
        async with Agent(caller.url, key) as agent:
            fire = await agent.expect(Fire)
            await agent.say(Accepted(id=fire.id))
            await agent.settled()
        assert (await cancel(caller, fire.id))["State"] == "cancelling"
    async with logged_in(settings, administrator, http) as caller:
        assert (await caller.get(f"Deliveries/{fire.id}"))["State"] == "cancelling"
        async with Agent(caller.url, key, instance=agent.instance, held=[fire.id]) as agent:
            assert [told.id for told in agent.before_ready if isinstance(told, Cancel)] == [fire.id]


async def test_a_held_unknown_can_be_cancelled(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id, OnUnknown="Hold")
    await caller.event("x")
    async with Agent(caller.url, key) as agent:
        fire = await agent.expect(Fire)
        await agent.say(Accepted(id=fire.id))
        await agent.hold(fire)
        assert (await cancel(caller, fire.id))["State"] == "cancelled"
        assert (await agent.expect(Cancel)).id == fire.id


async def test_a_test_fires_with_the_given_subject_whatever_the_scope(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    webhook = await caller.webhook(presence_id, Global=False)
    made = await tried(caller, webhook["Id"])
    assert (made["State"], made["EventId"], made["SubjectId"]) == ("queued", None, SUBJECT)
    async with Agent(caller.url, key) as agent:
        fire = await agent.expect(Fire)
        assert (fire.id, fire.webhook_id, fire.subject_id) == (made["Id"], webhook["Id"], SUBJECT)
        await agent.deliver(fire)
    assert (await caller.get(f"Deliveries/{made['Id']}"))["State"] == "succeeded"
    assert (await redeliver(caller, made["Id"]))["EventId"] is None
    for subject in ("", "..", "a\n", "s" * 257):
        assert (await tried(caller, webhook["Id"], subject, 400))["Key"] == "INVALID_INPUT"
    (audit,) = (await caller.get("Audits?$filter=Activity eq 'Test'"))["Items"]
    assert (audit["EntityId"], audit["After"]) == (webhook["Id"], {"SubjectId": SUBJECT, "Delivery": made["Id"]})


async def test_pause_holds_and_resume_queues_again(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    webhook = await caller.webhook(presence_id)
    await caller.event("first")
    paused = await caller.call("POST", f"Webhooks/{webhook['Id']}/Pause", 200)
    assert (paused["Paused"], paused["PausedReason"]) == (True, "user")
    assert await caller.call("POST", f"Webhooks/{webhook['Id']}/Pause", 200) == paused
    await caller.event("second")
    made = await tried(caller, webhook["Id"], "third")
    assert (made["State"], made["Reason"]) == ("held", "webhook_paused")
    assert {(item["State"], item["Reason"]) for item in await caller.deliveries()} == {("held", "webhook_paused")}
    async with Agent(caller.url, key) as agent:
        await agent.settled()
        assert agent.waiting(Fire) == []
        assert (await caller.resume(webhook["Id"]))["Paused"] is False
        assert [fire.subject_id for fire in await agent.fires(3)] == ["first", "second", "third"]
    audits = (await caller.get(f"Audits?$filter=EntityId eq '{webhook['Id']}'&$orderby=CreatedAt"))["Items"]
    assert [(audit["Activity"], audit["After"]) for audit in audits][1:] == [
        ("Pause", {"PausedReason": "user"}),
        ("Test", {"SubjectId": "third", "Delivery": made["Id"]}),
        ("Resume", {"PausedReason": None}),
    ]


async def test_deliveries_are_seen_with_their_webhook(caller: Caller, settings: ControlPlaneSettings) -> None:
    presence_id, _ = await caller.presence()
    ours, theirs = await group(caller, "ours"), await group(caller, "theirs")
    hooks = {
        name: (await caller.webhook(presence_id, AssetGroupId=group_id))["Id"]
        for name, group_id in (("organization", None), ("ours", ours), ("theirs", theirs))
    }
    made = {name: (await tried(caller, webhook_id))["Id"] for name, webhook_id in hooks.items()}
    editor = await person(caller, HOOKS, groups=[ours])
    reader = await person(caller, groups=[ours])
    everywhere = await person(caller, "AllAssetGroups")
    other = await stranger(caller, settings)
    sees = {editor: {"ours"}, reader: {"ours"}, everywhere: set(made), other: set(), caller: set(made)}
    changes = {editor: {"ours"}, caller: set(made)}
    for somebody, names in sees.items():
        shown = await somebody.get("Deliveries?$count=true")
        assert {item["Id"] for item in shown["Items"]} == {made[name] for name in names}
        assert shown["Count"] == len(names)
        for name, delivery_id in made.items():
            await somebody.get(f"Deliveries/{delivery_id}", status=200 if name in names else 404)
            may = name in changes.get(somebody, ())
            status = 404 if name not in names else 409 if may else 403
            await redeliver(somebody, delivery_id, status)
            assert (await somebody.resolve(delivery_id, "Fire", status))["Key"]
            if not may:
                await cancel(somebody, delivery_id, status)
                refused = 403 if name in names else 400
                await tried(somebody, hooks[name], status=refused)
                for action in ("Pause", "Resume"):
                    await somebody.call("POST", f"Webhooks/{hooks[name]}/{action}", refused)
    assert (await cancel(editor, made["ours"]))["State"] == "cancelled"
    assert (await redeliver(editor, made["ours"]))["AssetGroupId"] == ours


async def test_audits_are_for_those_who_may_read_them_and_enter_the_group(caller: Caller) -> None:
    presence_id, _ = await caller.presence()
    ours, theirs = await group(caller, "ours"), await group(caller, "theirs")
    for group_id in (ours, theirs, None):
        webhook = await caller.webhook(presence_id, AssetGroupId=group_id)
        await caller.call("POST", f"Webhooks/{webhook['Id']}/Pause", 200)
    auditor, editor = await person(caller, "ViewAudits", groups=[ours]), await person(caller, HOOKS, groups=[ours])
    rows = (await auditor.get("Audits?$top=5000&$filter=Activity eq 'Pause'"))["Items"]
    assert [row["AssetGroupId"] for row in rows] == [ours]
    assert rows[0]["UserName"] == "administrator"
    assert {row["AssetGroupId"] for row in (await auditor.get("Audits?$top=5000"))["Items"]} == {ours}
    assert (await editor.get("Audits", status=403))["FormatParams"] == ["ViewAudits"]
    everything = await caller.get("Audits?$filter=Activity eq 'Pause'&$count=true")
    assert everything["Count"] == 3


async def test_two_redeliveries_at_once_are_two_deliveries(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    done = await finished(caller, key)
    made = await asyncio.gather(*(redeliver(caller, done) for _ in range(4)))
    assert len({one["Id"] for one in made}) == 4


@pytest.mark.parametrize("action", ["Cancel", "Redeliver", "Resolve"])
async def test_a_delivery_that_there_is_not(caller: Caller, action: str) -> None:
    body = {"json": {"Action": "Fire"}} if action == "Resolve" else {}
    assert (await caller.call("POST", f"Deliveries/{SUBJECT}/{action}", 404, **body))["Key"] == "RESOURCE_NOT_FOUND"
    assert (await caller.call("POST", f"Deliveries/x/{action}", 400, **body))["Key"] == "INVALID_INPUT"
