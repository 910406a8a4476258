"""Events over HTTP: the three modes, repeats, batches, and where an event happened."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from presence.controlplane.app import InitResult
from presence.controlplane.settings import ControlPlaneSettings, Limits
from tests.integration.controlplane.peers import Caller, cloud_event, logged_in
from tests.integration.controlplane.people import default_group, group, person, stranger

STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
SUBJECT = "9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b"


async def send(caller: Caller, body: object, status: int = 201, content_type: str = STRUCTURED) -> Any:
    data = json.dumps(body).encode()
    return await caller.call("POST", "Events", status, data=data, headers={"Content-Type": content_type})


async def application(caller: Caller, name: str, group_id: str | None = None) -> str:
    body = {"Name": name, "AssetGroupId": group_id or await default_group(caller)}
    return str((await caller.post("Apps", body, 201))["Id"])


async def execution(caller: Caller, app_id: str) -> str:
    scan = await caller.post("Scans", {"Name": "s", "AppId": app_id, "Technology": "StaticAnalyzer"}, 201)
    return str((await caller.call("POST", f"Scans/{scan['Id']}/Executions", 201))["Id"])


async def hooks(caller: Caller, *kinds: dict[str, object]) -> list[str]:
    """Webhooks of one presence, each with these fields."""
    presence_id, _ = await caller.presence()
    return [(await caller.webhook(presence_id, **fields))["Id"] for fields in kinds]


async def fired(caller: Caller, accepted: dict[str, Any]) -> set[str]:
    """The webhooks of the event's deliveries."""
    return {one["WebhookId"] for one in await caller.deliveries() if one["Id"] in accepted["Deliveries"]}


class TestModes:
    @pytest.mark.parametrize("content_type", [STRUCTURED, "text/json", f"{STRUCTURED}; charset=utf-8"])
    async def test_structured(self, caller: Caller, content_type: str) -> None:
        (hook,) = await hooks(caller, {})
        event = cloud_event(SUBJECT, time="2026-01-31T12:00:00+01:00", data={"any": ["thing"]}, extension=1)
        accepted = await send(caller, event, 201, content_type)
        assert not accepted["Repeated"]
        (delivery,) = await caller.deliveries()
        assert (delivery["Id"], delivery["EventId"]) == (accepted["Deliveries"][0], accepted["Id"])
        assert (delivery["WebhookId"], delivery["SubjectId"]) == (hook, SUBJECT)

    async def test_binary(self, caller: Caller) -> None:
        await hooks(caller, {})
        headers = {
            "ce-specversion": "1.0", "ce-type": "ScanExecutionCompleted", "ce-source": "/tests", "ce-id": "1",
            "ce-subject": "caf%C3%A9%20100%25", "Content-Type": "application/octet-stream",
        }  # fmt: skip
        accepted = await caller.call("POST", "Events", 201, headers=headers, data=b"\x00\xff")
        again = await send(caller, cloud_event("café 100%", id="1"), 200)
        assert again == accepted | {"Repeated": True}
        assert [one["SubjectId"] for one in await caller.deliveries()] == ["café 100%"]

    async def test_binary_without_a_body(self, caller: Caller) -> None:
        headers = {f"ce-{name}": str(value) for name, value in cloud_event("x").items()}
        assert (await caller.call("POST", "Events", 201, headers=headers))["Deliveries"] == []

    async def test_a_batch_is_answered_in_order(self, caller: Caller) -> None:
        await hooks(caller, {})
        subjects = [f"s{number}" for number in range(100)]
        accepted = await send(caller, [cloud_event(subject) for subject in subjects], 201, BATCH)
        found = {one["Id"]: one["SubjectId"] for one in await caller.deliveries()}
        assert [found[one["Deliveries"][0]] for one in accepted] == subjects
        assert await send(caller, [], 200, BATCH) == []

    async def test_a_batch_is_accepted_as_a_whole_or_not_at_all(self, caller: Caller) -> None:
        await hooks(caller, {})
        good = cloud_event("x")
        for bad, key in (
            (cloud_event(".."), "INVALID_INPUT"),
            (cloud_event("x", applicationid=str(uuid4())), "APPLICATION_NO_ACCESS"),
        ):
            assert (await send(caller, [good, bad], 400, BATCH))["Key"] == key
        assert (await send(caller, [good] * 101, 400, BATCH))["Key"] == "PROVIDED_LIST_IS_TOO_LONG"
        assert await caller.deliveries() == []
        assert not (await send(caller, good))["Repeated"]


class TestRepeats:
    async def test_the_same_source_and_id_give_the_same_deliveries(self, caller: Caller) -> None:
        await hooks(caller, {}, {})
        first = await caller.event(id="1", source="/a")
        assert len(first["Deliveries"]) == 2
        # Whatever else is said, and whatever has changed since.
        await hooks_later(caller)
        again = await caller.event("other", 200, id="1", source="/a", type="NewPatchRequest", applicationid="x")
        assert again == first | {"Repeated": True}
        assert (await caller.event(id="1", source="/b"))["Id"] != first["Id"]

    async def test_inside_of_a_batch(self, caller: Caller) -> None:
        await hooks(caller, {})
        old, new, other = (cloud_event("x", id=id_) for id_ in ("old", "new", "a"))
        before = await send(caller, old)
        first, second, third, fourth, fifth = await send(caller, [new, old, new, other, new], 201, BATCH)
        assert second == before | {"Repeated": True}
        assert third == fifth == first | {"Repeated": True}
        assert len({one["Id"] for one in (first, second, fourth)}) == 3
        assert len(await caller.deliveries()) == 3
        again = await send(caller, [new, old], 200, BATCH)
        assert again == [third, second]

    async def test_at_the_same_time(self, caller: Caller) -> None:
        await hooks(caller, {})
        event = json.dumps(cloud_event("x")).encode()

        async def post() -> tuple[int, Any]:
            headers = caller.headers | {"Content-Type": STRUCTURED}
            async with caller.http.post(f"{caller.url}/api/v4/Events", data=event, headers=headers) as answer:
                return answer.status, (await answer.json())["Deliveries"]

        answers = await asyncio.gather(*(post() for _ in range(8)))
        assert sorted(status for status, _ in answers) == [200] * 7 + [201]
        assert len({tuple(ids) for _, ids in answers}) == 1
        assert len(await caller.deliveries()) == 1

    async def test_a_redelivery_is_none_of_the_events_own(self, caller: Caller) -> None:
        await hooks(caller, {})
        first = await caller.event(id="1")
        await caller.call("POST", f"Deliveries/{first['Deliveries'][0]}/Cancel", 200)
        await caller.call("POST", f"Deliveries/{first['Deliveries'][0]}/Redeliver", 201)
        assert len(await caller.deliveries()) == 2
        assert (await caller.event(status=200, id="1"))["Deliveries"] == first["Deliveries"]


async def hooks_later(caller: Caller) -> None:
    """One more webhook that would fire."""
    presence_id, _ = await caller.presence("later")
    await caller.webhook(presence_id)


class TestPlace:
    async def test_the_application_that_is_said(self, caller: Caller) -> None:
        web = await group(caller, "web")
        shop, bank = await application(caller, "Shop", web), await application(caller, "Bank")
        everywhere, in_web, scoped, by_group, never = await hooks(
            caller, {}, {"AssetGroupId": web}, {"Global": False}, {"Global": False}, {"Global": False}
        )
        for hook, scope, scope_id in ((scoped, "Application", bank), (by_group, "AssetGroup", web)):
            await caller.post(f"Webhooks/Associations/{hook}", {"Scope": scope, "ScopeId": scope_id}, 201)
        assert await fired(caller, await caller.event(applicationid=shop.upper())) == {everywhere, in_web, by_group}
        assert await fired(caller, await caller.event(applicationid=bank)) == {everywhere, scoped}
        assert await fired(caller, await caller.event()) == {everywhere}
        assert never not in {one["WebhookId"] for one in await caller.deliveries()}

    async def test_the_application_that_the_subject_is_or_is_an_execution_of(self, caller: Caller) -> None:
        web = await group(caller, "web")
        shop = await application(caller, "Shop", web)
        run = await execution(caller, shop)
        scans, updates = await hooks(
            caller, {"AssetGroupId": web}, {"AssetGroupId": web, "Event": "ApplicationUpdated"}
        )
        assert await fired(caller, await caller.event(run)) == {scans}
        assert await fired(caller, await caller.event(run.upper())) == {scans}
        assert await fired(caller, await caller.event(shop, type="ApplicationUpdated")) == {updates}
        assert await fired(caller, await caller.event(shop, type="NewPatchRequest")) == set()
        assert await fired(caller, await caller.event(str(uuid4()))) == set()
        assert await fired(caller, await caller.event(f"{{{run}}}")) == set()

    @pytest.mark.parametrize("said", [str(uuid4()), "x", "", "{9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b}"])
    async def test_an_unknown_application_is_refused(self, caller: Caller, said: str) -> None:
        answer = await caller.event(status=400, applicationid=said)
        assert (answer["Key"], answer["FormatParams"]) == ("APPLICATION_NO_ACCESS", ["applicationid"])

    async def test_the_asset_group_of_this_moment_counts(self, caller: Caller) -> None:
        web, money = await group(caller, "web"), await group(caller, "money")
        shop = await application(caller, "Shop", web)
        in_web, in_money = await hooks(caller, {"AssetGroupId": web}, {"AssetGroupId": money})
        assert await fired(caller, await caller.event(applicationid=shop)) == {in_web}
        await caller.call("PUT", f"Apps/{shop}", 200, json={"AssetGroupId": money})
        assert await fired(caller, await caller.event(applicationid=shop)) == {in_money}


class TestAccess:
    async def test_publishing_takes_the_capability(self, caller: Caller) -> None:
        somebody = await person(caller, "ManageScans", "AllAssetGroups")
        answer = await somebody.event(status=403)
        assert (answer["Key"], answer["FormatParams"]) == ("MISSING_CAPABILITIES", ["PublishEvents"])
        # Before anything is read of what it says.
        await send(somebody, "nonsense", 403)

    async def test_a_producer_knows_what_it_may_see(self, caller: Caller, settings: ControlPlaneSettings) -> None:
        web = await group(caller, "web")
        shop, bank = await application(caller, "Shop", web), await application(caller, "Bank")
        run = await execution(caller, bank)
        everywhere, in_web, in_home = await hooks(
            caller, {}, {"AssetGroupId": web}, {"AssetGroupId": await default_group(caller)}
        )
        producer = await person(caller, "PublishEvents", groups=[web])
        accepted = await producer.event(id="1", applicationid=shop)
        assert await fired(caller, accepted) == {in_web}
        assert {one["WebhookId"] for one in await caller.deliveries()} == {everywhere, in_web}
        assert (await producer.event(status=200, id="1"))["Deliveries"] == accepted["Deliveries"]
        # What it may not see is for it as if it were not there.
        unseen = await producer.event(status=400, applicationid=bank)
        assert unseen == await producer.event(status=400, applicationid=str(uuid4()))
        await producer.event(run)
        assert in_home not in {one["WebhookId"] for one in await caller.deliveries()}
        foreign = await stranger(caller, settings)
        assert await foreign.event(status=400, applicationid=shop) == unseen
        before = len(await caller.deliveries())
        assert (await foreign.event(id="1"))["Deliveries"] == []
        assert len(await caller.deliveries()) == before

    @pytest.mark.parametrize("source", ["/api/v4/Scans/Executions", f"/api/v4/Apps/{SUBJECT}"])
    async def test_our_own_sources_are_ours(self, caller: Caller, source: str) -> None:
        answer = await caller.event(status=400, source=source)
        assert (answer["Key"], answer["FormatParams"]) == ("INVALID_INPUT", ["source"])


@pytest.mark.parametrize("subject", ["", ".", "..", "a\nb", "x" * 257])
async def test_a_subject_that_cannot_be_put_into_a_uri(caller: Caller, subject: str) -> None:
    assert (await caller.event(subject, 400))["FormatParams"] == ["subject"]


async def test_a_paused_webhook_holds_what_its_events_bring_about(caller: Caller) -> None:
    (hook,) = await hooks(caller, {})
    await caller.call("POST", f"Webhooks/{hook}/Pause", 200)
    accepted = await caller.event()
    (delivery,) = await caller.deliveries()
    assert (delivery["Id"], delivery["State"], delivery["Reason"]) == (
        *accepted["Deliveries"],
        "held",
        "webhook_paused",
    )


async def test_events_and_executions_have_a_rate_of_their_own(
    settings: ControlPlaneSettings, administrator: InitResult, http: aiohttp.ClientSession
) -> None:
    narrow = settings.model_copy(update={"limits": Limits(events_per_second=10)})
    async with logged_in(narrow, administrator, http) as caller:
        run = await execution(caller, await application(caller, "Shop"))
        batch = json.dumps([cloud_event("x") for _ in range(9)]).encode()
        for method, path, request in (
            ("POST", "Events", {"data": batch, "headers": {"Content-Type": BATCH}}),
            ("PUT", f"Scans/Execution/{run}", {"json": {"Status": "Running"}}),
        ):
            async with asyncio.timeout(20):
                status, waits = await until_refused(caller, method, path, request)
            assert (status, waits > 0) == (429, True)
            # Other requests are not concerned.
            await caller.get("Apps")


async def until_refused(caller: Caller, method: str, path: str, request: dict[str, Any]) -> tuple[int, int]:
    """Repeats the request until it is not accepted; the status then, and Retry-After."""
    headers = caller.headers | request.pop("headers", {})
    while True:
        async with caller.http.request(method, f"{caller.url}/api/v4/{path}", headers=headers, **request) as answer:
            if answer.status >= 400:
                return answer.status, int(answer.headers.get("Retry-After", "0"))
