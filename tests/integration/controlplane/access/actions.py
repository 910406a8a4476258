"""How each row of the table is asked: what it is about, which is made anew for it, and the request."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from tests.integration.controlplane.access.people import NOWHERE
from tests.integration.controlplane.access.world import ORGANIZATION, OWN, VIEWER, World
from tests.integration.controlplane.peers import cloud_event
from tests.integration.controlplane.people import Person

Body = dict[str, Any] | None


@dataclass(frozen=True)
class Cell:
    """A row's action by one user: `place` as in the table, `id` of what it is about."""

    world: World
    place: str
    person: Person
    id: str


Make = Callable[[World, str, Person], Awaitable[str]]
Path = Callable[[Cell], Awaitable[str]]
Ask = Callable[[Cell], Awaitable[Body]]


async def _nothing(_world: World, _place: str, _person: Person) -> str:
    return ""


async def _no_body(_cell: Cell) -> Body:
    return None


@dataclass(frozen=True)
class Action:
    """`make` gives the id of what `path` and `body` name. `listed`: the answer is a list, which has it or not.

    `by_owner`: whoever administers the place could do the same, which proves that nobody else has destroyed it.
    `for_each`: made anew for every user, because it is that user's.
    """

    path: Path
    make: Make = _nothing
    body: Ask = _no_body
    listed: bool = False
    by_owner: bool = True
    for_each: bool = False


def at(path: str) -> Path:
    """`{}` in the path is the id, `{spare}` the asset group of that name."""

    async def named(cell: Cell) -> str:
        return path.replace("{}", cell.id).replace("{spare}", cell.world.spare)

    return named


def at_own(path: str, make: Callable[[World, str], Awaitable[str]]) -> Path:
    """`{}` in the path is something new in the group `own`; the id is named by the body."""

    async def named(cell: Cell) -> str:
        return path.replace("{}", await make(cell.world, OWN))

    return named


def saying(**fields: Any) -> Ask:
    """A body; a field that is a function is told the cell."""

    async def body(cell: Cell) -> Body:
        said = {name: value(cell) if callable(value) else value for name, value in fields.items()}
        return {name: await value if isinstance(value, Awaitable) else value for name, value in said.items()}

    return body


def made(by: Callable[[World, str], Awaitable[str]]) -> Make:
    async def make(world: World, place: str, _person: Person) -> str:
        return await by(world, place)

    return make


def unique(_cell: Cell) -> str:
    return str(uuid4())


def the_id(cell: Cell) -> str:
    return cell.id


def in_list(path: str, make: Callable[[World, str], Awaitable[str]], field: str = "Id") -> Action:
    literal = "'{}'" if field == "EntityId" else "{}"
    return Action(at(f"{path}?$filter={field} eq {literal}"), made(make), listed=True)


async def _himself(_world: World, _place: str, person: Person) -> str:
    return person.user_id


async def _group_of(world: World, place: str) -> str:
    return world.groups[place]


async def _own_empty_group(world: World, place: str, person: Person, *others: str) -> str:
    is_member = place == OWN and person not in (world.people[letter] for letter in f"Aoai{NOWHERE}")
    return await world.group(place, person if is_member else None, *others)


async def _own_group_with_application(world: World, place: str, person: Person, *others: str) -> str:
    made = await _own_empty_group(world, place, person, *others)
    await world.owner(place).post("Apps", {"Name": str(uuid4()), "AssetGroupId": made}, 201)
    return made


async def _own_and_default_with_application(world: World, place: str, person: Person) -> str:
    return await _own_group_with_application(world, place, person, await world.default_group(OWN))


async def _own_group_with_webhook(world: World, place: str, person: Person) -> str:
    made = await _own_empty_group(world, place, person)
    await world.owner(place).webhook(world.presence_of(place), AssetGroupId=made)
    return made


async def _global_to_associate(world: World, place: str) -> str:
    made = await world.webhook(place, is_global=True)
    application = await world.application(OWN if place == ORGANIZATION else place)
    world.scopes[made] = {"Scope": "Application", "ScopeId": application}
    return made


async def _token(world: World, place: str, _person: Person) -> str:
    presence = await world.presence(place)
    return str((await world.owner(place).post(f"Presences/{presence}/EnrollmentToken", None, 201))["Token"])


def role_named(name: str) -> Callable[[Cell], Awaitable[str]]:
    return lambda cell: cell.world.predefined(name)


def own_group(cell: Cell) -> str:
    return cell.world.groups[OWN]


def own_groups(cell: Cell) -> list[str]:
    return [cell.world.groups[OWN]]


def _invite(**fields: Any) -> Ask:
    return saying(Emails=lambda _: [f"{uuid4()}@example.com"], **fields)


async def _associate(world: World, place: str) -> str:
    return await world.to_associate(place, "Application", await world.application(place))


async def _associate_own_application(world: World, place: str) -> str:
    return await world.to_associate(place, "Application", await world.application(OWN))


async def _associate_own_group(world: World, place: str) -> str:
    return await world.to_associate(place, "AssetGroup", world.groups[OWN])


async def _associated(world: World, place: str) -> str:
    return await world.associated(place, "Application", await world.application(place))


async def _associated_own_application(world: World, place: str) -> str:
    return await world.associated(place, "Application", await world.application(OWN))


async def _scope(cell: Cell) -> Body:
    return dict(cell.world.scope_of(cell.id))


async def _dissociate(cell: Cell) -> str:
    scope = cell.world.scope_of(cell.id)
    return f"Webhooks/Associations/{cell.id}?scope={scope['Scope']}&scopeId={scope['ScopeId']}"


async def _role_of_webhooks(world: World, place: str) -> str:
    return await world.role(place, "CreateModifyWebhooks")


async def _predefined(world: World, place: str) -> str:
    return await world.predefined(VIEWER, place)


async def _manager(world: World, place: str) -> str:
    return await world.user(place, "Manager")


async def _administrator(world: World, place: str) -> str:
    return await world.user(place, "Administrator")


async def _webhook_of_organization(world: World, _place: str) -> str:
    return await world.webhook(ORGANIZATION)


async def _group_if_any(world: World, place: str) -> str:
    return world.groups.get(place, "")


async def _webhook(cell: Cell) -> Body:
    fields = {"AssetGroupId": cell.id} if cell.id else {}
    return {"PresenceId": cell.world.presence_of(ORGANIZATION), **WEBHOOK_FIELDS, **fields}


async def _event(cell: Cell) -> Body:
    return cloud_event(str(uuid4()), **({"applicationid": cell.id} if cell.id else {}))


INVITE, MOVE = "POST /Account/InviteUsers", "POST /AssetGroups/MoveAssetGroupResources/{source_id}/{target_id}"
ROLE, USER, GROUP, APP = (
    "/Roles/{role_id}",
    "/User/{user_id}",
    "/AssetGroups/{asset_group_id}",
    "/Apps/{application_id}",
)
WEBHOOK, SCOPES = "/Webhooks/{webhook_id}", "/Webhooks/Associations/{webhook_id}"
PRESENCE, DELIVERY = "/Presences/{presence_id}", "/Deliveries/{delivery_id}"

_NO_GROUPS = saying(AssetGroupIds=[])
_DESCRIBED = saying(Description=unique)
FORCED = "AssetGroups/{}?forceDeletion=true"
WEBHOOK_FIELDS = {"Uri": "http://myservice.com/{SubjectId}", "Event": "ScanExecutionCompleted"}

ACTIONS: dict[tuple[str, str], Action] = {
    ("GET /Account/IsAuthenticated", "himself"): Action(at("Account/IsAuthenticated")),
    ("GET /Account/TenantInfo", "himself"): Action(at("Account/TenantInfo")),
    ("GET /Account/Logout", "himself"): Action(at("Account/Logout")),
    ("POST /Account/ApiKeyLogin", "himself"): Action(
        at("Account/ApiKeyLogin"),
        _himself,
        saying(KeyId=lambda cell: cell.person.key_id, KeySecret=lambda cell: cell.person.key_secret),
        by_owner=False,
        for_each=True,
    ),
    ("POST /Account/ApiKey", "himself"): Action(at("Account/ApiKey")),
    (INVITE, "to the group"): Action(
        at("Account/InviteUsers"),
        made(_group_of),
        _invite(AssetGroupIds=lambda cell: [cell.id], RoleId=role_named(VIEWER)),
        by_owner=False,
    ),
    (INVITE, "role Manager"): Action(
        at("Account/InviteUsers"), body=_invite(AssetGroupIds=own_groups, RoleId=role_named("Manager"))
    ),
    (INVITE, "Administrator"): Action(
        at("Account/InviteUsers"), body=_invite(AssetGroupIds=own_groups, RoleId=role_named("Administrator"))
    ),
    (INVITE, "the role"): Action(
        at("Account/InviteUsers"),
        made(World.role),
        _invite(AssetGroupIds=own_groups, RoleId=the_id),
        by_owner=False,
    ),
    (INVITE, "by default"): Action(at("Account/InviteUsers"), body=_invite()),
    (INVITE, "default role"): Action(at("Account/InviteUsers"), body=_invite(AssetGroupIds=own_groups)),
    (INVITE, "Default group"): Action(at("Account/InviteUsers"), body=_invite(RoleId=role_named(VIEWER))),
    ("GET /Roles", "role"): in_list("Roles", World.role),
    ("POST /Roles", "of nothing"): Action(at("Roles"), body=saying(Name=unique, Capabilities={})),
    ("POST /Roles", "of webhooks"): Action(
        at("Roles"), body=saying(Name=unique, Capabilities={"CreateModifyWebhooks": True})
    ),
    ("POST /Roles", "of all groups"): Action(
        at("Roles"), body=saying(Name=unique, Capabilities={"AllAssetGroups": True})
    ),
    (f"PUT {ROLE}", "of nothing"): Action(at("Roles/{}"), made(World.role), _DESCRIBED),
    (f"PUT {ROLE}", "of webhooks"): Action(at("Roles/{}"), made(_role_of_webhooks), _DESCRIBED),
    (f"PUT {ROLE}", "used in"): Action(at("Roles/{}"), made(World.used_role), _DESCRIBED),
    (f"PUT {ROLE}", "to webhooks"): Action(
        at("Roles/{}"), made(World.role), saying(Capabilities={"CreateModifyWebhooks": True})
    ),
    (f"PUT {ROLE}", "default"): Action(at("Roles/{}"), made(World.role), saying(IsDefault=True)),
    (f"PUT {ROLE}", "default, w"): Action(at("Roles/{}"), made(_role_of_webhooks), saying(IsDefault=True)),
    (f"PUT {ROLE}", "predefined"): Action(at("Roles/{}"), made(_predefined), _DESCRIBED, by_owner=False),
    (f"DELETE {ROLE}", "of nothing"): Action(at("Roles/{}"), made(World.role)),
    (f"DELETE {ROLE}", "of webhooks"): Action(at("Roles/{}"), made(_role_of_webhooks)),
    (f"DELETE {ROLE}", "predefined"): Action(at("Roles/{}"), made(_predefined), by_owner=False),
    ("GET /User", "himself"): Action(at("User?$filter=Id eq {}"), _himself, listed=True, for_each=True),
    ("GET /User", "viewer"): Action(at("User?$filter=Id eq {}"), made(World.user), listed=True),
    (f"PUT {USER}", "viewer"): Action(at("User/{}"), made(World.user), _NO_GROUPS),
    (f"PUT {USER}", "manager"): Action(at("User/{}"), made(_manager), _NO_GROUPS),
    (f"PUT {USER}", "administrator"): Action(at("User/{}"), made(_administrator), _NO_GROUPS),
    (f"PUT {USER}", "to Manager"): Action(at("User/{}"), made(World.user), saying(RoleId=role_named("Manager"))),
    (f"PUT {USER}", "into group"): Action(
        at_own("User/{}", World.user),
        made(_group_of),
        saying(AssetGroupIds=lambda cell: [own_group(cell), cell.id]),
        by_owner=False,
    ),
    (f"PUT {USER}", "self-made Adm"): Action(
        at("User/{}"), _himself, saying(RoleId=role_named("Administrator")), by_owner=False, for_each=True
    ),
    (f"DELETE {USER}", "viewer"): Action(at("User/{}"), made(World.user)),
    (f"DELETE {USER}", "manager"): Action(at("User/{}"), made(_manager)),
    (f"DELETE {USER}", "administrator"): Action(at("User/{}"), made(_administrator)),
    ("GET /AssetGroups", "group"): in_list("AssetGroups", _group_of),
    ("POST /AssetGroups", "group"): Action(at("AssetGroups"), body=saying(Name=unique)),
    (f"PUT {GROUP}", "group"): Action(at("AssetGroups/{}"), made(_group_of), _DESCRIBED),
    (f"DELETE {GROUP}", "empty group"): Action(at("AssetGroups/{}"), _own_empty_group, for_each=True),
    (f"DELETE {GROUP}", "with an app"): Action(at(FORCED), _own_group_with_application, for_each=True),
    (f"DELETE {GROUP}", "with a webhook"): Action(at(FORCED), _own_group_with_webhook, for_each=True),
    (f"DELETE {GROUP}", "app, Default"): Action(at(FORCED), _own_and_default_with_application, for_each=True),
    (f"DELETE {GROUP}", "Default group"): Action(at("AssetGroups/{}"), made(World.default_group), by_owner=False),
    (MOVE, "from"): Action(
        at("AssetGroups/MoveAssetGroupResources/{}/{spare}"),
        made(_group_of),
        by_owner=False,
    ),
    (MOVE, "to"): Action(
        at("AssetGroups/MoveAssetGroupResources/{spare}/{}"),
        made(_group_of),
        by_owner=False,
    ),
    ("GET /Apps", "application"): in_list("Apps", World.application),
    ("POST /Apps", "in the group"): Action(at("Apps"), made(_group_of), saying(Name=unique, AssetGroupId=the_id)),
    (f"PUT {APP}", "application"): Action(at("Apps/{}"), made(World.application), _DESCRIBED),
    (f"PUT {APP}", "into group"): Action(
        at_own("Apps/{}", World.application), made(_group_of), saying(AssetGroupId=the_id), by_owner=False
    ),
    (f"DELETE {APP}", "application"): Action(at("Apps/{}"), made(World.application)),
    ("GET /Scans", "scan"): in_list("Scans", World.scan),
    ("POST /Scans", "of the app"): Action(
        at("Scans"), made(World.application), saying(Name="scan", AppId=the_id, Technology="ScaAnalyzer")
    ),
    ("GET /Scans/Execution/{execution_id}", "execution"): Action(at("Scans/Execution/{}"), made(World.execution)),
    ("PUT /Scans/Execution/{execution_id}", "execution"): Action(
        at("Scans/Execution/{}"), made(World.execution), saying(Status="Ready")
    ),
    ("GET /Scans/{scan_id}/Executions", "scan"): Action(at("Scans/{}/Executions"), made(World.scan)),
    ("POST /Scans/{scan_id}/Executions", "scan"): Action(at("Scans/{}/Executions"), made(World.scan)),
    ("GET /Presences", "presence"): in_list("Presences", World.presence),
    ("POST /Presences", "presence"): Action(at("Presences"), body=saying(PresenceName=unique)),
    ("POST /Presences/Enroll", "with a token"): Action(
        at("Presences/Enroll"), _token, saying(Token=the_id, Nonce=unique), by_owner=False, for_each=True
    ),
    (f"PUT {PRESENCE}", "presence"): Action(at("Presences/{}"), made(World.presence), saying(PresenceName=unique)),
    (f"DELETE {PRESENCE}", "presence"): Action(at("Presences/{}"), made(World.presence)),
    (f"GET {PRESENCE}/NewKey", "presence"): Action(at("Presences/{}/NewKey"), made(World.presence)),
    (f"GET {PRESENCE}/Download/{{platform}}", "presence"): Action(
        at("Presences/{}/Download/linux_x64"), made(World.presence)
    ),
    (f"POST {PRESENCE}/EnrollmentToken", "presence"): Action(at("Presences/{}/EnrollmentToken"), made(World.presence)),
    (f"POST {PRESENCE}/RotateKey", "unconnected"): Action(
        at("Presences/{}/RotateKey"), made(World.presence), by_owner=False
    ),
    ("GET /Webhooks", "webhook"): in_list("Webhooks", World.webhook),
    ("POST /Webhooks", "webhook"): Action(at("Webhooks"), made(_group_if_any), _webhook, by_owner=False),
    ("POST /Webhooks", "by presence"): Action(
        at("Webhooks"),
        made(World.presence),
        saying(PresenceId=the_id, AssetGroupId=own_group, **WEBHOOK_FIELDS),
        by_owner=False,
    ),
    (f"PUT {WEBHOOK}", "webhook"): Action(at("Webhooks/{}"), made(World.webhook), saying(MaxAgeSeconds=60)),
    (f"PUT {WEBHOOK}", "to Global"): Action(at("Webhooks/{}"), made(World.webhook), saying(Global=True)),
    (f"PUT {WEBHOOK}", "to presence"): Action(
        at_own("Webhooks/{}", World.webhook), made(World.presence), saying(PresenceId=the_id), by_owner=False
    ),
    (f"DELETE {WEBHOOK}", "webhook"): Action(at("Webhooks/{}"), made(World.webhook)),
    (f"POST {WEBHOOK}/Test", "webhook"): Action(at("Webhooks/{}/Test"), made(World.webhook), saying(SubjectId=unique)),
    (f"POST {WEBHOOK}/Pause", "webhook"): Action(at("Webhooks/{}/Pause"), made(World.webhook)),
    (f"POST {WEBHOOK}/Resume", "webhook"): Action(at("Webhooks/{}/Resume"), made(World.webhook)),
    (f"GET {SCOPES}", "webhook"): Action(at("Webhooks/Associations/{}"), made(World.webhook)),
    (f"POST {SCOPES}", "and app of"): Action(at("Webhooks/Associations/{}"), made(_associate), _scope),
    (f"POST {SCOPES}", "and own app"): Action(at("Webhooks/Associations/{}"), made(_associate_own_application), _scope),
    (f"POST {SCOPES}", "and own group"): Action(at("Webhooks/Associations/{}"), made(_associate_own_group), _scope),
    (f"POST {SCOPES}", "Global one"): Action(
        at("Webhooks/Associations/{}"), made(_global_to_associate), _scope, by_owner=False
    ),
    (f"POST {SCOPES}", "own, to app"): Action(
        at_own("Webhooks/Associations/{}", World.webhook),
        made(World.application),
        saying(Scope="Application", ScopeId=the_id),
        by_owner=False,
    ),
    (f"POST {SCOPES}", "own, to group"): Action(
        at_own("Webhooks/Associations/{}", World.webhook),
        body=saying(Scope="AssetGroup", ScopeId=own_group),
        by_owner=False,
    ),
    (f"POST {SCOPES}", "highest, app"): Action(
        at_own("Webhooks/Associations/{}", _webhook_of_organization),
        made(World.application),
        saying(Scope="Application", ScopeId=the_id),
        by_owner=False,
    ),
    (f"DELETE {SCOPES}", "and app of"): Action(_dissociate, made(_associated)),
    (f"DELETE {SCOPES}", "and own app"): Action(_dissociate, made(_associated_own_application)),
    ("GET /EffectiveAccess", "to a host"): Action(at("EffectiveAccess?host=myservice.com")),
    ("POST /Events", "of the app"): Action(at("Events"), made(World.application), _event),
    ("POST /Events", "of no app"): Action(at("Events"), body=_event),
    ("GET /Deliveries", "delivery"): in_list("Deliveries", World.delivery),
    (f"GET {DELIVERY}", "delivery"): Action(at("Deliveries/{}"), made(World.delivery)),
    (f"GET {DELIVERY}", "orphan"): Action(at("Deliveries/{}"), made(World.delivery_of_deleted_webhook)),
    (f"POST {DELIVERY}/Redeliver", "orphan"): Action(
        at("Deliveries/{}/Redeliver"), made(World.delivery_of_deleted_webhook), by_owner=False
    ),
    (f"POST {DELIVERY}/Resolve", "queued"): Action(
        at("Deliveries/{}/Resolve"), made(World.delivery), saying(Action="Fire"), by_owner=False
    ),
    (f"POST {DELIVERY}/Cancel", "queued"): Action(at("Deliveries/{}/Cancel"), made(World.delivery)),
    (f"POST {DELIVERY}/Redeliver", "ended"): Action(at("Deliveries/{}/Redeliver"), made(World.ended_delivery)),
    ("GET /Audits", "of an app"): in_list("Audits", World.application, "EntityId"),
    ("GET /Audits", "of a presence"): in_list("Audits", World.presence, "EntityId"),
}
