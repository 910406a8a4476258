"""URI templates: RFC 6570 level 1 behind a strict validator of our own.

`http://myservice.com/ScanEnded/{SubjectId}` is such a template. The library expands; what it does
not refuse (malformed braces, unknown names, values that choose the host, `..`) is refused here, by
the same function in the control plane when a webhook is saved and in the agent when it is fired:

- http or https, a host, no userinfo, no fragment; only characters of RFC 3986, in ASCII;
- the host is a dotted quad, a bracketed IPv6 address or a DNS name, so that no resolver is asked
  about `0x7f.1` or `2130706433`;
- placeholders only in path and query; only the names in `PLACEHOLDERS`;
- after expansion no path segment is or decodes to `.` or `..`, and no `\\` (or `%5C`) is in it.

The literal part is kept byte for byte.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

from uritemplate.variable import URIVariable

from presence.domain.events import subject_fault
from presence.domain.webhook import MAX_URI_LENGTH

PLACEHOLDERS = ("SubjectId", "WebhookId", "DeliveryId", "Event")
DEFAULT_PORTS = {"http": 80, "https": 443}

_SHAPE = re.compile(
    r"(?P<scheme>[^:/?#]+)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?P<fragment>#.*)?", re.S
)
_BRACES = re.compile(r"\{([^{}]*)\}")
_LITERAL = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*\Z")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)\Z")
_EXAMPLE = "for example http://myservice.com/ScanEnded/{SubjectId}"


class TemplateError(ValueError):
    """The template, or a value for it, cannot be used; the text says what is wrong, where, and what is right."""


@dataclass(frozen=True, slots=True)
class UriTemplate:
    """A checked template. `host` is without brackets, `port` always a number."""

    text: str
    scheme: str
    host: str
    port: int
    placeholders: frozenset[str]
    _pieces: tuple[str, ...]
    """Literal, name, literal, name, ..., literal."""

    def expand(self, values: Mapping[str, str]) -> str:
        """The URI with every placeholder replaced by its percent-encoded value.

        Raises TemplateError where a value is missing, cannot be a subject, or would make a dot segment.
        """
        for name in self.placeholders:
            if name not in values:
                raise TemplateError(f"no value for the placeholder {{{name}}}")
            fault = subject_fault(values[name])
            if fault:
                raise TemplateError(f"the value for {{{name}}} cannot be used: {fault}")
        encoded = {name: _encode(values[name]) for name in self.placeholders}
        uri = "".join([encoded[piece] if index % 2 else piece for index, piece in enumerate(self._pieces)])
        _refuse_dot_segments(uri)
        if "%5c" in uri.lower():
            raise TemplateError("a value contains a backslash, which many servers take for '/'")
        return uri


@lru_cache(maxsize=4096)
def parse_template(text: str) -> UriTemplate:
    """The checked template of that text; raises TemplateError where it is none."""
    if not text:
        raise TemplateError(f"the URI is empty; give one, {_EXAMPLE}")
    if len(text) > MAX_URI_LENGTH:
        raise TemplateError(f"the URI has {len(text)} characters; at most {MAX_URI_LENGTH} are allowed")
    _refuse_odd_characters(text)
    shape = _SHAPE.match(text)
    if not shape:
        raise TemplateError(f"the URI is not absolute; give scheme, host and path, {_EXAMPLE}")
    scheme, authority = shape["scheme"].lower(), shape["authority"]
    if scheme not in DEFAULT_PORTS:
        raise TemplateError(f"the scheme '{shape['scheme']}' is not supported; use http or https")
    if shape["fragment"] is not None:
        raise TemplateError("the URI has a fragment ('#...'), which is never sent; remove it")
    if "{" in authority or "}" in authority:
        raise TemplateError("a placeholder in the host or port is not allowed; use it in the path or the query")
    host, port = _split_authority(authority, scheme)
    names = _check_placeholders(shape["path"] + (shape["query"] or ""))
    _refuse_dot_segments(text)
    return UriTemplate(text, scheme, host, port, names, tuple(_BRACES.split(text)))


_VALUE = URIVariable("value")
_UNRESERVED = re.compile(r"[A-Za-z0-9\-._~]*\Z")


def _encode(value: str) -> str:
    """RFC 6570 section 3.2.2, simple expansion: everything but unreserved characters is percent-encoded as UTF-8."""
    if _UNRESERVED.match(value):
        return value
    return _VALUE.expand({"value": value})["value"]


def _refuse_odd_characters(text: str) -> None:
    for position, character in enumerate(text, start=1):
        if not 0x21 <= ord(character) <= 0x7E:
            raise TemplateError(
                f"the character U+{ord(character):04X} at position {position} is not allowed in a URI;"
                " percent-encode it (UTF-8), and write a non-ASCII host in its xn-- form"
            )
    if "\\" in text or "%5c" in text.lower():
        raise TemplateError("a backslash (also as %5C) is not allowed; use '/'")


def _split_authority(authority: str, scheme: str) -> tuple[str, int]:
    if "@" in authority:
        raise TemplateError("user and password in the URI are not allowed; remove everything up to '@'")
    if authority.startswith("["):
        literal, bracket, rest = authority[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise TemplateError(f"the host '{authority}' is not a bracketed IPv6 address")
        try:
            host = str(ipaddress.IPv6Address(literal)) if "%" not in literal else ""
        except ValueError:
            host = ""
        if not host:
            raise TemplateError(f"the host '[{literal}]' is not an IPv6 address")
        port_text = rest[1:] if rest else None
    else:
        name, colon, digits = authority.partition(":")
        host, port_text = _check_name(name), digits if colon else None
    if port_text is None:
        return host, DEFAULT_PORTS[scheme]
    if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5 and 1 <= int(port_text) <= 65535):
        raise TemplateError(f"the port '{port_text}' is not a number from 1 to 65535")
    return host, int(port_text)


def _check_name(name: str) -> str:
    """A dotted quad or a DNS name whose last label is not a number (WHATWG's rule for IPv4 look-alikes)."""
    if not name:
        raise TemplateError(f"the URI has no host; give one, {_EXAMPLE}")
    try:
        return str(ipaddress.IPv4Address(name))
    except ValueError:
        pass
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.match(label) for label in labels):
        raise TemplateError(f"the host '{name}' is neither a DNS name nor an IP address")
    if labels[-1].isdigit() or re.fullmatch(r"0[xX][0-9A-Fa-f]*", labels[-1]):
        raise TemplateError(f"the host '{name}' looks like an IP address but is none; write four decimal numbers")
    return name.lower()


def _check_placeholders(text: str) -> frozenset[str]:
    """The names in braces in the path and query; the rest must be the grammar's characters."""
    names = _BRACES.findall(text)
    literal = _BRACES.sub("/", text)  # never joins what stands around a placeholder
    if "{" in literal or "}" in literal:
        raise TemplateError("a brace is not closed or not opened; write placeholders as {SubjectId}")
    for name in names:
        if name not in PLACEHOLDERS:
            known = ", ".join(f"{{{known}}}" for known in PLACEHOLDERS)
            raise TemplateError(f"the placeholder {{{name}}} is unknown; known are {known} (case matters)")
    if not _LITERAL.match(literal):
        raise TemplateError("path or query contain a character that a URI does not allow; percent-encode it")
    return frozenset(names)


def _refuse_dot_segments(uri: str) -> None:
    """RFC 3986 section 5.2.4 removes dot segments: the URI would name something else than it shows."""
    path = uri.partition("?")[0]
    if "." not in path and "%2e" not in path.lower():
        return
    for segment in path.split("/")[3:]:
        if unquote(segment) in (".", ".."):
            raise TemplateError("a path segment is '.' or '..', which would change the path; write the path without it")
