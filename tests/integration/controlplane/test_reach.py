"""Effective access: whoever is listed can cause a request to the host in just the ways that are listed."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

from presence.controlplane.settings import ControlPlaneSettings
from tests.integration.controlplane.access.people import everybody
from tests.integration.controlplane.peers import Caller, cloud_event, environment
from tests.integration.controlplane.people import Person, group, stranger
from tests.support.system import run

EVENTS = ("ScanExecutionCompleted", "ApplicationUpdated", "NewPatchRequest")
TRIED = "AMPTwoepn"
"""Letters of the access table; the others have no right that matters here."""
Found = dict[tuple[str, str], set[str]]


class Estate:
    """Webhooks of every event and level, each with a host of its own that its URI names, and one that it did name."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.groups: dict[str, str] = {}
        self.applications: dict[str, str] = {}
        self.webhooks: dict[str, str] = {}
        self.old: dict[str, str] = {}

    async def build(self) -> None:
        for name in ("own", "other"):
            self.groups[name] = await group(self.caller, name)
            body = {"Name": name, "AssetGroupId": self.groups[name]}
            self.applications[name] = (await self.caller.post("Apps", body, 201))["Id"]
        presence, _ = await self.caller.presence()
        own = {"AssetGroupId": self.groups["own"]}
        levels: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
            "organization": ({"Global": True}, []),
            "organization-scoped": (
                {"Global": False},
                [("AssetGroup", self.groups["own"]), ("Application", self.applications["other"])],
            ),
            "group": ({"Global": True, **own}, []),
            "group-scoped": ({"Global": False, **own}, [("Application", self.applications["own"])]),
            "group-unscoped": ({"Global": False, **own}, []),
            "other": ({"Global": True, "AssetGroupId": self.groups["other"]}, []),
        }
        for event in EVENTS:
            for level, (fields, scopes) in levels.items():
                host = f"{level}.{event}".lower()
                made = await self.caller.webhook(presence, Uri=f"http://was.{host}/", Event=event, **fields)
                for scope, scope_id in scopes:
                    body = {"Scope": scope, "ScopeId": scope_id}
                    await self.caller.post(f"Webhooks/Associations/{made['Id']}", body, 201)
                test = await self.caller.post(f"Webhooks/{made['Id']}/Test", {"SubjectId": "x"}, 201)
                await self.caller.call("POST", f"Deliveries/{test['Id']}/Cancel", 200)
                await self.caller.call("PUT", f"Webhooks/{made['Id']}", 200, json={"Uri": f"http://{host}:8080/"})
                self.webhooks[host], self.old[host] = made["Id"], test["Id"]

    async def listed(self, people: list[Person]) -> Found:
        """(host, user): the ways by which the user can cause a request to it, as the API says."""
        ids = {one.user_id for one in people}
        found: Found = {}
        for host in [*self.webhooks, *(f"was.{host}" for host in self.webhooks)]:
            (item,) = (await self.caller.get(f"EffectiveAccess?host={host}"))["Items"]
            assert item["PointsThere"] == (not host.startswith("was."))
            for cause in item["Causes"]:
                if cause["UserId"] in ids:
                    found[host, cause["UserId"]] = set(cause["Ways"])
        return found

    async def caused(self, who: Person) -> Found:
        """The same, tried."""
        ways: dict[str, Callable[[Person], Awaitable[None]]] = {
            "Change": self._test,
            "Redeliver": self._redeliver,
            "Event": self._publish,
            "Execution": self._end_executions,
            "Application": self._change_applications,
        }
        found: Found = {}
        for way, tries in ways.items():
            before = {one["Id"] for one in await self.caller.deliveries()}
            await tries(who)
            for delivery in await self.caller.deliveries():
                if delivery["Id"] not in before:
                    host = delivery["Uri"].removeprefix("http://").partition("/")[0].partition(":")[0]
                    found.setdefault((host, who.user_id), set()).add(way)
        return found

    async def _test(self, who: Person) -> None:
        await self._all(who, [("POST", f"Webhooks/{id_}/Test", {"SubjectId": "x"}) for id_ in self.webhooks.values()])

    async def _redeliver(self, who: Person) -> None:
        await self._all(who, [("POST", f"Deliveries/{id_}/Redeliver", None) for id_ in self.old.values()])

    async def _publish(self, who: Person) -> None:
        places = [{}, *({"applicationid": id_} for id_ in self.applications.values())]
        events = [cloud_event("x", type=event, **place) for event in EVENTS for place in places]
        await self._all(who, [("POST", "Events", event) for event in events])

    async def _end_executions(self, who: Person) -> None:
        for application in self.applications.values():
            body = {"Name": "scan", "AppId": application, "Technology": "ScaAnalyzer"}
            scan = (await self.caller.post("Scans", body, 201))["Id"]
            execution = (await self.caller.post(f"Scans/{scan}/Executions", None, 201))["Id"]
            await self._all(who, [("PUT", f"Scans/Execution/{execution}", {"Status": "Ready"})])

    async def _change_applications(self, who: Person) -> None:
        counted = {"CriticalIssues": uuid4().int % 1_000_000 + 1}
        await self._all(who, [("PUT", f"Apps/{id_}", counted) for id_ in self.applications.values()])

    async def _all(self, who: Person, requests: list[tuple[str, str, Any]]) -> None:
        """Whatever comes of them."""
        for method, path, body in requests:
            url = f"{who.url}/api/v4/{path}"
            async with who.http.request(method, url, headers=who.headers, json=body) as answer:
                assert answer.status < 500


async def test_whoever_is_listed_can_do_it_and_nobody_else(caller: Caller) -> None:
    estate = Estate(caller)
    await estate.build()
    people = await everybody(caller, [estate.groups["own"]])
    tried = [people[letter] for letter in TRIED]
    listed = await estate.listed(list(people.values()))
    assert {user for _, user in listed} <= {one.user_id for one in tried}
    caused: Found = {}
    for who in tried:
        caused |= await estate.caused(who)
    assert caused == listed


async def test_what_is_told_of_a_webhook(caller: Caller, settings: ControlPlaneSettings) -> None:
    shops = await group(caller, "shops")
    application = (await caller.post("Apps", {"Name": "shop", "AssetGroupId": shops}, 201))["Id"]
    presence, _ = await caller.presence("office")
    webhook = await caller.webhook(presence, Uri="https://10.1.2.3:8443/{SubjectId}", Global=False)
    assert (await caller.get("EffectiveAccess?host=10.1.2.3"))["Items"][0]["NeverFires"]
    scope = {"Scope": "Application", "ScopeId": application}
    await caller.post(f"Webhooks/Associations/{webhook['Id']}", scope, 201)
    other = await stranger(caller, settings)
    for host in ("10.1.2.3", "10.1.2.3:8443"):
        (item,) = (await caller.get(f"EffectiveAccess?host={host}"))["Items"]
        (cause,) = item.pop("Causes")
        assert (cause["UserName"], cause["RoleName"]) == ("administrator", "Administrator")
        assert cause["Ways"] == ["Change", "Event", "Execution"]
        assert item == {
            "WebhookId": webhook["Id"], "Uri": "https://10.1.2.3:8443/{SubjectId}", "RequestMethod": "GET",
            "Event": "ScanExecutionCompleted", "Global": False, "AssetGroup": None, "NeverFires": False,
            "Scopes": [{**scope, "Name": "shop", "AssetGroupId": shops}], "Paused": False, "PointsThere": True,
            "Presence": {"Id": presence, "PresenceName": "office"},
        }  # fmt: skip
        assert (await other.get(f"EffectiveAccess?host={host}"))["Items"] == []
    for host in ("10.1.2.30", "10.1.2.3:80", "1.2.3.4", "10.1.2.3.example"):
        assert (await caller.get(f"EffectiveAccess?host={host}"))["Items"] == []
    assert (await caller.get("EffectiveAccess?host=http://x", 400))["Key"] == "INVALID_INPUT"


async def test_a_deleted_webhook_reaches_nothing_any_more(caller: Caller) -> None:
    presence, _ = await caller.presence()
    webhook = (await caller.webhook(presence, Uri="http://old/"))["Id"]
    await caller.event()
    await caller.call("PUT", f"Webhooks/{webhook}", 200, json={"Uri": "http://new/"})
    (item,) = (await caller.get("EffectiveAccess?host=old"))["Items"]
    assert (item["PointsThere"], item["Causes"][0]["Ways"]) == (False, ["Redeliver"])
    await caller.call("DELETE", f"Webhooks/{webhook}", 204)
    assert (await caller.get("EffectiveAccess?host=old"))["Items"] == []


async def test_the_command(caller: Caller, settings: ControlPlaneSettings) -> None:
    presence, _ = await caller.presence("office")
    webhook = (await caller.webhook(presence, Uri="http://old:8080/"))["Id"]
    await caller.event()
    await caller.call("PUT", f"Webhooks/{webhook}", 200, json={"Uri": "http://new/"})
    env = environment(settings)
    told, gone, nothing, wrong, as_json = await asyncio.gather(
        *(
            run("control-plane", "who-can-reach", *arguments, env=env)
            for arguments in (("new",), ("old:8080",), ("elsewhere",), ("http://x",), ("new", "--json"))
        )
    )
    assert (told[0], gone[0], nothing[0]) == (0, 0, 0)
    for line in ("GET http://new/", "acme, organization level", "ScanExecutionCompleted: Global", "office"):
        assert line in told[1]
    assert "administrator (Administrator): Change, Event, Execution\n" in told[1]
    assert "GET http://new/ (by now; its deliveries remain)" in gone[1]
    assert "administrator (Administrator): Redeliver\n" in gone[1]
    assert (nothing[1], nothing[2]) == ("", "no webhook points to it\n")
    assert wrong[0] != 0
    assert "HOST is not a host" in wrong[2]
    found = json.loads(as_json[1])
    assert [one["OrganizationName"] for one in found["Organizations"]] == ["acme"]
    assert found["Organizations"][0]["Items"] == (await caller.get("EffectiveAccess?host=new"))["Items"]
