"""The egress policy: tables of addresses, rules and their order, proxies, suggestions."""

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presence.domain.address import Address, is_always_denied, is_loopback
from presence.domain.egress import Allowed, Destination, EgressPolicy, parse_lifted, suggest
from presence.domain.outcome import Reason, Refused
from presence.domain.rule import parse_rule
from tests.unit.domain.addresses import DENIED, embeddings

EVERYTHING = ("0.0.0.0/0", "::/0")
ALWAYS = Refused(Reason.DENIED_ALWAYS)
BY_RULE = Refused(Reason.DENIED_BY_RULE)
LOOPBACK = Refused(Reason.DENIED_LOOPBACK)
OWN = Refused(Reason.DENIED_OWN_LISTENER)
NOT_ALLOWED = Refused(Reason.NOT_ALLOWED)
OTHER_NETWORK = Refused(Reason.OTHER_NETWORK)
AMBIGUOUS = Refused(Reason.PATH_AMBIGUOUS)
METHOD = Refused(Reason.METHOD_NOT_ALLOWED)
NEEDS_RULE = Refused(Reason.PROXY_NEEDS_RULE)
UNRESOLVED = Refused(Reason.PROXY_UNRESOLVED)
DEFAULT = Allowed(None)
OBSERVED = Allowed(None, observed=True)

Default = Literal["private", "deny"]
Mode = Literal["enforce", "observe"]
DEFAULTS: list[Default] = ["private", "deny"]
MODES: list[Mode] = ["enforce", "observe"]


def policy(
    default: Default = "private",
    allow: Iterable[str] = (),
    deny: Iterable[str] = (),
    *,
    mode: Mode = "enforce",
    methods: Iterable[str] = ("GET",),
    lifted: Iterable[str] = (),
    own: Iterable[tuple[str, int]] = (),
) -> EgressPolicy:
    return EgressPolicy(
        default,
        mode,
        tuple(map(parse_rule, allow)),
        tuple(map(parse_rule, deny)),
        frozenset(methods),
        tuple(map(parse_lifted, lifted)),
        frozenset((ip_address(address), port) for address, port in own),
    )


def to(uri: str) -> Destination:
    """The destination of a URI, in the simplest way; ~ before it: with an encoded slash in the template."""
    scheme, _, rest = uri.removeprefix("~").partition("://")
    authority, slash, path = rest.partition("/")
    host, _, port = authority.rpartition(":") if authority[-1:].isdigit() and ":" in authority else (authority, "", "")
    number = int(port) if port else {"http": 80, "https": 443}[scheme]
    return Destination(scheme, host.strip("[]"), number, slash + path or "/", uri.startswith("~"))


def decide(
    rules: EgressPolicy, *addresses: str, uri: str = "http://svc.corp/x", method: str = "GET"
) -> Allowed | Refused | str:
    """The decision; where a rule allows, its text."""
    decision = rules.decide(to(uri), [ip_address(address) for address in addresses], method)
    return decision.by.text if isinstance(decision, Allowed) and decision.by else decision


# Always denied.


@pytest.mark.parametrize("address", DENIED)
def test_always_denied_whatever_the_rules(address: str) -> None:
    bare = address.partition("%")[0]
    allow = (*EVERYTHING, "svc.corp", "*.corp", bare, f"svc.corp in {bare}")
    for mode in MODES:
        for default in DEFAULTS:
            assert decide(policy(default, allow, mode=mode), address) == ALWAYS
            assert decide(policy(default, mode=mode), address) == ALWAYS
            assert decide(policy(default, deny=EVERYTHING, mode=mode), address) == ALWAYS


@pytest.mark.parametrize("inner", ["169.254.169.254", "127.0.0.1", "10.1.2.3", "192.168.0.1", "100.64.0.1", "8.8.8.8"])
@pytest.mark.parametrize("mode", MODES)
def test_ipv4_hidden_in_ipv6_is_always_denied(inner: str, mode: Mode) -> None:
    open_to_all = policy(allow=(*EVERYTHING, inner), mode=mode, lifted=("169.254.0.0/16",))
    for form, address in embeddings(IPv4Address(inner)).items():
        if form != "ISATAP, link-local":  # which only link-local lifted would open
            assert open_to_all.decide(to("http://svc.corp"), [address], "GET") == ALWAYS, form


@pytest.mark.parametrize(
    ("lifted", "address", "expected"),
    [
        ("169.254.0.0/16", "169.254.169.254", DEFAULT),
        ("169.254.169.254/32", "169.254.169.254", DEFAULT),
        ("169.254.169.254", "169.254.169.254", DEFAULT),
        ("169.254.169.254", "169.254.170.2", ALWAYS),
        ("169.254.169.254", "::ffff:169.254.169.254", ALWAYS),
        ("169.254.169.254", "fd00:ec2::254", ALWAYS),
        ("fd00:ec2::254", "fd00:ec2::254", DEFAULT),
        ("fe80::/10", "fe80::1%eth0", DEFAULT),
        ("fe80::/10", "fd00::1%eth0", ALWAYS),
        ("192.0.0.192/32", "192.0.0.191", ALWAYS),
    ],
)
def test_what_is_lifted_is_open_as_a_private_address_is(lifted: str, address: str, expected: Allowed | Refused) -> None:
    for default in DEFAULTS:
        rules = policy(default, lifted=(lifted,))
        assert decide(rules, address) == expected
        assert decide(rules, address, method="POST") == (METHOD if expected == DEFAULT else ALWAYS)
        assert decide(policy(default, ("POST svc.corp",), lifted=(lifted,)), address, method="POST") == (
            "POST svc.corp" if expected == DEFAULT else ALWAYS
        )
    assert decide(policy(deny=EVERYTHING, lifted=(lifted,)), address) == (BY_RULE if expected == DEFAULT else ALWAYS)
    assert decide(policy(allow=("svc.corp in 10.0.0.0/8",), lifted=(lifted,)), address) == (
        OTHER_NETWORK if expected == DEFAULT else ALWAYS
    )


@pytest.mark.parametrize(
    "text",
    [
        *("169.254.0.0/16", "169.254.169.254", "169.254.169.254/32", "100.100.100.200", "168.63.129.16/32"),
        *("192.0.0.192", "fe80::/10", "fe80::1", "fd00:ec2::254/128", "fd00:ec2::/32", "fd20:ce::254"),
    ],
)
def test_link_local_and_metadata_can_be_lifted(text: str) -> None:
    assert parse_lifted(text) == ip_network(text)


@pytest.mark.parametrize(
    "text",
    [
        *("0.0.0.0/8", "0.0.0.0", "0.0.0.0/0", "169.254.0.0/15", "192.0.0.0/24", "192.0.0.192/31", "224.0.0.0/4"),
        *("255.255.255.255", "240.0.0.0/4", "127.0.0.1", "10.0.0.0/8", "8.8.8.8", "192.88.99.1", "100.100.100.0/24"),
        *("::/0", "::", "::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::/48", "2001::/32"),
        *("2002::/16", "5f00::/16", "ff02::1", "fe80::/9", "fd00::/8", "fd00:ec2::/31", "::ffff:0:0:0/96"),
    ],
)
def test_nothing_else_can_be_lifted(text: str) -> None:
    with pytest.raises(ValueError, match="is neither link-local nor a cloud's metadata address"):
        parse_lifted(text)


@pytest.mark.parametrize("text", ["", "metadata.google.internal", "169.254.169.254/8", "169.254.1", "fe80::/129"])
def test_what_is_lifted_is_a_network(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a network: .*; write for example 169.254.169.254/32"):
        parse_lifted(text)


# The agent's own listeners.


@pytest.mark.parametrize(
    ("own", "uri", "address", "denied"),
    [
        (("127.0.0.1", 8481), "http://h:8481", "127.0.0.1", True),
        (("127.0.0.1", 8481), "http://h:8482", "127.0.0.1", False),
        (("127.0.0.1", 8481), "http://h:8481", "127.0.0.2", False),
        (("127.0.0.1", 8481), "http://h:8481", "10.1.1.1", False),
        (("10.1.1.1", 8481), "http://h:8481", "10.1.1.1", True),
        (("10.1.1.1", 8481), "http://h:8481", "10.1.1.2", False),
        (("::1", 80), "http://h", "::1", True),
        (("0.0.0.0", 8481), "http://h:8481", "127.9.9.9", True),
        (("0.0.0.0", 8481), "http://h:8481", "10.1.1.1", False),
        (("::", 8481), "http://h:8481", "127.0.0.1", True),
        (("::", 8481), "http://h:8481", "::1", True),
        (("::", 8481), "http://h:8480", "::1", False),
    ],
)
def test_own_listeners_are_denied_before_all(own: tuple[str, int], uri: str, address: str, denied: bool) -> None:
    allow = ("h", "127.0.0.0/8", "::1")
    for mode in MODES:
        assert (decide(policy("private", allow, mode=mode, own=(own,)), address, uri=uri) == OWN) is denied
    assert (decide(policy(deny=EVERYTHING, own=(own,)), address, uri=uri) == OWN) is denied


# Loopback.


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.0", "127.1.2.3", "127.255.255.255", "::1"])
@pytest.mark.parametrize(
    ("allow", "expected"),
    [
        ((), LOOPBACK),
        (("localhost",), LOOPBACK),
        (("localhost:80",), LOOPBACK),
        (("10.0.0.0/8",), LOOPBACK),
        (EVERYTHING, LOOPBACK),
        (("126.0.0.0/7", "::/127"), LOOPBACK),
        (("127.0.0.0/8:81", "[::1]:81"), LOOPBACK),
        (("https://127.0.0.0/8", "https://[::1]"), LOOPBACK),
        (("http://127.0.0.0/8/y", "http://[::1]/y"), LOOPBACK),
        (("localhost in 10.0.0.0/8", "127.0.0.0/8", "::1"), OTHER_NETWORK),
        (("POST 127.0.0.0/8", "POST ::1"), METHOD),
        (("127.0.0.0/8", "::1"), "rule"),
        (("127.0.0.0/8:80", "[::1]:80"), "rule"),
        (("localhost", "127.0.0.0/8", "::1"), "rule"),
        (("localhost in 127.0.0.0/8", "localhost in ::1"), "rule"),
    ],
)
def test_loopback_needs_a_rule_by_address(
    address: str, allow: tuple[str, ...], expected: Refused | str, mode: Mode
) -> None:
    for default in DEFAULTS:
        decision = decide(policy(default, allow, mode=mode), address, uri="http://localhost/x")
        assert decision == expected if isinstance(expected, Refused) else decision in allow[-2:]


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
    assert (decide(policy(allow=(rule,)), address) == rule) is allowed


def test_loopback_can_be_denied_like_any_other() -> None:
    assert decide(policy(allow=("127.0.0.1",), deny=("127.0.0.0/8",)), "127.0.0.1") == BY_RULE
    assert decide(policy(deny=("localhost",)), "127.0.0.1", uri="http://localhost") == BY_RULE


# The default and the modes.


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0", "192.168.255.255"),
        *("100.64.0.0", "100.127.255.255", "fc00::", "fd12:3456::1", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ],
)
def test_private_addresses_are_allowed_by_default_only(address: str) -> None:
    for mode in MODES:
        assert decide(policy("private", mode=mode), address) == DEFAULT
    assert decide(policy("deny"), address) == NOT_ALLOWED
    assert decide(policy("deny", mode="observe"), address) == OBSERVED


@pytest.mark.parametrize(
    "address",
    [
        *("9.255.255.255", "11.0.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0"),
        *("100.63.255.255", "100.128.0.0", "8.8.8.8", "198.18.0.1", "203.0.113.1"),
        *("2606:4700::1111", "2001:db8::1", "3fff::1", "fbff::1", "fec0::1"),
    ],
)
def test_anything_else_needs_a_rule(address: str) -> None:
    for default in DEFAULTS:
        assert decide(policy(default), address) == NOT_ALLOWED
        assert decide(policy(default, mode="observe"), address) == OBSERVED
        assert decide(policy(default, allow=(address,)), address) == address
        assert decide(policy(default, allow=(address,), mode="observe"), address) == address


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("rules", "address", "uri", "expected"),
    [
        (policy(), "127.0.0.1", "http://svc.corp", LOOPBACK),
        (policy(deny=("svc.corp",)), "8.8.8.8", "http://svc.corp", BY_RULE),
        (policy(deny=("8.8.8.8",)), "8.8.8.8", "http://svc.corp", BY_RULE),
        (policy(deny=("svc.corp/x",)), "8.8.8.8", "~http://svc.corp/a%2Fb", AMBIGUOUS),
        (policy(allow=("svc.corp/x",)), "8.8.8.8", "~http://svc.corp/x/a%2Fb", AMBIGUOUS),
        (policy(allow=("svc.corp in 10.0.0.0/8",)), "8.8.8.8", "http://svc.corp", OTHER_NETWORK),
    ],
)
def test_observe_relaxes_only_what_the_default_would_refuse(
    rules: EgressPolicy, address: str, uri: str, expected: Refused, mode: Mode
) -> None:
    observing = EgressPolicy(rules.default, mode, rules.allow, rules.deny)
    assert decide(observing, address, uri=uri) == expected


# Rules.


@pytest.mark.parametrize(
    ("rule", "uri", "address", "matches"),
    [
        ("svc.corp", "http://svc.corp", "10.1.1.1", True),
        (" SVC.Corp ", "http://svc.corp", "10.1.1.1", True),
        ("svc.corp", "http://a.svc.corp", "10.1.1.1", False),
        ("svc.corp:8080", "http://svc.corp:8080", "10.1.1.1", True),
        ("svc.corp:8080", "http://svc.corp", "10.1.1.1", False),
        ("http://svc.corp", "http://svc.corp:8080", "10.1.1.1", True),
        ("https://svc.corp", "http://svc.corp:443", "10.1.1.1", False),
        ("https://svc.corp", "https://svc.corp", "10.1.1.1", True),
        ("*.corp", "http://a.b.corp", "10.1.1.1", True),
        ("*.corp", "http://corp", "10.1.1.1", False),
        ("bücher.corp", "http://xn--bcher-kva.corp", "10.1.1.1", True),
        ("10.1.1.1", "http://svc.corp", "10.1.1.1", True),
        ("10.1.1.1", "http://10.1.1.1", "10.1.1.1", True),
        ("10.1.1.1", "http://10.1.1.1", "10.1.1.2", False),
        ("10.1.0.0/16:443", "https://svc.corp", "10.1.0.0", True),
        ("10.1.0.0/16:443", "http://svc.corp", "10.1.0.0", False),
        ("http://10.1.0.0/16:8080/hooks", "http://svc.corp:8080/hooks/1", "10.1.2.3", True),
        ("http://10.1.0.0/16:8080/hooks", "http://svc.corp:8080/hook", "10.1.2.3", False),
        ("http://10.1.0.0/16:8080/hooks", "http://svc.corp:8080/hooks", "10.2.2.3", False),
        ("[fd00::1]:443", "https://svc.corp", "fd00::1", True),
        ("fd00::/16", "http://svc.corp", "10.1.1.1", False),
        ("0.0.0.0/0", "http://svc.corp", "fd00::1", False),
        ("svc.corp/a/b", "http://svc.corp/a/b/c", "10.1.1.1", True),
        ("svc.corp/a/b", "http://svc.corp/a/bc", "10.1.1.1", False),
        ("svc.corp in 10.0.0.0/8", "http://svc.corp", "10.1.1.1", True),
        ("*.corp in fd00::/8", "http://svc.corp", "fd00::1", True),
        ("GET svc.corp", "http://svc.corp", "10.1.1.1", True),
    ],
)
def test_rule_as_allow_and_as_deny(rule: str, uri: str, address: str, matches: bool) -> None:
    text = " ".join(rule.split())
    assert decide(policy("deny", allow=(rule,)), address, uri=uri) == (text if matches else NOT_ALLOWED)
    assert decide(policy("private", deny=(rule,)), address, uri=uri) == (BY_RULE if matches else DEFAULT)


@pytest.mark.parametrize(
    "rule", ["svc.corp", "*.corp", "10.1.1.1", "10.0.0.0/8", "10.1.1.1:80", "0.0.0.0/0", "http://svc.corp/x"]
)
def test_deny_beats_allow(rule: str) -> None:
    everything = (*EVERYTHING, "svc.corp", "*.corp", "10.1.1.1", "10.1.1.1:80", "GET http://svc.corp:80/x in 10.1.1.1")
    assert decide(policy(allow=everything, deny=(rule,)), "10.1.1.1") == BY_RULE


def test_first_matching_allow_rule_is_named() -> None:
    allow = ("10.2.0.0/16", "POST *.corp", "svc.corp/y", "*.corp", "10.0.0.0/8")
    assert decide(policy(allow=allow), "10.1.1.1") == "*.corp"


@pytest.mark.parametrize(
    ("allow", "address", "expected"),
    [
        (("svc.corp in 10.0.0.0/8",), "10.1.1.1", "svc.corp in 10.0.0.0/8"),
        (("svc.corp in 10.0.0.0/8",), "192.168.1.1", OTHER_NETWORK),
        (("svc.corp in 10.0.0.0/8",), "fd00::1", OTHER_NETWORK),
        (("svc.corp in 10.0.0.0/8",), "8.8.8.8", OTHER_NETWORK),
        (("*.corp in 10.0.0.0/8",), "192.168.1.1", OTHER_NETWORK),
        (("svc.corp in 10.0.0.0/8", "svc.corp in 192.168.0.0/16"), "192.168.1.1", "svc.corp in 192.168.0.0/16"),
        (("svc.corp in 10.0.0.0/8", "svc.corp"), "192.168.1.1", "svc.corp"),
        (("svc.corp in 10.0.0.0/8", "*.corp"), "8.8.8.8", "*.corp"),
        (("192.168.0.0/16", "svc.corp in 10.0.0.0/8"), "192.168.1.1", OTHER_NETWORK),
        (("POST svc.corp in 10.0.0.0/8",), "192.168.1.1", OTHER_NETWORK),
        (("other.corp in 10.0.0.0/8",), "192.168.1.1", DEFAULT),
        (("svc.corp:81 in 10.0.0.0/8",), "192.168.1.1", DEFAULT),
        (("https://svc.corp in 10.0.0.0/8",), "192.168.1.1", DEFAULT),
        (("svc.corp/y in 10.0.0.0/8",), "192.168.1.1", DEFAULT),
    ],
)
def test_a_name_may_be_pinned_to_a_network(allow: tuple[str, ...], address: str, expected: Refused | str) -> None:
    assert decide(policy(allow=allow), address) == expected


@pytest.mark.parametrize(
    ("rules", "method", "address", "expected"),
    [
        (policy(), "POST", "10.1.1.1", METHOD),
        (policy(), "POST", "8.8.8.8", NOT_ALLOWED),
        (policy("deny"), "POST", "10.1.1.1", NOT_ALLOWED),
        (policy(mode="observe"), "POST", "8.8.8.8", METHOD),
        (policy(methods=("GET", "POST")), "POST", "10.1.1.1", DEFAULT),
        (policy(methods=("POST",)), "GET", "10.1.1.1", METHOD),
        (policy(methods=("GET", "POST"), mode="observe"), "POST", "8.8.8.8", OBSERVED),
        (policy(allow=("svc.corp",)), "POST", "8.8.8.8", METHOD),
        (policy(allow=("svc.corp",), methods=("GET", "PUT")), "PUT", "8.8.8.8", "svc.corp"),
        (policy(allow=("POST,PUT svc.corp",)), "PUT", "8.8.8.8", "POST,PUT svc.corp"),
        (policy(allow=("POST,PUT svc.corp",)), "GET", "8.8.8.8", METHOD),
        (policy(allow=("POST,PUT svc.corp",)), "GET", "10.1.1.1", DEFAULT),
        (policy(allow=("POST,PUT svc.corp",), mode="observe"), "GET", "8.8.8.8", OBSERVED),
        (policy(allow=("POST svc.corp",), methods=()), "GET", "10.1.1.1", METHOD),
        (policy(allow=("svc.corp", "POST svc.corp/x")), "POST", "8.8.8.8", "POST svc.corp/x"),
        (policy(deny=("POST svc.corp",)), "GET", "10.1.1.1", DEFAULT),
        (policy(deny=("POST svc.corp",), methods=("POST",)), "POST", "10.1.1.1", BY_RULE),
        (policy(deny=("svc.corp",), methods=("POST",)), "POST", "10.1.1.1", BY_RULE),
        (policy(deny=("svc.corp",)), "PUT", "10.1.1.1", BY_RULE),
    ],
)
def test_methods(rules: EgressPolicy, method: str, address: str, expected: Allowed | Refused | str) -> None:
    assert decide(rules, address, method=method) == expected


@pytest.mark.parametrize(
    ("rules", "address", "expected"),
    [
        (policy(), "10.1.1.1", DEFAULT),
        (policy(), "8.8.8.8", NOT_ALLOWED),
        (policy(allow=("svc.corp",)), "8.8.8.8", "svc.corp"),
        (policy(allow=("svc.corp/x",)), "10.1.1.1", DEFAULT),
        (policy(allow=("svc.corp/x",)), "8.8.8.8", AMBIGUOUS),
        (policy("deny", ("svc.corp/x",)), "10.1.1.1", AMBIGUOUS),
        (policy(allow=("svc.corp/x", "8.8.8.8")), "8.8.8.8", "8.8.8.8"),
        (policy(allow=("svc.corp/elsewhere",)), "8.8.8.8", AMBIGUOUS),
        (policy(allow=("other.corp/x",)), "8.8.8.8", NOT_ALLOWED),
        (policy(allow=("svc.corp/x in 8.8.0.0/16",)), "10.1.1.1", OTHER_NETWORK),
        (policy(allow=("http://127.0.0.1/x",)), "127.0.0.1", AMBIGUOUS),
        (policy(deny=("svc.corp/x",)), "10.1.1.1", AMBIGUOUS),
        (policy(deny=("svc.corp/elsewhere",)), "10.1.1.1", AMBIGUOUS),
        (policy(deny=("svc.corp/x", "10.0.0.0/8")), "10.1.1.1", BY_RULE),
        (policy(deny=("other.corp/x",)), "10.1.1.1", DEFAULT),
        (policy(deny=("POST svc.corp/x",)), "10.1.1.1", DEFAULT),
        (policy(allow=("svc.corp",), deny=("svc.corp/x",)), "10.1.1.1", AMBIGUOUS),
    ],
)
def test_no_rule_with_a_path_is_trusted_where_the_template_has_an_encoded_slash(
    rules: EgressPolicy, address: str, expected: Allowed | Refused | str
) -> None:
    assert decide(rules, address, uri="~http://svc.corp/x/a%2Fb") == expected


@pytest.mark.parametrize(
    ("allow", "deny", "expected"),
    [
        ((), (), False),
        (("svc.corp", "10.0.0.0/8:80"), ("svc.corp/",), False),
        (("svc.corp/x",), (), True),
        ((), ("10.0.0.0/8/x",), True),
    ],
)
def test_whether_any_rule_looks_at_the_path(allow: tuple[str, ...], deny: tuple[str, ...], expected: bool) -> None:
    assert policy("private", allow, deny).uses_paths is expected


# Several addresses.


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ((), NOT_ALLOWED),
        (("10.1.1.1",), DEFAULT),
        (("10.1.1.1", "fd00::1", "192.168.1.1"), DEFAULT),
        (("10.1.1.1", "169.254.169.254"), ALWAYS),
        (("169.254.169.254", "10.1.1.1"), ALWAYS),
        (("10.1.1.1", "127.0.0.1"), LOOPBACK),
        (("10.1.1.1", "8.8.8.8"), NOT_ALLOWED),
        (("10.1.1.1", "10.9.9.9"), BY_RULE),
        (("10.5.5.5", "10.1.1.1"), "10.5.5.5"),
    ],
)
def test_one_denied_address_refuses_the_name(addresses: tuple[str, ...], expected: Allowed | Refused | str) -> None:
    assert decide(policy(allow=("10.5.5.5",), deny=("10.9.9.9",)), *addresses) == expected


def test_one_observed_address_makes_the_request_an_observed_one() -> None:
    observing = policy(allow=("8.8.8.8",), mode="observe")
    assert decide(observing, "10.1.1.1", "9.9.9.9", "8.8.8.8") == OBSERVED
    assert decide(observing, "8.8.8.8", "10.1.1.1") == "8.8.8.8"


# Proxies.


@pytest.mark.parametrize(
    ("host", "addresses", "expected"),
    [
        ("proxy.corp", ("10.1.1.1",), None),
        ("proxy.corp", ("8.8.8.8", "2606:4700::1"), None),
        ("proxy.corp", (), NOT_ALLOWED),
        ("proxy.corp", ("8.8.8.8", "169.254.169.254"), ALWAYS),
        ("169.254.169.254", ("169.254.169.254",), ALWAYS),
        ("proxy.corp", ("::ffff:10.1.1.1",), ALWAYS),
        ("proxy.corp", ("10.9.9.9",), BY_RULE),
        ("denied.corp", ("8.8.8.8",), BY_RULE),
        ("denied-here.corp", ("8.8.8.8",), None),
        ("denied-here.corp", ("10.1.1.1",), BY_RULE),
        ("paths.corp", ("8.8.8.8",), None),
        ("methods.corp", ("8.8.8.8",), None),
        ("scheme.corp", ("8.8.8.8",), BY_RULE),
        ("localhost", ("127.0.0.1",), LOOPBACK),
        ("proxy.corp", ("127.0.0.1",), LOOPBACK),
        ("127.0.0.1", ("127.0.0.1",), None),
        ("127.0.0.2", ("127.0.0.1",), LOOPBACK),
        ("::1", ("::1",), None),
        ("10.1.1.1", ("127.0.0.1",), LOOPBACK),
        ("127.0.0.99", ("127.0.0.99",), OWN),
    ],
)
def test_the_address_of_a_proxy(host: str, addresses: tuple[str, ...], expected: Refused | None) -> None:
    deny = (
        *("10.9.9.9", "denied.corp:3128", "denied.corp:1", "denied-here.corp in 10.0.0.0/8"),
        *("paths.corp/x", "POST methods.corp", "https://scheme.corp"),
    )
    for default in DEFAULTS:
        for mode in MODES:
            rules = policy(default, ("localhost", "127.0.0.1"), deny, mode=mode, own=[("127.0.0.99", 3128)])
            assert rules.decide_proxy(host, 3128, map(ip_address, addresses)) == expected


def test_the_address_of_a_proxy_can_be_lifted() -> None:
    lifted = policy(lifted=("169.254.1.1",))
    assert lifted.decide_proxy("169.254.1.1", 3128, [ip_address("169.254.1.1")]) is None


PROXIED = policy(
    allow=("svc.corp", "8.0.0.0/8", "pinned.corp in 10.0.0.0/8", "POST post.corp", "paths.corp/x", "127.0.0.1"),
    deny=("10.9.9.9", "denied.corp", "denied-here.corp in 10.0.0.0/8", "paths.corp/x/y"),
)


@pytest.mark.parametrize(
    ("uri", "addresses", "expected", "observed"),
    [
        ("http://svc.corp", ("10.1.1.1",), "svc.corp", "svc.corp"),
        ("http://svc.corp", ("9.9.9.9",), "svc.corp", "svc.corp"),
        ("http://other.corp", ("8.8.8.8",), "8.0.0.0/8", "8.0.0.0/8"),
        ("http://other.corp", ("10.1.1.1",), NEEDS_RULE, OBSERVED),
        ("http://other.corp", ("9.9.9.9",), NEEDS_RULE, OBSERVED),
        ("http://other.corp", ("8.8.8.8", "10.1.1.1"), NEEDS_RULE, OBSERVED),
        ("http://other.corp", (), NEEDS_RULE, NEEDS_RULE),
        ("http://svc.corp", ("10.1.1.1", "169.254.169.254"), ALWAYS, ALWAYS),
        ("http://svc.corp", ("10.1.1.1", "10.9.9.9"), BY_RULE, BY_RULE),
        ("http://svc.corp", ("127.0.0.2",), LOOPBACK, LOOPBACK),
        ("http://127.0.0.1", ("127.0.0.1",), "127.0.0.1", "127.0.0.1"),
        ("http://pinned.corp", ("10.1.1.1",), "pinned.corp in 10.0.0.0/8", "pinned.corp in 10.0.0.0/8"),
        ("http://pinned.corp", ("8.8.8.8",), OTHER_NETWORK, OTHER_NETWORK),
        ("http://post.corp", ("10.1.1.1",), METHOD, OBSERVED),
        ("http://paths.corp/x", ("10.1.1.1",), "paths.corp/x", "paths.corp/x"),
        ("http://paths.corp/z", ("10.1.1.1",), NEEDS_RULE, OBSERVED),
        ("~http://paths.corp/x/%2F", ("10.1.1.1",), AMBIGUOUS, AMBIGUOUS),
        # names that do not resolve here
        ("http://svc.corp", None, "svc.corp", "svc.corp"),
        ("http://other.corp", None, NEEDS_RULE, OBSERVED),
        ("http://pinned.corp", None, UNRESOLVED, UNRESOLVED),
        ("http://post.corp", None, METHOD, OBSERVED),
        ("http://denied.corp", None, BY_RULE, BY_RULE),
        ("http://denied-here.corp", None, BY_RULE, BY_RULE),
        ("http://paths.corp/x/y/z", None, BY_RULE, BY_RULE),
        ("~http://paths.corp/x/%2F", None, AMBIGUOUS, AMBIGUOUS),
        ("http://metadata.google.internal", None, ALWAYS, ALWAYS),
        ("http://localhost", None, LOOPBACK, LOOPBACK),
        ("http://a.localhost", None, LOOPBACK, LOOPBACK),
        # addresses need no resolving
        ("http://8.8.8.8", None, "8.0.0.0/8", "8.0.0.0/8"),
        ("http://9.9.9.9", None, NEEDS_RULE, OBSERVED),
        ("http://169.254.169.254", None, ALWAYS, ALWAYS),
        ("http://[::1]", None, LOOPBACK, LOOPBACK),
        ("http://[::ffff:a00:1]", None, ALWAYS, ALWAYS),
    ],
)
def test_through_a_proxy_a_target_needs_a_rule(
    uri: str, addresses: tuple[str, ...] | None, expected: Allowed | Refused | str, observed: Allowed | Refused | str
) -> None:
    known = None if addresses is None else [ip_address(address) for address in addresses]
    for mode, wanted in zip(MODES, (expected, observed), strict=True):
        rules = EgressPolicy("private", mode, PROXIED.allow, PROXIED.deny)
        decision = rules.decide_proxied(to(uri), known, "GET", proxy_resolves=True)
        assert (decision.by.text if isinstance(decision, Allowed) and decision.by else decision) == wanted


def test_what_is_lifted_needs_a_rule_through_a_proxy() -> None:
    metadata = [ip_address("169.254.169.254")]
    for allow, expected in (((), NEEDS_RULE), (("169.254.169.254",), Allowed(parse_rule("169.254.169.254")))):
        lifted = policy(allow=allow, lifted=("169.254.169.254",))
        assert lifted.decide_proxied(to("http://svc.corp"), metadata, "GET", proxy_resolves=False) == expected


@pytest.mark.parametrize("uri", ["http://svc.corp", "http://other.corp", "http://pinned.corp"])
def test_only_a_proxy_that_resolves_takes_names_that_are_unknown_here(uri: str) -> None:
    for mode in MODES:
        rules = EgressPolicy("private", mode, PROXIED.allow, PROXIED.deny)
        assert rules.decide_proxied(to(uri), None, "GET", proxy_resolves=False) == UNRESOLVED


# Suggestions.


@pytest.mark.parametrize(
    ("seen", "rules"),
    [
        ([], []),
        ([("http://svc.corp/x/1", "GET", ["10.1.1.1"])], ["http://svc.corp:80"]),
        (
            [
                ("http://svc.corp/x/1", "GET", ["10.1.1.1", "fd00::1"]),
                ("~http://svc.corp/y%2F2", "GET", ["10.1.1.2"]),
                ("https://svc.corp:8443/y", "GET", ["8.8.8.8"]),
                ("http://other.corp", "POST", ["10.1.1.1"]),
            ],
            ["POST http://other.corp:80", "http://svc.corp:80", "https://svc.corp:8443"],
        ),
        (
            [("http://svc.corp", method, ["10.1.1.1"]) for method in ("PUT", "GET", "PUT", "POST")],
            ["GET,POST,PUT http://svc.corp:80"],
        ),
        ([("http://localhost:8080", "GET", ["127.0.0.1", "::1"])], ["http://127.0.0.1:8080", "http://[::1]:8080"]),
        (
            [("http://both.corp", "PUT", ["127.0.0.1", "10.1.1.1"])],
            ["PUT http://127.0.0.1:80", "PUT http://both.corp:80"],
        ),
        ([("http://10.1.1.1:8080", "GET", ["10.1.1.1"])], ["http://10.1.1.1:8080"]),
        ([("https://[fd00::1]", "GET", ["fd00::1"])], ["https://[fd00::1]:443"]),
        ([("http://svc.corp", "GET", ["10.1.1.1", "169.254.169.254"])], []),
        ([("http://[::ffff:a00:1]", "GET", ["::ffff:10.0.0.1"])], []),
        ([("http://far.corp", "GET", [])], ["http://far.corp:80"]),
        ([("http://xn--bcher-kva.corp", "GET", ["10.1.1.1"])], ["http://xn--bcher-kva.corp:80"]),
    ],
)
def test_suggested_rules(seen: list[tuple[str, str, list[str]]], rules: list[str]) -> None:
    assert suggest((to(uri), method, tuple(map(ip_address, known))) for uri, method, known in seen) == rules


# Properties.

known_addresses = st.sampled_from(
    ["10.1.1.1", "192.168.0.1", "8.8.8.8", "127.0.0.1", "::1", "169.254.169.254", "fd00::1", "::ffff:10.1.1.1"]
).map(ip_address)
addresses = known_addresses | st.ip_addresses()
rule_lists = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *(
                    "svc.corp",
                    "*.corp",
                    "0.0.0.0/0",
                    "::/0",
                    "10.0.0.0/8",
                    "127.0.0.1",
                    "::1",
                    "svc.corp:80",
                    "fd00::/8",
                ),
                *("svc.corp/x", "http://svc.corp/x/y", "https://*.corp", "POST svc.corp", "POST,PUT 10.0.0.0/8/x"),
                *("svc.corp in 10.0.0.0/8", "*.corp in 127.0.0.0/8", "POST svc.corp/x in fd00::/8", "169.254.0.0/16"),
            ]
        ),
        addresses.map(lambda address: str(ip_network(address.packed))),
    ),
    max_size=4,
).map(lambda texts: tuple(map(parse_rule, texts)))
lifted_networks = st.sampled_from(["169.254.169.254", "169.254.0.0/16", "fe80::/10"]).map(parse_lifted)
policies = st.builds(
    EgressPolicy,
    st.sampled_from(DEFAULTS),
    st.sampled_from(MODES),
    rule_lists,
    rule_lists,
    st.frozensets(st.sampled_from(["GET", "POST", "PUT"])),
    st.lists(lifted_networks, max_size=1).map(tuple),
    st.frozensets(st.tuples(known_addresses, st.sampled_from([80, 443])), max_size=2),
)
destinations = st.builds(
    Destination,
    st.sampled_from(["http", "https"]),
    st.sampled_from(["svc.corp", "a.svc.corp", "other", "xn--bcher-kva.corp"]),
    st.sampled_from([80, 443, 8080]),
    st.sampled_from(["/", "/x", "/x/y", "/x%2Fy", "/X;a"]),
    st.booleans(),
)
methods = st.sampled_from(["GET", "POST", "PUT"])


@given(policies, destinations, addresses, methods)
def test_a_decision_is_always_explained(
    rules: EgressPolicy, destination: Destination, address: Address, method: str
) -> None:
    match rules.decide(destination, [address], method):
        case Refused():
            return
        case Allowed(None, observed):
            assert method in rules.methods
            assert not is_loopback(address)
            assert observed is False or rules.mode == "observe"
            lifted = any(address.version == network.version and address in network for network in rules.lifted)
            assert observed or lifted or (rules.default == "private" and not address.is_global)
        case Allowed(rule, observed):
            assert not observed
            assert rule in rules.allow
            assert rule.names(destination.host, destination.port, address)
            assert method in (rules.methods if rule.methods is None else rule.methods)
            assert rule.covers(destination.path)
            assert not (rule.path and destination.encoded_slash)
    assert (address, destination.port) not in rules.own


@given(policies, destinations, st.lists(addresses, max_size=4), methods)
def test_several_addresses_are_refused_if_and_only_if_one_is(
    rules: EgressPolicy, destination: Destination, several: list[Address], method: str
) -> None:
    single = [rules.decide(destination, [address], method) for address in several]
    decision = rules.decide(destination, several, method)
    assert isinstance(decision, Refused) is (not single or any(isinstance(one, Refused) for one in single))
    assert not single or decision in single


@given(policies, destinations, addresses, methods)
def test_deny_wins_over_every_allow(
    rules: EgressPolicy, destination: Destination, address: Address, method: str
) -> None:
    for text in (
        "0.0.0.0/0",
        "::/0",
        destination.host,
        f"{destination.scheme}://{destination.host}:{destination.port}",
    ):
        deny = parse_rule(text)
        if deny.names(destination.host, destination.port, address):
            assert isinstance(replace(rules, deny=(*rules.deny, deny)).decide(destination, [address], method), Refused)


@given(policies, rule_lists, destinations, addresses, methods)
def test_more_deny_rules_or_a_stricter_default_or_mode_never_allow_more(
    rules: EgressPolicy, more: tuple[object, ...], destination: Destination, address: Address, method: str
) -> None:
    if isinstance(rules.decide(destination, [address], method), Refused):
        for stricter in (
            replace(rules, deny=(*rules.deny, *more)),
            replace(rules, default="deny"),
            replace(rules, mode="enforce"),
            replace(rules, methods=frozenset()),
            replace(rules, lifted=()),
        ):
            assert isinstance(stricter.decide(destination, [address], method), Refused)


@given(policies, destinations, addresses, methods, st.booleans())
def test_the_always_denied_stay_denied_in_every_mode_and_way(
    rules: EgressPolicy, destination: Destination, address: Address, method: str, proxy_resolves: bool
) -> None:
    strict = replace(rules, lifted=())
    if is_always_denied(address):
        assert isinstance(strict.decide(destination, [address], method), Refused)
        assert isinstance(strict.decide_proxy(destination.host, destination.port, [address]), Refused)
        assert isinstance(strict.decide_proxied(destination, [address], method, proxy_resolves=proxy_resolves), Refused)


@given(policies, destinations, addresses, methods)
def test_observe_only_changes_what_no_rule_is_about(
    rules: EgressPolicy, destination: Destination, address: Address, method: str
) -> None:
    enforced = replace(rules, mode="enforce").decide(destination, [address], method)
    observed = replace(rules, mode="observe").decide(destination, [address], method)
    if observed != enforced:
        assert enforced in (NOT_ALLOWED, METHOD)
        assert observed in (OBSERVED, METHOD)


@given(policies, destinations, st.lists(addresses, max_size=3), methods, st.booleans())
def test_through_a_proxy_nothing_passes_that_would_not_pass_without(
    rules: EgressPolicy, destination: Destination, known: list[Address], method: str, proxy_resolves: bool
) -> None:
    proxied = rules.decide_proxied(destination, known, method, proxy_resolves=proxy_resolves)
    if isinstance(rules.decide(destination, known, method), Refused):
        assert isinstance(proxied, Refused)
    if isinstance(proxied, Allowed):
        assert proxied.by is not None or proxied.observed


@given(
    st.lists(
        st.tuples(destinations | addresses.map(lambda address: Destination("http", str(address), 80)), methods),
        max_size=5,
    ),
    st.data(),
)
def test_suggested_rules_allow_all_that_was_seen_and_no_other_place(
    requests: list[tuple[Destination, str]], data: st.DataObject
) -> None:
    def resolved(destination: Destination) -> tuple[Address, ...]:
        try:
            return (ip_address(destination.host),)
        except ValueError:
            return tuple(data.draw(st.lists(addresses, min_size=1, max_size=3)))

    seen = [(destination, method, resolved(destination)) for destination, method in requests]
    texts = suggest(seen)
    assert texts == sorted(set(texts))
    rules = policy("deny", texts)
    for destination, method, known in seen:
        denied = any(is_always_denied(address) for address in known)
        assert isinstance(rules.decide(destination, known, method), Refused) is denied
    used = {(destination.scheme, destination.port) for destination, _, _ in seen}
    for rule in rules.allow:
        assert (rule.scheme, rule.port) in used
    unseen = Destination("https", "svc.corp", 9)
    assert isinstance(rules.decide(unseen, [IPv6Address("fd00::1"), IPv4Address("10.1.1.1")], "GET"), Refused)
