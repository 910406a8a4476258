"""Applications: what is kept of them, who sees them, and which of their changes are events."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from presence.controlplane.api.apps import FIELDS, IGNORED
from presence.controlplane.settings import ControlPlaneSettings
from presence.controlplane.store.applications import COLUMNS
from tests.integration.controlplane.peers import Caller
from tests.integration.controlplane.people import default_group, group, person, role_id, stranger

COUNTERS = (
    *("CriticalIssues", "HighIssues", "MediumIssues", "LowIssues", "InformationalIssues", "IssuesInProgress"),
    *("NewIssues", "OpenIssues", "TotalIssues"),
)
TEXTS = (
    *("Url", "Description", "BusinessUnit", "BusinessUnitId", "Type", "Technology", "Hosts", "Tester", "BusinessOwner"),
    *("CollateralDamagePotential", "TargetDistribution", "ConfidentialityRequirement", "IntegrityRequirement"),
    *("AvailabilityRequirement", "DevelopmentContact", "PreferredOfferingType", "LastComment"),
)


async def make(caller: Caller, name: str = "Shop", status: int = 201, **fields: object) -> Any:
    body = {"Name": name, "AssetGroupId": fields.pop("AssetGroupId", None) or await default_group(caller)}
    return await caller.post("Apps", body | fields, status)


async def put(caller: Caller, id_: str, status: int = 200, **fields: object) -> Any:
    return await caller.call("PUT", f"Apps/{id_}", status, json=fields)


async def delete(caller: Caller, id_: str, status: int = 204) -> Any:
    return await caller.call("DELETE", f"Apps/{id_}", status)


async def names(caller: Caller) -> list[str]:
    return [app["Name"] for app in (await caller.get("Apps"))["Items"]]


async def subjects(caller: Caller) -> list[tuple[str, str]]:
    """Of the deliveries so far."""
    return [(one["Event"], one["SubjectId"]) for one in await caller.deliveries()]


async def audits(caller: Caller, entity_id: str) -> list[dict[str, Any]]:
    """Oldest first."""
    found: list[dict[str, Any]] = (await caller.get(f"Audits?$filter=EntityId eq '{entity_id}'"))["Items"]
    return found[::-1]


async def associate(caller: Caller, webhook_id: str, scope: str, scope_id: str) -> None:
    await caller.post(f"Webhooks/Associations/{webhook_id}", {"Scope": scope, "ScopeId": scope_id}, 201)


async def test_an_application_as_it_is_shown(caller: Caller) -> None:
    home = await default_group(caller)
    made = await make(caller, AssetGroupId=home.upper())
    assert {name: made[name] for name in ("Name", "AssetGroupId", "AssetGroupName", "CreatedBy")} == {
        "Name": "Shop", "AssetGroupId": home, "AssetGroupName": "Default", "CreatedBy": "administrator",
    }  # fmt: skip
    assert all(made[name] == 0 for name in (*COUNTERS, "TotalScans", "NScanExecutions"))
    assert (made["RiskRating"], made["MaxSeverity"], made["TestingStatus"]) == ("Unknown", "Undetermined", "NotStarted")
    assert (made["BusinessImpact"], made["OverallCompliance"]) == ("Unspecified", None)
    assert made["DateCreated"] == made["LastUpdated"] == made["AddedToAssetGroupAt"]
    assert made["AddedToAssetGroupBy"] == "administrator"
    assert all(made[name] is None for name in TEXTS)
    # What nobody knows here is null, what there is none of is none.
    assert made["CustomFields"] is None
    assert (made["ScanTechnologies"], made["RR_MaxSeverity"]) == ("NONE", 0)
    flags = ("LockedToSubscription", "AutoDeleteExceededScans", "HasExceedingIssuesNumber", "HasExceedingScansNumber")
    assert all(made[name] is False for name in flags)
    assert (made["Presences"], made["ComplianceStatuses"], made["UseOnlyAppPresences"]) == ([], [], False)
    assert (await caller.get("Apps"))["Items"] == [made]


async def test_all_that_can_be_said_of_one(caller: Caller) -> None:
    fields: dict[str, object] = {name: number for number, name in enumerate(COUNTERS, start=-1)}
    fields |= {name: f"the {name}" for name in TEXTS}
    fields |= {
        "RiskRating": "High", "MaxSeverity": "Critical", "TestingStatus": "Completed", "BusinessImpact": "Low",
        "OverallCompliance": False,
    }  # fmt: skip
    made = await make(caller, **fields)
    assert {name: made[name] for name in fields} == fields
    assert (await caller.get("Apps"))["Items"] == [made]


async def test_what_was_read_can_be_sent_back(caller: Caller) -> None:
    made = await make(caller)
    changed = await put(caller, made["Id"], **made)
    assert changed == made
    assert [entry["Activity"] for entry in await audits(caller, made["Id"])] == ["Create"]
    assert await put(caller, made["Id"], **{name: [{"x": 1}] for name in IGNORED}, presencesids=[]) == made
    await put(caller, made["Id"], 400, Surprise=1)


async def test_a_text_is_cleared_by_an_empty_one_and_kept_by_null(caller: Caller) -> None:
    made = await make(caller, Description="x", Tester="y")
    changed = await put(caller, made["Id"], Description="", Tester=None)
    assert (changed["Description"], changed["Tester"]) == ("", "y")


@pytest.mark.parametrize(
    "fields",
    [
        {"Name": ""},
        {"Name": "x" * 65},
        {"Name": " "},
        {"Name": "a\nb"},
        {"Name": None},
        {"AssetGroupId": "x"},
        {"CriticalIssues": 1.5},
        {"CriticalIssues": "1"},
        {"CriticalIssues": True},
        {"CriticalIssues": -2},
        {"CriticalIssues": 2**31},
        {"RiskRating": "low"},
        {"OverallCompliance": "yes"},
        {"Description": "x" * 2049},
    ],
    ids=str,
)
async def test_what_an_application_cannot_be(caller: Caller, fields: dict[str, object]) -> None:
    body = {"Name": "Shop", "AssetGroupId": await default_group(caller)} | fields
    assert (await caller.post("Apps", body, 400))["Key"] == "INVALID_INPUT"
    assert await names(caller) == []


async def test_a_name_is_given_once(caller: Caller) -> None:
    shop, bank = await make(caller, "Shop"), await make(caller, "Bank")
    assert (await make(caller, "Shop", 400))["Key"] == "APPLICATION_NAME_ALREADY_EXISTS"
    assert (await put(caller, bank["Id"], 400, Name="Shop"))["Key"] == "APPLICATION_NAME_ALREADY_EXISTS"
    assert (await put(caller, shop["Id"], Name="Shop", HighIssues=1))["HighIssues"] == 1
    answers = await asyncio.gather(*(put(caller, one["Id"], 200, Name=f"New {one['Name']}") for one in (shop, bank)))
    assert {answer["Name"] for answer in answers} == {"New Shop", "New Bank"}
    assert await names(caller) == ["New Bank", "New Shop"]


async def test_lists_are_filtered_by_what_is_declared(caller: Caller) -> None:
    assert FIELDS.keys() == COLUMNS.keys()
    for name in ("Shop", "Bank", "Zoo"):
        await make(caller, name, HighIssues=len(name))
    found = await caller.get(
        "Apps?$filter=HighIssues eq 4 and AssetGroupName eq 'Default'&$orderby=Name desc&$count=true"
    )
    assert ([app["Name"] for app in found["Items"]], found["Count"]) == (["Shop", "Bank"], 2)
    shop = found["Items"][0]
    assert (await caller.get(f"Apps?$filter=Id eq {shop['Id']}"))["Items"] == [shop]
    for name in FIELDS:
        await caller.get(f"Apps?$orderby={name}")
        await caller.get(f"Apps?$filter={name} ne null")
    assert (await caller.get("Apps?$filter=Presences eq 1", 400))["Key"] == "ODATA_QUERY_ERROR"


class TestAccess:
    async def test_members_of_its_asset_group_see_it(self, caller: Caller, settings: ControlPlaneSettings) -> None:
        web, money = await group(caller, "web"), await group(caller, "money")
        shop = await make(caller, "Shop", AssetGroupId=web)
        bank = await make(caller, "Bank", AssetGroupId=money)
        somebody = await person(caller, "ManageApplications", groups=[web])
        assert await names(caller) == ["Bank", "Shop"]
        assert await names(somebody) == ["Shop"]
        unseen, unknown = await put(somebody, bank["Id"], 400), await put(somebody, str(uuid4()), 400)
        assert unseen == unknown
        assert unseen["Key"] == "APPLICATION_NO_ACCESS"
        assert await delete(somebody, bank["Id"], 400) == unknown
        assert (await make(somebody, "X", 400, AssetGroupId=money))["Key"] == "ASSETGROUP_NO_ACCESS"
        assert (await put(somebody, shop["Id"], 400, AssetGroupId=money))["Key"] == "ASSETGROUP_NO_ACCESS"
        await put(somebody, shop["Id"], Name="Shop 2")
        foreign = await stranger(caller, settings)
        assert await names(foreign) == []
        assert await put(foreign, shop["Id"], 400) == unknown
        assert (await make(foreign, "X", 400, AssetGroupId=web))["Key"] == "ASSETGROUP_NO_ACCESS"
        await make(foreign, "Shop 2")

    async def test_changing_takes_the_capability(self, caller: Caller) -> None:
        shop = await make(caller)
        reader = await person(caller, role=await role_id(caller, "Tester"), groups=[shop["AssetGroupId"]])
        assert await names(reader) == ["Shop"]
        for answer in (
            await put(reader, shop["Id"], 403, Name="x"),
            await delete(reader, shop["Id"], 403),
            await reader.post("Apps", {"Name": "x", "AssetGroupId": shop["AssetGroupId"]}, 403),
        ):
            assert answer["Key"] == "MISSING_CAPABILITIES"
            assert answer["FormatParams"] == ["ManageApplications"]

    async def test_changes_are_audited(self, caller: Caller) -> None:
        shop = await make(caller, Tester="Ann")
        await put(caller, shop["Id"], HighIssues=3, Tester="Bob", Name="Shop")
        await put(caller, shop["Id"], HighIssues=3)
        await delete(caller, shop["Id"])
        made, changed, gone = await audits(caller, shop["Id"])
        assert [entry["Activity"] for entry in (made, changed, gone)] == ["Create", "Modify", "Delete"]
        assert made["After"]["Tester"] == "Ann"
        assert changed["Before"] == {"HighIssues": 0, "Tester": "Ann"}
        assert changed["After"] == {"HighIssues": 3, "Tester": "Bob"}
        assert (gone["Before"]["Name"], gone["After"]) == ("Shop", None)


class TestMoving:
    async def test_it_goes_to_another_group_with_what_that_allows(self, caller: Caller) -> None:
        web, money = await group(caller, "web"), await group(caller, "money")
        shop = await make(caller, AssetGroupId=web)
        presence_id, _ = await caller.presence()
        scoped = {"Event": "ApplicationUpdated", "Global": False}
        of_web = (await caller.webhook(presence_id, **scoped, AssetGroupId=web))["Id"]
        of_all = (await caller.webhook(presence_id, **scoped))["Id"]
        for webhook_id in (of_web, of_all):
            await associate(caller, webhook_id, "Application", shop["Id"])
        moved = await put(caller, shop["Id"], AssetGroupId=money)
        assert (moved["AssetGroupId"], moved["AssetGroupName"]) == (money, "money")
        assert await caller.get(f"Webhooks/Associations/{of_web}") == []
        assert await caller.get(f"Webhooks/Associations/{of_all}") == [{"Scope": "Application", "ScopeId": shop["Id"]}]
        lost = (await audits(caller, of_web))[-1]
        assert (lost["Activity"], lost["Before"]) == ("Disassociate", {"Scope": "Application", "ScopeId": shop["Id"]})
        moves = [entry for entry in await audits(caller, shop["Id"]) if entry["Activity"] == "Move"]
        assert {(entry["Before"]["AssetGroupId"], entry["After"]["AssetGroupId"]) for entry in moves} == {(web, money)}
        # The move itself is no event; the next one finds the application where it is now.
        assert await subjects(caller) == []
        await put(caller, shop["Id"], LowIssues=1)
        assert [one["WebhookId"] for one in await caller.deliveries()] == [of_all]

    async def test_it_takes_access_to_both_groups(self, caller: Caller) -> None:
        web, money = await group(caller, "web"), await group(caller, "money")
        shop = await make(caller, AssetGroupId=web)
        somebody = await person(caller, "ManageApplications", groups=[web, money])
        assert (await put(somebody, shop["Id"], AssetGroupId=money))["AssetGroupId"] == money

    async def test_an_event_of_the_same_call_is_one_of_the_new_group(self, caller: Caller) -> None:
        web, money = await group(caller, "web"), await group(caller, "money")
        shop = await make(caller, AssetGroupId=web)
        presence_id, _ = await caller.presence()
        kinds = {"Event": "ApplicationUpdated", "Global": True}
        await caller.webhook(presence_id, **kinds, AssetGroupId=web)
        there = await caller.webhook(presence_id, **kinds, AssetGroupId=money)
        await put(caller, shop["Id"], AssetGroupId=money, OpenIssues=5)
        assert [one["WebhookId"] for one in await caller.deliveries()] == [there["Id"]]


class TestUpdated:
    @pytest.mark.parametrize(
        "change",
        [*({name: 7} for name in COUNTERS), {"RiskRating": "Low"}, {"MaxSeverity": "High"},
         {"TestingStatus": "InProgress"}, {"OverallCompliance": True}],
        ids=str,
    )  # fmt: skip
    async def test_a_change_of_a_counter_or_status_is_an_event(self, caller: Caller, change: dict[str, object]) -> None:
        shop = await make(caller)
        presence_id, _ = await caller.presence()
        await caller.webhook(presence_id, Event="ApplicationCountersChanged", Uri="http://x/{SubjectId}")
        await put(caller, shop["Id"], **change)
        await put(caller, shop["Id"], **change)
        assert await subjects(caller) == [("ApplicationUpdated", shop["Id"])]

    async def test_nothing_else_is_one(self, caller: Caller) -> None:
        presence_id, _ = await caller.presence()
        await caller.webhook(presence_id, Event="ApplicationUpdated")
        shop = await make(caller, HighIssues=3)
        await put(caller, shop["Id"], Name="Shop 2", Description="x", BusinessImpact="High", HighIssues=3)
        await caller.post("Scans", {"Name": "s", "AppId": shop["Id"], "Technology": "StaticAnalyzer"}, 201)
        await delete(caller, shop["Id"])
        assert await subjects(caller) == []

    async def test_each_change_is_one_of_its_own(self, caller: Caller) -> None:
        shop = await make(caller)
        presence_id, _ = await caller.presence()
        await caller.webhook(presence_id, Event="ApplicationUpdated")
        await asyncio.gather(*(put(caller, shop["Id"], HighIssues=number) for number in range(1, 6)))
        assert await subjects(caller) == [("ApplicationUpdated", shop["Id"])] * 5


async def test_what_goes_with_an_application_and_what_stays(caller: Caller) -> None:
    shop = await make(caller)
    presence_id, _ = await caller.presence()
    hook = await caller.webhook(presence_id, Event="ApplicationUpdated", Global=False)
    await associate(caller, hook["Id"], "Application", shop["Id"])
    scan = await caller.post("Scans", {"Name": "s", "AppId": shop["Id"], "Technology": "StaticAnalyzer"}, 201)
    execution = await caller.call("POST", f"Scans/{scan['Id']}/Executions", 201)
    await put(caller, shop["Id"], HighIssues=1)
    await delete(caller, shop["Id"])
    assert (await caller.get("Scans"))["Items"] == []
    await caller.get(f"Scans/Execution/{execution['Id']}", 404)
    assert await caller.get(f"Webhooks/Associations/{hook['Id']}") == []
    assert (await audits(caller, hook["Id"]))[-1]["Activity"] == "Disassociate"
    assert await subjects(caller) == [("ApplicationUpdated", shop["Id"])]
    assert (await delete(caller, shop["Id"], 400))["Key"] == "APPLICATION_NO_ACCESS"
