"""What a use case refuses to do, with a key that programs understand and a text for people."""

from enum import StrEnum


class Key(StrEnum):
    """Error keys of AppScan on Cloud's API v4 that we give, and of our own the `DELIVERY_...` and `PRESENCE_IS_...`."""

    APPLICATION_NO_ACCESS = "APPLICATION_NO_ACCESS"
    ASSETGROUP_NO_ACCESS = "ASSETGROUP_NO_ACCESS"
    DELIVERY_NOT_HELD = "DELIVERY_IS_NOT_HELD"
    DELIVERY_WEBHOOK_PAUSED = "DELIVERY_WAITS_FOR_PAUSED_WEBHOOK"
    FEATURE_DISABLED = "FEATURE_IS_DISABLED_FOR_YOUR_ORG"
    GENERAL_ERROR = "GENERAL_ERROR"
    INPUT_TOO_LONG = "INPUT_LENGTH_LIMIT_EXCEEDED"
    INVALID_INPUT = "INVALID_INPUT"
    INVALID_PRESENCE = "INVALID_PRESENCE_IDENTIFIER"
    INVALID_URL = "INVALID_URL"
    INVALID_WEBHOOK = "INVALID_WEBHOOK_IDENTIFIER"
    ODATA_QUERY_ERROR = "ODATA_QUERY_ERROR"
    PRESENCE_NAME_EXISTS = "PRESENCE_NAME_ALREADY_EXISTS"
    PRESENCE_NOT_CONNECTED = "PRESENCE_IS_NOT_CONNECTED"
    RESOURCE_NOT_FOUND = "RESOURCE_NOT_FOUND"
    TOKEN_EXPIRED = "TOKEN_EXPIRED"  # noqa: S105 - a name, no secret
    USER_NOT_AUTHORIZED = "USER_NOT_AUTHORIZED"
    WRONG_CREDENTIALS = "WRONG_CREDENTIALS"


class Refusal(Exception):
    """`params` stand for `{0}`, `{1}`, ... in the message."""

    def __init__(self, key: Key, message: str, *params: str) -> None:
        super().__init__(message)
        self.key = key
        self.message = message
        self.params = params

    def body(self) -> dict[str, object]:
        """The JSON body that API and websocket answer with."""
        return {"Key": self.key.value, "Message": self.message, "FormatParams": list(self.params)}
