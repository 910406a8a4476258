"""No sequence of what the rules allow gives anybody a right that whoever gave it did not have."""

from dataclasses import dataclass, field
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from presence.controlplane.access import ADMINISTRATOR, DEFAULT_ROLE, PREDEFINED_ROLES, Capability, Principal

GROUPS = ("north", "south", "west")
USERS = ("ann", "bob", "cid", "dee")
Right = tuple[Capability, str]

places = st.sampled_from([frozenset(chosen) for size in range(4) for chosen in combinations(GROUPS, size)])
capabilities = st.frozensets(st.sampled_from(Capability))


def principal(capabilities: frozenset[Capability], groups: frozenset[str], user_id: str = "ann") -> Principal:
    return Principal(user_id, user_id, "acme", "role", capabilities, groups)


principals = st.builds(principal, capabilities, places)


def rights(of: Principal) -> frozenset[Right]:
    """What it may do, and where: `""` stands for the organization level and for groups to come."""
    entered = {*GROUPS, ""} if of.enters_all_groups else {*of.asset_group_ids}
    return frozenset((capability, place) for capability in of.capabilities for place in entered)


@dataclass
class Organization:
    """Roles and users, which change only as the rules allow."""

    roles: dict[str, frozenset[Capability]]
    users: dict[str, tuple[str, frozenset[str]]] = field(default_factory=dict)

    def principal(self, user: str) -> Principal:
        role, groups = self.users[user]
        return principal(self.roles[role], groups, user)

    def rights(self) -> dict[str, frozenset[Right]]:
        return {user: rights(self.principal(user)) for user in self.users}

    def holders_groups(self, role: str) -> frozenset[str]:
        return frozenset(group for held, groups in self.users.values() if held == role for group in groups)

    def edit_role(self, actor: str, role: str, after: frozenset[Capability]) -> bool:
        me = self.principal(actor)
        allowed = me.changes_role(self.roles.get(role, frozenset()) | after, self.holders_groups(role))
        if allowed:
            self.roles[role] = after
        return allowed

    def edit_user(self, actor: str, user: str, role: str, groups: frozenset[str]) -> bool:
        """Changes a user, or invites one."""
        me = self.principal(actor)
        allowed = me.changes_user(self.roles[role], groups)
        if user in self.users:
            before = self.principal(user)
            allowed = allowed and me.changes_user(before.capabilities, before.asset_group_ids)
        if allowed:
            self.users[user] = (role, groups)
        return allowed


# Few, so that one is often a part of another; all equally likely.
FEW = (
    Capability.MANAGE_ROLES,
    Capability.MANAGE_USERS,
    Capability.CREATE_MODIFY_WEBHOOKS,
    Capability.ALL_ASSET_GROUPS,
)
few = st.sampled_from([frozenset(chosen) for size in range(5) for chosen in combinations(FEW, size)])
roles_named = st.sampled_from(("x", "y", "z"))
edits = st.one_of(
    st.tuples(st.just("role"), st.sampled_from(USERS), roles_named, few),
    st.tuples(st.just("user"), st.sampled_from(USERS), st.sampled_from(USERS), roles_named, places),
)


@given(
    st.fixed_dictionaries({"x": few, "y": few, "z": few}),
    st.fixed_dictionaries({user: st.tuples(roles_named, places) for user in USERS[:3]}),
    st.lists(edits, min_size=4, max_size=12),
)
@settings(max_examples=500)
def test_nobody_is_given_what_the_giver_does_not_have(
    roles: dict[str, frozenset[Capability]],
    users: dict[str, tuple[str, frozenset[str]]],
    sequence: list[tuple[str, ...]],
) -> None:
    acme = Organization(dict(roles), dict(users))
    for kind, actor, *change in sequence:
        if actor not in acme.users:
            continue
        before, givers = acme.rights(), rights(acme.principal(actor))
        if kind == "role":
            acme.edit_role(actor, *change)  # type: ignore[arg-type]
        else:
            acme.edit_user(actor, *change)  # type: ignore[arg-type]
        for user, after in acme.rights().items():
            assert after - before.get(user, frozenset()) <= givers, (kind, actor, change)


@given(principals, capabilities, places)
def test_only_a_superset_of_rights_changes_a_user(
    me: Principal, held: frozenset[Capability], of: frozenset[str]
) -> None:
    reaches = me.enters_all_groups or of <= me.asset_group_ids
    assert me.changes_user(held, of) == (
        Capability.MANAGE_USERS in me.capabilities and held <= me.capabilities and reaches
    )


@given(principals, capabilities, places)
def test_who_changes_a_role_may_go_where_its_users_may(
    me: Principal, held: frozenset[Capability], of: frozenset[str]
) -> None:
    if me.changes_role(held, of):
        assert me.has(Capability.MANAGE_ROLES)
        assert held <= me.capabilities
        assert all(me.enters(group) for group in of)


@given(principals, places)
def test_everybody_sees_itself_and_managers_of_users_whom_they_share_a_group_with(
    me: Principal, of: frozenset[str]
) -> None:
    assert me.sees_user(me.user_id, of)
    if me.sees_user("bob", of):
        assert me.has(Capability.MANAGE_USERS)
        assert me.enters_all_groups or of & me.asset_group_ids
    if me.changes_user(frozenset(), of) and of:
        assert me.sees_user("bob", of)


@given(principals, st.one_of(st.none(), st.sampled_from(GROUPS)))
def test_the_organization_level_takes_access_to_all_groups(me: Principal, group: str | None) -> None:
    if group is None:
        assert me.sees_webhook(None) == me.has(Capability.ALL_ASSET_GROUPS)
    else:
        assert me.sees_webhook(group) == me.enters(group)
    assert me.changes_webhook(group) == (me.sees_webhook(group) and me.has(Capability.CREATE_MODIFY_WEBHOOKS))


def test_membership_of_every_group_of_today_is_not_access_to_all() -> None:
    member = principal(frozenset(Capability) - {Capability.ALL_ASSET_GROUPS}, frozenset(GROUPS))
    assert not member.sees_webhook(None)
    assert not member.may_grant(frozenset({Capability.ALL_ASSET_GROUPS}))
    assert not member.enters("a group to come")


def test_the_predefined_roles() -> None:
    """By hand: what administers webhooks belongs to Administrator and Manager, keys, enrolment and events to
    Administrator, and no role but that enters asset groups that nobody admitted it to."""
    assert list(PREDEFINED_ROLES) == [ADMINISTRATOR, "Manager", DEFAULT_ROLE, "Tester", "Reporting Viewer"]
    assert DEFAULT_ROLE == "Application Manager"
    assert {name: {str(capability) for capability in has} for name, has in PREDEFINED_ROLES.items()} == {
        "Administrator": {
            "CreateModifyWebhooks", "AllAssetGroups", "ManageAssetGroups", "ManageApplications", "ManageScans",
            "UpdateScanExecutions", "ManagePresences", "ManagePresenceKeys", "PublishEvents", "ManageUsers",
            "ManageRoles", "ViewAudits",
        },
        "Manager": {
            "CreateModifyWebhooks", "ManageAssetGroups", "ManageApplications", "ManageScans", "ManageUsers",
        },
        "Application Manager": {"ManageApplications", "ManageScans"},
        "Tester": {"ManageScans"},
        "Reporting Viewer": set(),
    }  # fmt: skip
    assert PREDEFINED_ROLES[ADMINISTRATOR] == frozenset(Capability), "a new capability is the Administrator's"
