"""Roles: nobody makes, changes or deletes one with more than they have."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from presence.clock import Clock
from presence.controlplane.access import PREDEFINED_ROLES, Capability, Principal
from presence.controlplane.odata import ListQuery
from presence.controlplane.services.acting import changing_rights, require
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.store import audits, roles
from presence.controlplane.store.audits import Activity, Entity, Fields
from presence.controlplane.store.engine import Database
from presence.controlplane.store.roles import Role
from presence.logs import get_logger

_log = get_logger(__name__)
_PREDEFINED_NAMES = frozenset(name.casefold() for name in PREDEFINED_ROLES)
_KNOWN: Mapping[str, Capability] = {capability.value.casefold(): capability for capability in Capability}


@dataclass(frozen=True, slots=True)
class Draft:
    """What a role shall be. None: as it was, and for a new role nothing. An empty text clears."""

    name: str | None = None
    description: str | None = None
    external_group_name: str | None = None
    capabilities: frozenset[Capability] | None = None
    is_default: bool | None = None

    def applied(self, role: Role) -> Role:
        return replace(
            role,
            name=role.name if self.name is None else self.name,
            description=role.description if self.description is None else self.description or None,
            external_group_name=(
                role.external_group_name if self.external_group_name is None else self.external_group_name or None
            ),
            capabilities=role.capabilities if self.capabilities is None else self.capabilities,
            is_default=role.is_default if self.is_default is None else self.is_default,
        )


@dataclass(frozen=True, slots=True)
class RoleView:
    """`is_assignable`: the principal may give it to users."""

    role: Role
    is_assignable: bool


def parse_capabilities(given: Mapping[str, bool]) -> frozenset[Capability]:
    """The capabilities that are true of an open map; names count in any case, and what is not named is false.

    Raises Refusal INVALID_INPUT for a true one that is unknown: nothing is granted that would not be honoured.
    """
    asked = [name.casefold() for name, is_given in given.items() if is_given]
    if not set(asked) <= _KNOWN.keys():
        names = ", ".join(Capability)
        raise Refusal(Key.INVALID_INPUT, f"{{0}}: an unknown one cannot be given; they are {names}", "Capabilities")
    if len({name.casefold() for name in given}) != len(given):
        raise Refusal(Key.INVALID_INPUT, "{0}: one is named twice in different case", "Capabilities")
    return frozenset(_KNOWN[name] for name in asked)


class Roles:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def page(self, principal: Principal, query: ListQuery) -> tuple[list[RoleView], int | None]:
        """All roles of the organization, for every user: what they mean is no secret."""
        async with self._database.read(principal.organization_id) as transaction:
            found, count = await roles.page(transaction, principal.organization_id, query)
        return [_view(principal, role) for role in found], count

    async def create(self, principal: Principal, draft: Draft) -> RoleView:
        """A custom role. Raises Refusal MISSING_CAPABILITIES for more than the principal has, ROLE_NAME_EXISTS."""
        now = self._clock.wall()
        nothing = Role(str(uuid4()), "", None, None, frozenset(), is_predefined=False, is_default=False)
        made = draft.applied(nothing)
        async with changing_rights(self._database, principal) as (transaction, me):
            require(me, Capability.MANAGE_ROLES)
            _require_rights(me, made.capabilities, frozenset())
            await _require_free(transaction, me, made.name)
            if made.is_default:
                await self._make_room(transaction, me, now)
            await roles.add(transaction, me.organization_id, made, now)
            await _record(transaction, me, now, Activity.CREATE, made.id, after=_fields(made))
        _log.info("role created", role=made.id, user=me.user_id)
        return _view(me, made)

    async def change(self, principal: Principal, role_id: str, draft: Draft) -> RoleView:
        """Takes effect for its users at once. Of a predefined role only `is_default` can change.

        Raises Refusal ROLE_NOT_EXISTS, ROLE_NAME_EXISTS, ROLE_PREDEFINED_EDIT, ROLE_UNSET_DEFAULT (another role is
        made the default instead), and MISSING_CAPABILITIES where the role has or would have more than the principal,
        or has users in asset groups that the principal may not enter.
        """
        now = self._clock.wall()
        async with changing_rights(self._database, principal) as (transaction, me):
            before = await _find(transaction, me, role_id)
            after = draft.applied(before)
            is_edited = replace(after, is_default=before.is_default) != before
            if is_edited and before.is_predefined:
                raise Refusal(Key.ROLE_PREDEFINED_EDIT, "a predefined role cannot be changed; make a role of your own")
            groups = await roles.holders_groups(transaction, me.organization_id, role_id) if is_edited else frozenset()
            _require_rights(me, before.capabilities | after.capabilities, groups)
            if after.name != before.name:
                await _require_free(transaction, me, after.name)
            if after.is_default != before.is_default:
                await self._change_default(transaction, me, after, now)
            if after != before:
                await roles.change(transaction, me.organization_id, after)
                was, now_is = audits.changed(_fields(before), _fields(after))
                await _record(transaction, me, now, Activity.MODIFY, role_id, before=was, after=now_is)
        _log.info("role changed", role=role_id, user=me.user_id)
        return _view(me, after)

    async def delete(self, principal: Principal, role_id: str) -> None:
        """Raises Refusal ROLE_NOT_EXISTS, MISSING_CAPABILITIES, ROLE_PREDEFINED_DELETION, ROLE_DEFAULT_DELETION, or
        ROLE_ASSOCIATION where users have it."""
        now = self._clock.wall()
        async with changing_rights(self._database, principal) as (transaction, me):
            role = await _find(transaction, me, role_id)
            if role.is_predefined:
                raise Refusal(Key.ROLE_PREDEFINED_DELETION, "a predefined role cannot be deleted")
            _require_rights(me, role.capabilities, frozenset())
            if role.is_default:
                raise Refusal(Key.ROLE_DEFAULT_DELETION, "make another role the default, then delete this one")
            if await roles.is_held(transaction, me.organization_id, role_id):
                raise Refusal(Key.ROLE_ASSOCIATION, "users have this role; give them another one, then delete it")
            await roles.remove(transaction, me.organization_id, role_id)
            await _record(transaction, me, now, Activity.DELETE, role_id, before=_fields(role))
        _log.info("role deleted", role=role_id, user=me.user_id)

    async def _change_default(self, transaction: AsyncConnection, me: Principal, role: Role, now: int) -> None:
        if not role.is_default:
            raise Refusal(Key.ROLE_UNSET_DEFAULT, "there is always a default role; make another one the default")
        if role.is_administrator:
            raise Refusal(Key.ROLE_PREDEFINED_EDIT, "the role Administrator cannot be the default")
        await self._make_room(transaction, me, now)

    async def _make_room(self, transaction: AsyncConnection, me: Principal, now: int) -> None:
        """The role that was the default is it no more."""
        former = await roles.default(transaction, me.organization_id)
        await roles.change(transaction, me.organization_id, replace(former, is_default=False))
        was, now_is = {"IsDefault": True}, {"IsDefault": False}
        await _record(transaction, me, now, Activity.MODIFY, former.id, before=was, after=now_is)


async def _find(transaction: AsyncConnection, me: Principal, role_id: str) -> Role:
    """The role, for somebody who may manage roles at all."""
    found = await roles.find(transaction, me.organization_id, role_id)
    if found is None:
        raise Refusal(Key.ROLE_NOT_EXISTS, "there is no such role")
    require(me, Capability.MANAGE_ROLES)
    return found


def _require_rights(me: Principal, capabilities: frozenset[Capability], holders_groups: frozenset[str]) -> None:
    if not me.changes_role(capabilities, holders_groups):
        raise Refusal(
            Key.MISSING_CAPABILITIES,
            "the role has or would have capabilities that you do not have yourself,"
            " or has users in asset groups that you may not enter; ask an administrator",
        )


async def _require_free(transaction: AsyncConnection, me: Principal, name: str) -> None:
    """No other role has the name; those of the predefined ones are taken in any case of letters."""
    is_taken = name.casefold() in _PREDEFINED_NAMES or await roles.is_named(transaction, me.organization_id, name)
    if is_taken:
        raise Refusal(Key.ROLE_NAME_EXISTS, "a role of that name exists already; choose another name")


def _view(principal: Principal, role: Role) -> RoleView:
    return RoleView(role, principal.assigns_role(role.capabilities))


def _fields(role: Role) -> Fields:
    """As the audit log has it."""
    return {
        "Name": role.name,
        "Description": role.description,
        "ExternalGroupName": role.external_group_name,
        "Capabilities": sorted(role.capabilities),
        "IsDefault": role.is_default,
    }


async def _record(
    transaction: AsyncConnection, me: Principal, now: int, activity: Activity, role_id: str,
    *, before: Fields | None = None, after: Fields | None = None,
) -> None:  # fmt: skip
    await audits.record(transaction, me, now, activity, Entity.ROLE, role_id, before=before, after=after)
