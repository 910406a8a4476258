"""Rights that end while a request is under way end for that request, too."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from yarl import URL

from tests.integration.controlplane.peers import SECONDS, Caller, cloud_event
from tests.integration.controlplane.people import Person, group, person, role_id

Loss = Callable[[Caller, Person], Awaitable[object]]


class Held:
    """A request whose last byte has not been sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, last: bytes) -> None:
        self._reader = reader
        self._writer = writer
        self._last = last

    async def answer(self) -> tuple[int, Any]:
        """Status and body, without sending the rest."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.decode().lower().split("\r\n") if line[:15] == "content-length:")
        body = await self._reader.readexactly(length)
        return int(head.split()[1]), json.loads(body) if body else None

    async def finish(self) -> tuple[int, Any]:
        self._writer.write(self._last)
        return await self.answer()


@asynccontextmanager
async def held(who: Caller, method: str, path: str, body: object) -> AsyncIterator[Held]:
    """The request once the control plane knows who asks, and waits for the rest of the body."""
    url, sent = URL(who.url), json.dumps(body).encode()
    reader, writer = await asyncio.open_connection(url.host, url.port)
    headers = {
        "Host": "x", "Content-Length": len(sent), "Content-Type": "application/json", "Expect": "100-continue",
        **who.headers,
    }  # fmt: skip
    lines = [f"{method} /api/v4/{path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    try:
        async with asyncio.timeout(SECONDS):
            writer.write("\r\n".join(lines).encode())
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(sent[:-1])
            yield Held(reader, writer, sent[-1:])
    finally:
        writer.close()
        await writer.wait_closed()


async def deleted(administrator: Caller, somebody: Person) -> None:
    await administrator.call("DELETE", f"User/{somebody.user_id}", 204)


async def logged_out(_administrator: Caller, somebody: Person) -> None:
    await somebody.call("GET", "Account/Logout", 200)


async def key_replaced(_administrator: Caller, somebody: Person) -> None:
    """By a log-in of its own: all other tokens are revoked."""
    other = Caller(somebody.url, somebody.http)
    await other.log_in(somebody.key_id, somebody.key_secret)
    await other.call("POST", "Account/ApiKey", 201)


async def demoted(administrator: Caller, somebody: Person) -> None:
    viewer = await role_id(administrator, "Reporting Viewer")
    await administrator.call("PUT", f"User/{somebody.user_id}", 200, json={"RoleId": viewer})


async def role_emptied(administrator: Caller, somebody: Person) -> None:
    await administrator.call("PUT", f"Roles/{somebody.role_id}", 200, json={"Capabilities": {}})


async def dismissed(administrator: Caller, somebody: Person) -> None:
    await administrator.call("PUT", f"User/{somebody.user_id}", 200, json={"AssetGroupIds": []})


CAPABILITIES = ("CreateModifyWebhooks", "PublishEvents", "ManageUsers", "ManageApplications", "ManagePresences")
NOBODY_ANY_MORE: list[Loss] = [deleted, logged_out, key_replaced]
LESS: list[Loss] = [demoted, role_emptied]


@asynccontextmanager
async def held_by(caller: Caller) -> AsyncIterator[tuple[Person, str, dict[str, Held]]]:
    """Requests of one person, each held back: who it is, its asset group, and the requests by their names."""
    shops = await group(caller, "shops")
    somebody = await person(caller, *CAPABILITIES, groups=[shops])
    presence, _ = await caller.presence()
    webhook = (await caller.webhook(presence, AssetGroupId=shops))["Id"]
    application = (await caller.post("Apps", {"Name": "shop", "AssetGroupId": shops}, 201))["Id"]
    made = {
        "PresenceId": presence, "Uri": "http://x/{SubjectId}", "Event": "ScanExecutionCompleted",
        "AssetGroupId": shops,
    }  # fmt: skip
    viewer = await role_id(caller, "Reporting Viewer")
    requests = {
        "create webhook": ("POST", "Webhooks", made),
        "change webhook": ("PUT", f"Webhooks/{webhook}", {"MaxAgeSeconds": 60}),
        "test webhook": ("POST", f"Webhooks/{webhook}/Test", {"SubjectId": "1"}),
        "event": ("POST", "Events", cloud_event("1", applicationid=application)),
        "change application": ("PUT", f"Apps/{application}", {"CriticalIssues": 7}),
        "invite": ("POST", "Account/InviteUsers", {"Emails": ["x@x.x"], "RoleId": viewer, "AssetGroupIds": [shops]}),
    }
    async with (
        held(somebody, *requests["create webhook"]) as a, held(somebody, *requests["change webhook"]) as b,
        held(somebody, *requests["test webhook"]) as c, held(somebody, *requests["event"]) as d,
        held(somebody, *requests["change application"]) as e, held(somebody, *requests["invite"]) as f,
    ):  # fmt: skip
        yield somebody, webhook, dict(zip(requests, (a, b, c, d, e, f), strict=True))
    assert len((await caller.get("Webhooks"))["Items"]) == 1
    assert (await caller.get("Webhooks"))["Items"][0]["MaxAgeSeconds"] == 86_400
    assert (await caller.get("Deliveries"))["Items"] == []
    assert (await caller.get("Apps"))["Items"][0]["CriticalIssues"] == 0
    assert (await caller.get("User?$filter=UserName eq 'x@x.x'"))["Items"] == []


@pytest.mark.parametrize("loss", NOBODY_ANY_MORE)
async def test_whoever_is_nobody_any_more_does_not_finish_a_request(caller: Caller, loss: Loss) -> None:
    async with held_by(caller) as (somebody, _, requests):
        await loss(caller, somebody)
        for name, request in requests.items():
            status, said = await request.finish()
            assert (status, said["Key"]) == (401, "USER_NOT_AUTHORIZED"), name


@pytest.mark.parametrize("loss", LESS)
async def test_whoever_has_lost_its_capabilities_does_not_finish_a_request(caller: Caller, loss: Loss) -> None:
    async with held_by(caller) as (somebody, _, requests):
        await loss(caller, somebody)
        for name, request in requests.items():
            status, said = await request.finish()
            assert (status, said["Key"]) == (403, "MISSING_CAPABILITIES"), name


async def test_whoever_has_lost_its_asset_group_does_not_finish_a_request(caller: Caller) -> None:
    async with held_by(caller) as (somebody, _, requests):
        await dismissed(caller, somebody)
        found = {name: (await request.finish())[1]["Key"] for name, request in requests.items()}
    assert found == {
        "create webhook": "ASSETGROUP_NO_ACCESS",
        "change webhook": "INVALID_WEBHOOK_IDENTIFIER",
        "test webhook": "INVALID_WEBHOOK_IDENTIFIER",
        "event": "APPLICATION_NO_ACCESS",
        "change application": "APPLICATION_NO_ACCESS",
        "invite": "ASSETGROUP_NO_ACCESS",
    }


async def test_a_body_does_not_keep_a_request_open_for_long(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("presence.controlplane.api.body.BODY_SECONDS", 0.2)
    for who, path in ((caller, "Presences"), (caller, "Events"), (Caller(caller.url, caller.http), "Presences/Enroll")):
        async with held(who, "POST", path, {"PresenceName": "x"}) as request:
            status, said = await request.answer()
            assert (status, said["Key"]) == (400, "INVALID_INPUT"), path
            assert "within" in said["Message"]
    assert (await caller.get("Presences"))["Items"] == []
