"""IP addresses and what they stand for: the tables that the egress policy decides by.

`ipaddress`'s own properties (`is_global`, `is_private`) differ between Python versions and miss
embedded forms, so the tables are explicit.
"""

import ipaddress
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


LIFTABLE = _networks(
    "169.254.0.0/16",  # link-local, with the metadata address of most clouds
    "fe80::/10",  # link-local
    "100.100.100.200/32",  # metadata, Alibaba
    "168.63.129.16/32",  # platform address, Azure
    "192.0.0.192/32",  # metadata, Oracle
    "fd00:42::42/128",  # metadata, Scaleway
    "fd00:100::100:200/128",  # metadata, Alibaba
    "fd00:a9fe:a9fe::1/128",  # metadata, Akamai
    "fd00:c1::a9fe:a9fe/128",  # metadata, Oracle
    "fd00:ec2::/32",  # metadata, credentials, names and time, AWS
    "fd20:ce::254/128",  # metadata, Google
)
"""Always denied, unless a setting of its own lifts it."""

ALWAYS_DENIED = LIFTABLE + _networks(
    "0.0.0.0/8",  # this network, unspecified
    "192.0.0.0/24",  # IETF protocol assignments
    "192.88.99.0/24",  # 6to4 relay anycast
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, broadcast
    "::/96",  # unspecified, IPv4-compatible (but not loopback, ::1)
    "::ffff:0:0/96",  # IPv4-mapped
    "::ffff:0:0:0/96",  # IPv4-translated
    "64:ff9b::/96",  # NAT64
    "64:ff9b:1::/48",  # NAT64, local use
    "2001::/32",  # Teredo
    "2002::/16",  # 6to4
    "5f00::/16",  # segment routing
    "ff00::/8",  # multicast
)
LOOPBACK = _networks("127.0.0.0/8", "::1/128")
PRIVATE = _networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")


def contains(network: Network, address: Address) -> bool:
    """Whether the address is in the network; never for one of the other version."""
    return network.version == address.version and address in network


def within(address: Address, networks: Sequence[Network]) -> bool:
    """Whether the address is in any of the networks."""
    return any(contains(network, address) for network in networks)


def inside(network: Network, outer: Sequence[Network]) -> bool:
    """Whether the network lies in the outer ones, which do not touch each other."""
    return within(network.network_address, outer) and within(network.broadcast_address, outer)


def is_loopback(address: Address) -> bool:
    """Whether the address is this host's own."""
    return within(address, LOOPBACK)


def is_always_denied(address: Address) -> bool:
    """Whether no rule opens the address. Loopback is not among them, rules can open it."""
    if is_loopback(address):
        return False
    if isinstance(address, ipaddress.IPv6Address) and (address.scope_id is not None or _is_isatap(address)):
        return True  # a zone makes sense for link-local addresses only
    return within(address, ALWAYS_DENIED)


def _is_isatap(address: ipaddress.IPv6Address) -> bool:
    """An IPv4 address in an interface id of RFC 5214: 0000:5efe:a.b.c.d or 0200:5efe:a.b.c.d in any network."""
    return (int(address) >> 32) & 0xFDFF_FFFF == 0x5EFE


def address_of(host: str) -> Address | None:
    """The address that the host is written as, or None where it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
