"""Whatever sequence of calls is allowed: nobody has a right after one that whoever made it did not have before."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Final
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, event, given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from presence.clock import SystemClock
from presence.controlplane.access import ADMINISTRATOR, Capability, Principal
from presence.controlplane.api.auth import Services
from presence.controlplane.app import assemble
from presence.controlplane.odata import ListQuery
from presence.controlplane.services import asset_groups, roles
from presence.controlplane.services.applications import Given
from presence.controlplane.services.refusal import Refusal
from presence.controlplane.services.users import Invitation
from presence.controlplane.services.webhook_drafts import Draft
from presence.controlplane.settings import ControlPlaneSettings
from presence.controlplane.store import reach
from presence.controlplane.store.associations import Association, Scope
from presence.controlplane.store.engine import Database
from presence.domain.events import EventType
from presence.tracing import UNTRACED
from tests.integration.controlplane.databases import ON_POSTGRESQL, ON_SQLITE

Right = tuple[Capability, str]
ORGANIZATION_LEVEL: Final = ""

# Few, so that one set is often a part of another; all equally likely.
FEW = (
    Capability.MANAGE_ROLES,
    Capability.MANAGE_USERS,
    Capability.MANAGE_ASSET_GROUPS,
    Capability.CREATE_MODIFY_WEBHOOKS,
    Capability.ALL_ASSET_GROUPS,
)
sets = st.sampled_from([frozenset(chosen) for size in range(len(FEW) + 1) for chosen in combinations(FEW, size)])
numbers = st.integers(0, 7)
some = st.sampled_from([frozenset(chosen) for size in range(3) for chosen in combinations(range(3), size)])


@dataclass
class Organization:
    """A new one. Things are named by numbers, which begin again where there are no more of them."""

    services: Services
    database: Database
    id: str
    administrator: Principal
    presence: str = ""
    actors: list[Principal] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    applications: list[str] = field(default_factory=list)
    webhooks: list[str] = field(default_factory=list)
    own: set[str] = field(default_factory=set)
    """Groups that the latest call created."""

    def chosen(self, groups: Collection[int]) -> set[str]:
        return {_one(self.groups, number) for number in groups}

    async def rights(self) -> dict[str, frozenset[Right]]:
        """By user. Who enters all groups does so also at organization level, and where groups are to come."""
        async with self.database.read(self.id) as transaction:
            people = await reach.people(transaction, self.id)
        return {one.principal.user_id: self._rights(one.principal) for one in people}

    def _rights(self, of: Principal) -> frozenset[Right]:
        entered = {*self.groups, ORGANIZATION_LEVEL} if of.enters_all_groups else of.asset_group_ids
        return frozenset((capability, place) for capability in of.capabilities for place in entered)

    async def join(self, made: Any) -> None:
        token = await self.services.accounts.log_in(made.key_id, made.key_secret)
        self.actors.append(await self.services.accounts.authenticate(token.text))

    async def invite(self, me: Principal, role: int | None, groups: Collection[int] | None) -> None:
        given = None if groups is None else self.chosen(groups)
        asked = Invitation([f"{uuid4()}@x.x"], None if role is None else _one(self.roles, role), given)
        for made in await self.services.users.invite(me, asked):
            await self.join(made)

    async def give_role(self, me: Principal, user: int, role: int) -> None:
        await self.services.users.change(me, _one(self.actors, user).user_id, _one(self.roles, role), None)

    async def give_groups(self, me: Principal, user: int, groups: Collection[int]) -> None:
        await self.services.users.change(me, _one(self.actors, user).user_id, None, self.chosen(groups))

    async def delete_user(self, me: Principal, user: int) -> None:
        await self.services.users.delete(me, _one(self.actors, user).user_id)

    async def create_role(self, me: Principal, capabilities: frozenset[Capability], default: bool) -> None:
        draft = roles.Draft(name=str(uuid4()), capabilities=capabilities, is_default=default)
        self.roles.append((await self.services.roles.create(me, draft)).role.id)

    async def change_role(self, me: Principal, role: int, capabilities: frozenset[Capability]) -> None:
        await self.services.roles.change(me, _one(self.roles, role), roles.Draft(capabilities=capabilities))

    async def make_default(self, me: Principal, role: int) -> None:
        await self.services.roles.change(me, _one(self.roles, role), roles.Draft(is_default=True))

    async def create_group(self, me: Principal) -> None:
        made = await self.services.asset_groups.create(me, asset_groups.Draft(name=str(uuid4())))
        self.groups.append(made.id)
        self.own = {made.id}

    async def delete_group(self, me: Principal, group: int) -> None:
        await self.services.asset_groups.delete(me, _one(self.groups, group), forced=True)

    async def move_group(self, me: Principal, source: int, target: int) -> None:
        await self.services.asset_groups.move(me, _one(self.groups, source), _one(self.groups, target))

    async def create_application(self, me: Principal, group: int) -> None:
        made = await self.services.applications.create(me, str(uuid4()), _one(self.groups, group), Given())
        self.applications.append(made.id)

    async def move_application(self, me: Principal, application: int, group: int) -> None:
        given = Given(asset_group_id=_one(self.groups, group))
        await self.services.applications.change(me, _one(self.applications, application), given)

    async def create_webhook(self, me: Principal, group: int | None, is_global: bool) -> None:
        draft = Draft(
            self.presence, "http://x/", EventType.APPLICATION_UPDATED, is_global,
            None if group is None else _one(self.groups, group),
        )  # fmt: skip
        self.webhooks.append((await self.services.webhooks.create(me, draft)).shown.webhook.id)

    async def associate(self, me: Principal, webhook: int, application: int) -> None:
        scope = Association(Scope.APPLICATION, _one(self.applications, application))
        await self.services.associations.add(me, _one(self.webhooks, webhook), scope)


def _one(of: Sequence[Any], number: int) -> Any:
    return of[number % len(of)]


maybe_number = st.none() | numbers
CALLS: Mapping[Callable[..., Awaitable[None]], tuple[st.SearchStrategy[Any], ...]] = {
    Organization.invite: (maybe_number, st.none() | some),
    Organization.give_role: (numbers, numbers),
    Organization.give_groups: (numbers, some),
    Organization.delete_user: (numbers,),
    Organization.create_role: (sets, st.booleans()),
    Organization.change_role: (numbers, sets),
    Organization.make_default: (numbers,),
    Organization.create_group: (),
    Organization.delete_group: (numbers,),
    Organization.move_group: (numbers, numbers),
    Organization.create_application: (numbers,),
    Organization.move_application: (numbers, numbers),
    Organization.create_webhook: (maybe_number, st.booleans()),
    Organization.associate: (numbers, numbers),
}
OFTEN: Final = (Organization.give_role, Organization.give_groups, Organization.change_role, Organization.invite) * 3
"""What changes rights most directly."""
calls = st.sampled_from([*CALLS, *OFTEN]).flatmap(
    lambda call: st.tuples(st.just(call), numbers, st.tuples(*CALLS[call]))
)
sequences = st.lists(calls, min_size=15, max_size=25)
MANAGING: Final = frozenset({Capability.MANAGE_USERS, Capability.MANAGE_ROLES})
# Somebody who may do nothing starts nothing.
beginnings = st.lists(
    st.tuples(st.one_of(*[sets.map(lambda some: (some | MANAGING) - {Capability.ALL_ASSET_GROUPS})] * 3, sets), some),
    min_size=4, max_size=5,
)  # fmt: skip


async def organization(services: Services, database: Database) -> Organization:
    made = await services.accounts.create_organization(str(uuid4()))
    token = await services.accounts.log_in(made.key_id, made.key_secret)
    administrator = await services.accounts.authenticate(token.text)
    found = Organization(services, database, made.organization_id, administrator, actors=[administrator])
    groups, _ = await services.asset_groups.page(administrator, ListQuery())
    found.groups += [group.id for group in groups]
    views, _ = await services.roles.page(administrator, ListQuery())
    found.roles += [view.role.id for view in views if view.role.name in (ADMINISTRATOR, "Manager")]
    found.presence = (await services.presences.create(administrator, "office")).id
    for _ in range(2):
        await found.create_group(administrator)
        await found.create_application(administrator, len(found.groups) - 1)
    for group in (None, 1):
        await found.create_webhook(administrator, group, is_global=False)
    return found


async def check(
    found: Organization, people: Sequence[tuple[frozenset[Capability], Collection[int]]], made: Sequence[Any]
) -> None:
    """These people, invited with a role of their own each, make these calls."""
    for capabilities, groups in people:
        await found.create_role(found.administrator, capabilities, default=False)
        await found.invite(found.administrator, len(found.roles) - 1, groups)
    for call, number, arguments in made:
        me = _one(found.actors, number)
        found.own = set()
        before = await found.rights()
        try:
            await call(found, me, *arguments)
            event(f"{call.__name__}: allowed")
        except Refusal as refusal:
            event(f"{call.__name__}: {refusal.key}")
        givers = before.get(me.user_id, frozenset())
        for user, rights in (await found.rights()).items():
            gained = {right for right in rights - before.get(user, frozenset()) if right[1] not in found.own}
            assert gained <= givers, (call.__name__, arguments, gained - givers)


@pytest.fixture
def services(settings: ControlPlaneSettings, database: Database) -> Services:
    found: Services = assemble(settings, database, SystemClock(), UNTRACED).app.state.services
    return found


@ON_SQLITE
@bounded(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(beginnings, sequences)
async def test_nobody_is_given_more_than_the_giver_has(
    services: Services, database: Database, people: Any, made: Any
) -> None:
    await check(await organization(services, database), people, made)


@ON_POSTGRESQL
@bounded(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(beginnings, sequences)
async def test_nor_on_postgresql(services: Services, database: Database, people: Any, made: Any) -> None:
    await check(await organization(services, database), people, made)
