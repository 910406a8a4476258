"""Identifiers: lower-case hyphenated UUIDs (RFC 9562), so that one id has one spelling everywhere."""

import re
from typing import NewType

DeliveryId = NewType("DeliveryId", str)
WebhookId = NewType("WebhookId", str)
PresenceId = NewType("PresenceId", str)
InstanceId = NewType("InstanceId", str)

UUID_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_UUID = re.compile(UUID_PATTERN.replace("$", r"\Z"))


def is_uuid(text: str) -> bool:
    """Whether the text is a UUID in the one spelling that we use."""
    return _UUID.match(text) is not None
