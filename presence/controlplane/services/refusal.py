"""What a use case refuses to do, with a key that programs understand and a text for people."""

import math
from enum import StrEnum

from presence.controlplane.access import Capability


class Key(StrEnum):
    """Error keys of AppScan on Cloud's API v4 that we give; and of our own, where that has none: `DELIVERY_...`,
    `PRESENCE_IS_...`, `SCAN_EXECUTION_IS_FINISHED`, `INVALID_ENROLLMENT_TOKEN` and `TOO_MANY_REQUESTS`."""

    APPLICATION_NAME_EXISTS = "APPLICATION_NAME_ALREADY_EXISTS"
    APPLICATION_NO_ACCESS = "APPLICATION_NO_ACCESS"
    ASSETGROUP_CHANGE_DEFAULT = "ASSETGROUP_CHANGE_DEFAULT_NOTALLOWED"
    ASSETGROUP_ASSOCIATION = "ASSETGROUP_ASSOCIATION_ERROR"
    ASSETGROUP_NAME_EXISTS = "ASSETGROUP_NAME_ALREADY_EXISTS"
    ASSETGROUP_NO_ACCESS = "ASSETGROUP_NO_ACCESS"
    DELIVERY_NOT_HELD = "DELIVERY_IS_NOT_HELD"
    DELIVERY_NOT_FINISHED = "DELIVERY_IS_NOT_FINISHED"
    DELIVERY_FINISHED = "DELIVERY_IS_FINISHED"
    DELIVERY_WEBHOOK_DELETED = "DELIVERY_WEBHOOK_WAS_DELETED"
    DELIVERY_WEBHOOK_PAUSED = "DELIVERY_WAITS_FOR_PAUSED_WEBHOOK"
    EXECUTION_FINISHED = "SCAN_EXECUTION_IS_FINISHED"
    GENERAL_ERROR = "GENERAL_ERROR"
    INPUT_TOO_LONG = "INPUT_LENGTH_LIMIT_EXCEEDED"
    INVALID_ID = "INVALID_ID_OR_MISSING_CAPABILITIES"
    INVALID_INPUT = "INVALID_INPUT"
    INVALID_PRESENCE = "INVALID_PRESENCE_IDENTIFIER"
    INVALID_SCOPE = "INVALID_SCOPE_IDENTIFIER"
    INVALID_URL = "INVALID_URL"
    INVALID_WEBHOOK = "INVALID_WEBHOOK_IDENTIFIER"
    INVALID_ENROLLMENT = "INVALID_ENROLLMENT_TOKEN"
    LIST_TOO_LONG = "PROVIDED_LIST_IS_TOO_LONG"
    MISSING_CAPABILITIES = "MISSING_CAPABILITIES"
    NO_ADMINISTRATOR = "NO_ADMIN_ROLE_ERROR"
    ODATA_QUERY_ERROR = "ODATA_QUERY_ERROR"
    PRESENCE_IN_USE = "PRESENCE_IS_USED_BY_WEBHOOKS"
    PRESENCE_NAME_EXISTS = "PRESENCE_NAME_ALREADY_EXISTS"
    PRESENCE_NOT_CONNECTED = "PRESENCE_IS_NOT_CONNECTED"
    RESOURCE_NOT_FOUND = "RESOURCE_NOT_FOUND"
    ROLE_ASSOCIATION = "ROLE_ASSOCIATION_ERROR"
    ROLE_DEFAULT_DELETION = "ROLE_DEFAULT_DELETION_NOT_ALLOWED"
    ROLE_NAME_EXISTS = "ROLE_NAME_ALREADY_EXISTS"
    ROLE_NOT_EXISTS = "ROLE_NOT_EXISTS"
    ROLE_PREDEFINED_DELETION = "ROLE_PREDEFINED_DELETION_NOT_ALLOWED"
    ROLE_PREDEFINED_EDIT = "ROLE_PREDEFINED_EDIT_NOT_ALLOWED"
    ROLE_UNSET_DEFAULT = "ROLE_UNSET_DEFAULT_NOT_ALLOWED"
    SCAN_NO_ACCESS = "SCAN_NO_ACCESS"
    TOKEN_EXPIRED = "TOKEN_EXPIRED"  # noqa: S105 - a name, no secret
    TOO_MANY_REQUESTS = "TOO_MANY_REQUESTS"
    USER_NOT_AUTHORIZED = "USER_NOT_AUTHORIZED"
    WEBHOOK_OWNED_BY_GROUP = "WEBHOOK_OWNED_BY_ASSET_GROUP_ERROR"
    WRONG_CREDENTIALS = "WRONG_CREDENTIALS"


class Refusal(Exception):
    """`params` stand for `{0}`, `{1}`, ... in the message. `retry_after`: seconds, where it is worth another try."""

    def __init__(self, key: Key, message: str, *params: str) -> None:
        super().__init__(message)
        self.key = key
        self.message = message
        self.params = params
        self.retry_after: int | None = None

    @classmethod
    def missing(cls, capability: Capability) -> "Refusal":
        """The principal may see it, but not do that: 403."""
        return cls(Key.MISSING_CAPABILITIES, "this needs the capability {0}; ask an administrator", capability.value)

    @classmethod
    def too_many(cls, message: str, wait: float) -> "Refusal":
        """429, with the whole seconds after which it is worth another try."""
        refusal = cls(Key.TOO_MANY_REQUESTS, message)
        refusal.retry_after = math.ceil(wait)
        return refusal

    def body(self) -> dict[str, object]:
        """The JSON body that API and websocket answer with."""
        return {"Key": self.key.value, "Message": self.message, "FormatParams": list(self.params)}
