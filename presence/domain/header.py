"""What may be the value of a request header, wherever it comes from."""

MAX_HEADER_VALUE = 8192
"""Characters of one header value: more than common servers take."""


def header_value_fault(value: str) -> str | None:
    """Why the value cannot be sent in a header; None if it can. Never shows the value."""
    if not value:
        return "the value is empty"
    if len(value) > MAX_HEADER_VALUE:
        return f"the value has {len(value)} characters; at most {MAX_HEADER_VALUE} are allowed"
    if not (value.isascii() and value.isprintable()):
        return "the value must be one line of printable ASCII characters"
    return "the value begins or ends with a blank" if value != value.strip() else None
