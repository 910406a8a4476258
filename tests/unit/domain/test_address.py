"""The tables of addresses: their ends, their neighbours, and IPv4 hidden in IPv6 in every form."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presence.domain.address import (
    ALWAYS_DENIED,
    LIFTABLE,
    LOOPBACK,
    PRIVATE,
    address_of,
    contains,
    inside,
    is_always_denied,
    is_loopback,
    within,
)
from tests.unit.domain.addresses import DENIED, embeddings

NEIGHBOURS = [
    *("1.0.0.0", "169.253.255.255", "169.255.0.0", "100.100.100.199", "100.100.100.201"),
    *("168.63.129.15", "168.63.129.17", "191.255.255.255", "192.0.1.0", "192.88.98.255", "192.88.100.0"),
    "223.255.255.255",
    *("::1:0:0:0", "::1:0:0", "::fffe:ffff:ffff", "::fffe:ffff:ffff:ffff", "64:ff9a:ffff::", "64:ff9b:0:1::"),
    *("64:ff9b:2::", "2001:1::", "2000:ffff::", "2001:4860:4860::8888", "2003::", "5eff:ffff::", "5f01::"),
    *("fd00:ec1:ffff::", "fd00:ec3::", "fd20:ce::253", "fd00:c1::a9fe:a9fd", "fd00:42::43", "fd00:100::100:201"),
    *("fe7f:ffff::", "fec0::", "feff:ffff::", "3fff::1", "2001:db8::1", "100::1"),
    *("fd00::5eff:a00:1", "fd00::5efd:a00:1", "fd00::100:5efe:a00:1", "fd00::5efe", "fd00:0:0:5efe::1"),
]


@pytest.mark.parametrize("address", DENIED)
def test_always_denied(address: str) -> None:
    assert is_always_denied(ip_address(address))


@pytest.mark.parametrize("address", NEIGHBOURS)
def test_neighbours_of_the_denied_ranges_are_not(address: str) -> None:
    assert not is_always_denied(ip_address(address))


@pytest.mark.parametrize("address", ["127.0.0.0", "127.0.0.1", "127.255.255.255", "::1"])
def test_loopback_is_a_case_of_its_own(address: str) -> None:
    assert is_loopback(ip_address(address))
    assert not is_always_denied(ip_address(address))


@pytest.mark.parametrize("address", ["126.255.255.255", "128.0.0.0", "::", "::2", "::ffff:127.0.0.1", "::127.0.0.1"])
def test_not_loopback(address: str) -> None:
    assert not is_loopback(ip_address(address))


@given(st.ip_addresses(v=4))
def test_ipv4_hidden_in_ipv6_is_always_denied(inner: IPv4Address) -> None:
    for form, address in embeddings(inner).items():
        assert is_loopback(address) if address == IPv6Address("::1") else is_always_denied(address), form


@given(st.ip_addresses(v=6), st.sampled_from(["eth0", "1", "lo"]))
def test_an_address_with_a_zone_is_always_denied(address: IPv6Address, zone: str) -> None:
    scoped = IPv6Address(f"{address}%{zone}")
    assert is_always_denied(scoped) or is_loopback(scoped)


def test_the_tables_hold_the_metadata_addresses_of_the_clouds() -> None:
    for address in (
        *("169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23"),  # AWS
        *("100.100.100.200", "fd00:100::100:200"),  # Alibaba
        *("192.0.0.192", "fd00:c1::a9fe:a9fe"),  # Oracle
        *("169.254.42.42", "fd00:42::42"),  # Scaleway
        *("fe80::a9fe:a9fe", "fd00:a9fe:a9fe::1", "fd20:ce::254", "168.63.129.16", "169.254.0.23"),
    ):
        assert within(ip_address(address), LIFTABLE)


def test_the_tables_do_not_contradict_each_other() -> None:
    assert set(LIFTABLE) <= set(ALWAYS_DENIED)
    for network in PRIVATE:
        assert not is_always_denied(network.network_address)
        assert not is_always_denied(network.broadcast_address)
        assert not inside(network, LOOPBACK)
    for network in LOOPBACK:
        assert not within(network.network_address, PRIVATE)


@given(st.ip_addresses(), st.ip_addresses())
def test_networks_of_the_other_version_contain_nothing(one: IPv4Address | IPv6Address, other: IPv4Address) -> None:
    network = ip_network("0.0.0.0/0" if other.version == 4 else "::/0")
    assert contains(network, one) is (one.version == other.version)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        *(("127.0.0.1", True), ("127.0.0.0/8", True), ("126.0.0.0/7", False), ("0.0.0.0/0", False)),
        *(("::1", True), ("::/127", False)),
    ],
)
def test_inside(network: str, expected: bool) -> None:
    assert inside(ip_network(network), LOOPBACK) is expected


@pytest.mark.parametrize(
    ("host", "address"),
    [("10.1.2.3", "10.1.2.3"), ("FD00::1", "fd00::1"), ("h", None), ("", None), ("0x7f.1", None), ("[::1]", None)],
)
def test_the_address_that_a_host_is_written_as(host: str, address: str | None) -> None:
    assert address_of(host) == (None if address is None else ip_address(address))
