"""Presences over HTTP: who may what, what is true of them, and what a deletion takes with it."""

import asyncio
import io
import json
import stat
import tomllib
import zipfile
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
from websockets.exceptions import InvalidStatus

from presence import __version__
from presence.controlplane.app import InitResult
from presence.controlplane.settings import ControlPlaneSettings
from presence.errors import CloseCode
from presence.protocol.messages import Accepted, Fire
from tests.integration.controlplane.peers import Agent, Caller, before_the_next_look, logged_in
from tests.integration.controlplane.people import group, person


async def status_of(caller: Caller, presence_id: str) -> str:
    (item,) = (await caller.get(f"Presences?$filter=Id eq {presence_id}"))["Items"]
    return str(item["Status"])


async def until_active(caller: Caller, presence_id: str) -> None:
    """Returns when the first canary's echo is recorded."""
    async with asyncio.timeout(10):
        while await status_of(caller, presence_id) != "Active":
            await before_the_next_look()


async def delete(caller: Caller, presence_id: str, status: int = 204) -> object:
    return await caller.call("DELETE", f"Presences/{presence_id}", status)


async def archive(caller: Caller, presence_id: str, platform: str = "linux_x64") -> zipfile.ZipFile:
    url = f"{caller.url}/api/v4/Presences/{presence_id}/Download/{platform}"
    async with caller.http.get(url, headers=caller.headers) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.content_type == "application/zip"
        assert answer.headers["Cache-Control"] == "no-store"
        return zipfile.ZipFile(io.BytesIO(await answer.read()))


async def test_any_user_sees_them_and_the_rest_needs_the_permission(caller: Caller) -> None:
    presence_id, _ = await caller.presence()
    reader = await person(caller)
    (shown,) = (await reader.get("Presences"))["Items"]
    assert (shown["Id"], shown["PresenceName"]) == (presence_id, "office")
    refused = [
        await reader.post("Presences", {"PresenceName": "x"}, 403),
        await reader.call("PUT", f"Presences/{presence_id}", 403, json={"PresenceName": "x"}),
        await delete(reader, presence_id, 403),
    ]
    assert {tuple(answer["FormatParams"]) for answer in refused} == {("ManagePresences",)}
    of_keys = [
        await reader.get(f"Presences/{presence_id}/NewKey", 403),
        await reader.get(f"Presences/{presence_id}/Download/linux_x64", 403),
        await reader.call("POST", f"Presences/{presence_id}/EnrollmentToken", 403),
        await reader.call("POST", f"Presences/{presence_id}/RotateKey", 403),
    ]
    assert {tuple(answer["FormatParams"]) for answer in of_keys} == {("ManagePresenceKeys",)}
    keeper = await person(caller, "ManagePresenceKeys")
    await keeper.new_key(presence_id)
    await keeper.post("Presences", {"PresenceName": "x"}, 403)
    owner = await person(caller, "ManagePresences")
    await owner.call("PUT", f"Presences/{presence_id}", 204, json={"PresenceName": "x"})
    await owner.get(f"Presences/{presence_id}/NewKey", 403)


async def test_what_is_unknown_is_refused_alike(caller: Caller) -> None:
    unknown = uuid4()
    for method, path, body in (
        ("PUT", f"Presences/{unknown}", {"PresenceName": "x"}),
        ("DELETE", f"Presences/{unknown}", None),
        ("GET", f"Presences/{unknown}/NewKey", None),
        ("GET", f"Presences/{unknown}/Download/linux_x64", None),
        ("POST", f"Presences/{unknown}/EnrollmentToken", None),
        ("POST", f"Presences/{unknown}/RotateKey", None),
    ):
        refused = await caller.call(method, path, 400, **({} if body is None else {"json": body}))
        assert refused["Key"] == "INVALID_PRESENCE_IDENTIFIER", path


async def test_a_presence_is_renamed(caller: Caller) -> None:
    (presence_id, _), _ = await caller.presence(), await caller.presence("branch")
    path = f"Presences/{presence_id}"
    await caller.call("PUT", path, 204, json={"PresenceName": "head office"})
    await caller.call("PUT", path, 204, json={"PresenceName": "head office"})
    assert (await caller.call("PUT", path, 400, json={"PresenceName": "branch"}))["Key"] == (
        "PRESENCE_NAME_ALREADY_EXISTS"
    )
    for name in ("", "x" * 129, None, "a\nb", "a\u202eb", "\x7f", " office"):
        await caller.call("PUT", path, 400, json={"PresenceName": name})
    names = [item["PresenceName"] for item in (await caller.get("Presences?$orderby=PresenceName desc"))["Items"]]
    assert names == ["head office", "branch"]
    noted = (await caller.get(f"Audits?$filter=EntityId eq '{presence_id}' and Activity eq 'Modify'"))["Items"]
    assert [(entry["Before"], entry["After"]) for entry in noted] == [
        ({"PresenceName": "office"}, {"PresenceName": "head office"})
    ]


async def test_the_status_is_true(caller: Caller) -> None:
    made = await caller.post("Presences", {"PresenceName": "office"})
    presence_id = made["Id"]
    assert made["Status"] == "NeverUsed"
    assert made["KeyExpiresAt"] is None
    key = await caller.new_key(presence_id)
    assert await status_of(caller, presence_id) == "NeverUsed"
    async with Agent(caller.url, key):
        await until_active(caller, presence_id)
    await caller.new_key(presence_id)
    (shown,) = (await caller.get("Presences?$filter=HostName eq 'inside' and Platform eq 'linux_x64'"))["Items"]
    assert shown["Status"] == "KeyNeverUsed"
    assert shown["GitConnectActive"] is False
    assert shown["GitServerUrl"] is None


async def test_a_presence_that_webhooks_use_stays_and_they_are_named_as_far_as_one_may_see_them(
    caller: Caller,
) -> None:
    presence_id, key = await caller.presence()
    mine = await group(caller, "mine")
    hidden = (await caller.webhook(presence_id))["Id"]
    seen = (await caller.webhook(presence_id, AssetGroupId=mine))["Id"]
    owner = await person(caller, "ManagePresences", groups=[mine])
    async with Agent(caller.url, key) as agent:
        refused = await delete(owner, presence_id, 400)
        assert isinstance(refused, dict)
        assert (refused["Key"], refused["FormatParams"]) == ("PRESENCE_IS_USED_BY_WEBHOOKS", ["2", seen])
        assert "the webhooks {1} and 1 others" in refused["Message"]
        assert hidden not in json.dumps(refused)
        refused = await delete(caller, presence_id, 400)
        assert isinstance(refused, dict)
        assert refused["FormatParams"] == ["2", hidden, seen]
        await agent.settled()


async def test_a_deleted_presence_is_gone_for_its_agents_and_its_deliveries(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    other, _ = await caller.presence("branch")
    made = await caller.webhook(presence_id)
    async with Agent(caller.url, key) as agent:
        await caller.event("1")
        fire = await agent.expect(Fire)
        await agent.say(Accepted(id=fire.id))
        await agent.settled()
        await caller.call("PUT", f"Webhooks/{made['Id']}", 200, json={"PresenceId": other})
        await delete(caller, presence_id)
        assert await agent.closed() == CloseCode.KEY_REVOKED
    with pytest.raises(InvalidStatus):
        async with Agent(caller.url, key):
            pass
    ended = await caller.delivery(fire.id)
    assert (ended["State"], ended["Reason"]) == ("cancelled", "presence_deleted")
    assert [item["Id"] for item in (await caller.get("Presences"))["Items"]] == [other]
    await delete(caller, presence_id, 400)
    assert (await caller.presence())[0] != presence_id


async def test_a_download_holds_what_a_host_needs_with_a_new_key(caller: Caller) -> None:
    presence_id, old_key = await caller.presence()
    async with Agent(caller.url, old_key) as agent:
        download = await archive(caller, presence_id, "Linux_X64")
        assert await agent.closed() == CloseCode.KEY_REVOKED
    entries = {entry.filename.removeprefix("presence-linux_x64/"): entry for entry in download.infolist()}
    assert set(entries) == {
        "agent.toml", "AppScanPresence.key", "presence.service", "presence.sysusers.conf", "INSTALL.txt",
    }  # fmt: skip
    key_entry = entries["AppScanPresence.key"]
    assert stat.S_IMODE(key_entry.external_attr >> 16) == 0o600
    key_file = json.loads(download.read(key_entry))
    assert set(key_file) == {"Key", "ExpiresAt", "WebServiceHost"}
    settings = tomllib.loads(download.read(entries["agent.toml"]).decode())
    assert settings["control_plane"] == {"url": caller.url}
    note = download.read(entries["INSTALL.txt"]).decode()
    assert f"pip install ./presence-{__version__}-py3-none-any.whl" in note
    assert caller.url in note
    assert "systemctl enable --now presence" in note
    assert key_file["Key"] not in note
    assert "ExecStart=" in download.read(entries["presence.service"]).decode()
    async with Agent(caller.url, key_file["Key"]) as agent:
        await agent.settled()


async def test_there_is_an_agent_for_one_platform(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    for platform in ("win_x64", "osx_x64", "linux", "linux_arm64"):
        refused = await caller.get(f"Presences/{presence_id}/Download/{platform}", 400)
        assert refused["FormatParams"] == ["platform", "linux_x64"]
    async with Agent(caller.url, key) as agent:
        await agent.settled()


@pytest.fixture
def with_package(settings: ControlPlaneSettings, tmp_path: Path) -> ControlPlaneSettings:
    server = settings.server.model_copy(
        update={"agent_package": tmp_path / "presence.whl", "public_url": "https://presence.example.com"}
    )
    return settings.model_copy(update={"server": server})


async def test_a_download_holds_the_agent_s_package_and_makes_no_key_without_it(
    with_package: ControlPlaneSettings, administrator: InitResult, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with logged_in(with_package, administrator, http) as caller:
        presence_id, key = await caller.presence()
        async with Agent(caller.url, key) as agent:
            refused = await caller.get(f"Presences/{presence_id}/Download/linux_x64", 400)
            assert (refused["Key"], "agent_package" in refused["Message"]) == ("GENERAL_ERROR", True)
            await agent.settled()
        (tmp_path / "presence.whl").write_bytes(b"a wheel")
        download = await archive(caller, presence_id)
    assert download.read("presence-linux_x64/presence.whl") == b"a wheel"
    assert "pip install ./presence.whl" in download.read("presence-linux_x64/INSTALL.txt").decode()
    settings = tomllib.loads(download.read("presence-linux_x64/agent.toml").decode())
    assert settings["control_plane"]["url"] == "https://presence.example.com"
