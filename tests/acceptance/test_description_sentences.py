"""The description of webhooks, sentence by sentence, through the running system: events, the agent, the request.

`test_description.py` has its example and the firewall, `test_description_access.py` who may what, and the scopes.
"""

import asyncio
from pathlib import Path

from presence import __version__
from tests.acceptance.installation import Installation, build, download
from tests.acceptance.organization import caller_of, organization
from tests.acceptance.receiver import Receiver
from tests.integration.controlplane.peers import Caller
from tests.integration.controlplane.people import group, person
from tests.support.processes import Program
from tests.support.system import control_plane
from tests.support.target import Target, head


async def test_webhooks_are_supported_through_the_rest_api(tmp_path: Path) -> None:
    """ "User-defined HTTP callbacks - or webhooks - are supported through the ASoC REST API." """
    async with organization(tmp_path) as org:
        app = await org.application("shop")
        made = await org.webhook("/first/{SubjectId}")
        listed = (await org.administrator.get("Webhooks"))["Items"]
        assert [(item["Id"], item["Uri"]) for item in listed] == [(made, org.target.url("/first/{SubjectId}"))]
        first = await org.scan(app)
        moved = {"Uri": org.target.url("/second/{SubjectId}")}
        await org.administrator.call("PUT", f"Webhooks/{made}", 200, json=moved)
        second = await org.scan(app)
        assert await org.requested() == [f"/first/{first}", f"/second/{second}"]
        await org.administrator.call("DELETE", f"Webhooks/{made}", 204)
        assert (await org.administrator.get("Webhooks"))["Items"] == []
        await org.scan(app)
        assert await org.requested() == [f"/first/{first}", f"/second/{second}"]


async def test_the_completion_of_a_scan_execution_is_an_event(tmp_path: Path) -> None:
    """ "Two types of event are supported: Scan execution complete" """
    async with organization(tmp_path) as org:
        app = await org.application("shop")
        await org.webhook("/ScanEnded/{SubjectId}", Event="ScanExecutionCompleted")
        await org.webhook("/Updated/{SubjectId}", Event="ApplicationUpdated")
        execution = await org.execution(app)
        for status in ("Running", "Pausing", "Paused", "Running"):
            await org.report(execution, Status=status)
        assert await org.requested() == []
        await org.report(execution, Status="Ready", NIssuesFound=3)
        assert await org.requested() == [f"/ScanEnded/{execution}"]
        await org.report(execution, NIssuesFound=4)
        failing = await org.execution(app)
        await org.report(failing, Status="Failed")
        assert await org.requested() == [f"/ScanEnded/{execution}"]
        again = await org.scan(app)
        assert await org.requested() == sorted(f"/ScanEnded/{one}" for one in (execution, again))


async def test_a_change_of_an_application_s_counters_or_status_is_an_event(tmp_path: Path) -> None:
    """ "Counters or status of an application changed", by its true name and by that of the help page."""
    async with organization(tmp_path) as org:
        app, other = await org.application("shop"), await org.application("warehouse")
        await org.webhook("/ScanEnded/{SubjectId}", Event="ScanExecutionCompleted")
        by_alias = await org.webhook("/Updated/{SubjectId}", Event="ApplicationCountersChanged")
        (shown,) = (await org.administrator.get(f"Webhooks?$filter=Id eq {by_alias}"))["Items"]
        assert shown["Event"] == "ApplicationUpdated"
        await org.change(app, Description="neither a counter nor a status")
        assert await org.requested() == []
        await org.change(app, CriticalIssues=2, OpenIssues=7)
        assert await org.requested() == [f"/Updated/{app}"]
        await org.change(app, CriticalIssues=2, OpenIssues=7)
        await org.change(app, RiskRating="High")
        await org.change(app, TestingStatus="Completed")
        assert await org.requested() == [f"/Updated/{app}"] * 3
        await org.say("ApplicationUpdated", other)
        await org.say("ApplicationCountersChanged", other)
        assert await org.requested() == sorted([f"/Updated/{app}"] * 3 + [f"/Updated/{other}"] * 2)


async def test_a_presence_is_downloaded_and_installed_once_and_is_connected(tmp_path: Path) -> None:
    """ "To use webhooks you must first download and install an AppScan Presence to your local network (usually a
    one-time process). The Presence is connected to ASoC." """
    package = build(tmp_path / "packages")
    async with (
        Target() as target,
        control_plane(tmp_path, PRESENCE_CP_SERVER__AGENT_PACKAGE=str(package)) as cloud,
        caller_of(cloud) as administrator,
    ):
        presence_id = (await administrator.post("Presences", {"PresenceName": "downloaded"}))["Id"]
        await administrator.webhook(presence_id, Uri=target.url())
        await administrator.event("first-of-all")
        host = Installation(await download(administrator, presence_id), tmp_path / "host")
        host.install()
        assert target.requests == []
        for turn in ("installed", "agent-started-again", "both-started-again"):
            if turn == "both-started-again":
                assert await cloud.stop_and_restart() == 0
            async with Program("run", "--config", "./agent.toml", env=host.environment, before=host.before) as agent:
                await agent.said("link", state="online")
                await until_active(administrator, presence_id)
                (delivery,) = (await administrator.event(turn))["Deliveries"]
                assert (await cloud.api.ended(delivery))["State"] == "succeeded"
                assert await agent.stop() == 0
        asked = [head(request)[0].split(" ")[1] for request in target.requests]
        subjects = ("first-of-all", "installed", "agent-started-again", "both-started-again")
        assert asked == [f"/ScanEnded/{subject}" for subject in subjects]


async def until_active(caller: Caller, presence_id: str) -> None:
    """As clients wait for a new presence. There is no event to wait for: the list is asked."""
    async with asyncio.timeout(20):
        while True:
            (presence,) = (await caller.get(f"Presences?$filter=Id eq {presence_id}"))["Items"]
            if presence["Status"] == "Active":
                return
            await asyncio.sleep(0.1)


async def test_a_command_becomes_a_get_request_to_the_uri_as_it_stands(tmp_path: Path) -> None:
    """ "You define the webhook so that when the event you want is triggered, the Presence will initiate a GET request
    to a URI. The URI can contain a place holder, {SubjectId}, that will be replaced with the ID of the event's
    subject." """
    async with organization(tmp_path) as org:
        for path in (
            "/ScanEnded/{SubjectId}",
            "/no/place/holder?at=all",
            "/hook?ScanExecutionId={SubjectId}",
            "/{SubjectId}/twice?again={SubjectId}&last=1",
        ):
            await org.webhook(path)
        one = await org.scan(await org.application("shop"))
        assert await org.requested() == sorted(
            [f"/ScanEnded/{one}", "/no/place/holder?at=all", f"/hook?ScanExecutionId={one}",
             f"/{one}/twice?again={one}&last=1"]
        )  # fmt: skip
        assert {head(request)[0].split(" ")[0] for request in org.target.requests} == {"GET"}


async def test_no_data_of_the_event_is_sent(tmp_path: Path) -> None:
    """ "Note that the webhook does not send any data related to the event." Neither of what the scan found, nor of
    what a producer says beside the subject."""
    async with organization(tmp_path) as org:
        await org.webhook("/ScanEnded/{SubjectId}")
        app = await org.application("planted-name")
        one = await org.scan(app, NIssuesFound=31337, UserMessage="planted-message", Comment="planted-comment")
        told = {"data": {"secret": "planted-data"}, "datacontenttype": "application/json", "planted": "planted-value"}
        await org.say("ScanExecutionCompleted", "77", applicationid=app, source="/planted", id="planted", **told)
        deliveries = {entry["Id"]: entry for entry in await org.deliveries()}
        assert {entry["SubjectId"] for entry in deliveries.values()} == {one, "77"}
        assert len(org.target.requests) == 2
        for request in org.target.requests:
            line, headers = head(request)
            subject = deliveries.pop(headers["webhook-id"])["SubjectId"]
            assert line == f"GET /ScanEnded/{subject} HTTP/1.1"
            assert headers.pop("webhook-timestamp").isdecimal()
            assert headers == {
                "host": f"127.0.0.1:{org.target.port}",
                "user-agent": f"Presence/{__version__}",
                "accept": "*/*",
                "webhook-id": headers["webhook-id"],
            }
            assert request.endswith(b"\r\n\r\n")
            assert request.count(b"\r\n\r\n") == 1


async def test_a_service_logs_in_with_an_api_key_and_retrieves_the_data(tmp_path: Path) -> None:
    """ "To get data (such as the list of issues found by in the scan), you would need to implement a separate service
    that, when handling the event, will login to ASoC using an API Key and retrieve the required data from ASoC API."

    The user whose key it is has no permission at all, only access to the asset group."""
    async with organization(tmp_path) as org:
        theirs, other = [await group(org.administrator, name) for name in ("theirs", "other")]
        reader = await person(org.administrator, groups=[theirs])
        receiver = Receiver(Caller(org.cloud.api.url, org.administrator.http), reader.key_id, reader.key_secret)
        org.target.answer = receiver.answer
        await org.webhook("/ScanEnded/{SubjectId}", AssetGroupId=theirs)
        await org.webhook("/Updated/{SubjectId}", AssetGroupId=theirs, Event="ApplicationUpdated")
        app = await org.application("shop", theirs)
        one = await org.scan(app, NIssuesFound=5, NHighIssues=2, Result="High")
        found = await asyncio.wait_for(receiver.found.get(), 20)
        assert (found["execution"]["Id"], found["execution"]["Status"]) == (one, "Ready")
        assert [found["execution"][name] for name in ("NIssuesFound", "NHighIssues", "Result")] == [5, 2, "High"]
        assert (found["scan"]["AppId"], found["scan"]["LatestExecution"]["Id"]) == (app, one)
        assert found["application"]["Name"] == "shop"
        await org.change(app, OpenIssues=5, MaxSeverity="High")
        found = await asyncio.wait_for(receiver.found.get(), 20)
        assert [found["application"][name] for name in ("Id", "OpenIssues", "MaxSeverity")] == [app, 5, "High"]
        assert await org.requested() == [f"/ScanEnded/{one}", f"/Updated/{app}"]
        foreign = await org.application("foreign", other)
        hidden = await org.scan(foreign)
        await reader.get(f"Scans/Execution/{hidden}", 404)
        assert (await reader.get(f"Apps?$filter=Id eq {foreign}"))["Items"] == []
