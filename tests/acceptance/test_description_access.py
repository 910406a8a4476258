"""The description of webhooks, sentence by sentence, through the running system: who may define them, and scopes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from presence.controlplane.access import PREDEFINED_ROLES, Capability
from tests.acceptance.organization import Organization, organization
from tests.integration.controlplane.peers import Caller
from tests.integration.controlplane.people import group, person, role_id, role_with
from tests.support.postgres import OWNER, Postgres, postgres
from tests.support.target import head

PERMISSION, ALL_GROUPS = Capability.CREATE_MODIFY_WEBHOOKS.value, Capability.ALL_ASSET_GROUPS.value

DATABASE = "presence"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Postgres]:
    with postgres() as cluster:
        yield cluster


@pytest.fixture(params=["sqlite", "postgresql"])
def plane(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The control plane's settings for each kind of database: what fires is found by queries."""
    if request.param == "sqlite":
        yield {}
        return
    cluster: Postgres = request.getfixturevalue("cluster")
    cluster.create(DATABASE)
    yield {
        "PRESENCE_CP_DATABASE__URL": cluster.url(DATABASE),
        "PRESENCE_CP_DATABASE__OWNER_URL": cluster.url(DATABASE, OWNER),
        "PRESENCE_CP_AUTH__ENCRYPTION_KEYS_FILE": str(tmp_path / "encryption.keys"),
    }
    cluster.drop(DATABASE)


async def is_refused(org: Organization, caller: Caller, status: int, key: str, **fields: object) -> None:
    """The caller cannot create such a webhook."""
    body = {"PresenceId": org.cloud.presence_id, "Uri": "http://myservice.com/{SubjectId}", "Global": True, **fields}
    answer = await caller.post("Webhooks", body | {"Event": "ScanExecutionCompleted"}, status)
    assert answer["Key"] == key


async def cannot_manage(caller: Caller, webhook_id: str, status: int, key: str) -> None:
    """The caller can do nothing to the webhook."""
    answers = [
        await caller.call("PUT", f"Webhooks/{webhook_id}", status, json={"Global": True}),
        await caller.post(f"Webhooks/{webhook_id}/Test", {"SubjectId": "1"}, status),
        await caller.call("POST", f"Webhooks/{webhook_id}/Pause", status),
        await caller.call("DELETE", f"Webhooks/{webhook_id}", status),
    ]
    assert {answer["Key"] for answer in answers} == {key}


async def sees(caller: Caller, webhook_id: str) -> bool:
    return bool((await caller.get(f"Webhooks?$filter=Id eq {webhook_id}"))["Items"])


async def test_administrator_and_manager_have_the_permission_by_default(tmp_path: Path) -> None:
    """ "To create or modify a webhook, you need “Create/Modify Webhooks” permissions in ASoC, which by default are
    assigned to Administrator and Manager roles" """
    async with organization(tmp_path) as org:
        app = await org.application("shop")
        existing = await org.webhook("/existing/{SubjectId}", AssetGroupId=org.home)
        able = set()
        for name in PREDEFINED_ROLES:
            user = await person(org.administrator, role=await role_id(org.administrator, name), groups=[org.home])
            assert await sees(user, existing)
            if name in ("Administrator", "Manager"):
                able.add(name)
                await org.webhook(f"/{name}/{{SubjectId}}", user, AssetGroupId=org.home)
                moved = {"Uri": org.target.url(f"/moved-by-{name}/{{SubjectId}}")}
                await user.call("PUT", f"Webhooks/{existing}", 200, json=moved)
            else:
                await is_refused(org, user, 403, "MISSING_CAPABILITIES", AssetGroupId=org.home)
                await cannot_manage(user, existing, 403, "MISSING_CAPABILITIES")
        assert able == {"Administrator", "Manager"}
        one = await org.scan(app)
        assert await org.requested() == [f"/Administrator/{one}", f"/Manager/{one}", f"/moved-by-Manager/{one}"]


async def test_custom_roles_can_have_the_permission(tmp_path: Path) -> None:
    """ "but which can also be added to Custom roles." At once, for whoever is logged in; and taken away again."""
    async with organization(tmp_path) as org:
        app = await org.application("shop")
        role = await role_with(org.administrator)
        user = await person(org.administrator, role=role, groups=[org.home])
        await is_refused(org, user, 403, "MISSING_CAPABILITIES", AssetGroupId=org.home)
        await give(org.administrator, role, PERMISSION)
        made = await org.webhook("/custom/{SubjectId}", user, AssetGroupId=org.home)
        one = await org.scan(app)
        assert await org.requested() == [f"/custom/{one}"]
        await give(org.administrator, role)
        await cannot_manage(user, made, 403, "MISSING_CAPABILITIES")
        await is_refused(org, user, 403, "MISSING_CAPABILITIES", AssetGroupId=org.home)


async def give(administrator: Caller, role: str, *capabilities: str) -> None:
    """These capabilities to a custom role, and no others."""
    (known,) = (await administrator.get(f"Roles?$filter=Id eq {role}"))["Items"]
    given = {name: name in capabilities for name in known["Capabilities"]}
    await administrator.call("PUT", f"Roles/{role}", 200, json={"Name": known["Name"], "Capabilities": given})


async def test_organization_level_takes_complete_access_to_all_groups(tmp_path: Path) -> None:
    """ "An organization level webhook is defined and managed by an Administrator, or by a User with complete access to
    all groups." And by nobody else, be it a manager who is a member of every group that there is."""
    async with organization(tmp_path) as org:
        app = await org.application("shop")
        groups = [org.home, await group(org.administrator, "other")]
        manager = await person(org.administrator, role=await role_id(org.administrator, "Manager"), groups=groups)
        onlooker = await person(org.administrator, ALL_GROUPS)
        user = await person(org.administrator, ALL_GROUPS, PERMISSION)
        theirs = await org.webhook("/administrator/{SubjectId}")
        own = await org.webhook("/user/{SubjectId}", user)
        await is_refused(org, manager, 403, "MISSING_CAPABILITIES")
        await is_refused(org, onlooker, 403, "MISSING_CAPABILITIES")
        assert [await sees(caller, theirs) for caller in (user, onlooker, manager)] == [True, True, False]
        await cannot_manage(onlooker, theirs, 403, "MISSING_CAPABILITIES")
        await cannot_manage(manager, theirs, 400, "INVALID_WEBHOOK_IDENTIFIER")
        one = await org.scan(app)
        assert await org.requested() == [f"/administrator/{one}", f"/user/{one}"]
        await user.call("PUT", f"Webhooks/{theirs}", 200, json={"Uri": org.target.url("/moved/{SubjectId}")})
        await user.call("DELETE", f"Webhooks/{own}", 204)
        two = await org.scan(app)
        assert await org.requested() == [f"/administrator/{one}", f"/moved/{two}", f"/user/{one}"]


async def test_asset_group_level_takes_access_to_the_group_and_the_permission(tmp_path: Path) -> None:
    """ "A webhook can be defined either at Organization level or for a specific Asset Group." "An Asset Group level
    webhook can be defined and managed by any User with access to the Asset Group, who has permission to Create/Modify
    Webhooks." """
    async with organization(tmp_path) as org:
        theirs, other = [await group(org.administrator, name) for name in ("theirs", "other")]
        apps = [await org.application("shop", theirs), await org.application("warehouse", other)]
        user = await person(org.administrator, PERMISSION, groups=[theirs])
        member = await person(org.administrator, groups=[theirs])
        stranger = await person(org.administrator, PERMISSION, groups=[other])
        made = await org.webhook("/user/{SubjectId}", user, AssetGroupId=theirs)
        administrators = await org.webhook("/administrator/{SubjectId}", AssetGroupId=theirs)
        await is_refused(org, member, 403, "MISSING_CAPABILITIES", AssetGroupId=theirs)
        await is_refused(org, stranger, 400, "ASSETGROUP_NO_ACCESS", AssetGroupId=theirs)
        assert [await sees(caller, made) for caller in (user, member, stranger)] == [True, True, False]
        await cannot_manage(member, made, 403, "MISSING_CAPABILITIES")
        await cannot_manage(stranger, made, 400, "INVALID_WEBHOOK_IDENTIFIER")
        one, _ = [await org.scan(app) for app in apps]
        assert await org.requested() == [f"/administrator/{one}", f"/user/{one}"]
        await user.call("DELETE", f"Webhooks/{administrators}", 204)
        assert not await sees(org.administrator, administrators)


@pytest.mark.parametrize("event", ["ScanExecutionCompleted", "ApplicationUpdated"])
async def test_a_webhook_fires_under_its_scopes_only(tmp_path: Path, plane: dict[str, str], event: str) -> None:
    """ "A webhook can be defined as either Global or Scoped. A Global webhook will be triggered whenever an event that
    matches the webhook's event type occurs (in the Organization, or Asset Group, as defined. A webhook that is not
    defined as Global, can be associated with one or more Scopes. A Scope can be a particular Application or, if the
    webhook is defined at Organization level, the scope can be a specific AssetGroup. A scoped webhook will be triggered
    only if an event occurs under one of the associated scopes." """
    async with organization(tmp_path, plane) as org:
        north, south = [await group(org.administrator, name) for name in ("north", "south")]
        first = await org.application("first", north)
        second = await org.application("second", north)
        third = await org.application("third", south)
        await org.webhook("/organization", Event=event)
        await org.webhook("/north", Event=event, AssetGroupId=north)
        await org.webhook("/of-no-scope", Event=event, Global=False)
        for path, scopes, fields in (
            ("/first", [("Application", first)], {}),
            ("/second-of-north", [("Application", second)], {"AssetGroupId": north}),
            ("/in-south", [("AssetGroup", south)], {}),
            ("/first-or-in-south", [("Application", first), ("AssetGroup", south)], {}),
            ("/first-or-second", [("Application", first), ("Application", second)], {}),
        ):
            made = await org.webhook(path, Event=event, Global=False, **fields)
            for scope, scope_id in scopes:
                await org.associate(made, scope, scope_id)
        for other in {"ScanExecutionCompleted", "ApplicationUpdated", "NewPatchRequest"} - {event}:
            await org.webhook("/of-another-type", Event=other)
        assert await fired(org, event, first) == {
            *("/organization", "/north", "/first", "/first-or-in-south", "/first-or-second"),
        }
        assert await fired(org, event, second) == {"/organization", "/north", "/second-of-north", "/first-or-second"}
        assert await fired(org, event, third) == {"/organization", "/in-south", "/first-or-in-south"}
        before = await org.requested()
        await org.say(event, "of no application that is known")
        assert sorted([*before, "/organization"]) == await org.requested()


async def fired(org: Organization, event: str, application_id: str) -> set[str]:
    """What is asked for, once each, when that happens in the application."""
    before = len(await org.requested())
    if event == "ScanExecutionCompleted":
        await org.scan(application_id)
    else:
        await org.change(application_id, OpenIssues=before + 1)
    await org.requested()
    asked = [head(request)[0].split(" ")[1] for request in org.target.requests[before:]]
    assert len(asked) == len(set(asked))
    return set(asked)


async def test_what_cannot_be_a_scope(tmp_path: Path) -> None:
    """ "A webhook that is not defined as Global, can be associated with one or more Scopes", "if the webhook is defined
    at Organization level, the scope can be a specific AssetGroup." Else it cannot."""
    async with organization(tmp_path) as org:
        theirs, other = [await group(org.administrator, name) for name in ("theirs", "other")]
        inside, outside = await org.application("inside", theirs), await org.application("outside", other)
        is_global = await org.webhook("/global")
        of_group = await org.webhook("/of-group", AssetGroupId=theirs, Global=False)
        user = await person(org.administrator, PERMISSION, groups=[theirs])
        for caller, webhook_id, scope, scope_id, key in (
            (org.administrator, is_global, "Application", inside, "INVALID_INPUT"),
            (org.administrator, of_group, "AssetGroup", theirs, "WEBHOOK_OWNED_BY_ASSET_GROUP_ERROR"),
            (org.administrator, of_group, "AssetGroup", other, "WEBHOOK_OWNED_BY_ASSET_GROUP_ERROR"),
            (org.administrator, of_group, "Application", outside, "INVALID_SCOPE_IDENTIFIER"),
            (user, of_group, "Application", outside, "INVALID_SCOPE_IDENTIFIER"),
        ):
            body = {"Scope": scope, "ScopeId": scope_id}
            assert (await caller.post(f"Webhooks/Associations/{webhook_id}", body, 400))["Key"] == key
        await org.associate(of_group, "Application", inside, user)
        await org.scan(outside)
        await org.scan(inside)
        assert await org.requested() == ["/global", "/global", "/of-group"]


async def test_the_closing_example(tmp_path: Path, plane: dict[str, str]) -> None:
    """ "For example, if the webhook is set to be triggered upon “Completion of scan execution”, and the Scope of the
    webhook is a specific Application, the webhook will be triggered each time a scan execution within that application
    is completed." Each time: of each scan, and of each execution of one."""
    async with organization(tmp_path, plane) as org:
        app, other = await org.application("shop"), await org.application("warehouse")
        made = await org.webhook("/ScanEnded/{SubjectId}", Global=False)
        await org.associate(made, "Application", app)
        assert await org.administrator.get(f"Webhooks/Associations/{made}") == [
            {"Scope": "Application", "ScopeId": app}
        ]
        first, second = await org.scan(app), await org.scan(app)
        await org.scan(other)
        scan_id = (await org.administrator.get(f"Scans/Execution/{first}"))["ScanId"]
        third = (await org.administrator.call("POST", f"Scans/{scan_id}/Executions", 201))["Id"]
        await org.change(app, OpenIssues=1)
        assert await org.requested() == sorted(f"/ScanEnded/{one}" for one in (first, second))
        await org.report(third, Status="Ready")
        assert await org.requested() == sorted(f"/ScanEnded/{one}" for one in (first, second, third))
