"""A webhook's fixed vocabulary and limits, shared by the API, the protocol and the agent."""

from enum import StrEnum

MAX_URI_LENGTH = 2048
"""Characters in a webhook's URI template, as in AppScan on Cloud's API v4."""

MAX_BODY_LENGTH = 8192
MAX_CONTENT_TYPE_LENGTH = 256
MAX_AUTHORIZATION_LENGTH = 4096
"""Characters in the other texts of a webhook, as in that API."""

DEFAULT_MAX_AGE_SECONDS = 86_400
"""How old an event may be when its delivery is still attempted."""


class Method(StrEnum):
    """Request methods a webhook can ask for; the agent's local policy decides which it sends."""

    GET = "GET"
    POST = "POST"
    PUT = "PUT"


class OnUnknown(StrEnum):
    """What follows an attempt that may have sent its request and got no answer."""

    FIRE = "fire"
    HOLD = "hold"
