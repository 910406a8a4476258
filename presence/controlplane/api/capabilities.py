"""Capabilities in words, and which resource takes which: for the document."""

from collections.abc import Mapping
from typing import Any, Final

from presence.controlplane.access import PREDEFINED_ROLES, Capability

EXTENSION: Final = "x-capabilities"
"""Where an operation of the document lists them for programs."""

_C = Capability
_MEANINGS: Final[Mapping[Capability, str]] = {
    _C.CREATE_MODIFY_WEBHOOKS: "create, change, associate, test, pause, resume and delete webhooks of asset groups that"
    " one may enter, and redeliver, cancel and resolve their deliveries",
    _C.ALL_ASSET_GROUPS: "enter every asset group, also those to come, and the organization level, where webhooks"
    " belong to no group",
    _C.MANAGE_ASSET_GROUPS: "create, change and delete asset groups, and move what is in them",
    _C.MANAGE_APPLICATIONS: "create, change, move and delete applications; a change of a counter or a status is an"
    " event",
    _C.MANAGE_SCANS: "create scans and start their executions",
    _C.UPDATE_SCAN_EXECUTIONS: "say how an execution goes on, as a scan engine does; its completion is an event",
    _C.MANAGE_PRESENCES: "create, rename and delete presences",
    _C.MANAGE_PRESENCE_KEYS: "make keys, downloads and enrollment tokens of presences, and rotate keys",
    _C.PUBLISH_EVENTS: "publish events",
    _C.MANAGE_USERS: "see, invite, change and delete users who have no more rights than oneself",
    _C.MANAGE_ROLES: "create, change and delete custom roles that have no more rights than oneself",
    _C.VIEW_AUDITS: "read the audits and, with access to all asset groups, who can cause a request to a host",
}


def takes(*needed: Capability) -> dict[str, Any]:
    """For `openapi_extra` of a route: who lacks one of these is refused by MISSING_CAPABILITIES."""
    return {EXTENSION: [capability.value for capability in needed]}


def said(operation: Mapping[str, Any]) -> str:
    """What the operation of the document takes, in a sentence."""
    if "security" not in operation:
        return "It takes no log-in."
    names = [f"`{name}`" for name in operation.get(EXTENSION, ())]
    if not names:
        return "It takes a log-in, and no capability."
    return f"It takes the {'capability' if len(names) == 1 else 'capabilities'} {' and '.join(names)}."


def listed() -> str:
    """All of them: a paragraph for each, with the predefined roles that have it."""
    paragraphs = [
        "A role gives its users capabilities. What each of them lets one do, and which predefined roles have it:"
    ]
    for capability, meaning in _MEANINGS.items():
        roles = ", ".join(name for name, given in PREDEFINED_ROLES.items() if capability in given)
        paragraphs.append(f"`{capability.value}`: {meaning}. {roles}.")
    return "\n\n".join(paragraphs) + "\n"
