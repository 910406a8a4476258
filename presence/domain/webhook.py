"""A webhook's fixed vocabulary and limits, shared by the API, the protocol and the agent."""

from enum import StrEnum

MAX_URI_LENGTH = 2048
"""Characters in a webhook's URI template, as in AppScan on Cloud's API v4."""

DEFAULT_MAX_AGE_SECONDS = 86_400
"""How old an event may be when its delivery is still attempted."""


class Method(StrEnum):
    """Request methods a webhook can ask for; the agent's local policy decides which it sends."""

    GET = "GET"
    POST = "POST"
    PUT = "PUT"
