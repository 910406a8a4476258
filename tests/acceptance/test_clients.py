"""Clients of AppScan on Cloud's API v4 as they exist: their very requests, and what they do with the answers.

Method, path, query, headers and body are those that the client sends, the fields those that it reads.
"""

import asyncio
import json
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import trustme
from yarl import URL

from tests.acceptance.installation import Installation
from tests.acceptance.organization import Organization, organization
from tests.integration.controlplane.people import group, me, person
from tests.support.processes import Program
from tests.support.system import control_plane
from tests.support.target import Target, head, status
from tests.support.tls import authority_file, server_context

JSON = {"Content-Type": "application/json", "Accept": "application/json"}


class Client:
    """Sends what it is given, the query as it is encoded already."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url
        self.token = ""

    async def ask(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None, expected: int = 200
    ) -> bytes:
        sent = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body)
        async with self._http.request(
            method, URL(self._url + path, encoded=True), data=data, headers=sent | (headers or JSON)
        ) as answer:
            content = await answer.read()
            assert answer.status == expected, content
            return content

    async def read(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None, expected: int = 200
    ) -> Any:
        return json.loads(await self.ask(method, path, body, headers, expected))


@asynccontextmanager
async def client(org: Organization, **key: str) -> AsyncIterator[Client]:
    """Logged in by what `key` says: the fields of the body, as that client spells them."""
    async with aiohttp.ClientSession() as http:
        made = Client(http, org.cloud.api.url)
        made.token = (await made.read("POST", "/api/v4/Account/ApiKeyLogin", key))["Token"]
        yield made


async def test_a_webhook_proxy_makes_what_is_missing_and_describes_each_scan(tmp_path: Path) -> None:
    """A proxy that posts to chats: at its start it looks for its webhooks by their URIs and makes those that are
    missing; told of a scan, it answers 202 and asks for the execution, the scan and the application."""
    async with organization(tmp_path) as org:
        org.target.answer = status(202)
        app = await org.application("shop")
        key = await org.administrator.call("POST", "Account/ApiKey", 201)
        async with client(org, KeyId=key["KeyId"], KeySecret=key["KeySecret"]) as proxy:
            wanted = {org.target.url(f"/asoc/{name}"): name for name in ("to-teams", "to-slack")}
            for start in ("first", "second"):
                there = await proxy.read("GET", "/api/v4/Webhooks")
                found = {item["Uri"].replace("/{SubjectId}", "") for item in there["Items"]}
                assert found == (set() if start == "first" else set(wanted))
                for uri in wanted.keys() - found:
                    body = {"PresenceId": org.cloud.presence_id, "Uri": uri + "/{SubjectId}", "Global": True}
                    body["Event"] = "ScanExecutionCompleted"
                    await proxy.ask("POST", "/api/v4/Webhooks", body, expected=201)
            somebody = await person(org.administrator, "ManageScans", groups=[org.home])
            started = await org.execution(app, somebody)
            await org.report(started, Status="Ready", NIssuesFound=6, NHighIssues=1, NMediumIssues=2, NLowIssues=3)
            asked = await org.requested()
            subjects = {path.rpartition("/")[2] for path in asked}
            assert (len(asked), subjects) == (2, {started})
            accept = {"Accept": "application/json"}
            await proxy.ask("GET", "/api/v4/Account/TenantInfo", headers=accept)
            execution = await proxy.read("GET", f"/api/v4/Scans/Execution/{started}", headers=accept)
            by_id = f"/api/v4/Scans?%24filter=Id%20eq%20{execution['ScanId']}"
            scan = (await proxy.read("GET", by_id, headers=accept))["Items"][0]
            by_id = f"/api/v4/Apps?%24filter=Id+eq+{scan['AppId']}"
            (application,) = (await proxy.read("GET", by_id, headers=accept))["Items"]
            assert (application["Id"], scan["AppName"], scan["Name"]) == (app, "shop", "nightly")
            assert datetime.fromisoformat(execution["ScanEndTime"][:19] + "Z")
            assert execution["ExecutionDurationSec"] >= 0
            by = execution["CreatedBy"]
            address = (await me(somebody))["Email"]
            assert by["FirstName"] + " " + by["LastName"] + " <" + by["Email"] + ">" == f"  <{address}>"
            issues = [execution[name] for name in ("NIssuesFound", "NHighIssues", "NMediumIssues", "NLowIssues")]
            assert issues == [6, 1, 2, 3]
            await proxy.ask("GET", "/api/v4/Account/Logout", headers=accept)
            await proxy.ask("GET", "/api/v4/Account/TenantInfo", headers=accept, expected=401)


async def test_a_fixing_service_gets_its_credentials_and_a_body_over_https(tmp_path: Path) -> None:
    """A service that makes patches: two webhooks of an asset group, Global, with an authorization header; one for
    patch requests, by POST with a body that has the place holder, to a URI without one."""
    authority = trustme.CA()
    tls = server_context(authority.issue_cert("127.0.0.1"))
    options = [{"host": "127.0.0.1", "ca_file": authority_file(authority, tmp_path)}]
    settings = {"PRESENCE_TARGETS": json.dumps(options), "PRESENCE_EGRESS__METHODS": '["GET", "POST"]'}
    async with Target(tls=tls) as service, organization(tmp_path, **settings) as org:
        theirs = await group(org.administrator, "theirs")
        app = await org.application("shop", theirs)
        user = await person(org.administrator, "CreateModifyWebhooks", groups=[theirs])
        base = service.url("/api/v1/integrations/appscan-default/webhooks")
        common = {
            "AuthorizationHeader": "Basic dXNlcm5hbWU6cGFzc3dvcmQ=",
            "PresenceId": org.cloud.presence_id,
            "Global": True,
            "AssetGroupId": theirs,
        }
        async with client(org, KeyId=user.key_id, KeySecret=user.key_secret) as fixer:
            scans = {"Uri": base + "/_/ScanExecutionCompleted/{SubjectId}", "Event": "ScanExecutionCompleted"}
            patches = {
                "Uri": base + "/CreatePatch",
                "Event": "NewPatchRequest",
                "RequestMethod": "POST",
                "RequestBody": '{"patch_id": "{SubjectId}"}',
                "ContentType": "application/json",
            }
            for webhook in (scans, patches):
                made = await fixer.read("POST", "/api/v4/Webhooks", common | webhook, expected=201)
                assert (made["AssetGroup"]["Id"], made["Global"]) == (theirs, True)
                assert "dXNlcm5hbWU6cGFzc3dvcmQ=" not in str(made)
        one = await org.scan(app)
        (ended,) = await service.received(1)
        patch = "0f0e5d1a-6a84-4d1c-8a6f-3d5c4bb1f6b7"
        await org.say("NewPatchRequest", patch, applicationid=app)
        _, requested = await service.received(2)
        path = "/api/v1/integrations/appscan-default/webhooks"
        assert head(ended)[0] == f"GET {path}/_/ScanExecutionCompleted/{one} HTTP/1.1"
        assert head(requested)[0] == f"POST {path}/CreatePatch HTTP/1.1"
        for request in (ended, requested):
            assert head(request)[1]["authorization"] == "Basic dXNlcm5hbWU6cGFzc3dvcmQ="
        assert head(requested)[1]["content-type"] == "application/json"
        assert requested.partition(b"\r\n\r\n")[2] == f'{{"patch_id": "{patch}"}}'.encode()
        assert {entry["State"] for entry in await org.deliveries()} == {"succeeded"}


async def test_a_deployment_plug_in_stores_each_new_key_as_the_key_file(tmp_path: Path) -> None:
    """A plug-in that starts a presence on a host: it removes one of the same name, makes one, and writes what `NewKey`
    answers, as it is, to the key file; at the next start again. A running agent takes over the newer key by itself."""
    async with organization(tmp_path) as org:
        key = await org.administrator.call("POST", "Account/ApiKey", 201)
        async with client(org, KeyId=key["KeyId"], KeySecret=key["KeySecret"]) as plugin:
            for _ in range(2):
                there = (await plugin.read("GET", "/api/v4/Presences"))["Items"]
                for one in there:
                    if one["PresenceName"] == "deployed":
                        await plugin.ask("DELETE", f"/api/v4/Presences/{one['Id']}", expected=204)
                # A file that PowerShell wrote.
                body = b'\xef\xbb\xbf{\r\n    "PresenceName":  "deployed"\r\n}\r\n'
                made = await plugin.read("POST", "/api/v4/Presences", body)
            assert made["Status"] == "NeverUsed"
            file = tmp_path / "Presence.key"
            new_key = f"/api/v4/Presences/{made['Id']}/NewKey"
            file.write_bytes(await plugin.ask("GET", new_key))
            await org.administrator.webhook(made["Id"], Uri=org.target.url())
            host = tmp_path / "host"
            host.mkdir()
            env = org.cloud.agent_env(host, PRESENCE_CONTROL_PLANE__KEY_FILE=str(file))
            del env["PRESENCE_CONTROL_PLANE__KEY"]
            async with Program("run", env=env) as agent:
                await until_active(plugin, made["Id"])
                file.write_bytes(await plugin.ask("GET", new_key))
                await agent.said("link", state="offline")
                await org.say("ScanExecutionCompleted", "1")
                assert await org.requested() == ["/ScanEnded/1"]
                assert json.loads(file.read_bytes())["Key"] not in agent.text()


async def until_active(client: Client, presence_id: str) -> None:
    """Ready when `Status` is `Active`, as clients wait for it: five seconds, and then up to five times as many."""
    async with asyncio.timeout(30):
        while True:
            (item,) = (await client.read("GET", f"/api/v4/Presences?%24filter=Id%20eq%20{presence_id}"))["Items"]
            if item["Status"] == "Active":
                return
            await asyncio.sleep(0.2)


async def test_a_pipeline_brings_a_presence_of_its_own_for_one_scan(tmp_path: Path) -> None:
    """A pipeline step that has no agent: it makes a presence, unpacks its download, waits until it is `Active`, follows
    a scan by its executions' `Status`, and deletes the presence."""
    async with organization(tmp_path) as org:
        app = await org.application("shop")
        key = await org.administrator.call("POST", "Account/ApiKey", 201)
        # Another client of the same vendor's writes the fields so.
        async with client(org, keyId=key["KeyId"], keySecret=key["KeySecret"]) as step:
            made = await step.read("POST", "/api/v4/Presences", {"PresenceName": "Github 1a2b3c"})
            path = f"/api/v4/Presences/{made['Id']}"
            archive = BytesIO(await step.ask("GET", f"{path}/Download/Linux_x64"))
            host = Installation(zipfile.ZipFile(archive), tmp_path / "host")
            in_it = ("env", "-C", str(host.home))
            async with Program("run", "--config", "agent.toml", env=host.environment, before=in_it) as agent:
                await until_active(step, made["Id"])
                execution = await org.execution(app)
                scan_id = (await org.administrator.get(f"Scans/Execution/{execution}"))["ScanId"]
                (shown,) = await step.read("GET", f"/api/v4/Scans/{scan_id}/Executions")
                assert shown["Status"] == "InQueue"
                await org.report(execution, Status="Ready")
                (shown,) = await step.read("GET", f"/api/v4/Scans/{scan_id}/Executions")
                assert shown["Status"] == "Ready"
                (scan,) = (await step.read("GET", f"/api/v4/Scans/?%24filter=Id%20eq%20{scan_id}"))["Items"]
                assert scan["LatestExecution"]["ExecutionProgress"] == "Completed"
                await step.ask("DELETE", path, expected=204)
                await agent.said("link", state="offline")
            names = {item["PresenceName"] for item in (await step.read("GET", "/api/v4/Presences"))["Items"]}
            assert names == {"test"}


async def test_the_vendors_own_library_logs_in_and_finds_presences(tmp_path: Path) -> None:
    """The vendor's Java library, and so the plug-ins that are made with it: headers, options and a body's field that
    mean nothing here, and errors that are shown by their `Message`."""
    async with control_plane(tmp_path) as cloud, aiohttp.ClientSession() as http:
        key = await cloud.api.call("POST", "Account/ApiKey")
        library = Client(http, cloud.api.url)
        headers = JSON | {"charset": "UTF-8"}
        body = {"KeyId": key["KeyId"], "KeySecret": key["KeySecret"], "ClientType": "jenkins-linux-1.0"}
        login = headers | {"ClientType": "jenkins-linux-1.0"}
        refused = await library.read("POST", "/api/v4/Account/ApiKeyLogin", body | {"KeySecret": "wrong"}, login, 401)
        assert refused["Message"]
        await library.ask("GET", "/api/v4/Account/IsAuthenticated", headers=headers, expected=401)
        library.token = (await library.read("POST", "/api/v4/Account/ApiKeyLogin", body, login))["Token"]
        await library.ask("GET", "/api/v4/Account/IsAuthenticated", headers=headers)
        everything = headers | {"range": "items=0-999999"}
        (item,) = (await library.read("GET", "/api/v4/Presences?fields=Name&sort=%2BName", headers=everything))["Items"]
        assert (item["Id"], item["PresenceName"]) == (cloud.presence_id, "test")
        details = await library.read("GET", f"/api/v4/Presences?%24filter=Id%20eq%20{item['Id']}", headers=headers)
        assert details["Items"] == [item]
        given = await library.read("GET", f"/api/v4/Presences/{item['Id']}/NewKey", headers=headers)
        assert isinstance(given["Key"], str)
        await library.ask("DELETE", f"/api/v4/Presences/{item['Id']}", headers=headers, expected=204)
        refused = await library.read("GET", f"/api/v4/Presences/{item['Id']}/NewKey", headers=headers, expected=400)
        assert refused["Message"]
