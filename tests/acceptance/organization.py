"""An organization that uses the running system as the description has it: control plane, agent and target."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.integration.controlplane.peers import Caller, cloud_event
from tests.integration.controlplane.people import default_group
from tests.support.processes import Program
from tests.support.system import FINAL, Cloud, control_plane
from tests.support.target import Target, head


@dataclass
class Organization:
    """`home` is the Default asset group."""

    cloud: Cloud
    agent: Program
    target: Target
    administrator: Caller
    home: str

    async def application(self, name: str, group_id: str | None = None) -> str:
        body = {"Name": name, "AssetGroupId": group_id or self.home}
        return str((await self.administrator.post("Apps", body, 201))["Id"])

    async def execution(self, application_id: str, by: Caller | None = None) -> str:
        """A new execution of a new scan of the application."""
        caller = by or self.administrator
        body = {"Name": "nightly", "AppId": application_id, "Technology": "DynamicAnalyzer"}
        scan_id = (await caller.post("Scans", body, 201))["Id"]
        return str((await caller.call("POST", f"Scans/{scan_id}/Executions", 201))["Id"])

    async def report(self, execution_id: str, **said: object) -> dict[str, Any]:
        """What the scan engine says of an execution."""
        path = f"Scans/Execution/{execution_id}"
        return dict(await self.administrator.call("PUT", path, 200, json=said))

    async def scan(self, application_id: str, **found: object) -> str:
        """A scan of the application from its start to its end; the execution's id."""
        execution_id = await self.execution(application_id)
        await self.report(execution_id, Status="Running", Progress=10)
        await self.report(execution_id, Status="Ready", **found)
        return execution_id

    async def change(self, application_id: str, **fields: object) -> None:
        await self.administrator.call("PUT", f"Apps/{application_id}", 200, json=fields)

    async def say(self, event_type: str, subject: str, **more: object) -> None:
        """An event as a CloudEvent of a producer."""
        await self.administrator.post("Events", cloud_event(subject, type=event_type, **more), 201)

    async def webhook(self, path: str, by: Caller | None = None, **fields: object) -> str:
        """A webhook to the target: Global, at organization level and for scans unless the fields say otherwise."""
        caller = by or self.administrator
        return str((await caller.webhook(self.cloud.presence_id, Uri=self.target.url(path), **fields))["Id"])

    async def associate(self, webhook_id: str, scope: str, scope_id: str, by: Caller | None = None) -> None:
        body = {"Scope": scope, "ScopeId": scope_id}
        await (by or self.administrator).post(f"Webhooks/Associations/{webhook_id}", body, 201)

    async def deliveries(self) -> list[dict[str, Any]]:
        """All that events have brought about, once each has ended. There is no event to wait for: they are asked for.

        Deliveries are there when the call that is the event's cause is answered, so nothing comes later.
        """
        async with asyncio.timeout(30):
            while True:
                found = await self.administrator.deliveries()
                if all(one["State"] in FINAL for one in found):
                    return found
                await asyncio.sleep(0.05)

    async def requested(self) -> list[str]:
        """The request targets that the target was asked for, sorted; each delivery has succeeded by one request."""
        found = await self.deliveries()
        assert {one["State"] for one in found} <= {"succeeded"}, json.dumps(found, indent=1)
        assert len(self.target.requests) == len(found)
        return sorted(head(request)[0].split(" ")[1] for request in self.target.requests)


@asynccontextmanager
async def caller_of(cloud: Cloud) -> AsyncIterator[Caller]:
    """The administrator, as a client of its own."""
    key = await cloud.api.call("POST", "Account/ApiKey")
    async with aiohttp.ClientSession() as http:
        caller = Caller(cloud.api.url, http)
        await caller.log_in(key["KeyId"], key["KeySecret"])
        yield caller


@asynccontextmanager
async def organization(
    directory: Path, plane: Mapping[str, str] | None = None, **settings: str
) -> AsyncIterator[Organization]:
    """Everything runs, and the agent is connected. `plane`: the control plane's settings, `settings`: the agent's, by
    variables."""
    async with (
        Target() as target,
        control_plane(directory, **(plane or {})) as cloud,
        caller_of(cloud) as administrator,
        Program("run", env=cloud.agent_env(directory, **settings)) as agent,
    ):
        await agent.said("link", state="online")
        yield Organization(cloud, agent, target, administrator, await default_group(administrator))
