"""Scans and their executions: what an engine says, and that a completion is an event exactly once."""

import asyncio
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from presence.controlplane.api.scans import EXECUTION_FIELDS, FIELDS, IGNORED
from presence.controlplane.app import InitResult
from presence.controlplane.settings import ControlPlaneSettings, Events
from presence.controlplane.store.executions import COLUMNS as STORED
from presence.controlplane.store.scans import COLUMNS
from tests.integration.controlplane.peers import Caller, logged_in
from tests.integration.controlplane.people import default_group, group, person, role_id, stranger

COUNTERS = (
    *("NIssuesFound", "NCriticalIssues", "NHighIssues", "NMediumIssues", "NLowIssues", "NInfoIssues"),
    *("NOpenSourceLicenses", "NOpenSourcePackages", "NNewAppIssues", "NNewAppCriticalIssues", "NNewAppHighIssues"),
    *("NNewAppMediumIssues", "NNewAppLowIssues", "NNewAppInfoIssues"),
)


async def application(caller: Caller, name: str = "Shop", group_id: str | None = None) -> str:
    body = {"Name": name, "AssetGroupId": group_id or await default_group(caller)}
    return str((await caller.post("Apps", body, 201))["Id"])


async def scan(caller: Caller, app_id: str | None = None, status: int = 201, **fields: object) -> Any:
    app_id = app_id or await application(caller)
    return await caller.post(
        "Scans", {"Name": "Nightly", "AppId": app_id, "Technology": "ScaAnalyzer"} | fields, status
    )


async def start(caller: Caller, scan_id: str | None = None, status: int = 201) -> Any:
    scan_id = scan_id or (await scan(caller))["Id"]
    return await caller.call("POST", f"Scans/{scan_id}/Executions", status)


async def put(caller: Caller, id_: str, status: int = 200, **fields: object) -> Any:
    return await caller.call("PUT", f"Scans/Execution/{id_}", status, json=fields)


async def listening(caller: Caller, **fields: object) -> str:
    """A webhook for completed executions; gives its id."""
    presence_id, _ = await caller.presence()
    return str((await caller.webhook(presence_id, **fields))["Id"])


async def completions(caller: Caller) -> list[str]:
    return [one["SubjectId"] for one in await caller.deliveries() if one["Event"] == "ScanExecutionCompleted"]


async def test_a_scan_as_it_is_shown(caller: Caller) -> None:
    app_id = await application(caller)
    made = await scan(caller, app_id)
    assert made == {
        "Id": made["Id"], "Name": "Nightly", "AppId": app_id, "AppName": "Shop", "Technology": "ScaAnalyzer",
        "AssetGroupId": await default_group(caller), "CreatedBy": "administrator", "CreatedAt": made["CreatedAt"],
        "LatestExecution": None,
    }  # fmt: skip
    assert (await caller.get("Scans"))["Items"] == [made]
    first, latest = await start(caller, made["Id"]), await start(caller, made["Id"])
    assert (await caller.get(f"Scans?$filter=Id eq {made['Id']}"))["Items"][0]["LatestExecution"]["Id"] in (
        first["Id"], latest["Id"]
    )  # fmt: skip


async def test_an_execution_as_it_is_shown(caller: Caller) -> None:
    made = await start(caller)
    assert (made["Status"], made["ExecutionProgress"], made["Progress"]) == ("InQueue", "Pending", 0)
    assert (made["Result"], made["UserMessage"], made["IsPartial"]) == ("None", None, False)
    assert all(made[name] == 0 for name in COUNTERS)
    assert (made["ExecutedAt"], made["ScanEndTime"], made["ExecutionDurationSec"]) == (None, None, 0)
    assert made["CreatedBy"]["UserName"] == "administrator"
    assert (made["ReadStatus"], made["AvailableReports"], made["HasLogs"]) == ("None", [], False)
    shown = await caller.get(f"Scans/Execution/{made['Id'].upper()}")
    assert shown == made
    assert await caller.get(f"Scans/{made['ScanId']}/Executions") == [made]


async def test_the_numbers_of_an_application_are_true(caller: Caller) -> None:
    shop, bank = await application(caller), await application(caller, "Bank")
    first, second = await scan(caller, shop), await scan(caller, shop)
    await scan(caller, bank)
    for one in (first, first, second):
        await start(caller, one["Id"])
    apps = (await caller.get("Apps?$orderby=TotalScans desc"))["Items"]
    assert [(app["Name"], app["TotalScans"], app["NScanExecutions"]) for app in apps] == [
        ("Shop", 2, 3),
        ("Bank", 1, 0),
    ]


async def test_an_application_has_the_technologies_of_its_scans(caller: Caller) -> None:
    async def technologies() -> dict[str, str]:
        return {app["Name"]: app["ScanTechnologies"] for app in (await caller.get("Apps"))["Items"]}

    shop, _bank = await application(caller), await application(caller, "Bank")
    assert await technologies() == {"Bank": "NONE", "Shop": "NONE"}
    for technology in ("ScaAnalyzer", "IFA", "StaticAnalyzer", "ScaAnalyzer"):
        await scan(caller, shop, Technology=technology)
    assert await technologies() == {"Bank": "NONE", "Shop": "SAST, SCA"}
    for technology in ("IASTAnalyzer", "DastAutomation", "DynamicAnalyzer"):
        await scan(caller, shop, Technology=technology)
    assert (await caller.call("PUT", f"Apps/{shop}", 200, json={}))["ScanTechnologies"] == "DAST, SAST, IAST, SCA"


async def test_executions_are_asked_for_as_other_lists_are(caller: Caller) -> None:
    scan_id = (await scan(caller))["Id"]
    made = [(await start(caller, scan_id))["Id"] for _ in range(103)]
    path = f"Scans/{scan_id}/Executions"
    assert len(await caller.get(path)) == 100
    assert {one["Id"] for one in await caller.get(f"{path}?$top=500&$count=true")} == set(made)
    pages = [await caller.get(f"{path}?$top=40&$skip={skip}&$orderby=Id") for skip in (0, 40, 80)]
    assert [one["Id"] for page in pages for one in page] == sorted(made)
    await put(caller, made[7], Status="Ready", NIssuesFound=3)
    assert await caller.get(f"{path}?$filter=NIssuesFound gt 2 and ScanEndTime ne null&$select=Id,Status") == [
        {"Id": made[7], "Status": "Ready"}
    ]
    await put(caller, made[8], Status="Running")
    latest = await caller.get(f"{path}?$top=2&$orderby=ExecutedAt desc,Status")
    assert {one["Id"] for one in latest} == {made[7], made[8]}
    assert set(EXECUTION_FIELDS) <= set(STORED)
    for query in ("$top=501", "$top=x", "$filter=Nope eq 1", "$expand=Scan", "$orderby=CreatedBy"):
        assert (await caller.get(f"{path}?{query}", 400))["Key"] == "ODATA_QUERY_ERROR"


async def test_what_an_engine_can_say(caller: Caller) -> None:
    made = await start(caller)
    said: dict[str, object] = {name: number for number, name in enumerate(COUNTERS, start=-1)}
    said |= {
        "Status": "Running", "ExecutionProgress": "UnderReview", "Progress": 42, "Result": "High",
        "UserMessage": "looking", "Comment": "good", "IsPartial": True,
    }  # fmt: skip
    shown = await put(caller, made["Id"], **said)
    assert {name: shown[name] for name in said} == said
    assert shown["ExecutedAt"] is not None
    # What was read can be sent back, and changes nothing.
    again = await put(caller, made["Id"], **shown)
    unsteady = ("ExecutionDurationSec", "QueuedDurationSec")
    assert {k: v for k, v in again.items() if k not in unsteady} == {
        k: v for k, v in shown.items() if k not in unsteady
    }
    await put(caller, made["Id"], **{name: [1] for name in IGNORED})
    assert (await put(caller, made["Id"], 400, Surprise=1))["Key"] == "INVALID_INPUT"


@pytest.mark.parametrize(
    "fields",
    [{"Status": "ready"}, {"Status": "Suspended"}, {"Progress": 101}, {"Progress": -1}, {"Progress": 1.0},
     {"Result": "Worse"}, {"NIssuesFound": -2}, {"NIssuesFound": 2**31}, {"IsPartial": 1}, {"UserMessage": "x" * 4097}],
    ids=str,
)  # fmt: skip
async def test_what_it_cannot_say(caller: Caller, fields: dict[str, object]) -> None:
    made = await start(caller)
    assert (await put(caller, made["Id"], 400, **fields))["Key"] == "INVALID_INPUT"


class TestCompletion:
    async def test_is_an_event_once(self, caller: Caller) -> None:
        hook = await listening(caller)
        made = await start(caller)
        await put(caller, made["Id"], Status="Running")
        assert await completions(caller) == []
        shown = await put(caller, made["Id"], Status="Ready", NIssuesFound=3)
        assert (shown["ExecutionProgress"], shown["Progress"]) == ("Completed", 100)
        assert shown["ScanEndTime"] is not None
        await put(caller, made["Id"], Status="Ready", NIssuesFound=4, Comment="one was missed")
        (delivery,) = await caller.deliveries()
        assert (delivery["WebhookId"], delivery["SubjectId"]) == (hook, made["Id"])

    async def test_is_one_event_however_many_say_so(self, caller: Caller) -> None:
        await listening(caller)
        made = await start(caller)
        await asyncio.gather(*(put(caller, made["Id"], Status="Ready") for _ in range(8)))
        assert await completions(caller) == [made["Id"]]

    async def test_fires_by_the_application_of_the_scan(self, caller: Caller) -> None:
        web = await group(caller, "web")
        shop, bank = await application(caller, "Shop", web), await application(caller, "Bank")
        hook = await listening(caller, AssetGroupId=web)
        for app_id in (shop, bank):
            execution = await start(caller, (await scan(caller, app_id))["Id"])
            await put(caller, execution["Id"], Status="Ready")
        assert [one["WebhookId"] for one in await caller.deliveries()] == [hook]

    async def test_cannot_be_taken_back(self, caller: Caller) -> None:
        await listening(caller)
        made = await start(caller)
        await put(caller, made["Id"], Status="Failed", ExecutionProgress="Paused", Progress=7)
        for said in ({"Status": "Ready"}, {"Status": "Running"}, {"ExecutionProgress": "Completed"}, {"Progress": 8}):
            answer = await put(caller, made["Id"], 409, **said)
            assert (answer["Key"], answer["FormatParams"]) == ("SCAN_EXECUTION_IS_FINISHED", ["Failed"])
        assert await completions(caller) == []

    async def test_includes_failures_where_that_is_set(
        self, settings: ControlPlaneSettings, administrator: InitResult, http: aiohttp.ClientSession
    ) -> None:
        with_failed = settings.model_copy(update={"events": Events(failed_executions=True)})
        async with logged_in(with_failed, administrator, http) as caller:
            await listening(caller)
            made = await start(caller)
            await put(caller, made["Id"], Status="Failed")
            await put(caller, made["Id"], Status="Failed")
            assert await completions(caller) == [made["Id"]]


class TestAccess:
    async def test_whoever_sees_the_application_sees_its_scans(
        self, caller: Caller, settings: ControlPlaneSettings
    ) -> None:
        web = await group(caller, "web")
        shop, bank = await application(caller, "Shop", web), await application(caller, "Bank")
        there, elsewhere = await scan(caller, shop), await scan(caller, bank)
        unseen = await start(caller, elsewhere["Id"])
        member = await person(caller, "ManageScans", "UpdateScanExecutions", groups=[web])
        assert [one["Id"] for one in (await member.get("Scans"))["Items"]] == [there["Id"]]
        made = await start(member, there["Id"])
        await put(member, made["Id"], Status="Running")
        for somebody in (member, await stranger(caller, settings)):
            for known, unknown in ((elsewhere["Id"], str(uuid4())),):
                answers = [
                    (await start(somebody, id_, 400), await somebody.get(f"Scans/{id_}/Executions", 400))
                    for id_ in (known, unknown)
                ]
                assert answers[0] == answers[1]
                assert {answer["Key"] for answer in answers[0]} == {"SCAN_NO_ACCESS"}
            for id_ in (unseen["Id"], str(uuid4())):
                assert (await somebody.get(f"Scans/Execution/{id_}", 404))["Key"] == "RESOURCE_NOT_FOUND"
                assert (await put(somebody, id_, 404, Status="Ready"))["Key"] == "RESOURCE_NOT_FOUND"
            assert (await scan(somebody, bank, 400))["Key"] == "APPLICATION_NO_ACCESS"

    async def test_each_step_takes_its_capability(self, caller: Caller) -> None:
        made = await scan(caller)
        execution = await start(caller, made["Id"])
        home = [made["AssetGroupId"]]
        viewer = await person(caller, role=await role_id(caller, "Reporting Viewer"), groups=home)
        tester = await person(caller, role=await role_id(caller, "Tester"), groups=home)
        assert (await scan(viewer, made["AppId"], 403))["FormatParams"] == ["ManageScans"]
        assert (await start(viewer, made["Id"], 403))["FormatParams"] == ["ManageScans"]
        await start(tester, made["Id"])
        answer = await put(tester, execution["Id"], 403, Status="Ready")
        assert (answer["Key"], answer["FormatParams"]) == ("MISSING_CAPABILITIES", ["UpdateScanExecutions"])
        assert (await viewer.get(f"Scans/Execution/{execution['Id']}"))["Status"] == "InQueue"

    async def test_changes_are_audited(self, caller: Caller) -> None:
        made = await start(caller)
        await put(caller, made["Id"], Status="Ready", NHighIssues=2)
        await put(caller, made["Id"], Status="Ready")
        for id_, activities in ((made["ScanId"], ["Create"]), (made["Id"], ["Modify", "Create"])):
            entries = (await caller.get(f"Audits?$filter=EntityId eq '{id_}'"))["Items"]
            assert [entry["Activity"] for entry in entries] == activities
        (change,) = (await caller.get("Audits?$filter=Activity eq 'Modify'"))["Items"]
        assert (change["Before"]["Status"], change["After"]["Status"]) == ("InQueue", "Ready")
        assert (change["Before"]["NHighIssues"], change["After"]["NHighIssues"]) == (0, 2)


async def test_lists_are_filtered_by_what_is_declared(caller: Caller) -> None:
    assert FIELDS.keys() == COLUMNS.keys()
    shop = await application(caller)
    for technology in ("StaticAnalyzer", "DynamicAnalyzer"):
        await scan(caller, shop, Name=technology, Technology=technology)
    found = await caller.get(f"Scans?$filter=AppId eq {shop} and Technology eq 'StaticAnalyzer'&$count=true")
    assert ([one["Name"] for one in found["Items"]], found["Count"]) == (["StaticAnalyzer"], 1)
    for name in FIELDS:
        await caller.get(f"Scans?$orderby={name}")
    await caller.get("Scans?$top=500")
    assert (await caller.get("Scans?$top=501", 400))["Key"] == "ODATA_QUERY_ERROR"


@pytest.mark.parametrize(
    "fields", [{"Name": ""}, {"Name": "x" * 257}, {"AppId": "x"}, {"Technology": "Magic"}, {"Surprise": 1}], ids=str
)
async def test_what_a_scan_cannot_be(caller: Caller, fields: dict[str, object]) -> None:
    assert (await scan(caller, status=400, **fields))["Key"] == "INVALID_INPUT"
