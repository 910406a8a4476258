"""The name of a place in a trace: a traceparent (W3C Trace Context, section 3.2), as it travels with a delivery."""

import re
from typing import Final

TRACEPARENT_PATTERN: Final = "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"
TRACEPARENT_LENGTH: Final = 55

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


def parse_traceparent(text: str | None) -> str | None:
    """The traceparent, or None for what is none: whoever cannot read one begins a trace of its own (section 3.3)."""
    found = _TRACEPARENT.fullmatch(text or "")
    return text if found and all(id_.strip("0") for id_ in found.groups()) else None
