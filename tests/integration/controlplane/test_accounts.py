"""Logging in and out, API keys, and who one is."""

import asyncio
from uuid import uuid4

import pytest

from presence.controlplane.app import InitResult
from presence.controlplane.services.accounts import KEY_FAILURES
from tests.integration.controlplane.peers import Caller
from tests.integration.controlplane.people import default_group, group, invite, me, person, role_id


async def test_a_token_ends_with_the_logout_and_no_other_one_does(caller: Caller, administrator: InitResult) -> None:
    other = Caller(caller.url, caller.http)
    await other.log_in(administrator.key_id, administrator.key_secret)
    assert await caller.get("Account/IsAuthenticated") == {"IsAuthenticated": True}
    async with caller.http.get(f"{caller.url}/api/v4/Account/Logout", headers=other.headers) as answer:
        assert (answer.status, await answer.read()) == (200, b"")
    assert (await other.get("Account/IsAuthenticated", 401))["Key"] == "USER_NOT_AUTHORIZED"
    await other.get("Account/Logout", 401)
    await caller.get("Account/IsAuthenticated")


async def test_without_a_token_nobody_is_authenticated(caller: Caller) -> None:
    nobody = Caller(caller.url, caller.http)
    for path in ("IsAuthenticated", "Logout", "TenantInfo"):
        assert (await nobody.get(f"Account/{path}", 401))["Key"] == "USER_NOT_AUTHORIZED"
    await nobody.call("POST", "Account/ApiKey", 401)


async def test_the_tenant_and_who_asks(caller: Caller, administrator: InitResult) -> None:
    tenant = await caller.get("Account/TenantInfo")
    assert tenant["TenantId"] == administrator.organization_id
    assert (tenant["TenantName"], tenant["AllowPresence"], tenant["IdleTimeForSignout"]) == ("acme", True, 60)
    user = tenant["UserInfo"]
    assert (user["UserName"], user["RoleName"], user["IsAdmin"]) == ("administrator", "Administrator", True)
    assert user["AssetGroupIds"] == []
    assert all(user["Capabilities"].values())
    north = await group(caller, "north")
    tester = await person(caller, role=await role_id(caller, "Tester"), groups=[north])
    user = await me(tester)
    assert (user["UserId"], user["AssetGroupIds"], user["IsAdmin"]) == (tester.user_id, [north], False)
    assert [name for name, given in user["Capabilities"].items() if given] == ["ManageScans"]


async def test_a_new_key_replaces_the_old_one_and_ends_its_tokens(caller: Caller) -> None:
    user = await person(caller, "ManageScans")
    thief, bystander = Caller(caller.url, caller.http), await person(caller, "ManageScans")
    await thief.log_in(user.key_id, user.key_secret)
    key = await user.call("POST", "Account/ApiKey", 201)
    assert set(key) == {"KeyId", "KeySecret", "CreatedAt"}
    await thief.get("Account/IsAuthenticated", 401)
    await user.get("Account/IsAuthenticated")
    await bystander.get("Account/IsAuthenticated")
    await caller.get("Account/IsAuthenticated")
    old = {"KeyId": user.key_id, "KeySecret": user.key_secret}
    assert (await thief.post("Account/ApiKeyLogin", old, 401))["Key"] == "WRONG_CREDENTIALS"
    await user.log_in(key["KeyId"], key["KeySecret"])


async def test_while_a_key_is_replaced_no_log_in_with_the_old_one_survives(caller: Caller) -> None:
    user = await person(caller, "ManageScans")

    async def log_in() -> dict[str, str] | None:
        body = {"KeyId": user.key_id, "KeySecret": user.key_secret}
        async with caller.http.post(f"{caller.url}/api/v4/Account/ApiKeyLogin", json=body) as answer:
            assert answer.status in (200, 401, 429), await answer.text()
            found: dict[str, str] = await answer.json()
            return {"Authorization": f"Bearer {found['Token']}"} if answer.status == 200 else None

    *logins, _ = await asyncio.gather(*(log_in() for _ in range(8)), user.call("POST", "Account/ApiKey", 201))
    for headers in filter(None, logins):
        thief = Caller(caller.url, caller.http)
        thief.headers = headers
        await thief.get("Account/IsAuthenticated", 401)


async def test_many_wrong_secrets_of_a_key_are_not_even_looked_at(caller: Caller) -> None:
    user = await person(caller, "ManageScans")
    wrong = {"KeyId": user.key_id, "KeySecret": "wrong-secret"}
    for _ in range(KEY_FAILURES):
        await caller.post("Account/ApiKeyLogin", wrong, 401)
    right = {"KeyId": user.key_id, "KeySecret": user.key_secret}
    async with caller.http.post(f"{caller.url}/api/v4/Account/ApiKeyLogin", json=right) as answer:
        assert answer.status == 429
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert (await answer.json())["Key"] == "TOO_MANY_REQUESTS"
    await user.get("Account/IsAuthenticated")
    another = await person(caller, "ManageScans")
    await another.get("Account/IsAuthenticated")


async def test_unknown_keys_are_throttled_like_known_ones(caller: Caller) -> None:
    unknown = {"KeyId": str(uuid4()), "KeySecret": "wrong-secret"}
    for _ in range(KEY_FAILURES):
        assert (await caller.post("Account/ApiKeyLogin", unknown, 401))["Key"] == "WRONG_CREDENTIALS"
    await caller.post("Account/ApiKeyLogin", unknown, 429)


async def test_invited_users_get_a_key_a_role_and_groups(caller: Caller) -> None:
    north = await group(caller, "north")
    body = {"Emails": ["Ann@Example.com", "bob@example.com"], "AssetGroupIds": [north]}
    made = await caller.post("Account/InviteUsers", body, 201)
    assert [set(one) for one in made] == [{"UserId", "UserName", "KeyId", "KeySecret"}] * 2
    assert [one["UserName"] for one in made] == ["ann@example.com", "bob@example.com"]
    ann = (await caller.get(f"User?$filter=Id eq {made[0]['UserId']}"))["Items"][0]
    assert (ann["Email"], ann["RoleName"], ann["AssetGroupIds"]) == ("Ann@Example.com", "Application Manager", [north])
    assert (ann["Status"], ann["HasApiKey"], ann["LastLogin"]) == ("PendingActivation", True, None)
    assert ann["InvitedBy"] == "administrator"
    user = Caller(caller.url, caller.http)
    await user.log_in(made[0]["KeyId"], made[0]["KeySecret"])
    seen = (await user.get("User"))["Items"]
    assert [(one["UserName"], one["Status"]) for one in seen] == [("ann@example.com", "Active")]
    assert seen[0]["LastLogin"] is not None


async def test_without_groups_the_invited_come_into_the_default_group(caller: Caller) -> None:
    made = await caller.post("Account/InviteUsers", {"emails": ["ann@example.com"], "roleid": None}, 201)
    user = Caller(caller.url, caller.http)
    await user.log_in(made[0]["KeyId"], made[0]["KeySecret"])
    assert (await me(user))["AssetGroupIds"] == [await default_group(caller)]
    outsider = await person(caller, "ManageUsers", groups=[await group(caller, "north")])
    role = await role_id(caller, "Reporting Viewer")
    body = {"Emails": ["bob@example.com"], "RoleId": role}
    assert (await outsider.post("Account/InviteUsers", body, 400))["Key"] == "ASSETGROUP_NO_ACCESS"


MANY = [f"user{number}@example.com" for number in range(101)]
INVITATIONS: list[tuple[dict[str, object], str]] = [
    ({"Emails": []}, "INVALID_INPUT"),
    ({"Emails": ["no address"]}, "INVALID_INPUT"),
    ({"Emails": ["a@b\n"]}, "INVALID_INPUT"),
    ({"Emails": ["ä@example.com"]}, "INVALID_INPUT"),
    ({"Emails": ["a@" + "b" * 300]}, "INVALID_INPUT"),
    ({"Emails": ["a@b", "A@b"]}, "INVALID_INPUT"),
    ({"Emails": ["taken@example.com"]}, "INVALID_INPUT"),
    ({"Emails": "a@b"}, "INVALID_INPUT"),
    ({}, "INVALID_INPUT"),
    ({"Emails": MANY}, "PROVIDED_LIST_IS_TOO_LONG"),
    ({"Emails": ["a@b"], "AssetGroupIds": [str(uuid4()) for _ in range(11)]}, "PROVIDED_LIST_IS_TOO_LONG"),
    ({"Emails": ["a@b"], "AssetGroupIds": [str(uuid4())]}, "ASSETGROUP_NO_ACCESS"),
    ({"Emails": ["a@b"], "RoleId": str(uuid4())}, "ROLE_NOT_EXISTS"),
    ({"Emails": ["a@b"], "Nonsense": 1}, "INVALID_INPUT"),
]


async def test_an_invitation_that_cannot_be_makes_nobody(caller: Caller) -> None:
    await caller.post("Account/InviteUsers", {"Emails": ["taken@example.com"]}, 201)
    for body, key in INVITATIONS:
        assert (await caller.post("Account/InviteUsers", body, 400))["Key"] == key, body
    assert (await caller.get("User?$count=true"))["Count"] == 2
    assert len(await caller.post("Account/InviteUsers", {"Emails": MANY[:100]}, 201)) == 100


@pytest.mark.parametrize("role", ["Administrator", "Manager"])
async def test_nobody_invites_to_more_than_they_have(caller: Caller, role: str) -> None:
    north, south = await group(caller, "north"), await group(caller, "south")
    inviter = await person(caller, "ManageUsers", "ManageScans", groups=[north])
    tester = await role_id(caller, "Tester")
    assert (await invite(inviter, await role_id(caller, role), [north], 403))["Key"] == "MISSING_CAPABILITIES"
    assert (await invite(inviter, tester, [north, south], 400))["Key"] == "ASSETGROUP_NO_ACCESS"
    await invite(inviter, tester, [north])
    # The default role is more than the inviter has.
    refused = await inviter.post("Account/InviteUsers", {"Emails": ["a@b"], "AssetGroupIds": [north]}, 403)
    assert refused["Key"] == "MISSING_CAPABILITIES"
    powerless = await person(caller, "ManageScans", groups=[north])
    assert (await invite(powerless, tester, [north], 403))["Key"] == "MISSING_CAPABILITIES"
    assert (await powerless.post("Account/InviteUsers", {"Emails": MANY}, 403))["Key"] == "MISSING_CAPABILITIES"


async def test_what_is_done_to_keys_is_audited_without_the_secret(caller: Caller) -> None:
    user = await person(caller, "ManageScans")
    key = await user.call("POST", "Account/ApiKey", 201)
    audits = (await caller.get(f"Audits?$filter=EntityId eq '{user.user_id}'"))["Items"]
    assert [(audit["Activity"], audit["EntityType"]) for audit in audits] == [("NewKey", "User"), ("Create", "User")]
    assert audits[0]["After"] == {"KeyId": key["KeyId"]}
    assert key["KeySecret"] not in str(audits)
    assert user.key_secret not in str(audits)
