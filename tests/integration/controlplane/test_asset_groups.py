"""Asset groups: who enters them, and what becomes of what is in them."""

import asyncio
from typing import Any
from uuid import uuid4

from presence.controlplane.settings import ControlPlaneSettings
from tests.integration.controlplane.peers import Caller
from tests.integration.controlplane.people import default_group, group, me, person, role_id, stranger

MANAGER = ("ManageAssetGroups", "ManageApplications", "CreateModifyWebhooks", "ManageUsers")


async def app(caller: Caller, name: str, asset_group: str) -> str:
    return str((await caller.post("Apps", {"Name": name, "AssetGroupId": asset_group}, 201))["Id"])


async def apps_of(caller: Caller, asset_group: str) -> set[str]:
    return {one["Id"] for one in (await caller.get(f"Apps?$filter=AssetGroupId eq {asset_group}"))["Items"]}


async def associate(caller: Caller, webhook: str, scope: str, scope_id: str) -> None:
    await caller.post(f"Webhooks/Associations/{webhook}", {"Scope": scope, "ScopeId": scope_id}, 201)


async def scopes(caller: Caller, webhook: str) -> list[str]:
    return [one["ScopeId"] for one in await caller.get(f"Webhooks/Associations/{webhook}")]


async def change(caller: Caller, asset_group: str, status: int = 200, **fields: object) -> Any:
    return await caller.call("PUT", f"AssetGroups/{asset_group}", status, json=fields)


async def delete(caller: Caller, asset_group: str, status: int = 204, *, forced: bool = False) -> Any:
    query = "?forceDeletion=true" if forced else ""
    return await caller.call("DELETE", f"AssetGroups/{asset_group}{query}", status)


async def move(caller: Caller, source: str, target: str, status: int = 200) -> Any:
    return await caller.call("POST", f"AssetGroups/MoveAssetGroupResources/{source}/{target}", status)


async def shown(caller: Caller, asset_group: str) -> dict[str, Any]:
    return dict((await caller.get(f"AssetGroups?$filter=Id eq {asset_group}"))["Items"][0])


async def test_the_default_group_is_there_and_stays(caller: Caller) -> None:
    groups = (await caller.get("AssetGroups?$count=true"))["Items"]
    assert [(one["Name"], one["IsDefault"], one["AppsCount"], one["UsersCount"]) for one in groups] == [
        ("Default", True, 0, 0)
    ]
    assert set(groups[0]) == {
        "Id", "Name", "Description", "ContactPerson", "IsDefault", "AppsCount", "UsersCount", "CreatedBy",
        "CreatedAt", "IssuesStatusInheritance", "EnableIssuesAutoClose", "DomainsCount", "ScanTemplatesCount",
    }  # fmt: skip
    default = groups[0]["Id"]
    for refused in (
        await change(caller, default, 400, Name="Other"),
        await delete(caller, default, 400),
        await delete(caller, default, 400, forced=True),
    ):
        assert refused["Key"] == "ASSETGROUP_CHANGE_DEFAULT_NOTALLOWED"
    changed = await change(caller, default, Name="Default", Description="all the rest", ContactPerson="ann")
    assert (changed["Description"], changed["ContactPerson"]) == ("all the rest", "ann")


async def test_a_group_as_it_is_shown(caller: Caller) -> None:
    body = {"name": "north", "Description": "d", "IssuesStatusInheritance": "None", "Id": str(uuid4()), "AppsCount": 7}
    made = await caller.post("AssetGroups", body, 201)
    assert (made["Name"], made["Description"], made["CreatedBy"]) == ("north", "d", "administrator")
    assert made["Id"] != body["Id"]
    assert made["AppsCount"] == 0
    assert await change(caller, made["Id"], **made | {"Description": ""}) == made | {"Description": None}
    await app(caller, "a", made["Id"])
    await person(caller, "ManageScans", groups=[made["Id"]])
    counted = await caller.get("AssetGroups?$filter=AppsCount eq 1 and UsersCount gt 0&$orderby=UsersCount desc")
    assert [one["Id"] for one in counted["Items"]] == [made["Id"]]


async def test_a_group_that_cannot_be(caller: Caller) -> None:
    await group(caller, "north")
    for fields, key in (
        ({"Name": "north"}, "ASSETGROUP_NAME_ALREADY_EXISTS"),
        ({"Name": "Default"}, "ASSETGROUP_NAME_ALREADY_EXISTS"),
        ({"Name": ""}, "INVALID_INPUT"),
        ({"Name": "x" * 121}, "INVALID_INPUT"),
        ({"Name": "a\tb"}, "INVALID_INPUT"),
        ({"Name": "x", "IssuesStatusInheritance": "Noise"}, "INVALID_INPUT"),
        ({"Name": "x", "EnableIssuesAutoClose": True}, "INVALID_INPUT"),
        ({"Name": "x", "Colour": "red"}, "INVALID_INPUT"),
        ({}, "INVALID_INPUT"),
    ):
        assert (await caller.post("AssetGroups", fields, 400))["Key"] == key, fields
    south = await group(caller, "south")
    assert (await change(caller, south, 400, Name="north"))["Key"] == "ASSETGROUP_NAME_ALREADY_EXISTS"


async def test_who_makes_a_group_may_enter_it(caller: Caller) -> None:
    user = await person(caller, "ManageAssetGroups")
    assert (await user.get("AssetGroups"))["Items"] == []
    made = await user.post("AssetGroups", {"Name": "mine"}, 201)
    assert made["UsersCount"] == 1
    assert (await user.get("AssetGroups"))["Items"] == [made]
    assert (await me(user))["AssetGroupIds"] == [made["Id"]]
    await group(caller, "of the administrator")
    assert (await user.get("AssetGroups?$count=true"))["Count"] == 1
    # Alone in it, it needs no force.
    await delete(user, made["Id"])
    assert (await me(user))["AssetGroupIds"] == []


async def test_what_one_may_not_enter_is_not_there(caller: Caller, settings: ControlPlaneSettings) -> None:
    north, south = await group(caller, "north"), await group(caller, "south")
    manager = await person(caller, *MANAGER, groups=[north])
    viewer = await person(caller, role=await role_id(caller, "Reporting Viewer"), groups=[north])
    unknown = await change(manager, str(uuid4()), 400, Name="x")
    assert unknown["Key"] == "ASSETGROUP_NO_ACCESS"
    foreigner = await stranger(caller, settings)
    for somebody, target in ((manager, south), (viewer, south), (foreigner, north)):
        assert await change(somebody, target, 400, Name="x") == unknown
        assert await delete(somebody, target, 400, forced=True) == unknown
        assert await move(somebody, target, north, 400) == unknown
    assert await move(manager, north, south, 400) == unknown
    # What one sees and may not change.
    await viewer.post("AssetGroups", {"Name": "x"}, 403)
    for refused in (
        await change(viewer, north, 403, Name="x"),
        await delete(viewer, north, 403),
        await move(viewer, north, north, 403),
    ):
        assert refused["Key"] == "MISSING_CAPABILITIES"


async def test_moving_takes_the_applications_and_what_is_allowed_of_their_associations(caller: Caller) -> None:
    north, south = await group(caller, "north"), await group(caller, "south")
    first, second, resident = (
        await app(caller, "a", north),
        await app(caller, "b", north),
        await app(caller, "c", south),
    )
    presence, _ = await caller.presence()
    own = (await caller.webhook(presence, Global=False, AssetGroupId=north))["Id"]
    everywhere = (await caller.webhook(presence, Global=False))["Id"]
    theirs = (await caller.webhook(presence, Global=False, AssetGroupId=south))["Id"]
    for webhook, scope in ((own, first), (own, second), (everywhere, first), (theirs, resident)):
        await associate(caller, webhook, "Application", scope)
    await associate(caller, everywhere, "AssetGroup", north)
    member = await person(caller, "ManageScans", groups=[north])
    moved = await move(caller, north, south)
    assert (moved["Id"], moved["AppsCount"]) == (south, 3)
    assert await apps_of(caller, south) == {first, second, resident}
    assert await scopes(caller, own) == []
    assert set(await scopes(caller, everywhere)) == {first, north}
    assert await scopes(caller, theirs) == [resident]
    left = await shown(caller, north)
    assert (left["AppsCount"], left["UsersCount"]) == (0, 1)
    assert (await member.get("Apps"))["Items"] == []
    audits = (await caller.get(f"Audits?$filter=EntityId in ('{first}', '{own}')"))["Items"]
    moves = [audit for audit in audits if audit["Activity"] == "Move"]
    assert {audit["AssetGroupId"] for audit in moves} == {north, south}
    assert all(
        (audit["Before"], audit["After"]) == ({"AssetGroupId": north}, {"AssetGroupId": south}) for audit in moves
    )
    lost = [audit["Before"]["ScopeId"] for audit in audits if audit["Activity"] == "Disassociate"]
    assert set(lost) == {first, second}


async def test_moving_takes_both_rights_and_two_groups(caller: Caller) -> None:
    north, south = await group(caller, "north"), await group(caller, "south")
    first = await app(caller, "a", north)
    for missing in ("ManageAssetGroups", "ManageApplications"):
        has = [capability for capability in MANAGER if capability != missing]
        user = await person(caller, *has, groups=[north, south])
        assert (await move(user, north, south, 403))["FormatParams"] == [missing]
    user = await person(caller, *MANAGER, groups=[north, south])
    assert (await move(user, north, north, 400))["Key"] == "INVALID_INPUT"
    assert await apps_of(caller, north) == {first}
    await move(user, north, south)
    assert await apps_of(caller, south) == {first}


async def test_a_group_that_is_used_is_deleted_by_force_only(caller: Caller) -> None:
    presence, _ = await caller.presence()
    for content in ("applications", "webhooks", "other members"):
        used = await group(caller, content)
        match content:
            case "applications":
                await app(caller, "a", used)
            case "webhooks":
                await caller.webhook(presence, AssetGroupId=used)
            case _:
                await person(caller, "ManageScans", groups=[used])
        refused = await delete(caller, used, 400)
        assert (refused["Key"], refused["FormatParams"]) == ("ASSETGROUP_ASSOCIATION_ERROR", [content])
        await delete(caller, used, forced=True)
        assert (await delete(caller, used, 400))["Key"] == "ASSETGROUP_NO_ACCESS"
    assert len(await apps_of(caller, await default_group(caller))) == 1
    assert (await caller.get("Webhooks"))["Items"] == []


async def test_by_force_applications_come_to_default_and_webhooks_end(caller: Caller) -> None:
    north, default = await group(caller, "north"), await default_group(caller)
    first = await app(caller, "a", north)
    presence, _ = await caller.presence()
    own = (await caller.webhook(presence, AssetGroupId=north))["Id"]
    everywhere = (await caller.webhook(presence, Global=False))["Id"]
    for scope, scope_id in (("AssetGroup", north), ("Application", first)):
        await associate(caller, everywhere, scope, scope_id)
    waiting = await caller.event("x", applicationid=first)
    user = await person(caller, "ManageScans", groups=[north])
    await delete(caller, north, forced=True)
    assert await apps_of(caller, default) == {first}
    assert [one["Id"] for one in (await caller.get("Webhooks"))["Items"]] == [everywhere]
    assert await scopes(caller, everywhere) == [first]
    assert (await me(user))["AssetGroupIds"] == []
    states = {one["WebhookId"]: one["State"] for one in await caller.deliveries() if one["Id"] in waiting["Deliveries"]}
    assert states[own] == "cancelled"
    assert states.get(everywhere) == "queued"
    audits = (await caller.get("Audits?$top=20"))["Items"]
    done = {(audit["Activity"], audit["EntityId"]) for audit in audits}
    assert {
        ("Delete", north), ("Delete", own), ("Move", first), ("Disassociate", everywhere)
    } <= done  # fmt: skip


async def test_force_takes_the_rights_over_what_is_in_the_group(caller: Caller) -> None:
    default = await default_group(caller)
    presence, _ = await caller.presence()
    for content, missing in (("app", "ManageApplications"), ("webhook", "CreateModifyWebhooks")):
        used = await group(caller, content)
        if content == "app":
            await app(caller, "a", used)
        else:
            await caller.webhook(presence, AssetGroupId=used)
        has = [capability for capability in MANAGER if capability != missing]
        user = await person(caller, *has, groups=[used, default])
        refused = await delete(user, used, 403, forced=True)
        assert refused["FormatParams"] == [missing]
        assert (await shown(caller, used))["Name"] == content
    outsider = await person(caller, *MANAGER, groups=[used := await group(caller, "x")])
    await app(caller, "b", used)
    assert (await delete(outsider, used, 400, forced=True))["Key"] == "ASSETGROUP_NO_ACCESS"
    assert len(await apps_of(caller, used)) == 1


async def test_what_is_put_into_a_group_that_is_being_deleted_is_never_lost(caller: Caller) -> None:
    default = await default_group(caller)
    for round_ in range(4):
        used = await group(caller, f"group {round_}")

        async def put(number: int, used: str = used, round_: int = round_) -> int:
            body = {"Name": f"app {round_} {number}", "AssetGroupId": used}
            async with caller.http.post(f"{caller.url}/api/v4/Apps", json=body, headers=caller.headers) as answer:
                return answer.status

        *statuses, _ = await asyncio.gather(*(put(number) for number in range(6)), delete(caller, used, forced=True))
        assert set(statuses) <= {201, 400}, statuses
        names = {one["Name"] for one in (await caller.get(f"Apps?$filter=AssetGroupId eq {default}"))["Items"]}
        assert sum(name.startswith(f"app {round_} ") for name in names) == statuses.count(201)


async def test_changes_of_groups_are_audited(caller: Caller) -> None:
    north = await group(caller, "north")
    await change(caller, north, Name="south")
    await change(caller, north, Name="south")
    await delete(caller, north)
    audits = (await caller.get(f"Audits?$filter=EntityId eq '{north}' and EntityType eq 'AssetGroup'"))["Items"]
    done = {audit["Activity"]: (audit["Before"], audit["After"]) for audit in audits}
    assert len(audits) == 3
    assert done["Modify"] == ({"Name": "north"}, {"Name": "south"})
    assert done["Delete"][0]["Name"] == "south"
