"""`[[targets]]` in the file and in the environment: what is taken, and errors that name table, key and line."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from presence.agent.settings import AgentSettings, load_settings
from presence.agent.target_settings import Target, proxy_address
from presence.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("presence.agent.settings.DEFAULT_FILE", tmp_path / "absent.toml")


def settings(tmp_path: Path, text: str) -> AgentSettings:
    (tmp_path / "agent.toml").write_text(text)
    return load_settings(tmp_path / "agent.toml")


def test_there_are_no_targets_by_default() -> None:
    assert load_settings().targets == ()


def test_the_tables_of_the_file_in_their_order(tmp_path: Path) -> None:
    text = """
        [[targets]]
        host = "jenkins.corp:8443"
        headers = { Authorization = { file = "/etc/presence/token" }, X-Source = "presence" }
        ca_file = "/etc/presence/ca.pem"
        client_cert = "/etc/presence/client.pem"
        client_key = "/etc/presence/client.key"
        connect_timeout = 2
        timeout = 60
        max_in_flight = 2
        rate = 0.5

        [[targets]]
        host = "*.corp"
        proxy = "http://proxy.corp:3128"
        proxy_credentials_file = "/etc/presence/proxy"
        proxy_resolves = true
        [targets.headers]
        X-Team = "qa"
    """
    first, second = settings(tmp_path, text).targets
    assert first.headers["X-Source"] == SecretStr("presence")
    assert first.model_dump(exclude={"headers"}, exclude_defaults=True) == {
        "host": "jenkins.corp:8443",
        "ca_file": Path("/etc/presence/ca.pem"),
        "client_cert": Path("/etc/presence/client.pem"),
        "client_key": Path("/etc/presence/client.key"),
        "connect_timeout": 2.0,
        "timeout": 60.0,
        "max_in_flight": 2,
        "rate": 0.5,
    }
    assert (second.host, second.proxy, second.proxy_resolves) == ("*.corp", "http://proxy.corp:3128", True)
    assert list(second.headers) == ["X-Team"]


def test_the_variable_replaces_the_file_s_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [{"host": "a", "headers": {"X-A": "b", "X-C": {"file": "/d"}}}, {"host": "10.0.0.0/8", "rate": 2}]
    monkeypatch.setenv("PRESENCE_TARGETS", json.dumps(tables))
    found = settings(tmp_path, "[[targets]]\nhost = 'c'\n").targets
    assert [(target.host, target.rate) for target in found] == [("a", None), ("10.0.0.0/8", 2.0)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("jenkins.corp", 'PRESENCE_TARGETS: not JSON; write a list of tables as [{"key": "value"}]'),
        ('{"host": "a"}', "PRESENCE_TARGETS: targets: not a list of tables; begin each of them with [[targets]]"),
        ('[{"host": "a"}, {"hots": "a"}]', "PRESENCE_TARGETS: targets[1].host: is missing; for example host = "),
        ('[{"host": "a", "rate": "CANARY"}]', "PRESENCE_TARGETS: targets[0].rate: Input should be a valid number"),
    ],
)
def test_a_fault_in_the_variable_is_named(monkeypatch: pytest.MonkeyPatch, value: str, expected: str) -> None:
    monkeypatch.setenv("PRESENCE_TARGETS", value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert str(caught.value).startswith(expected)
    assert "CANARY" not in str(caught.value)


def test_an_unknown_variable_gets_the_one_that_may_be_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRESENCE_TARGETS__0__HOST", "a")
    with pytest.raises(
        ConfigurationError, match=r"^PRESENCE_TARGETS__0__HOST: no such setting; did you mean PRESENCE_TARGETS\?$"
    ):
        load_settings()


BEFORE = "[log]\n[[targets]] # one\nhost = 'first.corp'\n  [ targets.headers ]\n  X-A = 'a'\n\n"
"""Six lines with one right table."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[targets]]\nrate = 1\n", ":7: targets[1].host: is missing; for example host = "),
        ("[[targets]]\nhost = 'a/b'\n", ":8: targets[1].host: only a host can be given here"),
        ("[[targets]]\nhost = 'POST a'\n", ":8: targets[1].host: only a host can be given here"),
        ("[[targets]]\nhost = 'a in 10.0.0.0/8'\n", ":8: targets[1].host: only a host can be given here"),
        ("[[targets]]\nhost = '10.0.0.1/8'\n", ":8: targets[1].host: '10.0.0.1/8' is not a rule: 10.0.0.1/8 has host"),
        ("[[targets]]\nhost = ''\n", ":8: targets[1].host: '' is not a rule"),
        ("[[targets]]\nhost = 'a'\nhots = 'CANARY'\n", ":9: targets[1].hots: no such setting; did you mean host?"),
        ("[[targets]]\nhost = 'a'\n\nclient_key = '/k'\n", ":10: targets[1].client_key: a key without a certificate"),
        ("[[targets]]\nhost='a'\nrate = 0 # c\n", ":9: targets[1].rate: Input should be greater than 0; for example"),
        ("[[targets]]\nhost='a'\n'max_in_flight'=0\n", ":9: targets[1].max_in_flight: Input should be greater than"),
        ("[[targets]]\nhost='a'\ntimeout=inf\n", ":9: targets[1].timeout: Input should be a finite number"),
        ("[[targets]]\nhost='a'\nproxy_resolves=true\n", ":9: targets[1].proxy_resolves: there is no proxy"),
        ("[[targets]]\nhost='a'\nproxy_credentials_file='/c'\n", ":9: targets[1].proxy_credentials_file: there is no"),
        ("[[targets]]\nhost='a'\nproxy = 'http://u:CANARY@p:1'\n", ":9: targets[1].proxy: user and password have no"),
        ("[[targets]]\nhost='a'\nheaders = 'CANARY'\n", ":9: targets[1].headers: not a table; write it as { key ="),
        (
            "[[targets]]\nhost='a'\nheaders.X-B = 7\n",
            ":9: targets[1].headers.X-B: write the value as a text, or { file",
        ),
        ("[[targets]]\nhost='a'\nheaders.X-B = { fil = 'CANARY' }\n", ":9: targets[1].headers.X-B: write the value as"),
        (
            "[[targets]]\nhost='a'\n[targets.headers]\nX-B = 'b'\nX-C = ' CANARY'\n",
            ":11: targets[1].headers.X-C: the value begins or ends with a blank",
        ),
        (
            "[[targets]]\nhost='a'\nheaders = {'Authorization: CANARY' = 'b'}\n",
            ":9: targets[1].headers.Authorization...: not the name of a header",
        ),
        ("[[targets]]\nhost='a'\nheaders = {X-B='b', x-b='c'}\n", ":9: targets[1].headers: the header 'x-b' is given"),
        ('[[targets]]\nrate = 1\nhost = """\na\nb"""\ntimeout = 1\n', ":9: targets[1].host: "),
    ],
)
def test_a_fault_names_line_table_and_key(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings(tmp_path, BEFORE + text)
    assert str(caught.value).startswith(f"{tmp_path / 'agent.toml'}{expected}")
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\n[targets]\nhost = 'a'\n", ":2: targets: not a list of tables; begin each of them with [[targets]]"),
        ("targets = ['a']\n", ":1: targets[0]: not a table; write it as { key = value }"),
        ("\ntargets = [\n  {host = 'a'},\n  {host = 'a', rate = 0},\n]\n", ":2: targets[1].rate: "),
    ],
)
def test_tables_written_in_another_way(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'agent.toml'}{expected}")


def test_every_fault_has_its_line(tmp_path: Path) -> None:
    text = "".join(f"[[targets]]\nhost = 'h{number}'\nrate = {number % 2}\n" for number in range(6))
    with pytest.raises(ConfigurationError) as caught:
        settings(tmp_path, text)
    lines = [line.split(": ")[:2] for line in str(caught.value).splitlines()]
    file = str(tmp_path / "agent.toml")
    assert lines == [[f"{file}:{line}", f"targets[{n}].rate"] for n, line in [(0, 3), (2, 9), (4, 15)]]


OURS = [
    *("Host", "content-length", "Transfer-Encoding", "Connection", "Keep-Alive", "TE", "Trailer", "Upgrade", "Expect"),
    *("webhook-id", "Webhook-Timestamp", "Proxy-Authorization", "proxy-x"),
]


@pytest.mark.parametrize("name", OURS)
def test_the_agent_s_own_headers_cannot_be_set(name: str) -> None:
    with pytest.raises(ValidationError, match="the agent's own"):
        Target.model_validate({"host": "h", "headers": {name: "x"}})


@pytest.mark.parametrize("name", ["", "X Bad", "X:Y", "X\n", "X\r\nY", "Ä", "X\x00", "(x)", '"x"', "a/b", "x\n"])
def test_a_header_name_is_a_token(name: str) -> None:
    with pytest.raises(ValidationError, match="not the name of a header"):
        Target.model_validate({"host": "h", "headers": {name: "x"}})


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "User-Agent", "!#$%&'*+-.^_`|~1aZ"])
def test_other_headers_can_be_set(name: str) -> None:
    assert list(Target.model_validate({"host": "h", "headers": {name: "x y"}}).headers) == [name]


@pytest.mark.parametrize("value", ["", " x", "x ", "\tx", "x\r\nY: z", "x\x00", "é", "x\x7f", "x" * 8193])
def test_a_header_value_is_printable_ascii_without_blanks_around_it(value: str) -> None:
    with pytest.raises(ValidationError, match="value"):
        Target.model_validate({"host": "h", "headers": {"X": value}})


@pytest.mark.parametrize(
    "url",
    [
        *("proxy.corp:3128", "https://p:1", "socks5://p:1", "http:p:1", "", "http://"),
        *("http://p", "http://p:", "http://p:0", "http://p:65536", "http://p:1/x", "http://p:1/?q", "http://p:1#f"),
        *("http://u@p:1", "http://u:CANARY@p:1", "http://u:CANARY%40p:1", "http://1.2.3:1", "http://p:1/{SubjectId}"),
    ],
)
def test_a_proxy_is_a_host_and_a_port_spoken_to_in_clear(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        proxy_address(url)
    assert "CANARY" not in str(caught.value)


def test_a_fault_in_the_certificate_does_not_make_another_of_its_key() -> None:
    values: dict[str, Any] = {"host": "h", "client_cert": 7, "client_key": "/k", "proxy": "p", "proxy_resolves": True}
    with pytest.raises(ValidationError) as caught:
        Target.model_validate(values)
    assert [fault["loc"][0] for fault in caught.value.errors()] == ["client_cert", "proxy"]
