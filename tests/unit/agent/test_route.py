"""Which proxy the settings and the environment name for the link."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presence.agent.route import from_environment, is_exempt, parse_setting

CLOUD = "cloud.example.com"


@pytest.mark.parametrize(
    ("environment", "secure", "place", "origin"),
    [
        ({}, True, None, ""),
        ({"HTTPS_PROXY": ""}, True, None, ""),
        ({"HTTPS_PROXY": "http://proxy.corp:3128"}, True, "proxy.corp:3128", "HTTPS_PROXY"),
        ({"HTTPS_PROXY": "http://proxy.corp:3128"}, False, None, ""),
        ({"HTTP_PROXY": "http://proxy.corp:3128"}, True, None, ""),
        ({"HTTP_PROXY": "http://proxy.corp:3128/"}, False, "proxy.corp:3128", "HTTP_PROXY"),
        ({"https_proxy": "proxy.corp:3128"}, True, "proxy.corp:3128", "https_proxy"),
        ({"https_proxy": "http://lower:1", "HTTPS_PROXY": "http://upper:1"}, True, "upper:1", "HTTPS_PROXY"),
        ({"ALL_PROXY": "http://all:1", "HTTPS_PROXY": "http://own:1"}, True, "own:1", "HTTPS_PROXY"),
        ({"all_proxy": "socks5h://all"}, True, "all:1080", "all_proxy"),
        ({"HTTPS_PROXY": "http://proxy.corp"}, True, "proxy.corp:80", "HTTPS_PROXY"),
        ({"HTTPS_PROXY": "http://10.0.0.1:3128", "NO_PROXY": "example.com"}, True, None, ""),
        ({"HTTPS_PROXY": "http://10.0.0.1:3128", "no_proxy": "example.org"}, True, "10.0.0.1:3128", "HTTPS_PROXY"),
    ],
)
def test_the_environment_names_a_proxy(
    environment: dict[str, str], secure: bool, place: str | None, origin: str
) -> None:
    found = from_environment(environment, secure, CLOUD, 443)
    assert (str(found) if found else None, found.origin if found else "") == (place, origin)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1", "api.localhost"])
def test_this_machine_is_never_looked_for_behind_a_proxy_of_the_environment(host: str) -> None:
    assert from_environment({"ALL_PROXY": "http://proxy:1"}, True, host, 443) is None


def test_user_and_password_of_the_environment_are_decoded_and_hidden() -> None:
    found = from_environment({"HTTPS_PROXY": "http://us%40er:p%3A%2F@proxy:1"}, True, CLOUD, 443)
    assert found is not None
    assert found.credentials == "us@er:p:/"
    assert "p:/" not in repr(found)
    assert str(found) == "proxy:1"


@pytest.mark.parametrize("value", ["https://CANARY@proxy:1", "ftp://proxy:1", "http://", "http://CANARY:x/y", "a b:1"])
def test_a_variable_that_cannot_be_used_is_named_without_its_value(value: str) -> None:
    with pytest.raises(ValueError) as caught:
        from_environment({"https_proxy": value}, True, CLOUD, 443)
    assert str(caught.value).startswith("https_proxy (environment): ")
    assert str(caught.value).endswith("or set control_plane.proxy")
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize(
    ("entries", "host", "port", "covered"),
    [
        ("*", CLOUD, 443, True),
        ("", CLOUD, 443, False),
        (" , ,", CLOUD, 443, False),
        ("cloud.example.com", CLOUD, 443, True),
        ("example.com", CLOUD, 443, True),
        ("EXAMPLE.com", CLOUD, 443, True),
        (".example.com", CLOUD, 443, True),
        ("*.example.com", CLOUD, 443, True),
        (".cloud.example.com", CLOUD, 443, False),
        ("d.example.com", CLOUD, 443, False),
        ("ample.com", CLOUD, 443, False),
        ("other, example.com", CLOUD, 443, True),
        ("other example.com", CLOUD, 443, True),
        ("example.com:443", CLOUD, 443, True),
        ("example.com:8443", CLOUD, 443, False),
        ("10.0.0.1", "10.0.0.1", 443, True),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.7/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.0.0.0/8", CLOUD, 443, False),
        ("10.0.0.0/8:8443", "10.1.2.3", 8443, True),
        ("10.0.0.0/8:8443", "10.1.2.3", 443, False),
        ("10.0.0.1:8443", "10.0.0.1", 8443, True),
        ("fd00::1", "fd00::1", 443, True),
        ("[fd00::1]", "fd00::1", 443, True),
        ("[fd00::1]:443", "fd00::1", 443, True),
        ("[fd00::1]:8443", "fd00::1", 443, False),
        ("fd00::/8", "fd12::1", 443, True),
        ("fd00::/8", "10.0.0.1", 443, False),
        ("10.0.0.0/99", "10.0.0.1", 443, False),
        ("example.com:²", CLOUD, 443, False),
    ],
)
def test_no_proxy_covers_names_suffixes_addresses_networks_and_ports(
    entries: str, host: str, port: int, covered: bool
) -> None:
    assert is_exempt(entries, host, port) is covered


@given(st.text(), st.sampled_from([CLOUD, "10.0.0.1", "fd00::1"]), st.integers(1, 65535))
def test_no_proxy_may_be_anything(entries: str, host: str, port: int) -> None:
    is_exempt(entries, host, port)


@pytest.mark.parametrize(
    ("text", "scheme", "place"),
    [
        ("http://proxy.corp:3128", "http", "proxy.corp:3128"),
        ("HTTP://proxy.corp:3128/", "http", "proxy.corp:3128"),
        ("socks5://[fd00::1]:1080", "socks5", "fd00::1:1080"),
        ("socks5h://10.0.0.1:1080", "socks5", "10.0.0.1:1080"),
    ],
)
def test_a_setting_names_a_proxy(text: str, scheme: str, place: str) -> None:
    found = parse_setting(text)
    assert found is not None
    assert (found.scheme, str(found), found.origin) == (scheme, place, "control_plane.proxy")


def test_a_setting_can_say_that_there_is_none() -> None:
    assert parse_setting("none") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("proxy.corp:3128", "only http:// and socks5:// proxies"),
        ("https://proxy.corp:3128", "only http:// and socks5:// proxies"),
        ("http://user:CANARY@proxy.corp:3128", "proxy_credentials_file"),
        ("http://proxy.corp", "host and port"),
        ("http://proxy.corp:3128/path", "host and port"),
    ],
)
def test_a_setting_that_cannot_be_used_says_what_is_right(text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_setting(text)
    assert words in str(caught.value)
    assert "CANARY" not in str(caught.value)
