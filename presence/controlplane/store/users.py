"""Users: who they are, their role, and the asset groups that they are members of."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, and_, case, delete, exists, false, func, insert, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import ADMINISTRATOR, Capability, Principal
from presence.controlplane.odata import ListQuery
from presence.controlplane.store import odata
from presence.controlplane.store.chunks import chunks
from presence.controlplane.store.roles import capabilities_in
from presence.controlplane.store.tables import api_key, membership, role, token, user


@dataclass(frozen=True, slots=True)
class NewUser:
    id: str
    user_name: str
    email: str | None
    role_id: str
    invited_by: str | None


@dataclass(frozen=True, slots=True)
class User:
    """A user with its role and groups. Milliseconds since the Unix epoch."""

    id: str
    user_name: str
    first_name: str | None
    last_name: str | None
    email: str | None
    role_id: str
    role_name: str
    capabilities: frozenset[Capability]
    is_administrator: bool
    has_api_key: bool
    status: str
    invited_by: str | None
    created_at: int
    last_login_at: int | None
    asset_group_ids: frozenset[str]


_IS_ADMINISTRATOR: Final[ColumnElement[bool]] = and_(role.c.is_predefined, role.c.name == ADMINISTRATOR)
_HAS_API_KEY: Final[ColumnElement[bool]] = exists().where(
    api_key.c.organization_id == user.c.organization_id, api_key.c.user_id == user.c.id
)
_STATUS: Final[ColumnElement[str]] = case((user.c.last_login_at.is_(None), "PendingActivation"), else_="Active")

FIELDS: Final[Mapping[str, ColumnElement[Any]]] = {
    "Id": user.c.id,
    "UserName": user.c.user_name,
    "FirstName": user.c.first_name,
    "LastName": user.c.last_name,
    "Email": user.c.email,
    "IsAdmin": case((_IS_ADMINISTRATOR, true()), else_=false()),
    "RoleId": user.c.role_id,
    "RoleName": role.c.name,
    "HasApiKey": case((_HAS_API_KEY, true()), else_=false()),
    "Status": _STATUS,
    "InvitedBy": user.c.invited_by,
    "CreatedAt": user.c.created_at,
    "LastLogin": user.c.last_login_at,
}
_USERS = select(
    user.c.id,
    user.c.user_name,
    user.c.first_name,
    user.c.last_name,
    user.c.email,
    user.c.role_id,
    role.c.name.label("role_name"),
    role.c.capabilities,
    _IS_ADMINISTRATOR.label("is_administrator"),
    _HAS_API_KEY.label("has_api_key"),
    _STATUS.label("status"),
    user.c.invited_by,
    user.c.created_at,
    user.c.last_login_at,
).join_from(user, role, and_(role.c.organization_id == user.c.organization_id, role.c.id == user.c.role_id))


def _visible(principal: Principal) -> ColumnElement[bool]:
    """`Principal.sees_user`, where the rows are."""
    return and_(user.c.organization_id == principal.organization_id, _seen(principal))


def _seen(principal: Principal) -> ColumnElement[bool]:
    itself = user.c.id == principal.user_id
    if not principal.has(Capability.MANAGE_USERS):
        return itself
    if principal.enters_all_groups:
        return true()
    shared = exists().where(
        membership.c.organization_id == user.c.organization_id,
        membership.c.user_id == user.c.id,
        membership.c.asset_group_id.in_(sorted(principal.asset_group_ids)),
    )
    return or_(itself, shared)


async def page(transaction: AsyncConnection, principal: Principal, query: ListQuery) -> tuple[list[User], int | None]:
    """Those that the principal may see, by name."""
    statement = _USERS.where(_visible(principal))
    rows, count = await odata.page(transaction, statement, query, FIELDS, (user.c.user_name, user.c.id))
    return await _users(transaction, principal.organization_id, rows), count


async def find(transaction: AsyncConnection, principal: Principal, user_id: str) -> User | None:
    """The user, where the principal may see it."""
    rows = (await transaction.execute(_USERS.where(_visible(principal), user.c.id == user_id))).all()
    found = await _users(transaction, principal.organization_id, rows)
    return found[0] if found else None


async def _users(transaction: AsyncConnection, organization_id: str, rows: Sequence[Row[Any]]) -> list[User]:
    """The rows with the groups of each."""
    groups: dict[str, set[str]] = {row.id: set() for row in rows}
    query = select(membership.c.user_id, membership.c.asset_group_id).where(
        membership.c.organization_id == organization_id
    )
    for chunk in chunks(groups):
        for user_id, asset_group_id in await transaction.execute(query.where(membership.c.user_id.in_(chunk))):
            groups[user_id].add(asset_group_id)
    return [
        User(
            **{
                **row._mapping,
                "capabilities": capabilities_in(row.capabilities),
                "is_administrator": bool(row.is_administrator),
                "has_api_key": bool(row.has_api_key),
                "asset_group_ids": frozenset(groups[row.id]),
            }
        )
        for row in rows
    ]


async def groups_of_members(
    transaction: AsyncConnection, organization_id: str, asset_group_id: str
) -> dict[str, frozenset[str]]:
    """All asset groups of each member of that one, by the user's id."""
    others = membership.alias()
    query = (
        select(membership.c.user_id, others.c.asset_group_id)
        .join(
            others,
            and_(others.c.organization_id == membership.c.organization_id, others.c.user_id == membership.c.user_id),
        )
        .where(membership.c.organization_id == organization_id, membership.c.asset_group_id == asset_group_id)
    )
    groups: defaultdict[str, set[str]] = defaultdict(set)
    for user_id, group in await transaction.execute(query):
        groups[user_id].add(group)
    return {user_id: frozenset(found) for user_id, found in groups.items()}


async def names_taken(transaction: AsyncConnection, organization_id: str, names: Collection[str]) -> frozenset[str]:
    """Those of the names that users of the organization have."""
    query = select(user.c.user_name).where(user.c.organization_id == organization_id, user.c.user_name.in_(names))
    return frozenset((await transaction.execute(query)).scalars())


async def count_administrators(transaction: AsyncConnection, organization_id: str) -> int:
    query = select(func.count()).select_from(
        _USERS.where(user.c.organization_id == organization_id, _IS_ADMINISTRATOR).subquery()
    )
    return (await transaction.execute(query)).scalar_one()


async def add(transaction: AsyncConnection, organization_id: str, added: Sequence[NewUser], now: int) -> None:
    rows = [
        {
            "id": new.id,
            "organization_id": organization_id,
            "user_name": new.user_name,
            "email": new.email,
            "role_id": new.role_id,
            "invited_by": new.invited_by,
            "created_at": now,
        }
        for new in added
    ]
    await transaction.execute(insert(user), rows)


async def set_role(transaction: AsyncConnection, organization_id: str, user_id: str, role_id: str) -> None:
    await transaction.execute(
        update(user).where(user.c.organization_id == organization_id, user.c.id == user_id).values(role_id=role_id)
    )


async def admit(transaction: AsyncConnection, organization_id: str, memberships: Iterable[tuple[str, str]]) -> None:
    """Makes users members of groups that they are not in: pairs of user and group."""
    rows = [
        {"organization_id": organization_id, "user_id": user_id, "asset_group_id": asset_group_id}
        for user_id, asset_group_id in memberships
    ]
    if rows:
        await transaction.execute(insert(membership), rows)


async def dismiss(
    transaction: AsyncConnection, organization_id: str, user_id: str, asset_group_ids: Collection[str]
) -> None:
    """Ends the user's membership of these groups."""
    await transaction.execute(
        delete(membership).where(
            membership.c.organization_id == organization_id,
            membership.c.user_id == user_id,
            membership.c.asset_group_id.in_(asset_group_ids),
        )
    )


async def remove(transaction: AsyncConnection, organization_id: str, user_id: str) -> None:
    """Deletes the user; its key and tokens are void with that."""
    # The key first: a log-in under way holds it, and then adds a token that refers to the user.
    for table in (api_key, token, membership):
        await transaction.execute(
            delete(table).where(table.c.organization_id == organization_id, table.c.user_id == user_id)
        )
    await transaction.execute(delete(user).where(user.c.organization_id == organization_id, user.c.id == user_id))
