"""What there is to act upon: an organization with asset groups, another organization, and things at every place."""

from typing import Any, Final
from uuid import uuid4

from tests.integration.controlplane.access.people import everybody
from tests.integration.controlplane.peers import Caller
from tests.integration.controlplane.people import Person, default_group, group, invite, role_id, role_with

OWN, OTHER, ORGANIZATION, FOREIGN = "own", "other", "organization", "foreign"
VIEWER: Final = "Reporting Viewer"


class World:
    """`groups` and `presences`: ids by place. Members of `own` are members of `spare`, too."""

    people: dict[str, Person]
    spare: str

    def __init__(self, administrator: Caller, stranger: Caller) -> None:
        self.administrator = administrator
        self.stranger = stranger
        self.groups: dict[str, str] = {}
        self.presences: dict[str, str] = {}
        self.scopes: dict[str, dict[str, str]] = {}

    async def prepare(self) -> None:
        self.groups[OWN] = await group(self.administrator, "own")
        self.groups[OTHER] = await group(self.administrator, "other")
        self.groups[FOREIGN] = await group(self.stranger, "own")
        self.spare = await group(self.administrator, "spare")
        self.presences[ORGANIZATION] = await self.presence(ORGANIZATION)
        self.presences[FOREIGN] = await self.presence(FOREIGN)
        self.people = await everybody(self.administrator, [self.groups[OWN], self.spare])

    def owner(self, place: str) -> Caller:
        """The administrator of what is there."""
        return self.stranger if place == FOREIGN else self.administrator

    def presence_of(self, place: str) -> str:
        return self.presences[FOREIGN if place == FOREIGN else ORGANIZATION]

    async def presence(self, place: str) -> str:
        return str((await self.owner(place).post("Presences", {"PresenceName": str(uuid4())}))["Id"])

    async def group(self, place: str, member: Person | None = None, *others: str) -> str:
        """An empty one, of which the user is a member beside `own` and these."""
        made = await group(self.owner(place), str(uuid4()))
        if member is not None:
            groups = {"AssetGroupIds": [self.groups[OWN], self.spare, made, *others]}
            await self.administrator.call("PUT", f"User/{member.user_id}", 200, json=groups)
        return made

    async def default_group(self, place: str) -> str:
        return await default_group(self.owner(place))

    async def role(self, place: str, *capabilities: str) -> str:
        return await role_with(self.owner(place), *capabilities)

    async def predefined(self, name: str, place: str = ORGANIZATION) -> str:
        return await role_id(self.owner(place), name)

    async def user(self, place: str, role: str = VIEWER) -> str:
        """A member of the place's asset group with that predefined role."""
        made = await invite(self.owner(place), await self.predefined(role, place), [self.groups[place]])
        return str(made["UserId"])

    async def used_role(self, place: str) -> str:
        """One without capabilities, whose user is a member of the place's asset group."""
        role = await self.role(place)
        await invite(self.owner(place), role, [self.groups[place]])
        return role

    async def application(self, place: str) -> str:
        body = {"Name": str(uuid4()), "AssetGroupId": self.groups[place]}
        return str((await self.owner(place).post("Apps", body, 201))["Id"])

    async def scan(self, place: str) -> str:
        body = {"Name": "scan", "AppId": await self.application(place), "Technology": "ScaAnalyzer"}
        return str((await self.owner(place).post("Scans", body, 201))["Id"])

    async def execution(self, place: str) -> str:
        scan = await self.scan(place)
        return str((await self.owner(place).post(f"Scans/{scan}/Executions", None, 201))["Id"])

    async def webhook(self, place: str, *, is_global: bool = False) -> str:
        """Of the place's asset group, or at organization level."""
        fields: dict[str, Any] = {"Global": is_global}
        if place in self.groups:
            fields["AssetGroupId"] = self.groups[place]
        return str((await self.owner(place).webhook(self.presence_of(place), **fields))["Id"])

    async def to_associate(self, place: str, scope: str, scope_id: str) -> str:
        """A webhook which `scopes` says a scope of."""
        made = await self.webhook(place)
        self.scopes[made] = {"Scope": scope, "ScopeId": scope_id}
        return made

    async def associated(self, place: str, scope: str, scope_id: str) -> str:
        made = await self.to_associate(place, scope, scope_id)
        await self.owner(place).post(f"Webhooks/Associations/{made}", self.scopes[made], 201)
        return made

    def scope_of(self, webhook: str) -> dict[str, str]:
        return self.scopes.get(webhook) or next(iter(self.scopes.values()))

    async def delivery(self, place: str) -> str:
        test = {"SubjectId": str(uuid4())}
        made = await self.owner(place).post(f"Webhooks/{await self.webhook(place)}/Test", test, 201)
        return str(made["Id"])

    async def delivery_of_deleted_webhook(self, place: str) -> str:
        webhook = await self.webhook(place)
        made = await self.owner(place).post(f"Webhooks/{webhook}/Test", {"SubjectId": str(uuid4())}, 201)
        await self.owner(place).call("DELETE", f"Webhooks/{webhook}", 204)
        return str(made["Id"])

    async def ended_delivery(self, place: str) -> str:
        made = await self.delivery(place)
        await self.owner(place).call("POST", f"Deliveries/{made}/Cancel", 200)
        return made
