"""The parts of a URI that templates and rules read alike: the host, the port, the path.

A host is a dotted quad or a DNS name, in lower case and with A-labels (IDNA2008) for what is not ASCII: what no
resolver can take for an address. Characters are never mapped to ASCII ones (full-width digits, the Kelvin sign, the
ideographic full stop), since the name that a person reads must be the name that is asked for.

A path may be percent-encoded several times over, and each server on the way decodes it as often as it likes; `decoded`
is what is left when nothing can be decoded any more.
"""

import ipaddress
import re
import unicodedata

import idna

DEFAULT_PORTS = {"http": 80, "https": 443}

_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)\Z")
_HEXADECIMAL_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]*\Z")
_HEXADECIMAL = frozenset("0123456789abcdefABCDEF")
_ESCAPE = re.compile("%([0-9A-Fa-f]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9\-._~]\Z")
# With what ends a segment for some server: parameters (Tomcat reads `/..;x/` as `/../`), a decoded `?` or `#`, NUL.
_DOT_SEGMENT = re.compile(r"(?:\A|[/\\])\.\.?(?:[/\\;?#\x00-\x1f]|\Z)")


def parse_host(text: str) -> str:
    """The dotted quad, or the DNS name in lower case and A-labels; raises ValueError where it is neither."""
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        return parse_name(text)


def parse_name(text: str) -> str:
    """The DNS name in lower case and A-labels; raises ValueError where it is none or looks like an address."""
    name = ".".join([_a_label(label, text) for label in text.split(".")])
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.match(label) for label in labels):
        raise ValueError(f"the host '{text}' is neither a DNS name nor an IP address")
    # WHATWG's rule for what ends in a number: resolvers read `0x7f.1` and `2130706433` as addresses.
    if labels[-1].isdigit() or _HEXADECIMAL_NUMBER.match(labels[-1]):
        raise ValueError(f"the host '{text}' looks like an IP address but is none; write four decimal numbers")
    return name


def _a_label(label: str, host: str) -> str:
    if label.isascii() and not label.lower().startswith("xn--"):
        return label.lower()
    for character in label:
        if not character.isascii() and any(part.isascii() for part in _lowered(character)):
            raise ValueError(
                f"the host '{host}' contains U+{ord(character):04X}, which reads as an ASCII character; write that one"
            )
    try:
        return idna.alabel(_lowered(label)).decode("ascii")
    except UnicodeError as error:
        raise ValueError(f"the host '{host}' is not an internationalised name (IDNA2008): {error}") from None


def _lowered(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())


def parse_port(text: str) -> int:
    """The port; raises ValueError where it is not a number from 1 to 65535."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise ValueError(f"the port '{text}' is not a number from 1 to 65535")
    return int(text)


def decoded(text: str) -> str:
    """The text percent-decoded again and again until nothing changes; a decoded byte is the character of its value.

    In one pass, so that a value encoded a hundred times over costs no more than any other.
    """
    if "%" not in text:
        return text
    characters: list[str] = []
    for character in text:
        characters.append(character)
        while len(characters) >= 3 and characters[-3] == "%" and _HEXADECIMAL.issuperset(characters[-2:]):
            characters[-3:] = [chr(int("".join(characters[-2:]), 16))]
    return "".join(characters)


def path_fault(path: str) -> str | None:
    """Why a server could take the path for another one than it shows, or None if it cannot."""
    plain = decoded(path)
    if "\\" in plain:
        return "a backslash (also as %5C) is not allowed; use '/'"
    if _DOT_SEGMENT.search(plain):
        return "a path segment is '.' or '..' (also percent-encoded), which would change the path; write it without"
    return None


def segments(path: str) -> tuple[str, ...]:
    """The path's segments without the empty ones, needless percent-encoding undone (RFC 3986 section 6.2.2)."""
    return tuple([_ESCAPE.sub(_normalised, segment) for segment in path.split("/") if segment])


def _normalised(escape: re.Match[str]) -> str:
    character = chr(int(escape[1], 16))
    return character if _UNRESERVED.match(character) else escape[0].upper()
