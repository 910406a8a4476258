"""Asset groups: what an organization's applications and webhooks are divided into."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from presence.clock import Clock
from presence.controlplane.access import Capability, Principal
from presence.controlplane.connections import Connections
from presence.controlplane.odata import ListQuery
from presence.controlplane.services.acting import changing_rights, require
from presence.controlplane.services.applications import audit_moves, audit_released
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.services.webhooks import delete_webhook, tell_to_cancel
from presence.controlplane.store import applications, asset_groups, audits, users
from presence.controlplane.store.asset_groups import AssetGroup
from presence.controlplane.store.audits import Activity, Change, Entity, Fields
from presence.controlplane.store.engine import Database
from presence.logs import get_logger

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Draft:
    """What a group shall be. None: as it was, and for a new group nothing. An empty text clears."""

    name: str | None = None
    description: str | None = None
    contact_person: str | None = None

    def applied(self, group: AssetGroup) -> AssetGroup:
        return replace(
            group,
            name=group.name if self.name is None else self.name,
            description=group.description if self.description is None else self.description or None,
            contact_person=group.contact_person if self.contact_person is None else self.contact_person or None,
        )


class AssetGroups:
    def __init__(self, database: Database, clock: Clock, connections: Connections) -> None:
        self._database = database
        self._clock = clock
        self._connections = connections

    async def page(self, principal: Principal, query: ListQuery) -> tuple[list[AssetGroup], int | None]:
        """The groups that the principal may enter."""
        async with self._database.read(principal.organization_id) as transaction:
            return await asset_groups.page(transaction, principal, query)

    async def create(self, principal: Principal, draft: Draft) -> AssetGroup:
        """A group, of which whoever makes it becomes a member unless it may enter all groups anyway.

        Raises Refusal MISSING_CAPABILITIES or ASSETGROUP_NAME_EXISTS.
        """
        now = self._clock.wall()
        async with changing_rights(self._database, principal) as (transaction, me):
            require(me, Capability.MANAGE_ASSET_GROUPS)
            nothing = AssetGroup(str(uuid4()), "", None, None, False, me.user_name, now)
            made = draft.applied(nothing)
            await _require_free(transaction, me, made.name)
            await asset_groups.add(transaction, me.organization_id, made)
            await _record(transaction, me, now, Activity.CREATE, made.id, after=_fields(made))
            if not me.enters_all_groups:
                await users.admit(transaction, me.organization_id, [(me.user_id, made.id)])
                made = replace(made, users_count=1)
                groups = {me.user_id: (me.asset_group_ids, me.asset_group_ids | {made.id})}
                await _record_memberships(transaction, me, now, groups)
        _log.info("asset group created", asset_group=made.id, user=me.user_id)
        return made

    async def change(self, principal: Principal, asset_group_id: str, draft: Draft) -> AssetGroup:
        """Raises Refusal ASSETGROUP_NO_ACCESS, MISSING_CAPABILITIES, ASSETGROUP_NAME_EXISTS, and
        ASSETGROUP_CHANGE_DEFAULT for a new name of the Default group."""
        now = self._clock.wall()
        async with changing_rights(self._database, principal) as (transaction, me):
            before = await _changeable(transaction, me, asset_group_id)
            after = draft.applied(before)
            if after.name != before.name:
                if before.is_default:
                    raise Refusal(Key.ASSETGROUP_CHANGE_DEFAULT, "the Default group cannot be renamed")
                await _require_free(transaction, me, after.name)
            if after != before:
                await asset_groups.change(transaction, me.organization_id, after)
                was, now_is = audits.changed(_fields(before), _fields(after))
                await _record(transaction, me, now, Activity.MODIFY, before.id, before=was, after=now_is)
        return after

    async def delete(self, principal: Principal, asset_group_id: str, *, forced: bool) -> None:
        """Deletes a group. One with applications, webhooks, or members beside the principal only where `forced`:

        - its applications move to the Default group, for which the principal needs what `move` needs. Nothing that
          was scanned is lost, but the members of the Default group see it from then on.
        - its webhooks are deleted as by `Webhooks.delete`, with the right that that needs: to which group one belongs
          never changes, and they must not fire for what is in another one.
        - its members keep their accounts and their other groups.

        Webhooks at organization level lose the group as a scope, forced or not. All or nothing is done.

        Raises Refusal ASSETGROUP_NO_ACCESS, MISSING_CAPABILITIES, ASSETGROUP_CHANGE_DEFAULT, ASSETGROUP_ASSOCIATION.
        """
        now = self._clock.wall()
        async with changing_rights(self._database, principal) as (transaction, me):
            await asset_groups.close(transaction, me.organization_id, asset_group_id)
            group = await _changeable(transaction, me, asset_group_id)
            if group.is_default:
                raise Refusal(Key.ASSETGROUP_CHANGE_DEFAULT, "the Default group cannot be deleted")
            owned = await asset_groups.owned_webhooks(transaction, me.organization_id, group.id)
            if not forced:
                await _require_empty(transaction, me, group, owned)
            holders = [
                holder for webhook_id in owned for holder in await delete_webhook(transaction, me, webhook_id, now)
            ]
            if group.apps_count:
                await _move_to_default(transaction, me, group, now)
            await _remove(transaction, me, group, now)
        tell_to_cancel(self._connections, holders)
        _log.info("asset group deleted", asset_group=asset_group_id, webhooks=len(owned), user=me.user_id)

    async def move(self, principal: Principal, source_id: str, target_id: str) -> AssetGroup:
        """Moves all applications of one group to another one; gives that. What the new group does not allow of their
        associations, those with webhooks of the old one, is removed.

        The webhooks of a group stay: to which group one belongs never changes. So do its members, and so does the
        group as a scope of webhooks: what these mean is the group, not what is in it today.

        Raises Refusal ASSETGROUP_NO_ACCESS for either group, MISSING_CAPABILITIES without the right to manage both
        groups and applications, INVALID_INPUT where both are one.
        """
        now = self._clock.wall()
        async with changing_rights(self._database, principal) as (transaction, me):
            for asset_group_id in (source_id, target_id):
                await _changeable(transaction, me, asset_group_id)
            if source_id == target_id:
                raise Refusal(Key.INVALID_INPUT, "the source and the destination are the same asset group")
            count = await _move_applications(transaction, me, source_id, target_id, now)
            target = await _changeable(transaction, me, target_id)
        _log.info("asset group moved", asset_group=source_id, target=target_id, applications=count, user=me.user_id)
        return target


async def _changeable(transaction: AsyncConnection, me: Principal, asset_group_id: str) -> AssetGroup:
    """The group, which the principal may change."""
    found = await asset_groups.find(transaction, me, asset_group_id)
    if found is None:
        raise Refusal(Key.ASSETGROUP_NO_ACCESS, "there is no such asset group")
    require(me, Capability.MANAGE_ASSET_GROUPS)
    return found


async def _require_free(transaction: AsyncConnection, me: Principal, name: str) -> None:
    if await asset_groups.is_named(transaction, me.organization_id, name):
        raise Refusal(Key.ASSETGROUP_NAME_EXISTS, "an asset group of that name exists already; choose another name")


async def _require_empty(transaction: AsyncConnection, me: Principal, group: AssetGroup, owned: list[str]) -> None:
    others = await asset_groups.has_member_beside(transaction, me.organization_id, group.id, me.user_id)
    contents = {"applications": group.apps_count > 0, "webhooks": bool(owned), "other members": others}
    found = [name for name, is_there in contents.items() if is_there]
    if found:
        raise Refusal(
            Key.ASSETGROUP_ASSOCIATION,
            "the group has {0}; move or remove them first, or delete it with forceDeletion=true",
            " and ".join(found),
        )


async def _move_to_default(transaction: AsyncConnection, me: Principal, group: AssetGroup, now: int) -> None:
    require(me, Capability.MANAGE_APPLICATIONS)
    default_id = await asset_groups.default_id(transaction, me.organization_id)
    if not me.enters(default_id):
        raise Refusal(
            Key.ASSETGROUP_NO_ACCESS,
            "the group's applications would move to the Default group, which you may not enter;"
            " move them to another one first, with MoveAssetGroupResources",
        )
    await _move_applications(transaction, me, group.id, default_id, now)


async def _remove(transaction: AsyncConnection, me: Principal, group: AssetGroup, now: int) -> None:
    """Deletes a group without applications and webhooks, and audits what goes with it."""
    scoped = await asset_groups.associated_webhooks(transaction, me.organization_id, group.id)
    changes = [Change(webhook_id, before={"Scope": "AssetGroup", "ScopeId": group.id}) for webhook_id in scoped]
    await audits.record_all(transaction, me, now, Activity.DISASSOCIATE, Entity.WEBHOOK, changes)
    members = await users.groups_of_members(transaction, me.organization_id, group.id)
    await asset_groups.remove(transaction, me.organization_id, group.id)
    await _record(transaction, me, now, Activity.DELETE, group.id, before=_fields(group))
    left = {user_id: (groups, groups - {group.id}) for user_id, groups in members.items()}
    await _record_memberships(transaction, me, now, left)


async def _move_applications(
    transaction: AsyncConnection, me: Principal, source_id: str, target_id: str, now: int
) -> int:
    """Moves the applications of a group, and removes the associations that the new one does not allow."""
    require(me, Capability.MANAGE_APPLICATIONS)
    organization_id = me.organization_id
    moved = await asset_groups.move_applications(transaction, organization_id, source_id, target_id, me.user_name, now)
    lost = await applications.dissociate(transaction, organization_id, target_id)
    await audit_moves(transaction, me, now, moved, source_id, target_id)
    await audit_released(transaction, me, now, lost)
    return len(moved)


async def _record_memberships(
    transaction: AsyncConnection, me: Principal, now: int, groups: Mapping[str, tuple[frozenset[str], frozenset[str]]]
) -> None:
    """`groups`: those that a user was in, and is in, by the user's id."""
    changes = [
        Change(user_id, {"AssetGroupIds": sorted(before)}, {"AssetGroupIds": sorted(after)})
        for user_id, (before, after) in groups.items()
    ]
    await audits.record_all(transaction, me, now, Activity.MODIFY, Entity.USER, changes)


def _fields(group: AssetGroup) -> Fields:
    """As the audit log has it."""
    return {"Name": group.name, "Description": group.description, "ContactPerson": group.contact_person}


async def _record(
    transaction: AsyncConnection, me: Principal, now: int, activity: Activity, group_id: str,
    *, before: Fields | None = None, after: Fields | None = None,
) -> None:  # fmt: skip
    await audits.record(
        transaction, me, now, activity, Entity.ASSET_GROUP, group_id,
        before=before, after=after, asset_group_id=group_id,
    )  # fmt: skip
