"""Who may do what: pure rules. The queries apply the same ones (`store/visibility.py`); tests hold the two together.

What a principal may not see does not exist for it; what it may see but not change is refused as such.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

EVERY_ORGANIZATION: Final = "*"
"""In place of an organization's id: for what runs on nobody's behalf (log-in, dispatch, the sweep)."""


class Capability(StrEnum):
    """What a role may be given. The names are ours: those of AppScan on Cloud's API are not published.

    `AllAssetGroups` is access to every asset group, also to those to come, and to the organization level.
    """

    CREATE_MODIFY_WEBHOOKS = "CreateModifyWebhooks"
    ALL_ASSET_GROUPS = "AllAssetGroups"
    MANAGE_ASSET_GROUPS = "ManageAssetGroups"
    MANAGE_APPLICATIONS = "ManageApplications"
    MANAGE_SCANS = "ManageScans"
    UPDATE_SCAN_EXECUTIONS = "UpdateScanExecutions"
    MANAGE_PRESENCES = "ManagePresences"
    MANAGE_PRESENCE_KEYS = "ManagePresenceKeys"
    PUBLISH_EVENTS = "PublishEvents"
    MANAGE_USERS = "ManageUsers"
    MANAGE_ROLES = "ManageRoles"
    VIEW_AUDITS = "ViewAudits"


_C = Capability

ADMINISTRATOR: Final = "Administrator"
DEFAULT_ROLE: Final = "Application Manager"

PREDEFINED_ROLES: Final[Mapping[str, frozenset[Capability]]] = {
    ADMINISTRATOR: frozenset(Capability),
    "Manager": frozenset(
        {
            _C.CREATE_MODIFY_WEBHOOKS,
            _C.MANAGE_ASSET_GROUPS,
            _C.MANAGE_APPLICATIONS,
            _C.MANAGE_SCANS,
            _C.MANAGE_USERS,
        }
    ),
    DEFAULT_ROLE: frozenset({_C.MANAGE_APPLICATIONS, _C.MANAGE_SCANS}),
    "Tester": frozenset({_C.MANAGE_SCANS}),
    "Reporting Viewer": frozenset(),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated user, as it stands at this moment. Every query that a request causes is bounded by
    `organization_id`. `asset_group_ids`: those it is a member of, which count only without `AllAssetGroups`.
    `token_hash`: of the bearer token that it came with; empty for somebody who did not come."""

    user_id: str
    user_name: str
    organization_id: str
    role_id: str
    capabilities: frozenset[Capability]
    asset_group_ids: frozenset[str]
    token_hash: str = field(default="", repr=False)

    @property
    def enters_all_groups(self) -> bool:
        return Capability.ALL_ASSET_GROUPS in self.capabilities

    def has(self, capability: Capability) -> bool:
        return capability in self.capabilities

    def enters(self, asset_group_id: str) -> bool:
        """Whether it has access to the asset group and to what is in it."""
        return self.enters_all_groups or asset_group_id in self.asset_group_ids

    def sees_webhook(self, asset_group_id: str | None) -> bool:
        """Whether it may see a webhook of that asset group; None: one at organization level."""
        return self.enters_all_groups if asset_group_id is None else self.enters(asset_group_id)

    def changes_webhook(self, asset_group_id: str | None) -> bool:
        """Whether it may create, modify, test, pause and delete such a webhook, and redeliver what it caused."""
        return self.has(Capability.CREATE_MODIFY_WEBHOOKS) and self.sees_webhook(asset_group_id)

    def may_grant(self, capabilities: frozenset[Capability]) -> bool:
        """Whether it may give somebody a role with these: nobody gives what they do not have."""
        return capabilities <= self.capabilities

    def may_admit(self, asset_group_ids: frozenset[str]) -> bool:
        """Whether it may make somebody a member of these groups."""
        return self.enters_all_groups or asset_group_ids <= self.asset_group_ids

    def assigns_role(self, capabilities: frozenset[Capability]) -> bool:
        """Whether it may give users a role with these capabilities."""
        return self.has(Capability.MANAGE_USERS) and self.may_grant(capabilities)

    def sees_user(self, user_id: str, asset_group_ids: frozenset[str]) -> bool:
        """Whether it may see a user who is a member of these groups: itself, and as a manager of users those it
        shares a group with."""
        if user_id == self.user_id:
            return True
        shares = self.enters_all_groups or not asset_group_ids.isdisjoint(self.asset_group_ids)
        return self.has(Capability.MANAGE_USERS) and shares

    def changes_user(self, capabilities: frozenset[Capability], asset_group_ids: frozenset[str]) -> bool:
        """Whether it may change or delete a user with that role and these groups, and make one have them: nobody
        who has more than itself, and nobody gets more. Asked of what the user has and of what it shall have."""
        return self.assigns_role(capabilities) and self.may_admit(asset_group_ids)

    def changes_role(self, capabilities: frozenset[Capability], holders_groups: frozenset[str]) -> bool:
        """Whether it may create, change or delete a role with these capabilities, whose users are members of these
        groups. Asked of what the role is and of what it shall be: it changes what all its users may do, and where
        they may."""
        return self.has(Capability.MANAGE_ROLES) and self.may_grant(capabilities) and self.may_admit(holders_groups)


@dataclass(frozen=True, slots=True)
class Peer:
    """An authenticated agent: the presence whose key it showed. Milliseconds since the Unix epoch."""

    organization_id: str
    presence_id: str
    key_id: str
    key_expires_at: int
