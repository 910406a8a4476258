"""Webhooks over HTTP: who sees and changes which, what a change means, and what becomes of deliveries."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from presence.domain.delivery import FinalState
from presence.protocol.messages import Accepted, Busy, Cancel, Fire, Report, ReportAck
from tests.integration.controlplane.peers import Agent, Caller
from tests.integration.controlplane.people import group, person

MASK = "********"


@pytest.fixture
async def presence_id(caller: Caller) -> str:
    return (await caller.presence())[0]


async def put(caller: Caller, webhook_id: str, status: int = 200, **fields: object) -> Any:
    return await caller.call("PUT", f"Webhooks/{webhook_id}", status, json=fields)


async def delete(caller: Caller, webhook_id: str, status: int = 204) -> Any:
    return await caller.call("DELETE", f"Webhooks/{webhook_id}", status)


async def ids(caller: Caller, options: str = "") -> list[str]:
    return [item["Id"] for item in (await caller.get(f"Webhooks{options}"))["Items"]]


async def audits(caller: Caller, webhook_id: str) -> list[dict[str, Any]]:
    """Those of a webhook, by activity: two of one millisecond have no order."""
    items: list[dict[str, Any]] = (await caller.get(f"Audits?$filter=EntityId eq '{webhook_id}'"))["Items"]
    return sorted(items, key=lambda entry: str(entry["Activity"]))


async def test_organization_level_needs_access_to_all_groups_and_the_permission(
    caller: Caller, presence_id: str
) -> None:
    body = {"PresenceId": presence_id, "Uri": "http://x/", "Event": "ScanExecutionCompleted", "Global": True}
    for capabilities, missing in (
        ((), "CreateModifyWebhooks"),
        (("AllAssetGroups",), "CreateModifyWebhooks"),
        (("CreateModifyWebhooks",), "AllAssetGroups"),
    ):
        somebody = await person(caller, *capabilities)
        refused = await somebody.post("Webhooks", body, 403)
        assert (refused["Key"], refused["FormatParams"]) == ("MISSING_CAPABILITIES", [missing])
    allowed = await person(caller, "CreateModifyWebhooks", "AllAssetGroups")
    made = await allowed.post("Webhooks", body, 201)
    assert made["AssetGroup"] is None


async def test_a_group_s_webhook_needs_access_to_the_group_and_the_permission(caller: Caller, presence_id: str) -> None:
    mine, other = await group(caller, "mine"), await group(caller, "other")
    member = await person(caller, "CreateModifyWebhooks", groups=[mine])
    made = await member.webhook(presence_id, AssetGroupId=mine)
    assert made["AssetGroup"] == {"Id": mine, "Name": "mine"}
    for foreign in (other, str(uuid4())):
        body = {"PresenceId": presence_id, "Uri": "http://x/", "Event": "ApplicationUpdated", "AssetGroupId": foreign}
        assert (await member.post("Webhooks", body, 400))["Key"] == "ASSETGROUP_NO_ACCESS"
    reader = await person(caller, groups=[mine])
    assert await ids(reader) == [made["Id"]]
    assert (await put(reader, made["Id"], 403, Uri="http://y/"))["Key"] == "MISSING_CAPABILITIES"
    assert (await delete(reader, made["Id"], 403))["Key"] == "MISSING_CAPABILITIES"


async def test_what_one_may_not_see_is_not_there(caller: Caller, presence_id: str) -> None:
    mine, other = await group(caller, "mine"), await group(caller, "other")
    hidden = [(await caller.webhook(presence_id))["Id"], (await caller.webhook(presence_id, AssetGroupId=other))["Id"]]
    shown = (await caller.webhook(presence_id, AssetGroupId=mine))["Id"]
    member = await person(caller, "CreateModifyWebhooks", groups=[mine])
    assert (await member.get("Webhooks?$count=true"))["Count"] == 1
    assert await ids(member) == [shown]
    assert set(await ids(caller)) == {*hidden, shown}
    for webhook_id in (*hidden, str(uuid4())):
        answers = [
            await put(member, webhook_id, 400, Uri="http://y/"),
            await delete(member, webhook_id, 400),
            await member.get(f"Webhooks/Associations/{webhook_id}", 400),
        ]
        assert (
            answers
            == [{"Key": "INVALID_WEBHOOK_IDENTIFIER", "Message": "there is no such webhook", "FormatParams": []}] * 3
        )


async def test_a_change_is_for_what_is_given_only(caller: Caller, presence_id: str) -> None:
    other_presence, _ = await caller.presence("branch")
    made = await caller.webhook(presence_id, RequestMethod="POST", RequestBody="x", ContentType="text/plain")
    same = await put(caller, made["Id"])
    assert same == made
    changed = await put(
        caller, made["Id"], uri="http://other/{SubjectId}", PresenceId=other_presence, Global=False, MaxAgeSeconds=9,
        OnUnknown="Hold",
    )  # fmt: skip
    assert changed["Presence"]["Id"] == other_presence
    assert changed == made | {
        "Uri": "http://other/{SubjectId}", "Presence": changed["Presence"], "Global": False, "MaxAgeSeconds": 9,
        "OnUnknown": "Hold", "NeverFires": True,
    }  # fmt: skip
    kept = await put(caller, made["Id"], PresenceId=None, Uri=None, Global=None, MaxAgeSeconds=None, OnUnknown=None)
    assert kept == changed
    emptied = await put(caller, made["Id"], RequestMethod=None, RequestBody=None, ContentType=None)
    assert (emptied["RequestMethod"], emptied["RequestBody"], emptied["ContentType"]) == ("GET", None, None)
    assert (await caller.get("Webhooks"))["Items"] == [emptied]


async def test_event_and_group_never_change(caller: Caller, presence_id: str) -> None:
    made = await caller.webhook(presence_id)
    for fields in ({"Event": made["Event"]}, {"event": None}, {"AssetGroupId": None}, {"assetgroupid": str(uuid4())}):
        refused = await put(caller, made["Id"], 400, **fields)
        assert refused["Key"] == "INVALID_INPUT"
        assert "Event or AssetGroupId, which cannot be changed" in refused["Message"]


async def test_a_change_to_what_cannot_be_changes_nothing(caller: Caller, presence_id: str) -> None:
    made = await caller.webhook(presence_id)
    for fields, key in (
        ({"Uri": "http://x/{Nope}"}, "INVALID_URL"),
        ({"RequestBody": "x"}, "INVALID_INPUT"),
        ({"PresenceId": str(uuid4())}, "INVALID_PRESENCE_IDENTIFIER"),
        ({"MaxAgeSeconds": 0}, "INVALID_INPUT"),
        ({"Colour": "red"}, "INVALID_INPUT"),
    ):
        assert (await put(caller, made["Id"], 400, **fields))["Key"] == key
    assert (await caller.get("Webhooks"))["Items"] == [made]


async def test_lists_are_filtered_and_ordered(caller: Caller, presence_id: str) -> None:
    mine = await group(caller, "mine")
    scoped = (await caller.webhook(presence_id, Global=False, OnUnknown="Hold", Uri="http://b/"))["Id"]
    owned = (await caller.webhook(presence_id, AssetGroupId=mine, Event="ApplicationUpdated", Uri="http://a/"))["Id"]
    await caller.post(f"Webhooks/{owned}/Pause", None)
    assert await ids(caller, "?$orderby=Uri") == [owned, scoped]
    for condition, found in (
        (f"Id eq {scoped}", scoped),
        (f"AssetGroupId eq {mine}", owned),
        ("AssetGroupId eq null", scoped),
        ("Global", owned),
        ("Global eq false", scoped),
        ("NeverFires", scoped),
        ("NeverFires eq false", owned),
        ("Paused", owned),
        ("not Paused", scoped),
        ("PausedReason eq 'user'", owned),
        ("OnUnknown eq 'Hold'", scoped),
        ("Event eq 'ApplicationUpdated'", owned),
        ("startswith(Uri, 'http://b')", scoped),
    ):
        assert await ids(caller, f"?$filter={condition}") == [found], condition
    selected = await caller.get(f"Webhooks?$select=Id,Presence&$filter=Id eq {scoped}&$count=true")
    assert selected["Count"] == 1
    assert set(selected["Items"][0]) == {"Id", "Presence"}


async def test_what_was_made_before_a_change_keeps_what_it_had(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    made = await caller.webhook(presence_id)
    await caller.event("before")
    await put(caller, made["Id"], Uri="http://other/{SubjectId}")
    await caller.event("after")
    async with Agent(caller.url, key) as agent:
        fires = {fire.subject_id: fire.uri for fire in await agent.fires(2)}
    assert fires == {"before": made["Uri"], "after": "http://other/{SubjectId}"}


async def test_every_change_is_audited_with_what_it_changed(caller: Caller, presence_id: str) -> None:
    mine = await group(caller, "mine")
    made = await caller.webhook(presence_id, AssetGroupId=mine)
    await put(caller, made["Id"])
    await put(caller, made["Id"], Uri="http://other/", Global=False)
    await delete(caller, made["Id"])
    created, deleted, modified = await audits(caller, made["Id"])
    assert [entry["Activity"] for entry in (created, deleted, modified)] == ["Create", "Delete", "Modify"]
    assert {entry["AssetGroupId"] for entry in (created, modified, deleted)} == {mine}
    assert created["After"]["Uri"] == made["Uri"]
    assert modified["Before"] == {"Uri": made["Uri"], "Global": True}
    assert modified["After"] == {"Uri": "http://other/", "Global": False}
    assert deleted["Before"]["Uri"] == "http://other/"
    assert deleted["UserName"] == "administrator"


async def test_deleting_a_webhook_ends_what_no_agent_has(caller: Caller, presence_id: str) -> None:
    made, other = await caller.webhook(presence_id), await caller.webhook(presence_id, Uri="http://other/")
    await caller.event("queued")
    await caller.post(f"Webhooks/{made['Id']}/Pause", None)
    await caller.event("held")
    await delete(caller, made["Id"])
    entries = {(entry["WebhookId"], entry["SubjectId"]): entry for entry in await caller.deliveries()}
    for subject in ("queued", "held"):
        ended = entries[made["Id"], subject]
        assert (ended["State"], ended["Reason"]) == ("cancelled", "webhook_deleted")
        assert ended["SettledAt"] is not None
        assert entries[other["Id"], subject]["State"] == "queued"
    assert await ids(caller) == [other["Id"]]
    assert (await caller.event("later"))["Deliveries"] != []
    assert len(await caller.deliveries()) == 5


async def test_deleting_a_webhook_prevents_the_next_attempt_and_believes_the_agent(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    made = await caller.webhook(presence_id)
    async with Agent(caller.url, key) as agent:
        for subject in ("prevented", "was under way", "never came", "just said"):
            await caller.event(subject)
        fires = {fire.subject_id: fire.id for fire in await agent.fires(4)}
        accepted = [Accepted(id=fires[subject]) for subject in ("prevented", "was under way")]
        await agent.say(*accepted)
        await agent.settled()
        await delete(caller, made["Id"])
        told = {(await agent.expect(Cancel)).id for _ in range(4)}
        assert told == set(fires.values())
        assert {(await caller.delivery(id_))["State"] for id_ in told} == {"cancelling"}
        # A fire that was said before the cancel is accepted after it: the agent is told once more.
        await agent.say(Accepted(id=fires["just said"]))
        assert (await agent.expect(Cancel)).id == fires["just said"]
        await agent.say(
            Busy(id=fires["never came"], reason="draining", retry_in=100),
            *(_report(fires[subject], FinalState.CANCELLED) for subject in ("prevented", "just said")),
            _report(fires["was under way"], FinalState.SUCCEEDED),
        )
        for _ in range(3):
            await agent.expect(ReportAck)
    states = {entry["SubjectId"]: entry["State"] for entry in await caller.deliveries()}
    assert states == {
        "prevented": "cancelled", "was under way": "succeeded", "never came": "cancelled", "just said": "cancelled",
    }  # fmt: skip


def _report(delivery: str, state: FinalState) -> Report:
    return Report(id=delivery, state=state, reason=state.value, attempts=0, settled_ago=0)


async def test_an_agent_that_was_away_is_told_what_was_cancelled_meanwhile(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    made = await caller.webhook(presence_id)
    async with Agent(caller.url, key) as agent:
        for subject in ("kept", "lost"):
            await caller.event(subject)
        fires = {fire.subject_id: fire.id for fire in await agent.fires(2)}
        await agent.say(*(Accepted(id=id_) for id_ in fires.values()))
        await agent.settled()
    await delete(caller, made["Id"])
    assert {entry["State"] for entry in await caller.deliveries()} == {"cancelling"}
    async with Agent(caller.url, key, instance=agent.instance, held=[fires["kept"]]) as agent:
        assert [message.id for message in agent.before_ready if isinstance(message, Cancel)] == [fires["kept"]]
        assert (await caller.delivery(fires["lost"]))["State"] == "cancelled"
        assert (await caller.delivery(fires["kept"]))["State"] == "cancelling"
        await agent.say(_report(fires["kept"], FinalState.FAILED))
        await agent.expect(ReportAck)
    assert (await caller.delivery(fires["kept"]))["State"] == "failed"


async def test_what_waits_for_a_decision_ends_with_its_webhook(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    made = await caller.webhook(presence_id, OnUnknown="Hold")
    async with Agent(caller.url, key) as agent:
        await caller.event()
        fire = await agent.expect(Fire)
        await agent.say(Accepted(id=fire.id))
        await agent.hold(fire)
        await delete(caller, made["Id"])
        assert (await agent.expect(Cancel)).id == fire.id
    ended = await caller.delivery(fire.id)
    assert (ended["State"], ended["Reason"]) == ("cancelled", "webhook_deleted")


async def test_events_that_come_while_a_webhook_is_deleted_leave_nothing_behind(
    caller: Caller, presence_id: str
) -> None:
    for _ in range(5):
        made = await caller.webhook(presence_id)
        await asyncio.gather(*(caller.event(str(number)) for number in range(8)), delete(caller, made["Id"]))
    assert {entry["State"] for entry in await caller.deliveries()} <= {"cancelled"}


async def test_the_secret_is_shown_as_a_mask_and_kept_unless_it_is_given(caller: Caller, presence_id: str) -> None:
    made = await caller.webhook(presence_id, AuthorizationHeader="Bearer first")
    assert made["AuthorizationHeader"] == MASK
    for fields in ({}, {"AuthorizationHeader": MASK}, {"Uri": "http://myservice.com/other"}):
        assert (await put(caller, made["Id"], **fields))["AuthorizationHeader"] == MASK
    for nothing in (None, ""):
        await put(caller, made["Id"], AuthorizationHeader="Bearer second")
        assert (await put(caller, made["Id"], AuthorizationHeader=nothing))["AuthorizationHeader"] is None
    changes = await audits(caller, made["Id"])
    noted = [entry["After"]["AuthorizationHeader"] for entry in changes if "AuthorizationHeader" in entry["After"]]
    assert noted[0] == MASK
    assert sorted(map(str, noted[1:])) == [f"{MASK} new", f"{MASK} new", "None", "None"]
    assert "Bearer" not in str(changes)


@pytest.mark.parametrize(
    "uri", ["http://elsewhere/", "https://myservice.com/", "http://myservice.com:81/", "http://10.0.0.1/"]
)
async def test_the_stored_secret_goes_to_no_other_server(caller: Caller, presence_id: str, uri: str) -> None:
    made = await caller.webhook(presence_id, AuthorizationHeader="Bearer first")
    for fields in ({}, {"AuthorizationHeader": MASK}):
        refused = await put(caller, made["Id"], 400, Uri=uri, **fields)
        assert (refused["Key"], refused["FormatParams"]) == ("INVALID_INPUT", ["AuthorizationHeader"])
    assert (await put(caller, made["Id"], Uri=uri, AuthorizationHeader="Bearer other"))["Uri"] == uri


async def test_the_stored_secret_goes_to_no_other_presence(caller: Caller, presence_id: str) -> None:
    other, _ = await caller.presence("branch")
    made = await caller.webhook(presence_id, AuthorizationHeader="Bearer first")
    assert (await put(caller, made["Id"], 400, PresenceId=other))["FormatParams"] == ["AuthorizationHeader"]
    assert (await put(caller, made["Id"], PresenceId=other, AuthorizationHeader=None))["Presence"]["Id"] == other


async def test_the_secret_is_read_when_the_delivery_is_fired(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    made = await caller.webhook(presence_id, AuthorizationHeader="Bearer first")
    plain = await caller.webhook(presence_id, Uri="http://plain/")
    await caller.event("1")
    await put(caller, made["Id"], AuthorizationHeader="Bearer second")
    async with Agent(caller.url, key) as agent:
        fires = {fire.webhook_id: fire for fire in await agent.fires(2)}
    assert fires[made["Id"]].authorization == "Bearer second"
    assert fires[plain["Id"]].authorization is None
    assert "second" not in repr(fires)


async def test_what_was_made_for_another_server_is_fired_without_the_new_secret(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    made = await caller.webhook(presence_id, AuthorizationHeader="Bearer first")
    await caller.event("before")
    await put(caller, made["Id"], Uri="http://elsewhere/", AuthorizationHeader="Bearer second")
    await caller.event("after")
    async with Agent(caller.url, key) as agent:
        fires = {fire.subject_id: (fire.uri, fire.authorization) for fire in await agent.fires(2)}
    assert fires == {"before": (made["Uri"], None), "after": ("http://elsewhere/", "Bearer second")}
