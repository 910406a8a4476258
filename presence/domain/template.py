"""URI templates: RFC 6570 level 1 behind a strict validator of our own.

`http://myservice.com/ScanEnded/{SubjectId}` is such a template. The library expands; what it does
not refuse (malformed braces, unknown names, values that choose the host, `..`) is refused here, by
the same function in the control plane when a webhook is saved and in the agent when it is fired:

- http or https, a host, no userinfo, no fragment; only characters of RFC 3986, in ASCII;
- the host is a dotted quad, a bracketed IPv6 address or a DNS name, so that no resolver is asked
  about `0x7f.1` or `2130706433`; only in it non-ASCII letters may stand, which become A-labels;
- placeholders only in path and query; only the names in `PLACEHOLDERS`;
- after expansion no path segment is `.` or `..` and no `\\` is anywhere, however often it is percent-encoded.

The rest of the literal part is kept byte for byte.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from uritemplate.variable import URIVariable

from presence.domain.events import subject_fault
from presence.domain.uri import DEFAULT_PORTS, decoded, parse_host, parse_port, path_fault
from presence.domain.webhook import MAX_URI_LENGTH

PLACEHOLDERS = ("SubjectId", "WebhookId", "DeliveryId", "Event")
MAX_EXPANDED_LENGTH = 16_384
"""Characters in an expanded URI; servers take 8 KiB and seldom more."""

_SHAPE = re.compile(
    r"(?P<scheme>[^:/?#]+)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?P<fragment>#.*)?", re.S
)
_BRACES = re.compile(r"\{([^{}]*)\}")
_LITERAL = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*\Z")
_ENCODED_SLASH = re.compile("%(?:25)*2[Ff]")
_EXAMPLE = "for example http://myservice.com/ScanEnded/{SubjectId}"


class TemplateError(ValueError):
    """The template, or a value for it, cannot be used; the text says what is wrong, where, and what is right."""


@dataclass(frozen=True, slots=True)
class UriTemplate:
    """A checked template. `host` is in lower case, in A-labels and without brackets, `port` always a number.

    `has_encoded_slash`: the literal part of the path contains `%2F`, so that servers disagree about its segments.
    """

    text: str
    scheme: str
    host: str
    port: int
    placeholders: frozenset[str]
    has_encoded_slash: bool
    _pieces: tuple[str, ...]
    """Literal, name, literal, name, ..., literal; as they go over the wire."""
    _plain: bool
    """Without an encoded `%`, so that unreserved characters cannot make a dot segment or a backslash of it."""

    def expand(self, values: Mapping[str, str]) -> str:
        """The URI with every placeholder replaced by its percent-encoded value.

        Raises TemplateError where a value is missing, cannot be a subject, or would make a dot segment.
        """
        encoded, plain = {}, self._plain
        for name in self.placeholders:
            value = value_of(name, values)
            encoded[name] = _encode(value)
            plain = plain and encoded[name] is value
        uri = "".join([encoded[piece] if index % 2 else piece for index, piece in enumerate(self._pieces)])
        if len(uri) > MAX_EXPANDED_LENGTH:
            raise TemplateError(f"the URI becomes longer than {MAX_EXPANDED_LENGTH} characters with its values")
        if not plain:
            _refuse_ambiguous_path(uri)
        return uri


@lru_cache(maxsize=4096)
def parse_template(text: str) -> UriTemplate:
    """The checked template of that text; raises TemplateError where it is none."""
    if not text:
        raise TemplateError(f"the URI is empty; give one, {_EXAMPLE}")
    if len(text) > MAX_URI_LENGTH:
        raise TemplateError(f"the URI has {len(text)} characters; at most {MAX_URI_LENGTH} are allowed")
    shape = _SHAPE.match(text)
    start, end = shape.span("authority") if shape else (0, 0)
    _refuse_odd_characters(text, start, end)
    if not shape:
        raise TemplateError(f"the URI is not absolute; give scheme, host and path, {_EXAMPLE}")
    scheme, authority = shape["scheme"].lower(), shape["authority"]
    if scheme not in DEFAULT_PORTS:
        raise TemplateError(f"the scheme '{shape['scheme']}' is not supported; use http or https")
    if shape["fragment"] is not None:
        raise TemplateError("the URI has a fragment ('#...'), which is never sent; remove it")
    if "{" in authority or "}" in authority:
        raise TemplateError("a placeholder in the host or port is not allowed; use it in the path or the query")
    host, port, sent_as = _split_authority(authority, scheme)
    names = _check_placeholders(text[end:])
    _refuse_ambiguous_path(text)
    pieces = tuple(_BRACES.split(text[:start] + sent_as + text[end:]))
    has_encoded_slash = _ENCODED_SLASH.search(shape["path"]) is not None
    return UriTemplate(text, scheme, host, port, names, has_encoded_slash, pieces, "%25" not in text)


@lru_cache(maxsize=1024)
def masked(text: str) -> str | None:
    """The template for a log: what its query says is `***`, but for placeholders. None where it is no template.

    A query often holds a token; the path is the webhook's own text, without the values that it is expanded with.
    """
    try:
        parse_template(text)
    except TemplateError:
        return None
    before, question, query = text.partition("?")
    return before + question + "&".join(map(_masked_pair, query.split("&"))) if query else text


def _masked_pair(pair: str) -> str:
    name, equals, value = pair.partition("=")
    if not equals:
        return pair if _BRACES.fullmatch(pair) or not pair else "***"
    return pair if _BRACES.fullmatch(value) or not value else f"{name}=***"


def path_of(uri: str) -> str:
    """The path of an expanded URI, without the query; `/` where it is empty."""
    beyond_scheme = uri.partition("?")[0].partition("://")[2]
    return "/" + beyond_scheme.partition("/")[2]


_VARIABLE = URIVariable("value")
UNRESERVED = re.compile(r"[A-Za-z0-9\-._~]*\Z")


def _encode(value: str) -> str:
    """RFC 6570 section 3.2.2, simple expansion: everything but unreserved characters is percent-encoded as UTF-8."""
    if UNRESERVED.match(value):
        return value
    return _VARIABLE.expand({"value": value})["value"]


def value_of(name: str, values: Mapping[str, str]) -> str:
    """The value of that placeholder; raises TemplateError where there is none or it cannot be a subject."""
    if name not in values:
        raise TemplateError(f"no value for the placeholder {{{name}}}")
    fault = subject_fault(values[name])
    if fault:
        raise TemplateError(f"the value for {{{name}}} cannot be used: {fault}")
    return values[name]


def _refuse_odd_characters(text: str, host_start: int, host_end: int) -> None:
    for index, character in enumerate(text):
        if "!" <= character <= "~":
            continue
        if host_start <= index < host_end and character > "\x9f" and not "\ud800" <= character <= "\udfff":
            continue  # IDNA decides
        raise TemplateError(
            f"the character U+{ord(character):04X} at position {index + 1} is not allowed in a URI;"
            " percent-encode it (UTF-8)"
        )
    if "\\" in text:
        raise TemplateError("a backslash (also as %5C) is not allowed; use '/'")


def _split_authority(authority: str, scheme: str) -> tuple[str, int, str]:
    """Host, port, and the authority as it goes over the wire: as written, but in ASCII."""
    if "@" in authority:
        raise TemplateError("user and password in the URI are not allowed; remove everything up to '@'")
    if authority.startswith("["):
        literal, bracket, rest = authority[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise TemplateError(f"the host '{authority}' is not a bracketed IPv6 address")
        written, colon, digits = literal, rest[:1], rest[1:]
    else:
        written, colon, digits = authority.partition(":")
        if not written:
            raise TemplateError(f"the URI has no host; give one, {_EXAMPLE}")
    try:
        host = _check_ipv6(written) if authority.startswith("[") else parse_host(written)
        port = parse_port(digits) if colon else DEFAULT_PORTS[scheme]
    except ValueError as error:
        raise TemplateError(str(error)) from None
    return host, port, authority if authority.isascii() else host + colon + digits


def _check_ipv6(literal: str) -> str:
    try:
        if "%" not in literal:
            return str(ipaddress.IPv6Address(literal))
    except ValueError:
        pass
    raise ValueError(f"the host '[{literal}]' is not an IPv6 address")


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


def _refuse_ambiguous_path(uri: str) -> None:
    """RFC 3986 section 5.2.4 removes dot segments: the URI would name something else than it shows."""
    before_query, _, query = uri.partition("?")
    fault = path_fault(path_of(before_query))
    if fault is None and "\\" in decoded(query):
        fault = "a backslash (also as %5C) is not allowed; use '/'"
    if fault is not None:
        raise TemplateError(fault)
