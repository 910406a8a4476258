"""Users: who sees and changes whom, and that somebody stays who may do everything."""

import asyncio
from typing import Any
from uuid import uuid4

from presence.controlplane.settings import ControlPlaneSettings
from tests.integration.controlplane.peers import Caller
from tests.integration.controlplane.people import group, invite, me, person, role_id, role_with, stranger


async def change(caller: Caller, user: str, status: int = 200, **fields: object) -> Any:
    return await caller.call("PUT", f"User/{user}", status, json=fields)


async def delete(caller: Caller, user: str, status: int = 204) -> Any:
    return await caller.call("DELETE", f"User/{user}", status)


async def seen(caller: Caller) -> set[str]:
    return {user["Id"] for user in (await caller.get("User"))["Items"]}


async def test_a_user_as_it_is_shown(caller: Caller) -> None:
    itself = (await caller.get("User?$count=true"))["Items"]
    assert [set(user) for user in itself] == [
        {
            "Id", "UserName", "FirstName", "LastName", "Email", "IsAdmin", "RoleId", "RoleName", "AssetGroupIds",
            "CreatedAt", "LastLogin", "HasApiKey", "Status", "InvitedBy",
        }
    ]  # fmt: skip
    assert (itself[0]["UserName"], itself[0]["IsAdmin"], itself[0]["Status"]) == ("administrator", True, "Active")


async def test_users_are_filtered_by_what_is_computed(caller: Caller) -> None:
    tester = await person(caller, role=await role_id(caller, "Tester"))
    pending = await invite(caller, await role_id(caller, "Manager"))
    for query, expected in (
        ("IsAdmin eq false and Status eq 'Active'", {tester.user_id}),
        ("Status eq 'PendingActivation'", {pending["UserId"]}),
        ("RoleName eq 'Manager' and HasApiKey", {pending["UserId"]}),
        ("LastLogin eq null", {pending["UserId"]}),
        ("not IsAdmin", {tester.user_id, pending["UserId"]}),
    ):
        found = await caller.get(f"User?$filter={query}&$orderby=IsAdmin,RoleName desc&$count=true")
        assert {user["Id"] for user in found["Items"]} == expected, query
        assert found["Count"] == len(expected)


async def test_who_sees_whom(caller: Caller) -> None:
    north, south = await group(caller, "north"), await group(caller, "south")
    viewer = await role_id(caller, "Reporting Viewer")
    in_north, in_south = (
        await person(caller, role=viewer, groups=[north]),
        await person(caller, role=viewer, groups=[south]),
    )
    in_both, in_none = await person(caller, role=viewer, groups=[north, south]), await person(caller, role=viewer)
    manager = await person(caller, "ManageUsers", groups=[north])
    everywhere = await person(caller, "ManageUsers", "AllAssetGroups")
    assert await seen(in_north) == {in_north.user_id}
    assert await seen(manager) == {in_north.user_id, in_both.user_id, manager.user_id}
    everybody = {in_north, in_south, in_both, in_none, manager, everywhere}
    assert await seen(everywhere) == {one.user_id for one in everybody} | {(await me(caller))["UserId"]}
    # Groups that one may not enter are not shown either.
    shown = {user["Id"]: user["AssetGroupIds"] for user in (await manager.get("User"))["Items"]}
    assert shown[in_both.user_id] == [north]
    # What one does not see is not there; what one sees but may not change is forbidden.
    unknown = await change(manager, str(uuid4()), 400, RoleId=viewer)
    for user in (in_south, in_none):
        assert await change(manager, user.user_id, 400, RoleId=viewer) == unknown
        assert await delete(manager, user.user_id, 400) == unknown
    assert await change(in_north, in_both.user_id, 400, RoleId=viewer) == unknown
    assert (await change(in_north, in_north.user_id, 403, RoleId=viewer))["Key"] == "MISSING_CAPABILITIES"
    assert (await delete(in_north, in_north.user_id, 403))["Key"] == "MISSING_CAPABILITIES"


async def test_role_and_groups_are_changed_apart(caller: Caller) -> None:
    north, south = await group(caller, "north"), await group(caller, "south")
    user = await person(caller, "ManageScans", groups=[north])
    changed = await change(caller, user.user_id, AssetGroupIds=[south, south])
    assert (changed["AssetGroupIds"], changed["RoleId"]) == ([south], user.role_id)
    manager = await role_id(caller, "Manager")
    changed = await change(caller, user.user_id, roleid=manager, assetGroupIds=None)
    assert (changed["AssetGroupIds"], changed["RoleName"]) == ([south], "Manager")
    assert (await caller.get(f"User?$filter=Id eq {user.user_id}"))["Items"] == [changed]
    assert await change(caller, user.user_id) == changed
    for fields, key in (
        ({"RoleId": str(uuid4())}, "ROLE_NOT_EXISTS"),
        ({"RoleId": "Manager"}, "INVALID_INPUT"),
        ({"AssetGroupIds": [north, str(uuid4())]}, "ASSETGROUP_NO_ACCESS"),
        ({"AssetGroupIds": [str(uuid4()) for _ in range(1001)]}, "PROVIDED_LIST_IS_TOO_LONG"),
        ({"UserName": "x"}, "INVALID_INPUT"),
    ):
        assert (await change(caller, user.user_id, 400, **fields))["Key"] == key
    # All or nothing.
    refused = {"RoleId": await role_id(caller, "Tester"), "AssetGroupIds": [str(uuid4())]}
    await change(caller, user.user_id, 400, **refused)
    assert (await me(user))["RoleName"] == "Manager"


async def test_changes_take_effect_on_live_tokens_at_once(caller: Caller) -> None:
    north = await group(caller, "north")
    user = await person(caller, "ManageAssetGroups", groups=[north])
    assert [one["Id"] for one in (await user.get("AssetGroups"))["Items"]] == [north]
    await change(caller, user.user_id, AssetGroupIds=[])
    assert (await user.get("AssetGroups"))["Items"] == []
    await change(caller, user.user_id, RoleId=await role_id(caller, "Tester"))
    await user.post("AssetGroups", {"Name": "x"}, 403)
    await change(caller, user.user_id, RoleId=await role_id(caller, "Administrator"))
    await user.post("AssetGroups", {"Name": "x"}, 201)


async def test_a_deleted_users_tokens_and_key_are_void_at_once(caller: Caller) -> None:
    user = await person(caller, "ManageUsers", groups=[await group(caller, "north")])
    await delete(caller, user.user_id)
    assert (await user.get("User", 401))["Key"] == "USER_NOT_AUTHORIZED"
    await user.call("POST", "Account/ApiKey", 401)
    key = {"KeyId": user.key_id, "KeySecret": user.key_secret}
    assert (await user.post("Account/ApiKeyLogin", key, 401))["Key"] == "WRONG_CREDENTIALS"
    await delete(caller, user.user_id, 400)
    assert await seen(caller) == {(await me(caller))["UserId"]}


async def test_while_a_user_is_deleted_no_log_in_survives(caller: Caller) -> None:
    user = await person(caller, "ManageScans")

    async def log_in() -> Caller | None:
        somebody = Caller(caller.url, caller.http)
        body = {"KeyId": user.key_id, "KeySecret": user.key_secret}
        async with caller.http.post(f"{caller.url}/api/v4/Account/ApiKeyLogin", json=body) as answer:
            assert answer.status in (200, 401, 429), await answer.text()
            if answer.status != 200:
                return None
            somebody.headers = {"Authorization": f"Bearer {(await answer.json())['Token']}"}
        return somebody

    *logins, _ = await asyncio.gather(*(log_in() for _ in range(12)), delete(caller, user.user_id))
    for somebody in filter(None, logins):
        await somebody.get("User", 401)


async def test_nobody_changes_who_has_more_and_nobody_gives_more(caller: Caller) -> None:
    north, south = await group(caller, "north"), await group(caller, "south")
    tester, viewer = await role_id(caller, "Tester"), await role_id(caller, "Reporting Viewer")
    manager = await person(caller, "ManageUsers", "ManageScans", groups=[north])
    weak = await person(caller, role=tester, groups=[north])
    strong = await person(caller, "PublishEvents", groups=[north])
    abroad = await person(caller, role=viewer, groups=[north, south])
    for user in (strong, abroad):
        assert (await change(manager, user.user_id, 403, RoleId=viewer))["Key"] == "MISSING_CAPABILITIES"
        assert (await change(manager, user.user_id, 403, AssetGroupIds=[]))["Key"] == "MISSING_CAPABILITIES"
        assert (await delete(manager, user.user_id, 403))["Key"] == "MISSING_CAPABILITIES"
    for user in (weak, manager):
        for role in ("Administrator", "Manager", "Application Manager"):
            await change(manager, user.user_id, 403, RoleId=await role_id(caller, role))
        await change(manager, user.user_id, 403, RoleId=strong.role_id)
        assert (await change(manager, user.user_id, 400, AssetGroupIds=[north, south]))["Key"] == "ASSETGROUP_NO_ACCESS"
    await change(manager, weak.user_id, RoleId=viewer, AssetGroupIds=[])
    assert await seen(manager) == {manager.user_id, strong.user_id, abroad.user_id}
    await change(manager, manager.user_id, RoleId=viewer)
    await change(manager, manager.user_id, 403, RoleId=manager.role_id)


async def test_the_last_administrator_stays(caller: Caller) -> None:
    administrator = await role_id(caller, "Administrator")
    mine = (await me(caller))["UserId"]
    # All capabilities do not make an Administrator.
    equal = await person(caller, *(await me(caller))["Capabilities"])
    tester = await role_id(caller, "Tester")
    for somebody in (caller, equal):
        assert (await change(somebody, mine, 400, RoleId=tester))["Key"] == "NO_ADMIN_ROLE_ERROR"
        assert (await delete(somebody, mine, 400))["Key"] == "NO_ADMIN_ROLE_ERROR"
    await change(caller, mine, RoleId=administrator, AssetGroupIds=[])
    second = await person(caller, role=administrator)
    await change(second, mine, RoleId=tester)
    assert (await delete(second, second.user_id, 400))["Key"] == "NO_ADMIN_ROLE_ERROR"
    await change(second, mine, RoleId=administrator)
    await delete(second, second.user_id)
    assert (await change(caller, mine, 400, RoleId=tester))["Key"] == "NO_ADMIN_ROLE_ERROR"


async def test_when_all_administrators_leave_at_once_one_stays(caller: Caller) -> None:
    administrator, tester = await role_id(caller, "Administrator"), await role_id(caller, "Tester")
    crowd = [await person(caller, role=administrator) for _ in range(4)]

    async def leave(somebody: Caller, user_id: str, *, by_role: bool) -> int:
        path = f"{caller.url}/api/v4/User/{user_id}"
        method, body = ("PUT", {"RoleId": tester}) if by_role else ("DELETE", None)
        async with caller.http.request(method, path, json=body, headers=somebody.headers) as answer:
            return answer.status

    everybody = [(caller, (await me(caller))["UserId"]), *((one, one.user_id) for one in crowd)]
    attempts = [leave(one, user_id, by_role=number % 2 == 0) for number, (one, user_id) in enumerate(everybody)]
    statuses = await asyncio.gather(*attempts)
    assert statuses.count(400) == 1, statuses
    last, user_id = everybody[statuses.index(400)]
    administrators = (await last.get("User?$filter=IsAdmin"))["Items"]
    assert [user["Id"] for user in administrators] == [user_id]


async def test_two_who_demote_each_other_do_not_both_succeed(caller: Caller) -> None:
    administrator, tester = await role_id(caller, "Administrator"), await role_id(caller, "Tester")
    pair = [await person(caller, role=administrator) for _ in range(2)]

    async def demote(somebody: Caller, user_id: str) -> int:
        path = f"{caller.url}/api/v4/User/{user_id}"
        async with caller.http.put(path, json={"RoleId": tester}, headers=somebody.headers) as answer:
            return answer.status

    statuses = await asyncio.gather(demote(pair[0], pair[1].user_id), demote(pair[1], pair[0].user_id))
    # The rights count that one has when it is one's turn.
    assert sorted(statuses) in ([200, 400], [200, 403]), statuses


async def test_changes_of_users_are_audited(caller: Caller) -> None:
    north = await group(caller, "north")
    user = await person(caller, "ManageScans")
    await change(caller, user.user_id, AssetGroupIds=[north])
    await change(caller, user.user_id, AssetGroupIds=[north])
    await delete(caller, user.user_id)
    audits = (await caller.get(f"Audits?$filter=EntityId eq '{user.user_id}'"))["Items"]
    done = {audit["Activity"]: audit for audit in audits}
    assert len(audits) == 3
    assert (done["Modify"]["Before"], done["Modify"]["After"]) == ({"AssetGroupIds": []}, {"AssetGroupIds": [north]})
    assert done["Create"]["After"]["RoleId"] == user.role_id
    assert done["Delete"]["Before"]["AssetGroupIds"] == [north]
    assert {audit["UserName"] for audit in audits} == {"administrator"}


async def test_organizations_do_not_share_users(caller: Caller, settings: ControlPlaneSettings) -> None:
    foreigner = await stranger(caller, settings)
    user, theirs = await person(caller, "ManageScans"), (await me(foreigner))["UserId"]
    assert await seen(foreigner) == {theirs}
    tester = await role_id(foreigner, "Tester")
    assert (await change(foreigner, user.user_id, 400, RoleId=tester))["Key"] == "INVALID_ID_OR_MISSING_CAPABILITIES"
    await delete(foreigner, user.user_id, 400)
    assert (await change(caller, user.user_id, 400, RoleId=tester))["Key"] == "ROLE_NOT_EXISTS"
    foreign = await group(foreigner, "north")
    assert (await change(caller, user.user_id, 400, AssetGroupIds=[foreign]))["Key"] == "ASSETGROUP_NO_ACCESS"
    # The name of a user is its own organization's.
    await caller.post("Account/InviteUsers", {"Emails": ["a@b"]}, 201)
    await foreigner.post("Account/InviteUsers", {"Emails": ["a@b"]}, 201)
    assert await role_with(foreigner, "ManageScans")
