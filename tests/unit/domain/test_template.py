# ruff: noqa: RUF001 (characters that look like others are the point)
"""Templates: what is a usable URI, what is refused and with which words, and how values are put in."""

import ipaddress
import re
import time
from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from yarl import URL

from presence.domain.events import subject_fault
from presence.domain.template import (
    MAX_EXPANDED_LENGTH,
    PLACEHOLDERS,
    TemplateError,
    UriTemplate,
    masked,
    parse_template,
    path_of,
)
from presence.domain.webhook import MAX_URI_LENGTH

SUBJECT = "9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b"
LONGEST_NAME = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
VALUES = {"SubjectId": SUBJECT, "WebhookId": "w", "DeliveryId": "d", "Event": "ScanExecutionCompleted"}


def expand(text: str, subject: str = SUBJECT) -> str:
    return parse_template(text).expand({**VALUES, "SubjectId": subject})


def test_mission_example() -> None:
    template = parse_template("http://myservice.com/ScanEnded/{SubjectId}")
    assert (template.scheme, template.host, template.port) == ("http", "myservice.com", 80)
    assert template.placeholders == {"SubjectId"}
    assert template.expand(VALUES) == f"http://myservice.com/ScanEnded/{SUBJECT}"


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port"),
    [
        ("http://jenkins", "http", "jenkins", 80),
        ("https://jenkins", "https", "jenkins", 443),
        ("HTTPS://Jenkins.Corp/", "https", "jenkins.corp", 443),
        ("http://jenkins:8080/x", "http", "jenkins", 8080),
        ("http://jenkins:1/", "http", "jenkins", 1),
        ("http://jenkins:65535/", "http", "jenkins", 65535),
        ("http://jenkins:0080/", "http", "jenkins", 80),
        ("http://build_1.corp/", "http", "build_1.corp", 80),
        ("http://xn--bcher-kva.example/", "http", "xn--bcher-kva.example", 80),
        ("http://3com.example/", "http", "3com.example", 80),
        ("http://10.example/", "http", "10.example", 80),
        ("http://10.1.2.3/", "http", "10.1.2.3", 80),
        ("http://10.1.2.3:8080/", "http", "10.1.2.3", 8080),
        ("http://[::1]/", "http", "::1", 80),
        ("https://[FD00:0:0:0::A]:8443/x", "https", "fd00::a", 8443),
        ("http://[::ffff:10.1.2.3]/", "http", "::ffff:a01:203", 80),
        (f"http://{LONGEST_NAME}/", "http", LONGEST_NAME, 80),
    ],
)
def test_scheme_host_and_port(text: str, scheme: str, host: str, port: int) -> None:
    template = parse_template(text)
    assert (template.scheme, template.host, template.port) == (scheme, host, port)
    assert template.text == text


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("http://h", "http://h"),
        ("http://h/", "http://h/"),
        ("http://h/no/placeholder?at=all", "http://h/no/placeholder?at=all"),
        ("http://h/{SubjectId}", "http://h/S"),
        ("http://h?{SubjectId}", "http://h?S"),
        ("http://h/scan?id={SubjectId}", "http://h/scan?id=S"),
        ("http://h/{SubjectId}/{SubjectId}?a={SubjectId}&b={SubjectId}", "http://h/S/S?a=S&b=S"),
        ("http://h/{SubjectId}{SubjectId}", "http://h/SS"),
        (
            "http://h/{WebhookId}/{DeliveryId}?e={Event}&s={SubjectId}",
            "http://h/w/d?e=ScanExecutionCompleted&s=S",
        ),
        ("http://h/{Event}.json", "http://h/ScanExecutionCompleted.json"),
    ],
)
def test_placeholders_anywhere_in_path_and_query(text: str, uri: str) -> None:
    assert expand(text, "S") == uri


@pytest.mark.parametrize(
    "text",
    [
        "http://H.Example:0080/A%2fb%2Fc/~user/;p=1/'()*!$&+,=:@-_.x",
        "http://h//double//slash/",
        "http://h/a?b=c?d=/../x&e=%5b%5D",
        "http://h/...",
        "http://h/.hidden/a..b/c.",
        "http://h/%252e%252ex/",
        "http://h/?at=../x&to=/%2e%2e/",
        "http://h/%7BSubjectId%7D",
        "http://h?",
        "http://h/?",
    ],
)
def test_literal_part_stays_byte_for_byte(text: str) -> None:
    assert expand(text) == text
    assert expand(text + "{SubjectId}", "S") == text + "S"


@pytest.mark.parametrize(
    ("value", "expanded"),
    [  # RFC 6570: `var`, `hello`, `half`, `base` and `path` of sections 1.2 and 3.2, each as {var}
        ("value", "value"),
        ("Hello World!", "Hello%20World%21"),
        ("50%", "50%25"),
        ("http://example.com/home/", "http%3A%2F%2Fexample.com%2Fhome%2F"),
        ("/foo/bar", "%2Ffoo%2Fbar"),
        # section 2.1 and RFC 3986 section 2.2, 2.3: only unreserved characters stay
        ("AZaz09-._~", "AZaz09-._~"),
        (":/?#[]@!$&'()*+,;=", "%3A%2F%3F%23%5B%5D%40%21%24%26%27%28%29%2A%2B%2C%3B%3D"),
        ('"<>^`{|}', "%22%3C%3E%5E%60%7B%7C%7D"),
        # UTF-8, without normalisation
        ("é", "%C3%A9"),
        ("e\u0301", "e%CC%81"),
        ("日本", "%E6%97%A5%E6%9C%AC"),
        ("😀", "%F0%9F%98%80"),
        # what looks encoded or like a template is a value all the same
        ("%2e%2e", "%252e%252e"),
        ("{SubjectId}", "%7BSubjectId%7D"),
        ("a b\u00a0c", "a%20b%C2%A0c"),
    ],
)
def test_values_are_percent_encoded(value: str, expanded: str) -> None:
    assert expand("http://h/O{SubjectId}X?q={SubjectId}", value) == f"http://h/O{expanded}X?q={expanded}"


def test_published_examples_of_level_1_and_of_simple_expansion() -> None:
    """RFC 6570 sections 1.2 and 3.2.2, with their variables' values under our names.

    Section 3.2.2's `O{empty}X` and `O{undef}X` give `OX` there; an empty or missing value is refused here.
    """
    values = {"SubjectId": "value", "WebhookId": "Hello World!", "DeliveryId": "50%", "Event": "1024"}
    for expression, expansion in [
        ("{SubjectId}", "value"),
        ("{WebhookId}", "Hello%20World%21"),
        ("{DeliveryId}", "50%25"),
        ("O{SubjectId}X", "OvalueX"),
        ("{Event}/{WebhookId}", "1024/Hello%20World%21"),
        ("?{Event}&{WebhookId}", "?1024&Hello%20World%21"),
    ]:
        assert parse_template(f"http://h/{expression}").expand(values) == f"http://h/{expansion}"


@pytest.mark.parametrize(
    "expression",
    [
        *("{+SubjectId}", "{#SubjectId}"),  # level 2
        *("{SubjectId,Event}", "{+SubjectId,Event}", "{#SubjectId,Event}", "{.SubjectId}", "{.SubjectId,Event}"),
        *("{/SubjectId}", "{/SubjectId,Event}", "{;SubjectId}", "{;SubjectId,Event}", "{?SubjectId}"),
        *("{?SubjectId,Event}", "{&SubjectId}", "{&SubjectId,Event}"),  # level 3
        *("{SubjectId:3}", "{SubjectId*}", "{+SubjectId:6}", "{+SubjectId*}", "{#SubjectId:6}", "{#SubjectId*}"),
        *("{.SubjectId:3}", "{.SubjectId*}", "{/SubjectId:1,Event}", "{/SubjectId*}", "{;SubjectId:5}"),
        *("{;SubjectId*}", "{?SubjectId:3}", "{?SubjectId*}", "{&SubjectId:3}", "{&SubjectId*}"),  # level 4
        *("{=SubjectId}", "{,SubjectId}", "{!SubjectId}", "{@SubjectId}", "{|SubjectId}"),  # reserved
        *("{ SubjectId}", "{SubjectId }", "{%53ubjectId}", "{SubjectId%}", "{Subject.Id}"),
    ],
)
def test_expressions_of_higher_levels_are_refused(expression: str) -> None:
    for text in (f"http://h/{expression}", f"http://h/a?{expression}"):
        with pytest.raises(TemplateError):
            parse_template(text)


@pytest.mark.parametrize(
    "value",
    [
        *("../admin", "a/../b", "a/./b", "/..", "/.", "./x", "..%2f..%2fadmin", "%2e%2e", "%2E", "%252e%252e"),
        *("%25252525252e.", ".%2e", "%2e.", "%%32%65%2e", "a/%2e%2e/b", "..;x", "../;x", "x/..;/y", "..?", "..#"),
        "..%00",
        "%2e%2e%2f",
    ],
)
def test_a_value_that_makes_a_dot_segment_is_refused_in_a_path_only(value: str) -> None:
    with pytest.raises(TemplateError, match=r"a path segment is '\.' or '\.\.'"):
        expand("http://h/{SubjectId}/x", value)
    assert expand("http://h/x?{SubjectId}", value) == f"http://h/x?{quote(value, safe='')}"


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("http://h/%25{SubjectId}", "2e"),
        ("http://h/.%25{SubjectId}", "2e"),
        ("http://h/a%2F{SubjectId}%2e", "%2e"),
        ("http://h/a;{SubjectId}", "/../x"),
        ("http://h/{SubjectId}%2F..x", "../"),
    ],
)
def test_a_dot_segment_may_come_of_the_template_and_its_value_together(text: str, subject: str) -> None:
    with pytest.raises(TemplateError, match="a path segment"):
        expand(text, subject)


@pytest.mark.parametrize("subject", ["1.2", "...", ".a", "a.", "..a", "patch-1.2.3", "a;..", "%2e%2ex", "..%20"])
def test_dots_that_are_no_dot_segment_are_fine(subject: str) -> None:
    assert expand("http://h/{SubjectId}", subject) == f"http://h/{quote(subject, safe='')}"
    assert expand("http://h/.{SubjectId}.", subject) == f"http://h/.{quote(subject, safe='')}."


@pytest.mark.parametrize("value", ["a\\b", "%5C", "%5c", "%255c", "%%35c", "%25255C", "..\\..", "＼\\"])
def test_a_backslash_is_refused_everywhere_and_however_often_encoded(value: str) -> None:
    for text in ("http://h/{SubjectId}", "http://h/?q={SubjectId}"):
        with pytest.raises(TemplateError, match="backslash"):
            expand(text, value)


def test_a_uri_that_grows_too_long_is_refused() -> None:
    text = "http://h/" + "{SubjectId}" * 64
    assert len(expand(text, "x" * 255)) == len("http://h/") + 64 * 255 <= MAX_EXPANDED_LENGTH
    with pytest.raises(TemplateError, match=f"longer than {MAX_EXPANDED_LENGTH} characters"):
        expand(text, "x" * 256)


def test_a_value_encoded_a_hundred_times_over_costs_no_time() -> None:
    text = "http://h/" + "{SubjectId}" * 16
    began = time.process_time()
    expand(text, "%" + "25" * 127)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("http://h", "/"),
        ("http://h/", "/"),
        ("http://h?a=/b", "/"),
        ("http://h/?a://b/c", "/"),
        ("http://[::1]:80/a/b%2F?c", "/a/b%2F"),
        ("http://h//a//", "//a//"),
        ("http://h/a://b", "/a://b"),
    ],
)
def test_path_of_a_uri(text: str, path: str) -> None:
    assert path_of(expand(text)) == path


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("http://h/a%2Fb", True),
        ("http://h/a%2fb/{SubjectId}", True),
        ("http://h/a%252Fb", True),
        ("http://h/a%25252fb", True),
        ("http://h/a/b?c=%2F", False),
        ("http://h/{SubjectId}", False),
        ("http://h/%20%25", False),
    ],
)
def test_an_encoded_slash_in_the_literal_path_is_told(text: str, has: bool) -> None:
    assert parse_template(text).has_encoded_slash is has


@pytest.mark.parametrize(
    ("text", "host", "uri"),
    [
        ("http://bücher.example/x", "xn--bcher-kva.example", "http://xn--bcher-kva.example/x"),
        ("HTTP://BÜCHER.Example:0080/A", "xn--bcher-kva.example", "HTTP://xn--bcher-kva.example:0080/A"),
        ("http://bu\u0308cher.example/", "xn--bcher-kva.example", "http://xn--bcher-kva.example/"),
        ("http://faß.de", "xn--fa-hia.de", "http://xn--fa-hia.de"),
        ("http://例え.テスト?q", "xn--r8jz45g.xn--zckzah", "http://xn--r8jz45g.xn--zckzah?q"),
        ("https://XN--Bcher-KVA.example/", "xn--bcher-kva.example", "https://XN--Bcher-KVA.example/"),
        ("http://नमस्ते.a_b.corp:8080/", "xn--h2bhs4b8d8a.a_b.corp", "http://xn--h2bhs4b8d8a.a_b.corp:8080/"),
    ],
)
def test_a_host_in_any_script_goes_over_the_wire_as_a_labels(text: str, host: str, uri: str) -> None:
    template = parse_template(text)
    assert (template.host, template.text) == (host, text)
    assert expand(text) == uri


@pytest.mark.parametrize(
    "host",
    [
        *("①⑥⑨.254.169.254", "①②⑦.0.0.1", "\uff11\uff12\uff17.0.0.1", "127。0。0。1", "127．0．0．1", "127｡0｡0｡1"),
        *(
            "\u0661\u0662\u0667.0.0.1",
            "१२७.0.0.1",
            "𝟏𝟐𝟕.0.0.1",
            "0ｘ7f000001",
            "２１３０７０６４３３",
            "h。corp",
            "h．corp",
        ),
        *("ⓗost", "ｈost", "\u212a", "ü\u212a", "\u0130.corp", "h\u00adost", "h\u200bost", "\ufeffh", "h\u2024corp"),
        *("ﬀ", "℀", "h／x", "h？x", "h＃x", "h＠x", "h：80", "h\u037ex", "h\u1fefx", "h\u3000", "h\u00a0", "\u0301x"),
        *("ü-", "-ü", "ab--ü", "ü_", "ü" * 64, "💩", "√", "🇩🇪", "\u202eh", "\U0010ffff", "\ue000"),
        *("xn--a", "xn--", "xn--zzzz", "xn--bcher-kva-", "XN--A.corp", "xn--ls8h", "xn--127-", "xn--1-0za.xn--"),
        *("ü..corp", "ü.", "ü.1", "ü.0x7f", ".ü", "ü%2e", "[ü::1]", "[::1]ü", "ü:８０", "ü:", "ü:0", "ü@h", "h@ü"),
    ],
)
def test_a_host_that_idna_refuses_or_would_have_to_map_is_refused(host: str) -> None:
    with pytest.raises(TemplateError):
        parse_template(f"http://{host}/{{SubjectId}}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        (f"http://h/{'a' * MAX_URI_LENGTH}", f"at most {MAX_URI_LENGTH}"),
        # not absolute, or another scheme
        ("/ScanEnded/{SubjectId}", "not absolute"),
        ("myservice.com/ScanEnded", "not absolute"),
        ("//myservice.com/", "not absolute"),
        ("http:/myservice.com/", "not absolute"),
        ("http:myservice.com", "not absolute"),
        ("{SubjectId}", "not absolute"),
        ("{SubjectId}://h/", "scheme '{SubjectId}' is not supported"),
        ("ftp://h/", "scheme 'ftp' is not supported; use http or https"),
        ("file:///etc/passwd", "scheme 'file'"),
        ("gopher://h/", "scheme 'gopher'"),
        ("ws://h/", "scheme 'ws'"),
        ("httpx://h/", "scheme 'httpx'"),
        # characters
        ("http://h/a b", "U+0020 at position 11"),
        (" http://h/", "U+0020 at position 1"),
        ("http://h/\r\nHost: x", "U+000D at position 10"),
        ("http://h/\n", "U+000A"),
        ("http://h/\t", "U+0009"),
        ("http://h/\x00", "U+0000"),
        ("http://h/\x7f", "U+007F"),
        ("http://h/bücher", "the character U+00FC at position 11 is not allowed in a URI; percent-encode it"),
        ("http://h/?q=é", "percent-encode"),
        ("http://①⑥⑨.254.169.254/", "U+2460"),
        ("http://\u212aelvin/", "U+212A, which reads as an ASCII character"),
        ("http://💩.corp/", "the host '💩.corp' is not an internationalised name (IDNA2008): "),
        ("http://xn--a.corp/", "the host 'xn--a.corp' is not an internationalised name"),
        ("http://\uff11\uff12\uff17.0.0.1/", "U+FF11"),
        ("http://127。0。0。1/", "U+3002"),
        ("http://h/\ud800", "U+D800"),
        ("http://h\\@evil/", "backslash"),
        ("http://h/a\\b", "backslash"),
        ("http://h/a%5Cb", "backslash (also as %5C)"),
        ("http://h/a%5cb", "backslash"),
        ("http://h/?q=%5C", "backslash"),
        ("http://h/%", "percent-encode"),
        ("http://h/%2", "percent-encode"),
        ("http://h/%zz", "percent-encode"),
        ("http://h/?a=%g0", "percent-encode"),
        ("http://h/%{SubjectId}41", "percent-encode"),
        ("http://h/?a=%2{SubjectId}e", "percent-encode"),
        ("http://h/a|b", "does not allow"),
        ("http://h/a^b", "does not allow"),
        ("http://h/[a]", "does not allow"),
        ('http://h/"', "does not allow"),
        ("http://h/<b>", "does not allow"),
        ("http://h/`", "does not allow"),
        # fragment and userinfo
        ("http://h/#", "fragment"),
        ("http://h/#top", "fragment"),
        ("http://h/?a#{SubjectId}", "fragment"),
        ("http://h#@evil/", "fragment"),
        ("http://user@h/", "user and password"),
        ("http://user:secret@h/", "user and password"),
        ("http://@h/", "user and password"),
        ("http://h:80@evil/", "user and password"),
        # host and port
        ("http://", "no host"),
        ("http:///x", "no host"),
        ("http://:80/", "no host"),
        ("http://?x", "no host"),
        ("http://h./", "neither a DNS name nor an IP address"),
        ("http://.h/", "neither"),
        ("http://a..b/", "neither"),
        ("http://-h/", "neither"),
        ("http://h-/", "neither"),
        ("http://h%2e/", "neither"),
        ("http://h%00/", "neither"),
        ("http://h!/", "neither"),
        (f"http://{'a' * 64}/", "neither"),
        (f"http://{'.'.join(['a' * 49] * 6)}/", "neither"),
        ("http://127.0.0.1./", "neither"),
        ("http://::1/", "no host"),
        ("http://[::1/", "not a bracketed IPv6 address"),
        ("http://[::1]80/", "not a bracketed IPv6 address"),
        ("http://[]/", "'[]' is not an IPv6 address"),
        ("http://[h]/", "'[h]' is not an IPv6 address"),
        ("http://[127.0.0.1]/", "is not an IPv6 address"),
        ("http://[::g]/", "is not an IPv6 address"),
        ("http://[fe80::1%eth0]/", "is not an IPv6 address"),
        ("http://[fe80::1%25eth0]/", "is not an IPv6 address"),
        ("http://h:/", "port '' is not a number from 1 to 65535"),
        ("http://h:0/", "port '0'"),
        ("http://h:65536/", "port '65536'"),
        ("http://h:000080/", "port '000080'"),
        ("http://h:+80/", "port '+80'"),
        ("http://h:-1/", "port '-1'"),
        ("http://h:8_0/", "port '8_0'"),
        ("http://h:http/", "port 'http'"),
        ("http://h:80:80/", "port '80:80'"),
        ("http://[::1]:/", "port ''"),
        ("http://[::1]:x/", "port 'x'"),
        # placeholders
        ("http://h/{subjectid}", "{subjectid} is unknown; known are {SubjectId}, {WebhookId}, {DeliveryId}, {Event}"),
        ("http://h/{ScanId}", "{ScanId} is unknown"),
        ("http://h/{}", "{} is unknown"),
        ("http://h/{SubjectId,Event}", "is unknown"),
        ("http://h/{+SubjectId}", "is unknown"),
        ("http://h/{/SubjectId}", "is unknown"),
        ("http://h/x{?SubjectId}", "{?SubjectId} is unknown"),
        ("http://h/{SubjectId:3}", "is unknown"),
        ("http://h/{SubjectId*}", "is unknown"),
        ("http://h/{SubjectId.__class__}", "is unknown"),
        ("http://h/{SubjectId", "brace is not closed"),
        ("http://h/SubjectId}", "not opened"),
        ("http://h/{{SubjectId}}", "brace"),
        ("http://h/{SubjectId}}", "brace"),
        ("http://h/{a{SubjectId}", "brace"),
        ("http://h/?id={SubjectId", "brace is not closed"),
        ("http://{SubjectId}/", "placeholder in the host or port"),
        ("http://{SubjectId}.corp/", "placeholder in the host or port"),
        ("http://h{SubjectId", "placeholder in the host or port"),
        ("http://h}/", "placeholder in the host or port"),
        ("http://h:{SubjectId}/", "placeholder in the host or port"),
        ("http://{SubjectId}@h/", "placeholder in the host or port"),
        # dot segments
        ("http://h/.", "'.' or '..'"),
        ("http://h/..", "'.' or '..'"),
        ("http://h/../{SubjectId}", "would change the path"),
        ("http://h/a/./b", "'.' or '..'"),
        ("http://h/a/../b", "'.' or '..'"),
        ("http://h/a/..?x", "'.' or '..'"),
        ("http://h/%2e", "'.' or '..'"),
        ("http://h/%2E%2e/", "'.' or '..'"),
        ("http://h/.%2E/", "'.' or '..'"),
        ("http://h/%252e%252e/", "'.' or '..'"),
        ("http://h/..%2f..%2fadmin", "'.' or '..'"),
        ("http://h/..%252fadmin", "'.' or '..'"),
        ("http://h/a%2f../b", "'.' or '..'"),
        ("http://h/a/..;x=1/b", "'.' or '..'"),
        ("http://h/a/..%3fb", "'.' or '..'"),
        ("http://h/a%255cb", "backslash"),
        ("http://h/?q=%25255c", "backslash"),
    ],
)
def test_refused(text: str, says: str) -> None:
    with pytest.raises(TemplateError) as refused:
        parse_template(text)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    "host",
    [
        "0",
        "127.1",
        "127.0.1",
        "2130706433",
        "2852039166",
        "0x7f000001",
        "0x7f.1",
        "0X7F.0.0.1",
        "127.0.0.0x1",
        "0x",
        "0251.0376.0251.0376",
        "169.254.43518",
        "010.0.0.1",
        "10.0.0.01",
        "256.0.0.1",
        "1.2.3.4.5",
        "10.0.0.256",
        "a.1",
        "a.0xff",
        "00000000000000000000000000000000000000000000000000177.1",
    ],
)
def test_ip_look_alikes_are_refused_before_any_resolver_sees_them(host: str) -> None:
    with pytest.raises(TemplateError, match="looks like an IP address but is none"):
        parse_template(f"http://{host}/{{SubjectId}}")


@pytest.mark.parametrize("name", PLACEHOLDERS)
@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("", "it is empty"),
        (".", "'.' would change the path"),
        ("..", "'..' would change the path"),
        ("a\r\nHost: evil", "U+000D"),
        ("a\x00", "U+0000"),
        ("\x7f", "U+007F"),
        ("\x85", "U+0085"),
        ("\ud800", "U+D800"),
        ("x" * 257, "longer than 256"),
        ("a\\b", "backslash"),
    ],
)
def test_unusable_value_is_refused(name: str, value: str, says: str) -> None:
    with pytest.raises(TemplateError) as refused:
        parse_template(f"http://h/{{{name}}}").expand({**VALUES, name: value})
    assert says in str(refused.value)


def test_missing_value_is_refused() -> None:
    with pytest.raises(TemplateError, match=r"no value for the placeholder \{Event\}"):
        parse_template("http://h/{SubjectId}/{Event}").expand({"SubjectId": "s"})


def test_values_that_no_placeholder_asks_for_are_not_looked_at() -> None:
    assert parse_template("http://h/{Event}").expand({"Event": "e", "SubjectId": ".."}) == "http://h/e"


def test_longest_template_is_accepted() -> None:
    text = "http://h/".ljust(MAX_URI_LENGTH, "a")
    assert expand(text) == text


def test_template_error_is_a_value_error() -> None:
    assert issubclass(TemplateError, ValueError)


# A family of templates: scheme, host, port, literal pieces and placeholders in path and query.

hosts = st.sampled_from(
    ["h", "myservice.com", "H-1.Corp", "x_y", "10.1.2.3", "[::1]", "[FD00::A:1]", "xn--bcher-kva.de", "bücher.Corp"]
)
ports = st.none() | st.integers(1, 65535)
literals = st.lists(
    st.sampled_from([*"abzAZ09-_~!$&'()*+,;=:@/.", "%20", "%C3%A9", "%2F", "%2f", "%00", "%25"]), max_size=8
).map("".join)
pieces = st.lists(st.one_of(literals, st.sampled_from([f"{{{name}}}" for name in PLACEHOLDERS])), max_size=6)


@st.composite
def templates(draw: st.DrawFn) -> UriTemplate:
    scheme, host, port = draw(st.sampled_from(["http", "https", "HTTP"])), draw(hosts), draw(ports)
    path, query = "".join(draw(pieces)), "".join(draw(pieces))
    text = f"{scheme}://{host}{'' if port is None else f':{port}'}/{path}{'?' + query if draw(st.booleans()) else ''}"
    try:
        return parse_template(text)
    except TemplateError as error:
        assume("path segment" not in str(error))
        raise


fragments = st.sampled_from(
    [*"./\\%;?#@:&= {}ü2eEfF5cC0d", "..", "../", "%2e", "%25", "%2f", "%5c", "\r\n", "\x00", "\ud800"]
)
subjects = st.text(min_size=1, max_size=256) | st.lists(fragments, min_size=1, max_size=20).map("".join)


@given(templates(), subjects, subjects)
def test_expansion_changes_nothing_but_the_placeholders(template: UriTemplate, subject: str, event: str) -> None:
    values = {**VALUES, "SubjectId": subject, "Event": event}
    try:
        uri = template.expand(values)
    except TemplateError as error:
        unusable = [values[name] for name in template.placeholders if subject_fault(values[name])]
        if unusable or re.search("backslash|a path segment|longer than", str(error)):
            return
        raise

    expected = template.text.replace("bücher.Corp", "xn--bcher-kva.corp")
    for name in template.placeholders:
        expected = expected.replace(f"{{{name}}}", quote(values[name], safe=""))
    assert uri == expected
    assert all(0x21 <= ord(character) <= 0x7E for character in uri)
    assert uri.count("?") == template.text.count("?")
    assert uri.count("/") == template.text.count("/")

    parts = urlsplit(uri)
    assert parts.scheme == template.scheme
    assert _same_host(parts.hostname or "", template.host)
    assert (parts.port or {"http": 80, "https": 443}[parts.scheme]) == template.port
    assert not parts.username
    assert not parts.fragment
    assert parts.path == path_of(uri)

    url = URL(uri, encoded=True)
    assert url.scheme == template.scheme
    assert _same_host(url.raw_host or "", template.host)
    assert url.port == template.port
    assert not url.user
    assert not url.raw_fragment
    assert url.raw_path == path_of(uri)
    assert url.raw_path_qs in uri

    plain, before = path_of(uri), ""
    while plain != before:
        assert not {".", ".."} & set(plain.replace("\\", "/").split("/"))
        assert "\\" not in plain
        plain, before = unquote(plain), plain


@given(
    st.text(max_size=40)
    | st.text(st.sampled_from("htps:/{}SubjectId.%2e5C@#?[]\\ \n"), max_size=60).map("http://".__add__)
    | st.text(min_size=1, max_size=20).map(lambda host: f"http://{host}/")
)
def test_any_text_is_a_template_or_a_template_error(text: str) -> None:
    try:
        template = parse_template(text)
    except TemplateError:
        return
    assert template.placeholders <= set(PLACEHOLDERS)
    assert template.host.isascii()
    assert template.host == template.host.lower()
    assert urlsplit(template.text).scheme in ("http", "https")


def _same_host(one: str, other: str) -> bool:
    try:
        return ipaddress.ip_address(one) == ipaddress.ip_address(other)
    except ValueError:
        return one.lower() == other


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("http://h/ScanEnded/{SubjectId}", "http://h/ScanEnded/{SubjectId}"),
        ("http://H:81/a?token=canary", "http://H:81/a?token=***"),
        ("http://h/a?id={SubjectId}&token=canary&e={Event}", "http://h/a?id={SubjectId}&token=***&e={Event}"),
        ("http://h/a?id=canary-{SubjectId}", "http://h/a?id=***"),
        ("http://h/a?canary", "http://h/a?***"),
        ("http://h/a?{SubjectId}", "http://h/a?{SubjectId}"),
        ("http://h?a=canary=b?c=canary", "http://h?a=***"),
        ("http://h/a?a=1;b=canary&&c=", "http://h/a?a=***&&c="),
        ("http://h/a?", "http://h/a?"),
    ],
)
def test_what_a_query_says_is_masked(template: str, shown: str) -> None:
    parse_template(template)
    assert masked(template) == shown


@pytest.mark.parametrize("text", ["", "http://user:canary@h/", "canary", "http://h/{canary}"])
def test_what_is_no_template_is_not_shown(text: str) -> None:
    assert masked(text) is None
