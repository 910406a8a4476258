"""Rules of the egress policy: one line of text each, `[METHODS ][scheme://]host[:port][/path][ in CIDR]`.

::

    jenkins.corp                                       a name, every scheme, port and path
    *.corp:8080                                        the names below corp, not corp itself
    https://jenkins.corp:8443/job/scan                 that path and what is below it, by whole segments
    POST,PUT https://tickets.corp/api in 10.0.0.0/8    other methods than the policy's; must resolve into that network
    10.1.0.0/16    [fd00::1]:443    fd00::/8           addresses, however the name was written
    http://10.1.0.0/16:8080/hooks                      with scheme, port and path
    10.1.2.3/32/16/x                                   the path /16/x: a number right after an address is its prefix

Names may be written in any script (they are kept as A-labels). Paths are compared without their empty segments and
without needless percent-encoding. A path that reads differently when it is decoded is matched by a rule that allows
only if both readings match, and by a rule that denies if any reading does, in upper or lower case and with or without
`;parameters`.
"""

import ipaddress
import re
from dataclasses import dataclass

from presence.domain.address import Address, Network, contains
from presence.domain.uri import DEFAULT_PORTS, decoded, parse_name, parse_port, path_fault, segments
from presence.domain.webhook import Method

_EXAMPLE = "write for example jenkins.corp, *.corp:8080, 10.1.0.0/16 or POST https://tickets.corp/api in 10.0.0.0/8"
_PLACE = re.compile(
    r"(?:(?P<scheme>[^:/\[\]]*)://)?"
    r"(?:\[(?P<bracketed>[^\]]*)\]|(?P<ipv6>(?:[0-9A-Fa-f.]*:){2}[0-9A-Fa-f.:]*(?:%[^:/]*)?)|(?P<host>[^:/\[\]]*))"
    r"(?P<prefix>/[0-9.]+(?=[:/]|\Z))?"
    r"(?P<port>:[^/]*)?"
    r"(?P<path>/.*)?\Z"
)
_IPV4_LIKE = re.compile(r"[0-9.]+\Z")
_PATH = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,=:@/]|%[0-9A-Fa-f]{2})*\Z")
_NOT_IN_PATH = re.compile("%(?:2[Ff35]|3[BbFf]|[01]|7[Ff])")
_PARAMETERS = re.compile(r"[;?#\x00].*", re.S)


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of `allow` or `deny`; None and () where it does not care. `inside`: what the name must resolve into."""

    text: str
    name: str | None
    network: Network | None
    port: int | None = None
    scheme: str | None = None
    path: tuple[str, ...] = ()
    methods: frozenset[str] | None = None
    inside: Network | None = None

    def names(self, host: str, port: int, address: Address | None) -> bool:
        """Whether host and port, or the address that the host stands for, are the rule's; `inside` is not looked at."""
        if self.port is not None and self.port != port:
            return False
        if self.network is not None:
            return address is not None and contains(self.network, address)
        assert self.name is not None
        if self.name.startswith("*."):
            return host.endswith(self.name[1:])
        return host == self.name

    def covers(self, path: str) -> bool:
        """Whether the path is the rule's or below it, both as it stands and decoded."""
        depth = len(self.path)
        if segments(path)[:depth] != self.path:
            return False
        return _decoded_segments(path)[:depth] == tuple(map(decoded, self.path))

    def touches(self, path: str) -> bool:
        """Whether a server could take the path for the rule's or one below it."""
        loose = [_PARAMETERS.sub("", segment).lower() for segment in _decoded_segments(path)]
        wanted = [decoded(segment).lower() for segment in self.path]
        return [segment for segment in loose if segment][: len(wanted)] == wanted


def _decoded_segments(path: str) -> tuple[str, ...]:
    return tuple([segment for segment in decoded(path).split("/") if segment])


def parse_rule(text: str) -> Rule:
    """The rule of that text; raises ValueError that says what is wrong."""
    words = text.split()
    try:
        return _parse(words)
    except ValueError as error:
        raise ValueError(f"'{text}' is not a rule: {error}; {_EXAMPLE}") from None


def _parse(words: list[str]) -> Rule:
    text, inside, methods = " ".join(words), None, None
    if len(words) >= 3 and words[-2] == "in":
        inside = ipaddress.ip_network(words[-1])
        words = words[:-2]
    if len(words) == 2:
        methods = _parse_methods(words[0])
        words = words[1:]
    place = _PLACE.match(words[0]) if len(words) == 1 else None
    if place is None:
        raise ValueError("it does not have the form [METHODS ][scheme://]host[:port][/path][ in CIDR]")
    scheme = place["scheme"].lower() if place["scheme"] is not None else None
    if scheme is not None and scheme not in DEFAULT_PORTS:
        raise ValueError(f"the scheme '{scheme}' is not supported, only http and https are")
    port = parse_port(place["port"][1:]) if place["port"] is not None else None
    name, network, path = _parse_host(place)
    if inside is not None and network is not None:
        raise ValueError("'in' goes with a name, an address is where it is")
    return Rule(text, name, network, port, scheme, _parse_path(path), methods, inside)


def _parse_methods(text: str) -> frozenset[str]:
    methods = frozenset(text.split(","))
    known = [str(method) for method in Method]
    if not methods <= set(known):
        raise ValueError(f"the methods '{text}' are not among {', '.join(known)}; write them as POST,PUT")
    return methods


def _parse_host(place: re.Match[str]) -> tuple[str | None, Network | None, str]:
    """Name or network, and the path."""
    host, prefix, path = place["host"], place["prefix"] or "", place["path"] or ""
    if host is not None and not _IPV4_LIKE.match(host):
        if prefix and place["port"] is not None:
            raise ValueError("a port goes before the path")
        wildcard = "*." if host.startswith("*.") else ""
        return wildcard + parse_name(host.removeprefix("*.")), None, prefix + path
    literal = place["bracketed"] if place["bracketed"] is not None else host if host is not None else place["ipv6"]
    if "%" in literal:
        raise ValueError("an address with a zone is link-local, which is always denied")
    if place["bracketed"] is not None and ":" not in literal:
        raise ValueError("brackets are for IPv6 addresses, as in [fd00::1]:443")
    return None, ipaddress.ip_network(literal + prefix), path


def _parse_path(path: str) -> tuple[str, ...]:
    if not _PATH.match(path) or _NOT_IN_PATH.search(path):
        raise ValueError(f"the path '{path}' must be percent-encoded ASCII without query, ';' and encoded delimiters")
    fault = path_fault(path)
    if fault is not None:
        raise ValueError(fault)
    return segments(path)
