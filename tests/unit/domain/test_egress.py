"""The egress policy: tables of addresses and rules."""

import ipaddress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presence.domain.egress import Address, EgressPolicy, Rule, parse_rule
from presence.domain.outcome import Reason, Refused

EVERYTHING = ("0.0.0.0/0", "::/0")
ALWAYS = Refused(Reason.DENIED_ALWAYS)
BY_RULE = Refused(Reason.DENIED_BY_RULE)
LOOPBACK = Refused(Reason.DENIED_LOOPBACK)
NOT_ALLOWED = Refused(Reason.NOT_ALLOWED)

Default = Literal["private", "deny"]
DEFAULTS: list[Default] = ["private", "deny"]


def policy(default: Default = "private", allow: tuple[str, ...] = (), deny: tuple[str, ...] = ()) -> EgressPolicy:
    return EgressPolicy(default, tuple(map(parse_rule, allow)), tuple(map(parse_rule, deny)))


def decide(rules: EgressPolicy, address: str, host: str = "svc.corp", port: int = 80) -> Refused | str | None:
    """The decision, with a rule shown by its text."""
    decision = rules.decide(host, port, ip_address(address))
    return decision.text if isinstance(decision, Rule) else decision


# Independent of the module's table: the ends and the well-known addresses of each range.
ALWAYS_DENIED = [
    *("0.0.0.0", "0.0.0.1", "0.255.255.255"),
    *("169.254.0.0", "169.254.169.254", "169.254.170.2", "169.254.255.255"),
    "100.100.100.200",
    "168.63.129.16",
    *("192.0.0.0", "192.0.0.192", "192.0.0.255"),
    *("192.88.99.0", "192.88.99.255"),
    *("224.0.0.0", "224.0.0.251", "239.255.255.255"),
    "255.255.255.255",
    *("::", "::2", "::10.0.0.1", "::169.254.169.254", "::ffff:ffff"),
    *("::ffff:0.0.0.0", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:255.255.255.255"),
    *("::ffff:0:0:0", "::ffff:0:169.254.169.254", "::ffff:0:ffff:ffff"),
    *("64:ff9b::", "64:ff9b::a9fe:a9fe", "64:ff9b::ffff:ffff"),
    *("64:ff9b:1::", "64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"),
    *("2001::", "2001:0:a9fe:a9fe::1", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff"),
    *("2002::", "2002:a9fe:a9fe::1", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    *("5f00::", "5f00:ffff::1"),
    "fd00:ec2::254",
    "fd20:ce::254",
    *("fe80::", "fe80::1", "fe80::1%eth0", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    *("ff00::", "ff02::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
]


@pytest.mark.parametrize("default", DEFAULTS)
@pytest.mark.parametrize("address", ALWAYS_DENIED)
def test_always_denied_whatever_the_rules(address: str, default: Default) -> None:
    open_to_all = policy(default, allow=(*EVERYTHING, "svc.corp", "*.corp", str(ip_address(address))))
    assert decide(open_to_all, address) == ALWAYS
    assert decide(policy(default), address) == ALWAYS
    assert decide(policy(default, deny=EVERYTHING), address) == ALWAYS


@pytest.mark.parametrize(
    "address",
    [
        *("1.0.0.0", "169.253.255.255", "169.255.0.0", "100.100.100.199", "100.100.100.201"),
        *("168.63.129.15", "168.63.129.17", "191.255.255.255", "192.0.1.0", "192.88.98.255", "192.88.100.0"),
        *("223.255.255.255", "240.0.0.0", "255.255.255.254"),
        *("::1:0:0:0", "::1:0:0", "::fffe:ffff:ffff", "::fffe:ffff:ffff:ffff", "64:ff9a:ffff::", "64:ff9b:0:1::"),
        *("64:ff9b:2::", "2001:1::", "2000:ffff::", "2001:4860:4860::8888", "2003::", "5eff:ffff::", "5f01::"),
        *("fd00:ec2::253", "fd00:ec2::255", "fd20:ce::253", "fe7f:ffff::", "fec0::", "feff:ffff::"),
    ],
)
def test_neighbours_of_the_denied_ranges_are_left_to_the_rules(address: str) -> None:
    assert decide(policy(allow=EVERYTHING), address) in EVERYTHING


def _embeddings(inner: IPv4Address) -> list[IPv6Address]:
    """The ways to write an IPv4 address inside of an IPv6 one."""
    bits = int(inner)
    high, low = bits >> 16, bits & 0xFFFF
    return [
        IPv6Address(bits),  # compatible
        IPv6Address(0xFFFF << 32 | bits),  # mapped
        IPv6Address(0xFFFF << 48 | bits),  # translated
        IPv6Address(f"64:ff9b::{inner}"),  # NAT64
        IPv6Address(f"64:ff9b:1::{inner}"),  # NAT64, local use, /96
        IPv6Address(f"64:ff9b:1:{high:x}:{low >> 8:x}:{(low & 0xFF) << 8:x}::"),  # the same by RFC 6052, /48
        IPv6Address(f"2002:{high:x}:{low:x}::1"),  # 6to4
        IPv6Address(f"2001:0:{high:x}:{low:x}::"),  # Teredo server
        IPv6Address(f"2001::{high ^ 0xFFFF:x}:{low ^ 0xFFFF:x}"),  # Teredo client
        IPv6Address(f"fe80::5efe:{inner}"),  # ISATAP
    ]


@pytest.mark.parametrize("inner", ["169.254.169.254", "127.0.0.1", "10.1.2.3", "192.168.0.1", "100.64.0.1", "8.8.8.8"])
def test_ipv4_hidden_in_ipv6_is_always_denied(inner: str) -> None:
    open_to_all = policy(allow=(*EVERYTHING, inner))
    for address in _embeddings(IPv4Address(inner)):
        assert open_to_all.decide("svc.corp", 80, address) == ALWAYS, address


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.0", "127.1.2.3", "127.255.255.255", "::1"])
@pytest.mark.parametrize(
    ("allow", "expected"),
    [
        ((), LOOPBACK),
        (("localhost",), LOOPBACK),
        (("localhost:80",), LOOPBACK),
        (("10.0.0.0/8",), LOOPBACK),
        (("127.0.0.0/8:81", "[::1]:81"), LOOPBACK),
        (("127.0.0.0/8", "::1"), "rule"),
        (("127.0.0.0/8:80", "[::1]:80"), "rule"),
        (("localhost", "127.0.0.0/8", "::1"), "rule"),
    ],
)
def test_loopback_needs_a_rule_by_address(address: str, allow: tuple[str, ...], expected: Refused | str) -> None:
    for default in DEFAULTS:
        decision = decide(policy(default, allow), address, host="localhost")
        assert decision == expected if isinstance(expected, Refused) else decision in allow[-2:]


def test_loopback_can_be_denied_like_any_other() -> None:
    assert decide(policy(allow=("127.0.0.1",), deny=("127.0.0.0/8",)), "127.0.0.1") == BY_RULE
    assert decide(policy(deny=("localhost",)), "127.0.0.1", host="localhost") == BY_RULE


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0", "192.168.255.255"),
        *("100.64.0.0", "100.127.255.255", "fc00::", "fd12:3456::1", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ],
)
def test_private_addresses_are_allowed_by_default_only(address: str) -> None:
    assert decide(policy("private"), address) is None
    assert decide(policy("deny"), address) == NOT_ALLOWED


@pytest.mark.parametrize(
    "address",
    [
        *("9.255.255.255", "11.0.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0"),
        *("100.63.255.255", "100.128.0.0", "8.8.8.8", "198.18.0.1", "203.0.113.1", "240.0.0.1"),
        *("2606:4700::1111", "2001:db8::1", "3fff::1", "fbff::1", "fec0::1"),
    ],
)
def test_anything_else_needs_a_rule(address: str) -> None:
    assert decide(policy("private"), address) == NOT_ALLOWED
    assert decide(policy("deny"), address) == NOT_ALLOWED
    assert decide(policy("deny", allow=(address,)), address) == address


@pytest.mark.parametrize(
    ("rule", "host", "port", "address", "matches"),
    [
        ("svc.corp", "svc.corp", 80, "10.1.1.1", True),
        ("SVC.Corp", "svc.corp", 80, "10.1.1.1", True),
        (" svc.corp ", "svc.corp", 80, "10.1.1.1", True),
        ("svc.corp", "a.svc.corp", 80, "10.1.1.1", False),
        ("svc.corp", "svc.corp.evil", 80, "10.1.1.1", False),
        ("svc.corp", "svcxcorp", 80, "10.1.1.1", False),
        ("svc.corp:8080", "svc.corp", 8080, "10.1.1.1", True),
        ("svc.corp:8080", "svc.corp", 80, "10.1.1.1", False),
        ("*.corp", "svc.corp", 80, "10.1.1.1", True),
        ("*.corp", "a.b.corp", 80, "10.1.1.1", True),
        ("*.corp", "corp", 80, "10.1.1.1", False),
        ("*.corp", "xcorp", 80, "10.1.1.1", False),
        ("*.corp", "svc.corp.evil", 80, "10.1.1.1", False),
        ("*.corp:443", "svc.corp", 443, "10.1.1.1", True),
        ("*.corp:443", "svc.corp", 80, "10.1.1.1", False),
        ("10.1.1.1", "svc.corp", 80, "10.1.1.1", True),
        ("10.1.1.1", "10.1.1.1", 80, "10.1.1.1", True),
        ("10.1.1.1", "10.1.1.1", 80, "10.1.1.2", False),
        ("10.1.1.1:80", "svc.corp", 80, "10.1.1.1", True),
        ("10.1.1.1:80", "svc.corp", 443, "10.1.1.1", False),
        ("10.1.0.0/16", "svc.corp", 80, "10.1.255.255", True),
        ("10.1.0.0/16", "svc.corp", 80, "10.2.0.0", False),
        ("10.1.0.0/16:443", "svc.corp", 443, "10.1.0.0", True),
        ("10.1.0.0/16:443", "svc.corp", 80, "10.1.0.0", False),
        ("fd00::1", "svc.corp", 80, "fd00::1", True),
        ("FD00:0::1", "svc.corp", 80, "fd00::1", True),
        ("fd00::/16", "svc.corp", 80, "fd00:ffff::", True),
        ("fd00::/16", "svc.corp", 80, "10.1.1.1", False),
        ("[fd00::1]", "svc.corp", 80, "fd00::1", True),
        ("[fd00::1]:443", "svc.corp", 443, "fd00::1", True),
        ("[fd00::1]:443", "svc.corp", 80, "fd00::1", False),
        ("[fd00::/16]:443", "svc.corp", 443, "fd00::2", True),
        ("0.0.0.0/0", "svc.corp", 80, "fd00::1", False),
        ("::/0", "svc.corp", 80, "10.1.1.1", False),
        ("0.0.0.0/0:8080", "svc.corp", 8080, "10.1.1.1", True),
        ("_srv.build_1.corp", "_srv.build_1.corp", 80, "10.1.1.1", True),
    ],
)
def test_rule_as_allow_and_as_deny(rule: str, host: str, port: int, address: str, matches: bool) -> None:
    assert parse_rule(rule).matches(host, port, ip_address(address)) is matches
    assert decide(policy("deny", allow=(rule,)), address, host, port) == (rule if matches else NOT_ALLOWED)
    assert decide(policy("private", deny=(rule,)), address, host, port) == (BY_RULE if matches else None)


@pytest.mark.parametrize("rule", ["svc.corp", "*.corp", "10.1.1.1", "10.0.0.0/8", "10.1.1.1:80", "0.0.0.0/0"])
def test_deny_beats_allow(rule: str) -> None:
    everything = (*EVERYTHING, "svc.corp", "*.corp", "10.1.1.1", "10.1.1.1:80")
    assert decide(policy(allow=everything, deny=(rule,)), "10.1.1.1") == BY_RULE


def test_first_matching_allow_rule_is_named() -> None:
    assert decide(policy(allow=("10.2.0.0/16", "*.corp", "10.0.0.0/8")), "10.1.1.1") == "*.corp"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' is not a rule; write a name (jenkins.corp), *.corp, an address or 10.1.0.0/16"),
        ("   ", "is not a rule"),
        ("*", "is not a rule"),
        ("*.", "is not a rule"),
        ("**.corp", "is not a rule"),
        ("svc.*.corp", "is not a rule"),
        ("svc*", "is not a rule"),
        (".corp", "is not a rule"),
        ("svc.corp.", "is not a rule"),
        ("a..b", "is not a rule"),
        ("-", "is not a rule"),
        ("svc corp", "is not a rule"),
        ("svc.corp :80", "is not a rule"),
        ("user@svc", "is not a rule"),
        ("bücher.corp", "is not a rule"),
        ("①⑥⑨.254.169.254", "is not a network"),
        ("10.1", "'10.1' is not a network"),
        ("10", "'10' is not a network"),
        ("2130706433", "is not a network"),
        ("10.0.0.256", "is not a network"),
        ("10.0.0.01", "is not a network"),
        ("1.2.3.4.5", "is not a network"),
        ("10.0.0.0/33", "is not a network"),
        ("10.1.2.3/16", "host bits"),
        ("10.0.0.0/8/8", "is not a network"),
        ("fd00::/129", "is not a network"),
        ("fd00::1::2", "is not a network"),
        ("svc/path", "is not a network"),
        ("svc:80:80", "is not a network"),
        ("http://svc", "'http://svc': the port must be a number from 1 to 65535"),
        ("svc:http", "port"),
        ("svc:0", "port"),
        ("svc:65536", "port"),
        ("svc:-1", "port"),
        ("svc: 80", "port"),
        ("svc:8_0", "port"),
        ("svc:٣", "port"),
        ("10.0.0.0/8:0", "port"),
        ("[::1]:0", "port"),
        ("[::1]:", "port"),
        ("svc:", "port"),
        ("[::1", "brackets"),
        ("[::1]443", "brackets"),
        ("[svc]:80", "brackets"),
        ("[::1]x", "'[::1]x'"),
    ],
)
def test_unusable_rule_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_rule(text)
    assert says in str(refused.value)
    assert text in str(refused.value)


@given(st.text(max_size=30) | st.text(st.sampled_from("0123456789abcdef.:/[]*-x"), max_size=30))
def test_any_text_is_a_rule_or_a_value_error(text: str) -> None:
    try:
        rule = parse_rule(text)
    except ValueError:
        return
    assert (rule.name is None) is not (rule.network is None)
    assert rule.port is None or 1 <= rule.port <= 65535


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (("10.1.1.1",), None),
        (("10.1.1.1", "fd00::1", "192.168.1.1"), None),
        (("10.1.1.1", "169.254.169.254"), ALWAYS),
        (("169.254.169.254", "10.1.1.1"), ALWAYS),
        (("10.1.1.1", "127.0.0.1"), LOOPBACK),
        (("10.1.1.1", "8.8.8.8"), NOT_ALLOWED),
        (("10.1.1.1", "10.9.9.9"), BY_RULE),
    ],
)
def test_one_denied_address_refuses_the_name(addresses: tuple[str, ...], expected: Refused | None) -> None:
    rules = policy(deny=("10.9.9.9",))
    assert rules.decide_all("svc.corp", 80, map(ip_address, addresses)) == expected


addresses = st.ip_addresses()
rule_lists = st.lists(
    st.one_of(
        st.sampled_from(["svc.corp", "*.corp", "0.0.0.0/0", "::/0", "10.0.0.0/8", "127.0.0.1", "::1", "svc.corp:80"]),
        addresses.map(lambda address: str(ipaddress.ip_network(address))),
    ),
    max_size=4,
).map(tuple)


@given(addresses, st.sampled_from(DEFAULTS), rule_lists, rule_lists)
def test_a_decision_is_always_explained(
    address: Address, default: Default, allow: tuple[str, ...], deny: tuple[str, ...]
) -> None:
    rules = policy(default, allow, deny)
    decision = rules.decide("svc.corp", 80, address)
    if isinstance(decision, Rule):
        assert decision in rules.allow
        assert decision.matches("svc.corp", 80, address)
    if not isinstance(decision, Refused):
        assert not any(rule.matches("svc.corp", 80, address) for rule in rules.deny)
    if decision is None:
        assert default == "private"
        assert not address.is_global


@given(addresses, rule_lists, rule_lists)
def test_denying_more_never_allows_more(address: Address, allow: tuple[str, ...], deny: tuple[str, ...]) -> None:
    if isinstance(policy("private", allow).decide("svc.corp", 80, address), Refused):
        assert isinstance(policy("private", allow, deny).decide("svc.corp", 80, address), Refused)
    if isinstance(policy("private", allow, deny).decide("svc.corp", 80, address), Refused):
        assert isinstance(policy("deny", allow, deny).decide("svc.corp", 80, address), Refused)


@pytest.mark.parametrize(
    ("rule", "address", "allowed"),
    [
        ("0.0.0.0/0", "127.0.0.1", False),
        ("::/0", "::1", False),
        ("127.0.0.0/8", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("::1", "::1", True),
    ],
)
def test_loopback_must_be_meant(rule: str, address: str, allowed: bool) -> None:
    policy = EgressPolicy(allow=(parse_rule(rule),))
    decision = policy.decide("h", 80, ipaddress.ip_address(address))
    assert isinstance(decision, Refused) is not allowed
