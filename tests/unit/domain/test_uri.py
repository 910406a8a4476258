"""The parts of a URI: names, ports, decoding, dot segments, segments. What templates make of them is in theirs."""

from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presence.domain.uri import decoded, parse_host, parse_name, parse_port, path_fault, segments


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("Jenkins.Corp", "jenkins.corp"),
        ("x_y.3com", "x_y.3com"),
        ("10.example", "10.example"),
        ("r1---sn-x.corp", "r1---sn-x.corp"),
        ("BÜCHER.Corp", "xn--bcher-kva.corp"),
        ("xn--Bcher-KVA", "xn--bcher-kva"),
    ],
)
def test_a_host(text: str, host: str) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "-a", "a-", "a b", "a/b", "a:1", "[::1]", "::1", "a" * 64, "*"])
def test_neither_name_nor_address(text: str) -> None:
    with pytest.raises(ValueError, match="is neither a DNS name nor an IP address"):
        parse_host(text)


@pytest.mark.parametrize("text", ["127.1", "2130706433", "0x7f.1", "0177.0.0.1", "010.0.0.1", "1.2.3.4.5", "a.0x"])
def test_a_look_alike_of_an_address(text: str) -> None:
    with pytest.raises(ValueError, match="looks like an IP address but is none"):
        parse_host(text)


def test_an_address_is_no_name() -> None:
    with pytest.raises(ValueError, match="looks like an IP address"):
        parse_name("10.1.2.3")


@given(st.text(max_size=20) | st.text(st.sampled_from("aü-.1１۰①。xn"), max_size=20))  # noqa: RUF001
def test_any_text_is_a_name_in_ascii_or_a_value_error(text: str) -> None:
    try:
        name = parse_name(text)
    except ValueError:
        return
    assert name.isascii()
    assert name == name.lower() == parse_name(name)
    assert not name.rpartition(".")[2].isdigit()
    assert text.count(".") == name.count(".")


@pytest.mark.parametrize(("text", "port"), [("1", 1), ("0080", 80), ("65535", 65535)])
def test_a_port(text: str, port: int) -> None:
    assert parse_port(text) == port


@pytest.mark.parametrize("text", ["", "0", "65536", "-1", "+80", " 80", "8_0", "80:80", "٣", "8０", "000080", "http"])  # noqa: RUF001
def test_no_port(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number from 1 to 65535"):
        parse_port(text)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("", ""),
        ("/a/b", "/a/b"),
        ("%2e%2E", ".."),
        ("%252e", "."),
        ("%25252525252e", "."),
        ("%%32%65", "."),
        ("%2%35%32%65", "."),
        ("%C3%A9", "\xc3\xa9"),
        ("%", "%"),
        ("%2", "%2"),
        ("%zz%2", "%zz%2"),
        ("%+1%-1% 1", "%+1%-1% 1"),
        ("%1_", "%1_"),
    ],
)
def test_decoded(text: str, plain: str) -> None:
    assert decoded(text) == plain


encoded = st.lists(st.sampled_from([*"%2e5Fc./a", "%25", "%2e", "%2F", "%5c"]), max_size=30).map("".join)


@given(encoded)
def test_decoded_is_what_is_left_of_decoding_again_and_again(text: str) -> None:
    plain, before = text.encode(), b""
    while plain != before:
        plain, before = unquote_to_bytes(plain), plain
    assert decoded(text) == plain.decode("latin-1")


@given(st.text(st.characters(max_codepoint=0x7E), max_size=20), st.integers(0, 5))
def test_however_often_it_was_encoded(text: str, times: int) -> None:
    once = decoded(text)
    for _ in range(times):
        text = quote(text, safe="")
    assert decoded(text) == once


@pytest.mark.parametrize(
    "path",
    [
        *("/.", "/..", "/../a", "/a/./b", "/a/%2e", "/%2E%2e/", "/a%2f..", "/a%2F.%2Fb", "/%252e%252e/", "/..%2f"),
        *("/..;/a", "/.;x", "/..%3b/a", "/..?x", "/..%23", "/..%00", "/..%0a", "..", ".", "/a//../b"),
    ],
)
def test_a_path_with_dot_segments(path: str) -> None:
    assert "a path segment is '.' or '..'" in (path_fault(path) or "")


@pytest.mark.parametrize("path", ["\\", "/a\\b", "/%5C", "/%5c..", "/%255c", "/..\\"])
def test_a_path_with_a_backslash(path: str) -> None:
    assert "backslash" in (path_fault(path) or "")


@pytest.mark.parametrize("path", ["", "/", "//", "/...", "/.a/a./a..b", "/a;.", "/%2f", "/..a", "/a..;x", "/%"])
def test_a_path_that_names_what_it_shows(path: str) -> None:
    assert path_fault(path) is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", ()),
        ("/", ()),
        ("/a", ("a",)),
        ("//a///b/", ("a", "b")),
        ("/%61%2D%7E%5f", ("a-~_",)),
        ("/a%2fb%c3%a9", ("a%2Fb%C3%A9",)),
        ("/%2561", ("%2561",)),
        ("/A;v=1", ("A;v=1",)),
    ],
)
def test_segments(path: str, expected: tuple[str, ...]) -> None:
    assert segments(path) == expected
