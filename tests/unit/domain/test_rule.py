"""Rules of the egress policy: what each line means, and what is no rule."""

from ipaddress import ip_address, ip_network
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presence.domain.rule import Rule, parse_rule
from presence.domain.uri import decoded

GET, POST = frozenset({"GET"}), frozenset({"POST"})


def rule(text: str, name: str | None = None, network: str | None = None, **rest: object) -> Rule:
    return Rule(text, name, None if network is None else ip_network(network), **rest)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "expected",
    [
        rule("jenkins.corp", "jenkins.corp"),
        rule("Jenkins.CORP", "jenkins.corp"),
        rule("*.corp:8080", "*.corp", port=8080),
        rule("*.Build_1.corp", "*.build_1.corp"),
        rule("https://jenkins.corp:8443/job/scan", "jenkins.corp", port=8443, scheme="https", path=("job", "scan")),
        rule("HTTP://jenkins.corp", "jenkins.corp", scheme="http"),
        rule(
            "POST,PUT https://tickets.corp/api in 10.0.0.0/8",
            "tickets.corp",
            scheme="https",
            path=("api",),
            methods=frozenset({"POST", "PUT"}),
            inside=ip_network("10.0.0.0/8"),
        ),
        rule("GET jenkins.corp", "jenkins.corp", methods=GET),
        rule("*.corp in fd00::/8", "*.corp", inside=ip_network("fd00::/8")),
        rule("svc.corp in 10.1.2.3", "svc.corp", inside=ip_network("10.1.2.3/32")),
        rule("localhost in 127.0.0.0/8", "localhost", inside=ip_network("127.0.0.0/8")),
        rule("in in 10.0.0.0/8", "in", inside=ip_network("10.0.0.0/8")),
        # paths of names
        rule("svc.corp/", "svc.corp"),
        rule("svc.corp/8", "svc.corp", path=("8",)),
        rule("svc.corp/8.0/x", "svc.corp", path=("8.0", "x")),
        rule("svc.corp//a///b/", "svc.corp", path=("a", "b")),
        rule("svc.corp:80/8/16", "svc.corp", port=80, path=("8", "16")),
        rule("svc.corp/a:b/c", "svc.corp", path=("a:b", "c")),
        rule("svc.corp/%7Euser/%c3%a9%20", "svc.corp", path=("~user", "%C3%A9%20")),
        rule("svc.corp/http://x", "svc.corp", path=("http:", "x")),
        # addresses
        rule("10.1.2.3", network="10.1.2.3/32"),
        rule("10.1.0.0/16", network="10.1.0.0/16"),
        rule("10.0.0.0/255.0.0.0", network="10.0.0.0/8"),
        rule("10.1.2.3:8080", network="10.1.2.3/32", port=8080),
        rule("10.1.0.0/16:8080", network="10.1.0.0/16", port=8080),
        rule("http://10.1.0.0/16:8080/hooks", network="10.1.0.0/16", port=8080, scheme="http", path=("hooks",)),
        rule("http://10.1.2.3/hooks", network="10.1.2.3/32", scheme="http", path=("hooks",)),
        rule("10.1.2.3/32/16/x", network="10.1.2.3/32", path=("16", "x")),
        rule("10.1.2.3/16x", network="10.1.2.3/32", path=("16x",)),
        rule("10.1.2.3:80/16/x", network="10.1.2.3/32", port=80, path=("16", "x")),
        rule("0.0.0.0/0", network="0.0.0.0/0"),
        rule("[fd00::1]:443", network="fd00::1/128", port=443),
        rule("[FD00:0::1]", network="fd00::1/128"),
        rule("fd00::1", network="fd00::1/128"),
        rule("::1", network="::1/128"),
        rule("::/0", network="::/0"),
        rule("fd00::/8", network="fd00::/8"),
        rule("fd00::/8:443", network="fd00::/8", port=443),
        rule("[fd00::/8]:443", network="fd00::/8", port=443),
        rule("[fd00::]/8:443/x", network="fd00::/8", port=443, path=("x",)),
        rule("https://fd00::/8/hooks", network="fd00::/8", scheme="https", path=("hooks",)),
        rule("POST https://[fd00::1]:1/a", network="fd00::1/128", port=1, scheme="https", path=("a",), methods=POST),
        # any script
        rule("BÜCHER.corp", "xn--bcher-kva.corp"),
        rule("*.bücher.corp:80", "*.xn--bcher-kva.corp", port=80),
        rule("xn--bcher-kva.corp", "xn--bcher-kva.corp"),
    ],
    ids=lambda expected: expected.text,
)
def test_rule(expected: Rule) -> None:
    assert parse_rule(expected.text) == expected


def test_space_around_and_between_does_not_count() -> None:
    assert parse_rule("  POST\t svc.corp   in  10.0.0.0/8 ") == parse_rule("POST svc.corp in 10.0.0.0/8")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it does not have the form [METHODS ][scheme://]host[:port][/path][ in CIDR]"),
        ("   ", "does not have the form"),
        ("POST PUT svc.corp", "does not have the form"),
        ("GET, POST svc.corp", "does not have the form"),
        ("svc.corp in", "the methods 'svc.corp' are not among GET, POST, PUT"),
        ("svc.corp in 10.0.0.0/8 x", "does not have the form"),
        ("svc corp", "the methods 'svc' are not among GET, POST, PUT; write them as POST,PUT"),
        ("post svc.corp", "methods"),
        ("DELETE svc.corp", "methods"),
        ("GET, svc.corp", "methods"),
        ("svc.corp :80", "methods"),
        ("ftp://svc.corp", "the scheme 'ftp' is not supported"),
        ("://svc.corp", "the scheme '' is not supported"),
        ("http:svc.corp", "the port 'svc.corp' is not a number"),
        ("http:///x", "the host '' is neither"),
        ("http://http://x", "the port '' is not a number"),
        ("user@svc", "neither a DNS name nor an IP address"),
        ("*", "neither a DNS name"),
        ("*.", "neither a DNS name"),
        ("**.corp", "neither a DNS name"),
        ("*.*.corp", "neither a DNS name"),
        ("svc.*.corp", "neither a DNS name"),
        ("svc*", "neither a DNS name"),
        (".corp", "neither a DNS name"),
        ("svc.corp.", "neither a DNS name"),
        ("a..b", "neither a DNS name"),
        ("-", "neither a DNS name"),
        ("a" * 64, "neither a DNS name"),
        ("①⑥⑨.254.169.254", "not an internationalised name"),
        ("127。0。0。1", "not an internationalised name"),
        ("💩.corp", "not an internationalised name"),
        ("*.10.0.0.1", "looks like an IP address"),
        ("0x7f.1", "looks like an IP address"),
        ("10.1", "'10.1' does not appear to be an IPv4 or IPv6 network"),
        ("10", "'10' does not appear"),
        ("2130706433", "does not appear"),
        ("10.0.0.256", "does not appear"),
        ("10.0.0.01", "does not appear"),
        ("1.2.3.4.5", "does not appear"),
        ("10.0.0.0/33", "does not appear"),
        ("10.1.2.3/16", "10.1.2.3/16 has host bits set"),
        ("10.1.2.3/1.2/x", "does not appear"),
        ("fd00::/129", "does not appear"),
        ("fd00::1/64", "host bits"),
        ("fd00::1::2", "does not appear"),
        ("[fd00::/16]/16", "does not appear"),
        ("fe80::1%eth0", "an address with a zone is link-local, which is always denied"),
        ("[fe80::1%eth0]:80", "an address with a zone"),
        ("fe80::%eth0/10", "an address with a zone"),
        ("svc:80:80", "the port '80:80'"),
        ("svc:http", "the port 'http'"),
        ("svc:0", "port"),
        ("svc:65536", "port"),
        ("svc:-1", "port"),
        ("svc:8_0", "port"),
        ("svc:٣", "port"),
        ("svc:", "port"),
        ("svc/8:80", "a port goes before the path"),
        ("10.0.0.0/8:0", "port"),
        ("[::1]:0", "port"),
        ("[::1]:", "port"),
        ("[::1", "does not have the form"),
        ("[::1]443", "does not have the form"),
        ("[::1]x", "does not have the form"),
        ("[svc]:80", "brackets are for IPv6 addresses"),
        ("[10.0.0.1]:80", "brackets are for IPv6 addresses"),
        ("10.0.0.0/8 in 10.0.0.0/8", "'in' goes with a name"),
        ("svc in corp", "'corp' does not appear to be"),
        ("svc in 10.1.2.3/8", "host bits"),
        ("svc/é", "the path '/é' must be percent-encoded ASCII"),
        ("svc/a?b", "path"),
        ("svc/a#b", "path"),
        ("svc/{SubjectId}", "path"),
        ("svc/a;b", "path"),
        ("svc/%", "path"),
        ("svc/%zz", "path"),
        ("svc/a%2Fb", "path"),
        ("svc/a%252e", "path"),
        ("svc/a%3bb", "path"),
        ("svc/a%3F", "path"),
        ("svc/a%23", "path"),
        ("svc/a%00", "path"),
        ("svc/a%0A", "path"),
        ("svc/a%7f", "path"),
        ("svc/a%5Cb", "backslash"),
        ("svc/a\\b", "path"),
        ("svc/../b", "a path segment is '.' or '..'"),
        ("svc/%2e%2e/b", "a path segment is '.' or '..'"),
    ],
)
def test_what_is_no_rule_says_what_is_wrong_and_shows_a_right_one(text: str, says: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_rule(text)
    assert str(refused.value).startswith(f"'{text}' is not a rule: ")
    assert says in str(refused.value)
    assert "POST https://tickets.corp/api in 10.0.0.0/8" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "host", "port", "address", "expected"),
    [
        ("svc.corp", "svc.corp", 80, "10.1.1.1", True),
        ("svc.corp", "svc.corp", 80, None, True),
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
        ("*.corp:443", "svc.corp", 443, None, True),
        ("*.corp:443", "svc.corp", 80, None, False),
        ("BÜCHER.corp", "xn--bcher-kva.corp", 80, "10.1.1.1", True),
        ("10.1.1.1", "svc.corp", 80, "10.1.1.1", True),
        ("10.1.1.1", "10.1.1.1", 80, "10.1.1.1", True),
        ("10.1.1.1", "10.1.1.1", 80, "10.1.1.2", False),
        ("10.1.1.1", "10.1.1.1", 80, None, False),
        ("10.1.1.1:80", "svc.corp", 80, "10.1.1.1", True),
        ("10.1.1.1:80", "svc.corp", 443, "10.1.1.1", False),
        ("10.1.0.0/16", "svc.corp", 80, "10.1.255.255", True),
        ("10.1.0.0/16", "svc.corp", 80, "10.2.0.0", False),
        ("fd00::1", "svc.corp", 80, "fd00::1", True),
        ("fd00::/16", "svc.corp", 80, "fd00:ffff::", True),
        ("fd00::/16", "svc.corp", 80, "10.1.1.1", False),
        ("0.0.0.0/0", "svc.corp", 80, "fd00::1", False),
        ("::/0", "svc.corp", 80, "10.1.1.1", False),
        ("svc.corp in 10.0.0.0/8", "svc.corp", 80, "192.168.0.1", True),
        ("https://svc.corp/x", "svc.corp", 80, "192.168.0.1", True),
    ],
)
def test_which_place_a_rule_names(text: str, host: str, port: int, address: str | None, expected: bool) -> None:
    assert parse_rule(text).names(host, port, None if address is None else ip_address(address)) is expected


PATHS = [
    # rule's path, request's path, allowed by it, denied by it
    ("", "/", True, True),
    ("", "/a/b", True, True),
    ("/a", "/a", True, True),
    ("/a", "/a/", True, True),
    ("/a/", "/a", True, True),
    ("/a", "/a/b", True, True),
    ("/a", "//a//b", True, True),
    ("/a/b", "/a//b/c", True, True),
    ("/a", "/ab", False, False),
    ("/a", "/", False, False),
    ("/a/b", "/a", False, False),
    ("/a/b", "/a/c/b", False, False),
    ("/a", "/b/a", False, False),
    ("/~u", "/%7Eu/x", True, True),
    ("/%7eu", "/~u/x", True, True),
    ("/a%20b", "/a%20b", True, True),
    ("/%c3%a9", "/%C3%A9/x", True, True),
    ("/admin", "/%61dmin", True, True),
    # readings differ: not allowed, and denied
    ("/admin", "/%2561dmin", False, True),
    ("/admin", "/admin%2Fx", False, True),
    ("/admin", "/%2Fadmin", False, True),
    ("/a/b", "/a%2Fb", False, True),
    ("/a/b", "/a%252Fb/c", False, True),
    ("/a%20b", "/a%2520b", False, True),
    ("/a%28", "/a(", False, True),
    ("/a(", "/a%28", False, True),
    ("/admin", "/Admin", False, True),
    ("/Admin", "/admin", False, True),
    ("/admin", "/admin;x=1", False, True),
    ("/admin", "/admin;x=1/y", False, True),
    ("/admin", "/admin%3Bx", False, True),
    ("/admin", "/;x/admin", False, True),
    ("/admin", "/admin%3Fx", False, True),
    ("/admin", "/admin%23", False, True),
    ("/admin", "/admin%00.txt", False, True),
    # what a value with a slash makes of the end does not matter
    ("/scan", "/scan/a%2Fb", True, True),
    ("/scan", "/scan/%252Fb%25", True, True),
]


@pytest.mark.parametrize(("prefix", "path", "covers", "touches"), PATHS)
def test_paths_match_by_whole_segments(prefix: str, path: str, covers: bool, touches: bool) -> None:
    parsed = parse_rule(f"svc.corp{prefix}")
    assert parsed.covers(path) is covers
    assert parsed.touches(path) is touches


path_texts = st.lists(
    st.sampled_from(["/", "a", "B", "%41", "%61", "%2F", "%252F", "%2561", ";", "%3B", "%20", "%c3%a9", "%25", "%3f"]),
    max_size=12,
).map(lambda parts: "/" + "".join(parts))


@given(path_texts, path_texts)
def test_what_a_rule_may_allow_it_would_deny(prefix: str, path: str) -> None:
    try:
        parsed = parse_rule(f"svc.corp{prefix}")
    except ValueError:
        return
    assert parsed.covers(prefix)
    assert parsed.covers(prefix + "/x")
    if parsed.covers(path):
        assert parsed.touches(path)
    stage, before = path, ""
    while stage != before:  # at each decoding that a server may stop at
        if parsed.path and stage.strip("/").split("/")[: len(parsed.path)] == list(parsed.path):
            assert parsed.touches(path)
        stage, before = unquote(stage, "latin-1"), stage
    assert parsed.touches(path) is parsed.touches(decoded(path).lower())


names = st.sampled_from(["svc", "Svc.Corp", "*.corp", "bücher.corp", "x_y.3com"])
addresses = st.ip_addresses().map(lambda address: str(address) if address.version == 4 else f"[{address}]")
networks = st.sampled_from(["10.0.0.0/8", "fd00::/8", "[::/0]", "0.0.0.0/0", "10.1.2.3/32"])
ports = st.just("") | st.integers(1, 65535).map(lambda port: f":{port}")
rule_paths = st.sampled_from(["", "/", "/a", "/a//b/", "/%7Ea", "/8", "/16/x"])
pins = st.sampled_from(["", " in 10.0.0.0/8", " in fd00::/8", " in 10.1.2.3"])


@given(
    st.sampled_from(["", "GET ", "POST,PUT ", "GET,GET "]),
    st.sampled_from(["", "http://", "HTTPS://"]),
    st.tuples(names, ports, rule_paths, pins).map("".join)
    | st.tuples(addresses | networks, ports, rule_paths.filter(lambda path: not path[1:2].isdigit())).map("".join),
)
def test_the_text_of_a_rule_is_the_rule(methods: str, scheme: str, rest: str) -> None:
    parsed = parse_rule(f" {methods}{scheme}{rest} ")
    assert parse_rule(parsed.text) == parsed
    assert parsed.text == f"{methods}{scheme}{rest}"
    assert (parsed.methods is None) is (not methods)
    assert (parsed.scheme is None) is (not scheme)
    assert (parsed.inside is None) is (" in " not in rest)


parts = st.sampled_from(
    ["GET ", "POST,", "http://", "svc", ".corp", "10.", "0.0.0", "/8", ":80", " in ", "[", "]", "::", "fd00"]
)


@given(
    st.text(max_size=30)
    | st.text(st.sampled_from("0123456789abcdef.:/[]*-x% "), max_size=30)
    | st.lists(parts, max_size=8).map("".join)
)
def test_any_text_is_a_rule_or_a_value_error(text: str) -> None:
    try:
        parsed = parse_rule(text)
    except ValueError as error:
        assert str(error).startswith(f"'{text}' is not a rule: ")  # noqa: PT017
        return
    assert parse_rule(parsed.text) == parsed
    assert (parsed.name is None) is not (parsed.network is None)
    assert parsed.port is None or 1 <= parsed.port <= 65535
    assert parsed.inside is None or parsed.name is not None
    assert all(segment and "/" not in decoded(segment) for segment in parsed.path)
