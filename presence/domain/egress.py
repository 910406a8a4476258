"""The egress policy: what this agent may reach. Local; it has the last word over whatever the cloud asks.

Decided on the addresses that a connection would really use, after name resolution::

    always denied (link-local, metadata, multicast, IPv4 hidden in IPv6, ...) -> Refused
    a `deny` rule matches host or address                                     -> Refused
    loopback, unless an `allow` rule names it by address                       -> Refused
    an `allow` rule matches                                                    -> allowed
    default = "private": RFC 1918, RFC 6598 and unique local addresses         -> allowed
    anything else                                                              -> Refused

`ipaddress`'s own properties (`is_global`, `is_private`) differ between Python versions and miss
embedded forms, so the tables below are explicit.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from presence.domain.outcome import Reason, Refused

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


ALWAYS_DENIED = _networks(
    "0.0.0.0/8",  # this network, unspecified
    "169.254.0.0/16",  # link-local, with the metadata address of most clouds
    "100.100.100.200/32",  # metadata, Alibaba
    "168.63.129.16/32",  # platform address, Azure
    "192.0.0.0/24",  # IETF protocol assignments, with Oracle's metadata address
    "192.88.99.0/24",  # 6to4 relay anycast
    "224.0.0.0/4",  # multicast
    "255.255.255.255/32",  # broadcast
    "::/96",  # unspecified, IPv4-compatible (loopback ::1 is looked at first)
    "::ffff:0:0/96",  # IPv4-mapped
    "::ffff:0:0:0/96",  # IPv4-translated
    "64:ff9b::/96",  # NAT64
    "64:ff9b:1::/48",  # NAT64, local use
    "2001::/32",  # Teredo
    "2002::/16",  # 6to4
    "5f00::/16",  # segment routing
    "fd00:ec2::254/128",  # metadata, AWS
    "fd20:ce::254/128",  # metadata, Google
    "fe80::/10",  # link-local
    "ff00::/8",  # multicast
)
LOOPBACK = _networks("127.0.0.0/8", "::1/128")
PRIVATE = _networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of `allow` or `deny`: a name, `*.name`, an address or a CIDR, each with an optional port."""

    text: str
    name: str | None
    network: Network | None
    port: int | None

    def matches(self, host: str, port: int, address: Address) -> bool:
        """Whether the rule covers a connection to that address, made for that host and port."""
        if self.port is not None and self.port != port:
            return False
        if self.network is not None:
            return address.version == self.network.version and address in self.network
        assert self.name is not None
        if self.name.startswith("*."):
            return host.endswith(self.name[1:])
        return host == self.name


def parse_rule(text: str) -> Rule:
    """The rule of that text; raises ValueError that says what is wrong."""
    body, port = text.strip().lower(), None
    if body.startswith("["):
        inner, bracket, rest = body[1:].partition("]")
        if not bracket or ":" not in inner or rest[:1] not in ("", ":"):
            raise ValueError(f"'{text}': brackets are for IPv6 addresses, as in [fd00::1]:443")
        body, colon, digits = inner, rest[:1], rest[1:]
    elif body.count(":") == 1:
        body, colon, digits = body.partition(":")
    else:
        colon = digits = ""
    if colon:
        if not (digits.isascii() and digits.isdigit() and 1 <= int(digits) <= 65535):
            raise ValueError(f"'{text}': the port must be a number from 1 to 65535")
        port = int(digits)
    try:
        return Rule(text, None, ipaddress.ip_network(body), port)
    except ValueError as error:
        if "/" in body or ":" in body or body.replace(".", "").isdigit():
            raise ValueError(f"'{text}' is not a network: {error}") from None
    labels = body.removeprefix("*.").split(".")
    if not all(label and label.replace("-", "").replace("_", "").isalnum() and label.isascii() for label in labels):
        raise ValueError(
            f"'{text}' is not a rule; write a name (jenkins.corp), *.corp, an address or 10.1.0.0/16,"
            " with :port if need be"
        )
    return Rule(text, body, None, port)


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """The administrator's rules."""

    default: Literal["private", "deny"] = "private"
    allow: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()

    def decide(self, host: str, port: int, address: Address) -> Refused | Rule | None:
        """Refused with its reason; or what allows the connection: a rule, or None for the default."""
        loopback = _within(address, LOOPBACK)
        if not loopback and _within(address, ALWAYS_DENIED):
            return Refused(Reason.DENIED_ALWAYS)
        if _first(self.deny, host, port, address):
            return Refused(Reason.DENIED_BY_RULE)
        allowed = [rule for rule in self.allow if rule.matches(host, port, address)]
        if loopback:
            # A name that resolves to loopback, or a rule as wide as 0.0.0.0/0, would open this host's own services.
            by_address = [rule for rule in allowed if rule.network is not None and _is_loopback(rule.network)]
            return by_address[0] if by_address else Refused(Reason.DENIED_LOOPBACK)
        if allowed:
            return allowed[0]
        if self.default == "private" and _within(address, PRIVATE):
            return None
        return Refused(Reason.NOT_ALLOWED)

    def decide_all(self, host: str, port: int, addresses: Iterable[Address]) -> Refused | None:
        """Refused if any of a name's addresses is: a name that points to a denied place as well is not trusted."""
        for address in addresses:
            decision = self.decide(host, port, address)
            if isinstance(decision, Refused):
                return decision
        return None


def _is_loopback(network: Network) -> bool:
    return _within(network.network_address, LOOPBACK) and _within(network.broadcast_address, LOOPBACK)


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks if network.version == address.version)


def _first(rules: Sequence[Rule], host: str, port: int, address: Address) -> Rule | None:
    return next((rule for rule in rules if rule.matches(host, port, address)), None)
