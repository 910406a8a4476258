"""One user of each role of the access table."""

from collections.abc import Sequence

from presence.controlplane.access import PREDEFINED_ROLES
from tests.integration.controlplane.peers import Caller
from tests.integration.controlplane.people import Person, person, role_id

EVERYTHING_ELSE = (
    "CreateModifyWebhooks", "ManageAssetGroups", "ManageApplications", "ManageScans", "UpdateScanExecutions",
    "ManagePresences", "ManagePresenceKeys", "PublishEvents", "ManageUsers", "ManageRoles", "ViewAudits",
)  # fmt: skip

PREDEFINED = {
    "A": "Administrator",
    "M": "Manager",
    "P": "Application Manager",
    "T": "Tester",
    "R": "Reporting Viewer",
}
CUSTOM: dict[str, tuple[str, ...]] = {
    "w": ("CreateModifyWebhooks",),
    "o": ("CreateModifyWebhooks", "AllAssetGroups"),
    "a": ("AllAssetGroups",),
    "g": ("ManageAssetGroups",),
    "e": ("UpdateScanExecutions",),
    "p": ("PublishEvents",),
    "r": ("ManagePresences",),
    "k": ("ManagePresenceKeys",),
    "u": ("ManageUsers",),
    "l": ("ManageRoles",),
    "v": ("ViewAudits",),
    "i": ("ViewAudits", "AllAssetGroups"),
    "n": EVERYTHING_ELSE,
}
NOWHERE = "z"
"""A Manager who is a member of no asset group."""
ROLES = "".join([*PREDEFINED, *CUSTOM, NOWHERE])
"""The columns of the table, in their order."""


async def everybody(administrator: Caller, groups: Sequence[str]) -> dict[str, Person]:
    """By the letters of their roles, logged in. Who may not enter all asset groups is a member of these."""
    assert set(PREDEFINED.values()) == set(PREDEFINED_ROLES)
    found = {}
    for letter, name in PREDEFINED.items():
        member_of = () if letter == "A" else groups
        found[letter] = await person(administrator, groups=member_of, role=await role_id(administrator, name))
    for letter, capabilities in CUSTOM.items():
        member_of = () if "AllAssetGroups" in capabilities else groups
        found[letter] = await person(administrator, *capabilities, groups=member_of)
    found[NOWHERE] = await person(administrator, role=await role_id(administrator, "Manager"))
    return found
