"""What a certificate says of itself: issuer and validity, read from its DER form (RFC 5280 section 4.1).

The standard library shows these only of certificates that it trusts. Here they are needed of those that it does
not: for an error message that names who issued them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

_UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x17, 0x18, 0xA0
_TEXTS = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be"}
_COMMON_NAME, _ORGANIZATION, _UNIT = b"\x55\x04\x03", b"\x55\x04\x0a", b"\x55\x04\x0b"
_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class Certificate:
    """`issuer`: its common name, else its organization; printable, whoever wrote it, and never long."""

    issuer: str
    not_before: datetime
    not_after: datetime


def read_certificate(der: bytes) -> Certificate:
    """The certificate's facts; nothing of it is verified. Raises ValueError where it is none."""
    try:
        (_, certificate), *_ = _values(der)
        (_, signed), *_ = _values(certificate)
        fields = [(tag, value) for tag, value in _values(signed) if tag != _VERSION]
        _serial, _algorithm, (_, issuer), (_, validity), *_ = fields
        (first, not_before), (second, not_after), *_ = _values(validity)
        return Certificate(_name(issuer), _time(first, not_before), _time(second, not_after))
    except (IndexError, ValueError, OverflowError):
        raise ValueError("not a certificate") from None


def _values(der: bytes) -> Iterator[tuple[int, bytes]]:
    """The values that stand there one after the other, with their tags."""
    at = 0
    while at < len(der):
        tag, length = der[at], der[at + 1]
        at += 2
        if length & 0x80:
            octets = length & 0x7F
            length = int.from_bytes(der[at : at + octets], "big")
            at += octets
        if at + length > len(der):
            raise ValueError("cut off")
        yield tag, der[at : at + length]
        at += length


def _name(der: bytes) -> str:
    parts: dict[bytes, str] = {}
    for _, relative in _values(der):
        for _, attribute in _values(relative):
            (_, kind), (tag, text), *_ = _values(attribute)
            parts.setdefault(kind, text.decode(_TEXTS.get(tag, "latin-1"), "replace"))
    for kind in (_COMMON_NAME, _ORGANIZATION, _UNIT):
        if parts.get(kind):
            return "".join(letter if letter.isprintable() else "?" for letter in parts[kind])[:_LONGEST_NAME]
    return "an authority without a name"


def _time(tag: int, text: bytes) -> datetime:
    digits = text.decode("ascii")
    if tag == _UTC_TIME:
        digits = ("19" if digits[:2] >= "50" else "20") + digits
    elif tag != _GENERALIZED_TIME:
        raise ValueError("no time")
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
