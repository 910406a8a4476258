"""Users: nobody changes one who has more than they have, and nobody gives more than they have."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from presence.clock import Clock
from presence.controlplane.access import Capability, Principal
from presence.controlplane.odata import ListQuery
from presence.controlplane.services.acting import changing_rights, require
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.services.secret import fingerprint, new_secret
from presence.controlplane.store import accounts, asset_groups, audits, roles, users
from presence.controlplane.store.audits import Activity, Entity
from presence.controlplane.store.engine import Database
from presence.controlplane.store.roles import Role
from presence.controlplane.store.users import NewUser, User
from presence.logs import get_logger

MAX_INVITED = 100
MAX_GROUPS_INVITED = 10
MAX_GROUPS = 1000

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Invitation:
    """Whom to make a user. `role_id` None: the default role. `asset_group_ids` None: the Default group."""

    emails: Sequence[str]
    role_id: str | None
    asset_group_ids: Collection[str] | None


@dataclass(frozen=True, slots=True)
class Invited:
    """A new user with its API key, shown once."""

    user_id: str
    user_name: str
    key_id: str
    key_secret: str = field(repr=False)


class Users:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def page(self, principal: Principal, query: ListQuery) -> tuple[list[User], int | None]:
        """The users that the principal may see; of their asset groups, those that it may enter."""
        async with self._database.read(principal.organization_id) as transaction:
            found, count = await users.page(transaction, principal, query)
        if not principal.enters_all_groups:
            found = [replace(user, asset_group_ids=user.asset_group_ids & principal.asset_group_ids) for user in found]
        return found, count

    async def invite(self, principal: Principal, invitation: Invitation) -> list[Invited]:
        """New users with an API key each, all or none. Their names are the addresses in lower case.

        Raises Refusal MISSING_CAPABILITIES, LIST_TOO_LONG, INVALID_INPUT for a name that is taken or given twice,
        ROLE_NOT_EXISTS, ASSETGROUP_NO_ACCESS.
        """
        now = self._clock.wall()
        async with changing_rights(self._database, principal) as (transaction, me):
            require(me, Capability.MANAGE_USERS)
            _require_length("Emails", invitation.emails, MAX_INVITED)
            _require_length("AssetGroupIds", invitation.asset_group_ids or (), MAX_GROUPS_INVITED)
            names = [email.lower() for email in invitation.emails]
            await _require_free(transaction, me, names)
            role = await _role(transaction, me, invitation.role_id)
            groups = await self._groups_of(transaction, me, invitation)
            invited = [Invited(str(uuid4()), name, str(uuid4()), new_secret()) for name in names]
            added = [
                NewUser(new.user_id, new.user_name, email, role.id, me.user_name)
                for new, email in zip(invited, invitation.emails, strict=True)
            ]
            await users.add(transaction, me.organization_id, added, now)
            memberships = [(new.user_id, group) for new in invited for group in groups]
            await users.admit(transaction, me.organization_id, memberships)
            for new in invited:
                await accounts.add_api_key(
                    transaction, me.organization_id, new.user_id, new.key_id, fingerprint(new.key_secret), now
                )
                after = {
                    "UserName": new.user_name,
                    "RoleId": role.id,
                    "RoleName": role.name,
                    "AssetGroupIds": sorted(groups),
                }
                await audits.record(transaction, me, now, Activity.CREATE, Entity.USER, new.user_id, after=after)
        _log.info("users invited", count=len(invited), user=me.user_id)
        return invited

    async def _groups_of(self, transaction: AsyncConnection, me: Principal, invitation: Invitation) -> frozenset[str]:
        asked = invitation.asset_group_ids
        if asked is None:
            asked = [await asset_groups.default_id(transaction, me.organization_id)]
        return await _groups(transaction, me, asked)

    async def change(
        self, principal: Principal, user_id: str, role_id: str | None, asset_group_ids: Collection[str] | None
    ) -> User:
        """Gives the user that role and exactly these groups; None: as it was. Takes effect on its tokens at once.

        Raises Refusal INVALID_ID for a user that the principal does not see, MISSING_CAPABILITIES for one who has
        more than the principal and for a role with more, ROLE_NOT_EXISTS, ASSETGROUP_NO_ACCESS, LIST_TOO_LONG,
        NO_ADMINISTRATOR.
        """
        now = self._clock.wall()
        async with changing_rights(self._database, principal) as (transaction, me):
            before = await _changeable(transaction, me, user_id)
            after = before
            if role_id is not None and role_id != before.role_id:
                after = _with_role(after, await _role(transaction, me, role_id))
                if before.is_administrator:
                    await _require_another_administrator(transaction, me)
                await users.set_role(transaction, me.organization_id, user_id, role_id)
            if asset_group_ids is not None:
                _require_length("AssetGroupIds", asset_group_ids, MAX_GROUPS)
                after = replace(after, asset_group_ids=await _groups(transaction, me, asset_group_ids))
                left, joined = (
                    before.asset_group_ids - after.asset_group_ids,
                    after.asset_group_ids - before.asset_group_ids,
                )
                await users.dismiss(transaction, me.organization_id, user_id, left)
                await users.admit(transaction, me.organization_id, [(user_id, group) for group in joined])
            if after != before:
                was, now_is = audits.changed(_rights(before), _rights(after))
                await audits.record(
                    transaction, me, now, Activity.MODIFY, Entity.USER, user_id, before=was, after=now_is
                )
        _log.info("user changed", changed=user_id, user=me.user_id)
        return after

    async def delete(self, principal: Principal, user_id: str) -> None:
        """The user's API key and tokens are void at once. Raises Refusal INVALID_ID, MISSING_CAPABILITIES for one who
        has more than the principal, NO_ADMINISTRATOR."""
        now = self._clock.wall()
        async with changing_rights(self._database, principal) as (transaction, me):
            found = await _changeable(transaction, me, user_id)
            if found.is_administrator:
                await _require_another_administrator(transaction, me)
            await users.remove(transaction, me.organization_id, user_id)
            was = {"UserName": found.user_name, **_rights(found)}
            await audits.record(transaction, me, now, Activity.DELETE, Entity.USER, user_id, before=was)
        _log.info("user deleted", deleted=user_id, user=me.user_id)


async def _changeable(transaction: AsyncConnection, me: Principal, user_id: str) -> User:
    """The user, whom the principal may change or delete."""
    found = await users.find(transaction, me, user_id)
    if found is None:
        raise Refusal(Key.INVALID_ID, "there is no such user")
    require(me, Capability.MANAGE_USERS)
    if not me.changes_user(found.capabilities, found.asset_group_ids):
        raise Refusal(
            Key.MISSING_CAPABILITIES,
            "the user has capabilities or asset groups that you do not have yourself; ask an administrator",
        )
    return found


async def _role(transaction: AsyncConnection, me: Principal, role_id: str | None) -> Role:
    """The role, which the principal may give; None: the default one."""
    organization_id = me.organization_id
    found = (
        await roles.default(transaction, organization_id)
        if role_id is None
        else await roles.find(transaction, organization_id, role_id)
    )
    if found is None:
        raise Refusal(Key.ROLE_NOT_EXISTS, "{0}: there is no such role", "RoleId")
    if not me.assigns_role(found.capabilities):
        raise Refusal(
            Key.MISSING_CAPABILITIES,
            "the role has capabilities that you do not have yourself; ask an administrator, or give another role",
        )
    return found


async def _groups(transaction: AsyncConnection, me: Principal, asked: Collection[str]) -> frozenset[str]:
    """The groups, which the principal may enter."""
    wanted = frozenset(asked)
    if await asset_groups.entered(transaction, me, wanted) != wanted:
        raise Refusal(Key.ASSETGROUP_NO_ACCESS, "{0}: there is no such asset group", "AssetGroupIds")
    return wanted


async def _require_another_administrator(transaction: AsyncConnection, me: Principal) -> None:
    if await users.count_administrators(transaction, me.organization_id) < 2:
        raise Refusal(
            Key.NO_ADMINISTRATOR, "this is the last Administrator; give somebody else that role first, then try again"
        )


def _require_length(name: str, items: Collection[str], most: int) -> None:
    if len(items) > most:
        raise Refusal(Key.LIST_TOO_LONG, f"{{0}}: at most {most} at once", name)


async def _require_free(transaction: AsyncConnection, me: Principal, names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise Refusal(Key.INVALID_INPUT, "{0}: an address is given twice", "Emails")
    taken = await users.names_taken(transaction, me.organization_id, names)
    if taken:
        position = min(names.index(name) for name in taken)
        raise Refusal(Key.INVALID_INPUT, "{0}: there is a user of that name already", f"Emails.{position}")


def _with_role(user: User, role: Role) -> User:
    return replace(
        user,
        role_id=role.id,
        role_name=role.name,
        capabilities=role.capabilities,
        is_administrator=role.is_administrator,
    )


def _rights(user: User) -> Mapping[str, object]:
    """As the audit log has it."""
    return {"RoleId": user.role_id, "RoleName": user.role_name, "AssetGroupIds": sorted(user.asset_group_ids)}
