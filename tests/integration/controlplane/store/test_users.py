"""The queries show the users and asset groups that the rules of `access` show."""

from itertools import combinations

from presence.controlplane.access import Capability, Principal
from presence.controlplane.odata import ListQuery
from presence.controlplane.store import asset_groups, roles, users
from presence.controlplane.store.asset_groups import AssetGroup
from presence.controlplane.store.engine import Database
from presence.controlplane.store.users import NewUser

GROUPS = ("g1", "g2", "g3")
SUBSETS = [frozenset(chosen) for size in range(4) for chosen in combinations(GROUPS, size)]
RIGHTS = [
    frozenset(chosen)
    for size in range(3)
    for chosen in combinations((Capability.MANAGE_USERS, Capability.ALL_ASSET_GROUPS), size)
]
EVERYTHING = ListQuery(top=5000)


async def test_the_queries_agree_with_the_rules(database: Database) -> None:
    async with database.write("o") as transaction:
        for group in GROUPS:
            await asset_groups.add(transaction, "o", AssetGroup(group, group, None, None, False, None, 0))
        role = await roles.default(transaction, "o")
        members = {f"u{number}": groups for number, groups in enumerate(SUBSETS)}
        rows = [NewUser(user, user, None, role.id, None) for user in members]
        await users.add(transaction, "o", rows, 0)
        await users.admit(transaction, "o", [(user, group) for user, groups in members.items() for group in groups])
        default = await asset_groups.default_id(transaction, "o")
    async with database.read("o") as transaction:
        for own in SUBSETS:
            for rights in RIGHTS:
                for itself in ("u0", "u3", "u7"):
                    principal = Principal(itself, itself, "o", role.id, rights, own)
                    seen, _ = await users.page(transaction, principal, EVERYTHING)
                    expected = {user for user, groups in members.items() if principal.sees_user(user, groups)}
                    assert {user.id for user in seen} == expected
                    assert all(user.asset_group_ids == members[user.id] for user in seen)
                    entered, _ = await asset_groups.page(transaction, principal, EVERYTHING)
                    assert {group.id for group in entered} == {
                        group for group in (*GROUPS, default) if principal.enters(group)
                    }


async def test_holders_of_a_role_are_known_with_their_groups(database: Database) -> None:
    async with database.write("o") as transaction:
        for group in GROUPS:
            await asset_groups.add(transaction, "o", AssetGroup(group, group, None, None, False, None, 0))
        role = await roles.default(transaction, "o")
        assert not await roles.is_held(transaction, "o", role.id)
        await users.add(transaction, "o", [NewUser(user, user, None, role.id, None) for user in ("a", "b")], 0)
        await users.admit(transaction, "o", [("a", "g1"), ("a", "g2"), ("b", "g2")])
        assert await roles.is_held(transaction, "o", role.id)
        assert await roles.holders_groups(transaction, "o", role.id) == {"g1", "g2"}
        await users.dismiss(transaction, "o", "a", {"g1"})
        assert await roles.holders_groups(transaction, "o", role.id) == {"g2"}
        await users.remove(transaction, "o", "b")
        await users.remove(transaction, "o", "a")
        assert not await roles.is_held(transaction, "o", role.id)
