"""Every change is audited, whoever or whatever makes it: who, when, before and after."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp

from presence.controlplane.app import InitResult
from presence.controlplane.sealing import make_keys
from presence.controlplane.settings import Auth, ControlPlaneSettings
from presence.controlplane.upkeep import run_reseal
from tests.integration.controlplane.peers import Agent, Caller, logged_in
from tests.integration.controlplane.people import default_group, group, me, person, stranger
from tests.integration.controlplane.test_pauses import paused_by


async def audits(caller: Caller, condition: str) -> list[dict[str, Any]]:
    """Oldest first."""
    found: list[dict[str, Any]] = (await caller.get(f"Audits?$filter={condition}"))["Items"]
    return found[::-1]


def shown(audit: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(audit[name] for name in names or ("Activity", "UserName", "Before", "After"))


async def test_what_init_makes(caller: Caller, settings: ControlPlaneSettings, administrator: InitResult) -> None:
    (organization,) = await audits(caller, "UserId eq null and EntityType eq 'Organization'")
    (first,) = await audits(caller, "UserId eq null and EntityType eq 'User'")
    assert organization["EntityId"] == administrator.organization_id
    assert shown(organization) == ("Create", None, None, {"Name": "acme"})
    user = (await caller.get("User"))["Items"][0]
    after = {"UserName": "administrator", "RoleId": user["RoleId"], "RoleName": "Administrator", "AssetGroupIds": []}
    assert (first["EntityId"], *shown(first)) == (user["Id"], "Create", None, None, after)
    other = await stranger(caller, settings)
    assert {one["EntityType"] for one in await audits(other, "UserId eq null")} == {"Organization", "User"}


async def test_a_webhook_that_is_paused_because_its_target_is_gone(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    shops = await group(caller, "shops")
    application = (await caller.post("Apps", {"Name": "shop", "AssetGroupId": shops}, 201))["Id"]
    webhook = await caller.webhook(presence_id, AssetGroupId=shops)
    async with Agent(caller.url, key) as agent:
        await paused_by(caller, agent, applicationid=application)
    (pause,) = await audits(caller, f"EntityId eq '{webhook['Id']}' and Activity eq 'Pause'")
    assert shown(pause) == ("Pause", None, {"PausedReason": None}, {"PausedReason": "gone"})
    assert shown(pause, "EntityType", "AssetGroupId", "UserId") == ("Webhook", shops, None)


async def test_a_webhook_whose_secret_cannot_be_read_and_secrets_that_are_sealed_anew(
    settings: ControlPlaneSettings, administrator: InitResult, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    first, second, both = (tmp_path / name for name in ("first", "second", "both"))
    for file in (first, second):
        make_keys(file)
    both.touch(0o600)
    both.write_text(second.read_text() + first.read_text())
    key_ids = [file.read_text().partition(":")[0] for file in (first, second)]

    def with_keys(file: Path) -> ControlPlaneSettings:
        return settings.model_copy(update={"auth": Auth(encryption_keys_file=file)})

    async with logged_in(with_keys(first), administrator, http) as caller:
        presence_id, key = await caller.presence()
        webhook = (await caller.webhook(presence_id, AuthorizationHeader="Bearer secret"))["Id"]
        await caller.event()
    async with logged_in(with_keys(second), administrator, http) as caller, Agent(caller.url, key) as agent:
        async with asyncio.timeout(10):
            while not (pauses := await audits(caller, f"EntityId eq '{webhook}' and Activity eq 'Pause'")):
                await agent.settled()
        after = {"PausedReason": "authorization_unreadable"}
        assert [shown(pause) for pause in pauses] == [("Pause", None, {"PausedReason": None}, after)]
    await asyncio.to_thread(run_reseal, with_keys(both))
    await asyncio.to_thread(run_reseal, with_keys(both))
    async with logged_in(with_keys(second), administrator, http) as caller:
        (reseal,) = await audits(caller, f"EntityId eq '{webhook}' and Activity eq 'Reseal'")
    before, after = ({"EncryptionKey": key_id} for key_id in key_ids)
    assert shown(reseal) == ("Reseal", None, before, after)


async def test_both_groups_of_a_moved_application_see_the_move(caller: Caller) -> None:
    source, target = await group(caller, "source"), await group(caller, "target")
    application = (await caller.post("Apps", {"Name": "shop", "AssetGroupId": source}, 201))["Id"]
    await caller.call("PUT", f"Apps/{application}", 200, json={"AssetGroupId": target})
    for place in (source, target):
        member = await person(caller, "ViewAudits", groups=[place])
        (move,) = await audits(member, f"EntityId eq '{application}' and Activity eq 'Move'")
        assert shown(move, "Before", "After") == ({"AssetGroupId": source}, {"AssetGroupId": target})


async def test_memberships_that_come_and_go_with_an_asset_group(caller: Caller) -> None:
    default = await default_group(caller)
    maker = await person(caller, "ManageAssetGroups", groups=[default])
    made = await group(maker, "made")
    member = await person(caller, "ManageScans", groups=[made])
    await caller.call("DELETE", f"AssetGroups/{made}?forceDeletion=true", 204)

    def changes(*steps: tuple[str, list[str], list[str]]) -> list[tuple[Any, ...]]:
        return [
            ("Modify", by, {"AssetGroupIds": sorted(before)}, {"AssetGroupIds": sorted(after)})
            for by, before, after in steps
        ]

    async def modified(user_id: str) -> list[dict[str, Any]]:
        return await audits(caller, f"EntityId eq '{user_id}' and Activity eq 'Modify'")

    name = (await me(maker))["UserName"]
    assert [shown(one) for one in await modified(maker.user_id)] == changes(
        (name, [default], [default, made]), ("administrator", [default, made], [default])
    )
    assert [shown(one) for one in await modified(member.user_id)] == changes(("administrator", [made], []))
    # Who may enter all groups anyway becomes a member of none.
    await group(caller, "another")
    assert await modified((await me(caller))["UserId"]) == []
