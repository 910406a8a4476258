"""Roles: what they are, and that nobody gains a right by them."""

import asyncio
from typing import Any
from uuid import uuid4

from presence.controlplane.access import PREDEFINED_ROLES, Capability
from presence.controlplane.settings import ControlPlaneSettings
from tests.integration.controlplane.peers import Caller
from tests.integration.controlplane.people import group, invite, me, person, role_id, role_with, stranger

READ_ONLY = {"Id": str(uuid4()), "AsmId": None, "Predefined": True, "IsAssignable": False}


async def change(caller: Caller, role: str, status: int = 200, **fields: object) -> Any:
    return await caller.call("PUT", f"Roles/{role}", status, json=fields)


async def delete(caller: Caller, role: str, status: int = 204) -> Any:
    return await caller.call("DELETE", f"Roles/{role}", status)


async def test_the_predefined_roles_are_there(caller: Caller) -> None:
    roles = (await caller.get("Roles"))["Items"]
    assert {role["Name"]: {name for name, given in role["Capabilities"].items() if given} for role in roles} == {
        name: {capability.value for capability in capabilities} for name, capabilities in PREDEFINED_ROLES.items()
    }
    assert [role["Name"] for role in roles if role["IsDefault"]] == ["Application Manager"]
    assert all(role["Predefined"] and role["IsAssignable"] for role in roles)
    assert roles[0]["AsmId"] is None
    assert set(roles[0]) == {
        "Id", "AsmId", "Name", "Description", "ExternalGroupName", "Capabilities", "IsDefault", "Predefined",
        "IsAssignable",
    }  # fmt: skip


async def test_a_custom_role_as_it_is_shown(caller: Caller) -> None:
    body = {
        "name": "Producer", "DESCRIPTION": "sends events", "ExternalGroupName": "ci", **READ_ONLY,
        "Capabilities": {"publishevents": True, "ManageUsers": False, "ViewIssues": False},
    }  # fmt: skip
    made = await caller.post("Roles", body, 201)
    assert (made["Name"], made["Description"], made["ExternalGroupName"]) == ("Producer", "sends events", "ci")
    assert [name for name, given in made["Capabilities"].items() if given] == ["PublishEvents"]
    assert (made["Predefined"], made["IsDefault"], made["IsAssignable"]) == (False, False, True)
    assert made["Id"] != READ_ONLY["Id"]
    # As it was read, with one change, it can be sent back.
    changed = await change(caller, made["Id"], **made | {"Description": ""})
    assert changed == made | {"Description": None}
    assert (await caller.get("Roles?$filter=Predefined eq false"))["Items"] == [changed]
    assert (await caller.get("Roles?$filter=Name eq 'Producer'&$select=Name,IsAssignable"))["Items"] == [
        {"Name": "Producer", "IsAssignable": True}
    ]
    await delete(caller, made["Id"])
    assert (await caller.get("Roles?$count=true&$top=0"))["Count"] == 5


async def test_a_role_that_cannot_be(caller: Caller) -> None:
    await caller.post("Roles", {"Name": "Producer", "Capabilities": {}}, 201)
    good = {"Name": "x", "Capabilities": {}}
    for fields, status, key in (
        ({"Name": ""}, 400, "INVALID_INPUT"),
        ({"Name": " x"}, 400, "INVALID_INPUT"),
        ({"Name": "a\nb"}, 400, "INVALID_INPUT"),
        ({"Name": "x" * 257}, 400, "INVALID_INPUT"),
        ({"Description": "x" * 2049}, 400, "INVALID_INPUT"),
        ({"Capabilities": None}, 400, "INVALID_INPUT"),
        ({"Capabilities": {"ManageUsers": "yes"}}, 400, "INVALID_INPUT"),
        ({"Capabilities": {"RunScans": True}}, 400, "INVALID_INPUT"),
        ({"Capabilities": {"ManageUsers": True, "manageusers": True}}, 400, "INVALID_INPUT"),
        ({"Capabilities": {str(number): False for number in range(101)}}, 400, "INVALID_INPUT"),
        ({"Colour": "red"}, 400, "INVALID_INPUT"),
        ({"Name": "Producer"}, 409, "ROLE_NAME_ALREADY_EXISTS"),
        ({"Name": "administrator"}, 409, "ROLE_NAME_ALREADY_EXISTS"),
    ):
        refused = await caller.post("Roles", good | fields, status)
        assert refused["Key"] == key, fields
        assert "RunScans" not in refused["Message"]
    assert (await caller.get("Roles?$count=true"))["Count"] == 6


async def test_predefined_roles_stay_as_they_are(caller: Caller) -> None:
    for name in PREDEFINED_ROLES:
        role = await role_id(caller, name)
        for fields in ({"Name": "x"}, {"Description": "x"}, {"Capabilities": {"ManageUsers": True}}):
            refused = await change(caller, role, 400, **fields)
            assert refused["Key"] == "ROLE_PREDEFINED_EDIT_NOT_ALLOWED"
        assert (await delete(caller, role, 400))["Key"] == "ROLE_PREDEFINED_DELETION_NOT_ALLOWED"
        await change(caller, role, Name=name)


async def test_one_role_is_the_default_and_never_administrator(caller: Caller) -> None:
    async def default() -> list[str]:
        return [role["Name"] for role in (await caller.get("Roles"))["Items"] if role["IsDefault"]]

    tester = await role_id(caller, "Tester")
    assert (await change(caller, tester, IsDefault=True))["IsDefault"]
    assert await default() == ["Tester"]
    invited = await caller.post("Account/InviteUsers", {"Emails": ["a@b"]}, 201)
    assert (await caller.get(f"User?$filter=Id eq {invited[0]['UserId']}"))["Items"][0]["RoleName"] == "Tester"
    assert (await change(caller, tester, 400, IsDefault=False))["Key"] == "ROLE_UNSET_DEFAULT_NOT_ALLOWED"
    administrator = await role_id(caller, "Administrator")
    refused = await change(caller, administrator, 400, IsDefault=True)
    assert refused["Key"] == "ROLE_PREDEFINED_EDIT_NOT_ALLOWED"
    await change(caller, administrator, IsDefault=False)
    own = await caller.post("Roles", {"Name": "own", "Capabilities": {}, "IsDefault": True}, 201)
    assert await default() == ["own"]
    assert (await delete(caller, own["Id"], 400))["Key"] == "ROLE_DEFAULT_DELETION_NOT_ALLOWED"
    others = [await role_id(caller, name) for name in ("Tester", "Manager")]
    await asyncio.gather(*(change(caller, role, IsDefault=True) for role in others))
    assert len(await default()) == 1


async def test_a_role_that_users_have_is_not_deleted(caller: Caller) -> None:
    user = await person(caller, "ManageScans")
    assert (await delete(caller, user.role_id, 400))["Key"] == "ROLE_ASSOCIATION_ERROR"
    await caller.call("DELETE", f"User/{user.user_id}", 204)
    await delete(caller, user.role_id)
    assert (await delete(caller, user.role_id, 400))["Key"] == "ROLE_NOT_EXISTS"


async def test_a_changed_role_takes_effect_on_live_tokens_at_once(caller: Caller) -> None:
    user = await person(caller, "ManageAssetGroups")
    await user.post("AssetGroups", {"Name": "one"}, 201)
    await change(caller, user.role_id, Capabilities={"ManageScans": True})
    assert (await user.post("AssetGroups", {"Name": "two"}, 403))["Key"] == "MISSING_CAPABILITIES"
    assert (await me(user))["Capabilities"]["ManageScans"]


async def test_roles_need_the_capability(caller: Caller) -> None:
    user = await person(caller, "ManageUsers", "AllAssetGroups")
    assert (await user.get("Roles?$count=true"))["Count"] == 6
    assert (await user.post("Roles", {"Name": "x", "Capabilities": {}}, 403))["Key"] == "MISSING_CAPABILITIES"
    assert (await change(user, user.role_id, 403, Description="x"))["Key"] == "MISSING_CAPABILITIES"
    assert (await delete(user, user.role_id, 403))["Key"] == "MISSING_CAPABILITIES"
    assert (await delete(user, str(uuid4()), 400))["Key"] == "ROLE_NOT_EXISTS"


async def test_nobody_makes_or_gives_a_role_with_more_than_they_have(caller: Caller) -> None:
    north = await group(caller, "north")
    user = await person(caller, "ManageRoles", "ManageUsers", "ManageScans", groups=[north])
    for capability in Capability:
        has = capability in ("ManageRoles", "ManageUsers", "ManageScans")
        body = {"Name": f"with {capability}", "Capabilities": {capability: True}}
        made = await user.post("Roles", body, 201 if has else 403)
        assert has or made["Key"] == "MISSING_CAPABILITIES"
        more = {"Capabilities": {"ManageRoles": True, capability: True}}
        own = (await user.post("Roles", {"Name": f"own {capability}", "Capabilities": {}}, 201))["Id"]
        await change(user, own, 200 if has else 403, **more)
        # Nor by its own role, nor by one of somebody else that has more.
        if not has:
            await change(user, user.role_id, 403, **more)
            strong = await role_with(caller, capability)
            edits: list[dict[str, object]] = [{"Description": "mine"}, {"Capabilities": {}}, {"IsDefault": True}]
            for fields in edits:
                await change(user, strong, 403, **fields)
            await delete(user, strong, 403)
            await invite(user, strong, [north], 403)
    assignable = {
        role["Name"] for role in (await user.get("Roles?$filter=Predefined"))["Items"] if role["IsAssignable"]
    }
    assert assignable == {"Tester", "Reporting Viewer"}
    nobody = await person(caller, "ManageScans")
    assert not any(role["IsAssignable"] for role in (await nobody.get("Roles"))["Items"])


async def test_a_role_with_users_elsewhere_is_changed_by_who_may_go_there_only(caller: Caller) -> None:
    north, south = await group(caller, "north"), await group(caller, "south")
    user = await person(caller, "ManageRoles", "ManageUsers", "CreateModifyWebhooks", groups=[north])
    shared = await role_with(user)
    await invite(user, shared, [north])
    await change(user, shared, Capabilities={"CreateModifyWebhooks": True})
    await change(user, shared, Capabilities={})
    await invite(caller, shared, [south])
    refused = await change(user, shared, 403, Capabilities={"CreateModifyWebhooks": True})
    assert refused["Key"] == "MISSING_CAPABILITIES"
    await change(caller, shared, Capabilities={"CreateModifyWebhooks": True})


async def test_changes_of_roles_are_audited(caller: Caller) -> None:
    made = await role_with(caller, "ManageScans")
    await change(caller, made, Capabilities={"ManageUsers": True})
    await change(caller, made)
    await change(caller, made, IsDefault=True)
    tester = await role_id(caller, "Tester")
    await change(caller, tester, IsDefault=True)
    await delete(caller, made)
    audits = (await caller.get(f"Audits?$filter=EntityId eq '{made}' and EntityType eq 'Role'"))["Items"]
    done = {audit["Activity"]: audit for audit in audits if audit["Activity"] != "Modify"}
    assert done["Create"]["After"]["Capabilities"] == ["ManageScans"]
    assert done["Delete"]["Before"]["Capabilities"] == ["ManageUsers"]
    modified = [(audit["Before"], audit["After"]) for audit in audits if audit["Activity"] == "Modify"]
    assert len(modified) == 3
    assert ({"Capabilities": ["ManageScans"]}, {"Capabilities": ["ManageUsers"]}) in modified
    assert ({"IsDefault": False}, {"IsDefault": True}) in modified
    assert ({"IsDefault": True}, {"IsDefault": False}) in modified


async def test_organizations_do_not_share_roles(caller: Caller, settings: ControlPlaneSettings) -> None:
    foreigner = await stranger(caller, settings)
    made = await role_with(caller, "ManageScans")
    assert (await foreigner.get("Roles?$count=true"))["Count"] == 5
    assert (await change(foreigner, made, 400, Name="mine"))["Key"] == "ROLE_NOT_EXISTS"
    assert (await delete(foreigner, made, 400))["Key"] == "ROLE_NOT_EXISTS"
    assert (await invite(foreigner, made, status=400))["Key"] == "ROLE_NOT_EXISTS"
    tester = await role_id(caller, "Tester")
    assert (await change(foreigner, tester, 400, IsDefault=True))["Key"] == "ROLE_NOT_EXISTS"
