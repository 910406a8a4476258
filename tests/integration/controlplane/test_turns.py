"""Whatever a user changes waits for its turn: rights that end before that are no rights, whatever it is."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import fields
from typing import Any
from uuid import uuid4

import pytest

from presence.clock import SystemClock
from presence.controlplane.access import EVERY_ORGANIZATION, Capability, Principal
from presence.controlplane.api.auth import Services
from presence.controlplane.app import InitResult, assemble
from presence.controlplane.odata import ListQuery
from presence.controlplane.services import applications, asset_groups, executions, roles
from presence.controlplane.services.deliveries import Action
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.services.users import Invitation
from presence.controlplane.services.webhook_drafts import Draft
from presence.controlplane.settings import ControlPlaneSettings
from presence.controlplane.store.associations import Association, Scope
from presence.controlplane.store.engine import Database
from presence.controlplane.store.roles import Role
from presence.domain.events import EventType, Happening
from presence.domain.execution import Report
from presence.tracing import UNTRACED

Use = Callable[[Services, Principal], Awaitable[object]]
ID = str(uuid4())
SCAN = EventType.SCAN_EXECUTION_COMPLETED
WEBHOOK = Draft(ID, "http://x/", SCAN, is_global=True)
HAPPENING = Happening("/tests", "1", SCAN, "x")
SCOPE = Association(Scope.APPLICATION, ID)

CHANGES: dict[str, Use] = {
    "accounts.log_out": lambda s, me: s.accounts.log_out(me),
    "accounts.replace_key": lambda s, me: s.accounts.replace_key(me),
    "applications.change": lambda s, me: s.applications.change(me, ID, applications.Given(name="x")),
    "applications.create": lambda s, me: s.applications.create(me, "x", ID, applications.Given()),
    "applications.delete": lambda s, me: s.applications.delete(me, ID),
    "asset_groups.change": lambda s, me: s.asset_groups.change(me, ID, asset_groups.Draft(name="x")),
    "asset_groups.create": lambda s, me: s.asset_groups.create(me, asset_groups.Draft(name="x")),
    "asset_groups.delete": lambda s, me: s.asset_groups.delete(me, ID, forced=True),
    "asset_groups.move": lambda s, me: s.asset_groups.move(me, ID, ID),
    "associations.add": lambda s, me: s.associations.add(me, ID, SCOPE),
    "associations.remove": lambda s, me: s.associations.remove(me, ID, SCOPE),
    "deliveries.cancel": lambda s, me: s.deliveries.cancel(me, ID),
    "deliveries.redeliver": lambda s, me: s.deliveries.redeliver(me, ID),
    "deliveries.resolve": lambda s, me: s.deliveries.resolve(me, ID, Action.FIRE),
    "enrollments.make_token": lambda s, me: s.enrollments.make_token(me, ID),
    "events.accept": lambda s, me: s.events.accept(me, [HAPPENING]),
    "executions.start": lambda s, me: s.executions.start(me, ID),
    "executions.update": lambda s, me: s.executions.update(me, ID, executions.Update(Report())),
    "presences.create": lambda s, me: s.presences.create(me, "x"),
    "presences.delete": lambda s, me: s.presences.delete(me, ID),
    "presences.new_key": lambda s, me: s.presences.new_key(me, ID),
    "presences.rename": lambda s, me: s.presences.rename(me, ID, "x"),
    "presences.rotations.rotate": lambda s, me: s.presences.rotations.rotate(me, ID),
    "roles.change": lambda s, me: s.roles.change(me, ID, roles.Draft(name="x")),
    "roles.create": lambda s, me: s.roles.create(me, roles.Draft(name="x")),
    "roles.delete": lambda s, me: s.roles.delete(me, ID),
    "scans.create": lambda s, me: s.scans.create(me, "x", ID, "ScaAnalyzer"),
    "users.change": lambda s, me: s.users.change(me, ID, None, None),
    "users.delete": lambda s, me: s.users.delete(me, ID),
    "users.invite": lambda s, me: s.users.invite(me, Invitation(["x@x.x"], None, None)),
    "webhook_actions.pause": lambda s, me: s.webhook_actions.pause(me, ID),
    "webhook_actions.resume": lambda s, me: s.webhook_actions.resume(me, ID),
    "webhook_actions.test": lambda s, me: s.webhook_actions.test(me, ID, "x"),
    "webhooks.create": lambda s, me: s.webhooks.create(me, WEBHOOK),
    "webhooks.delete": lambda s, me: s.webhooks.delete(me, ID),
    "webhooks.update": lambda s, me: s.webhooks.update(me, ID, {}),
}
"""Every use case that changes something for a user."""

READS = {
    "accounts.tenant", "applications.page", "asset_groups.page", "associations.page", "audits.page", "deliveries.find",
    "deliveries.page", "effective_access.to_host", "executions.get", "executions.page", "presences.page",
    "presences.require_keys", "roles.page", "scans.page", "users.page", "webhooks.page",
}  # fmt: skip


@pytest.fixture
def services(settings: ControlPlaneSettings, database: Database) -> Services:
    found: Services = assemble(settings, database, SystemClock(), UNTRACED).app.state.services
    return found


@pytest.fixture
async def owner(services: Services, administrator: InitResult) -> Principal:
    """Administers the organization."""
    return await logged_in(services, administrator.key_id, administrator.key_secret)


async def logged_in(services: Services, key_id: str, key_secret: str) -> Principal:
    token = await services.accounts.log_in(key_id, key_secret)
    return await services.accounts.authenticate(token.text)


async def another(services: Services, owner: Principal) -> Principal:
    """Somebody else who administers it."""
    (made,) = await services.users.invite(owner, Invitation([f"{uuid4()}@x.x"], owner.role_id, []))
    return await logged_in(services, made.key_id, made.key_secret)


async def role_named(services: Services, owner: Principal, name: str) -> Role:
    views, _ = await services.roles.page(owner, ListQuery())
    return next(view.role for view in views if view.role.name == name)


def use_cases(services: Services) -> set[str]:
    """Those that are done for a user."""
    parts: dict[str, Any] = {field.name: getattr(services, field.name) for field in fields(services)}
    parts["presences.rotations"] = services.presences.rotations
    return {
        f"{name}.{method}"
        for name, part in parts.items()
        for method, function in inspect.getmembers(type(part), inspect.iscoroutinefunction)
        if not method.startswith("_") and "principal" in inspect.signature(function).parameters
    }


async def in_turn(database: Database, first: Awaitable[object], second: Awaitable[object]) -> object:
    """What comes of the second, which waits for its turn when the first is done."""
    async with database.write(EVERY_ORGANIZATION):
        earlier, later = asyncio.ensure_future(first), asyncio.ensure_future(second)
        await asyncio.sleep(0)  # both begin
    await earlier
    return (await asyncio.gather(later, return_exceptions=True))[0]


async def test_whoever_is_deleted_before_its_turn_changes_nothing(
    database: Database, services: Services, owner: Principal
) -> None:
    assert use_cases(services) == CHANGES.keys() | READS
    for name, use in CHANGES.items():
        somebody = await another(services, owner)
        found = await in_turn(database, services.users.delete(owner, somebody.user_id), use(services, somebody))
        assert isinstance(found, Refusal), (name, found)
        assert found.key is Key.USER_NOT_AUTHORIZED, (name, found)


async def test_whoever_is_demoted_before_its_turn_has_what_is_left(
    database: Database, services: Services, owner: Principal
) -> None:
    viewer = await role_named(services, owner, "Reporting Viewer")
    for use in ("webhooks.create", "events.accept", "presences.create", "roles.create", "asset_groups.create"):
        somebody = await another(services, owner)
        demotion = services.users.change(owner, somebody.user_id, viewer.id, None)
        found = await in_turn(database, demotion, CHANGES[use](services, somebody))
        assert isinstance(found, Refusal), (use, found)
        assert found.key is Key.MISSING_CAPABILITIES, (use, found)


async def test_whoever_gets_more_before_its_turn_has_that(
    database: Database, services: Services, owner: Principal
) -> None:
    somebody = await another(services, owner)
    viewer = await role_named(services, owner, "Reporting Viewer")
    await services.users.change(owner, somebody.user_id, viewer.id, None)
    promotion = services.users.change(owner, somebody.user_id, owner.role_id, None)
    made = await in_turn(database, promotion, services.presences.create(somebody, "x"))
    assert not isinstance(made, BaseException), made
    assert Capability.MANAGE_PRESENCES not in viewer.capabilities
