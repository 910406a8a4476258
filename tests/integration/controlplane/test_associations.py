"""What webhooks are associated with, over HTTP: who may, what is allowed, and what fires then."""

from typing import Any
from uuid import uuid4

import pytest

from tests.integration.controlplane.peers import Caller
from tests.integration.controlplane.people import default_group, group, person


@pytest.fixture
async def presence_id(caller: Caller) -> str:
    return (await caller.presence())[0]


async def application(caller: Caller, group_id: str, name: str) -> str:
    return str((await caller.post("Apps", {"Name": name, "AssetGroupId": group_id}, 201))["Id"])


async def add(caller: Caller, webhook_id: str, scope: str, scope_id: str, status: int = 201) -> Any:
    return await caller.post(f"Webhooks/Associations/{webhook_id}", {"Scope": scope, "ScopeId": scope_id}, status)


async def remove(caller: Caller, webhook_id: str, scope: str, scope_id: str, status: int = 204) -> Any:
    path = f"Webhooks/Associations/{webhook_id}?scope={scope}&scopeId={scope_id}"
    return await caller.call("DELETE", path, status)


async def shown(caller: Caller, webhook_id: str, options: str = "") -> list[dict[str, Any]]:
    return list(await caller.get(f"Webhooks/Associations/{webhook_id}{options}"))


async def never_fires(caller: Caller, webhook_id: str) -> bool:
    (item,) = (await caller.get(f"Webhooks?$filter=Id eq {webhook_id}"))["Items"]
    return bool(item["NeverFires"])


async def test_a_webhook_of_the_organization_takes_applications_and_groups(caller: Caller, presence_id: str) -> None:
    home, other = await default_group(caller), await group(caller, "other")
    app = await application(caller, home, "shop")
    webhook_id = (await caller.webhook(presence_id, Global=False))["Id"]
    assert await shown(caller, webhook_id) == []
    assert await never_fires(caller, webhook_id)
    assert (await caller.event("1", applicationid=app))["Deliveries"] == []
    added = await add(caller, webhook_id, "Application", app)
    assert added == {"Scope": "Application", "ScopeId": app}
    assert not await never_fires(caller, webhook_id)
    assert len((await caller.event("2", applicationid=app))["Deliveries"]) == 1
    await add(caller, webhook_id, "AssetGroup", other)
    assert await shown(caller, webhook_id) == [added, {"Scope": "AssetGroup", "ScopeId": other}]
    for scope, scope_id in (("Application", app), ("AssetGroup", other)):
        await remove(caller, webhook_id, scope, scope_id)
        assert (await remove(caller, webhook_id, scope, scope_id, 400))["Key"] == "INVALID_SCOPE_IDENTIFIER"
    assert await never_fires(caller, webhook_id)
    assert (await caller.event("3", applicationid=app))["Deliveries"] == []


async def test_the_list_is_a_bare_array_with_query_options(caller: Caller, presence_id: str) -> None:
    home = await default_group(caller)
    apps = [await application(caller, home, name) for name in ("a", "b", "c")]
    webhook_id = (await caller.webhook(presence_id, Global=False))["Id"]
    for app in apps:
        await add(caller, webhook_id, "Application", app)
    await add(caller, webhook_id, "AssetGroup", home)
    everything = await shown(caller, webhook_id)
    assert [item["ScopeId"] for item in everything] == [*sorted(apps), home]
    assert await shown(caller, webhook_id, "?$top=1&$skip=1") == everything[1:2]
    assert await shown(caller, webhook_id, "?$filter=Scope eq 'AssetGroup'&$select=ScopeId") == [{"ScopeId": home}]
    assert await shown(caller, webhook_id, f"?$filter=ScopeId eq {apps[0]}&$count=true") == [
        {"Scope": "Application", "ScopeId": apps[0]}
    ]
    assert (await caller.get(f"Webhooks/Associations/{webhook_id}?$filter=Nope eq 1", 400))["Key"] == (
        "ODATA_QUERY_ERROR"
    )


async def test_adding_one_again_changes_nothing(caller: Caller, presence_id: str) -> None:
    home = await default_group(caller)
    webhook_id = (await caller.webhook(presence_id, Global=False))["Id"]
    for _ in range(2):
        await add(caller, webhook_id, "AssetGroup", home)
    assert len(await shown(caller, webhook_id)) == 1
    noted = (await caller.get(f"Audits?$filter=EntityId eq '{webhook_id}' and Activity eq 'Associate'"))["Items"]
    assert [entry["After"] for entry in noted] == [{"Scope": "AssetGroup", "ScopeId": home}]


async def test_a_global_webhook_has_no_associations_and_becomes_none_while_there_are_some(
    caller: Caller, presence_id: str
) -> None:
    home = await default_group(caller)
    webhook_id = (await caller.webhook(presence_id))["Id"]
    assert not await never_fires(caller, webhook_id)
    refused = await add(caller, webhook_id, "AssetGroup", home, 400)
    assert (refused["Key"], "Global" in refused["Message"]) == ("INVALID_INPUT", True)
    await caller.call("PUT", f"Webhooks/{webhook_id}", 200, json={"Global": False})
    await add(caller, webhook_id, "AssetGroup", home)
    refused = await caller.call("PUT", f"Webhooks/{webhook_id}", 400, json={"Global": True})
    assert refused["FormatParams"] == ["Global", "1"]
    await remove(caller, webhook_id, "AssetGroup", home)
    await caller.call("PUT", f"Webhooks/{webhook_id}", 200, json={"Global": True})


async def test_a_webhook_of_a_group_takes_applications_of_that_group_only(caller: Caller, presence_id: str) -> None:
    mine, other = await group(caller, "mine"), await group(caller, "other")
    my_app, other_app = await application(caller, mine, "my app"), await application(caller, other, "other app")
    member = await person(caller, "CreateModifyWebhooks", groups=[mine])
    webhook_id = (await member.webhook(presence_id, Global=False, AssetGroupId=mine))["Id"]
    for scope_id in (mine, other, str(uuid4())):
        refused = await add(member, webhook_id, "AssetGroup", scope_id, 400)
        assert refused["Key"] == "WEBHOOK_OWNED_BY_ASSET_GROUP_ERROR"
    answers = [await add(member, webhook_id, "Application", scope_id, 400) for scope_id in (other_app, str(uuid4()))]
    assert answers[0] == answers[1], "what one may not see is not there"
    assert answers[0]["Key"] == "INVALID_SCOPE_IDENTIFIER"
    refused = await add(caller, webhook_id, "Application", other_app, 400)
    assert "not in the webhook's asset group" in refused["Message"]
    assert (await add(member, webhook_id, "Application", my_app))["ScopeId"] == my_app
    assert len((await caller.event("x", applicationid=my_app))["Deliveries"]) == 1


async def test_who_sees_the_webhook_only_changes_no_association(caller: Caller, presence_id: str) -> None:
    mine = await group(caller, "mine")
    app = await application(caller, mine, "my app")
    webhook_id = (await caller.webhook(presence_id, Global=False, AssetGroupId=mine))["Id"]
    await add(caller, webhook_id, "Application", app)
    reader = await person(caller, groups=[mine])
    assert len(await shown(reader, webhook_id)) == 1
    assert (await add(reader, webhook_id, "Application", app, 403))["Key"] == "MISSING_CAPABILITIES"
    assert (await remove(reader, webhook_id, "Application", app, 403))["Key"] == "MISSING_CAPABILITIES"
    stranger = await person(caller, "CreateModifyWebhooks")
    for answer in (
        await stranger.get(f"Webhooks/Associations/{webhook_id}", 400),
        await add(stranger, webhook_id, "Application", app, 400),
        await remove(stranger, webhook_id, "Application", app, 400),
    ):
        assert answer["Key"] == "INVALID_WEBHOOK_IDENTIFIER"


async def test_what_is_no_scope_is_refused(caller: Caller, presence_id: str) -> None:
    webhook_id = (await caller.webhook(presence_id, Global=False))["Id"]
    for body in (
        {},
        {"Scope": "Application"},
        {"Scope": "Organization", "ScopeId": str(uuid4())},
        {"Scope": "Application", "ScopeId": "x"},
        {"Scope": "Application", "ScopeId": str(uuid4()), "More": 1},
    ):
        await caller.post(f"Webhooks/Associations/{webhook_id}", body, 400)
    for query in ("", "?scope=Application", f"?scope=Nope&scopeId={uuid4()}", "?scope=Application&scopeId=x"):
        await caller.call("DELETE", f"Webhooks/Associations/{webhook_id}{query}", 400)
