"""Events: their types, what a producer says of one, and the rule for a subject."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MAX_SUBJECT_LENGTH = 256
MAX_SOURCE_LENGTH = 512
MAX_EVENT_ID_LENGTH = 256


class EventType(StrEnum):
    """What can happen. The values are those of AppScan on Cloud's API v4."""

    SCAN_EXECUTION_COMPLETED = "ScanExecutionCompleted"
    APPLICATION_UPDATED = "ApplicationUpdated"
    NEW_PATCH_REQUEST = "NewPatchRequest"


# The help page of that API says ApplicationCountersChanged, its specification ApplicationUpdated.
ALIASES: Final = {"ApplicationCountersChanged": EventType.APPLICATION_UPDATED}
"""Names that are taken for those of event types."""

_UNUSABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Happening:
    """What is said to have happened to a subject. `source` and `id` name it once: said again, it is the same.

    `application_id`: where, if that is said. `occurred_at`: milliseconds since the Unix epoch. `traceparent`: its place
    in a trace.
    """

    source: str
    id: str
    type: EventType
    subject: str
    application_id: str | None = None
    occurred_at: int | None = None
    traceparent: str | None = None


def parse_event_type(text: str) -> EventType | None:
    """The event type of that name or alias, or None."""
    try:
        return ALIASES.get(text) or EventType(text)
    except ValueError:
        return None


def subject_fault(subject: str) -> str | None:
    """Why the text cannot be a subject's id, or None if it can.

    A subject ends up in a URI: empty, `.` and `..` would change which resource it names, control
    characters and lone surrogates have no place in it.
    """
    if not subject:
        return "it is empty"
    if len(subject) > MAX_SUBJECT_LENGTH:
        return f"it is longer than {MAX_SUBJECT_LENGTH} characters"
    if subject in (".", ".."):
        return f"'{subject}' would change the path it is put into"
    unusable = _UNUSABLE.search(subject)
    if unusable:
        return f"it contains the character U+{ord(unusable[0]):04X}, a control character or lone surrogate"
    return None
