"""Users of the REST API with the rights that a test gives them."""

import asyncio
from collections.abc import Collection
from typing import Any
from uuid import uuid4

from presence.controlplane.app import run_init
from presence.controlplane.settings import ControlPlaneSettings
from tests.integration.controlplane.peers import Caller


async def role_id(caller: Caller, name: str) -> str:
    roles = (await caller.get("Roles"))["Items"]
    return next(str(role["Id"]) for role in roles if role["Name"] == name)


async def role_with(caller: Caller, *capabilities: str) -> str:
    """A new custom role with these capabilities."""
    body = {"Name": f"role {uuid4()}", "Capabilities": dict.fromkeys(capabilities, True)}
    return str((await caller.post("Roles", body, 201))["Id"])


async def group(caller: Caller, name: str) -> str:
    """A new asset group."""
    return str((await caller.post("AssetGroups", {"Name": name}, 201))["Id"])


async def default_group(caller: Caller) -> str:
    return str((await caller.get("AssetGroups?$filter=IsDefault"))["Items"][0]["Id"])


async def invite(caller: Caller, role: str, groups: Collection[str] = (), status: int = 201) -> dict[str, Any]:
    """Invites one user; gives the answer for it."""
    body = {"Emails": [f"{uuid4()}@example.com"], "RoleId": role, "AssetGroupIds": list(groups)}
    answer = await caller.post("Account/InviteUsers", body, status)
    return dict(answer[0]) if status == 201 else dict(answer)


class Person(Caller):
    """A logged-in user other than the administrator."""

    user_id: str
    role_id: str
    key_id: str
    key_secret: str


async def person(caller: Caller, *capabilities: str, groups: Collection[str] = (), role: str | None = None) -> Person:
    """A new user, logged in: with that role, or with a new one that has these capabilities."""
    given = role or await role_with(caller, *capabilities)
    made = await invite(caller, given, groups)
    somebody = Person(caller.url, caller.http)
    somebody.user_id, somebody.role_id = made["UserId"], given
    somebody.key_id, somebody.key_secret = made["KeyId"], made["KeySecret"]
    await somebody.log_in(somebody.key_id, somebody.key_secret)
    return somebody


async def stranger(caller: Caller, settings: ControlPlaneSettings) -> Caller:
    """The administrator of another organization."""
    other = await asyncio.to_thread(run_init, settings, "other")
    somebody = Caller(caller.url, caller.http)
    await somebody.log_in(other.key_id, other.key_secret)
    return somebody


async def me(caller: Caller) -> dict[str, Any]:
    """The caller's own UserInfo."""
    return dict((await caller.get("Account/TenantInfo"))["UserInfo"])
