"""Settings: precedence, and errors that say where, which key and what is right."""

from pathlib import Path

import pytest

from presence.agent.settings import AgentSettings, load_settings
from presence.domain.egress import EgressPolicy
from presence.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("presence.agent.settings.DEFAULT_FILE", tmp_path / "absent.toml")
    monkeypatch.setattr("presence.agent.settings.DEFAULT_KEY_FILE", tmp_path / "default.key")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


def settings(tmp_path: Path, text: str) -> AgentSettings:
    (tmp_path / "agent.toml").write_text(text)
    return load_settings(tmp_path / "agent.toml")


def test_everything_has_a_default() -> None:
    assert load_settings().delivery.max_in_flight == 64


def test_the_environment_beats_the_file_key_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRESENCE_RETRY__MAX_ATTEMPTS", "3")
    monkeypatch.setenv("PRESENCE_EGRESS__ALLOW", '["10.0.0.1", "jenkins.corp:8080"]')
    found = settings(tmp_path, "[retry]\nmax_attempts = 5\ninitial = 2\n[egress]\ndefault = 'deny'\n")
    assert (found.retry.max_attempts, found.retry.initial) == (3, 2.0)
    assert (found.egress.default, found.egress.allow) == ("deny", ("10.0.0.1", "jenkins.corp:8080"))


def test_the_file_can_be_named_by_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").write_text("[log]\nlevel = 'debug'\n")
    monkeypatch.setenv("PRESENCE_CONFIG", str(tmp_path / "mine.toml"))
    assert load_settings().log.level == "debug"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[log]\nlevle = 'x'\n", ":2: log.levle: no such setting"),
        ("[logs]\nlevel = 'x'\n", ":1: logs: no such setting"),
        ("\n[retry]\n# many\nmax_attempts = 'many'\n", ":4: retry.max_attempts: Input should be a valid integer"),
        ("[egress]\nallow = ['a', '10.0.0.0/99']\n", ":2: egress.allow[1]: '10.0.0.0/99' is not a rule"),
        ("[egress]\nallow = 'a'\n", ':2: egress.allow: not a list; write it as ["first", "second"]'),
        ("[egress]\nmode = 'off'\n", ":2: egress.mode: Input should be 'enforce' or 'observe'; for example mode = "),
        ("[egress]\nmethods = ['GET', 'PATCH']\n", ":2: egress.methods[1]: Input should be 'GET', 'POST' or 'PUT'"),
        ("[egress]\nmethods = []\n", ":2: egress.methods: the list is empty; give at least one"),
        ("[egress]\ndangerously_lift = ['10.0.0.1']\n", ":2: egress.dangerously_lift[0]: '10.0.0.1' is neither"),
        ("[delivery]\nrate = 0\n", ":2: delivery.rate: Input should be greater than 0; for example rate = 50.0"),
        ("[delivery]\nper_host = 0\n", ":2: delivery.per_host: Input should be greater than or equal to 1"),
        ("log = 3\n", ":1: log: not a table; write it as { key = value }"),
        ("[retry]\ninitial = 0\n", ":2: retry.initial: Input should be greater than 0"),
        ("[retry]\ninitial = nan\n", ":2: retry.initial: Input should be a finite number"),
        ("[log\n", ": not TOML: "),
        (
            "[control_plane]\nurl = 'ftp://x'\n",
            ":2: control_plane.url: not an address of a control plane; for example url = ",
        ),
        ("[control_plane]\nproxy = 'none'\nurl = 'ws://cloud.example.com'\n", ":3: control_plane.url: not encryp"),
        ("[control_plane]\nurl = 'ws://128.0.0.1'\n", 'accept that; for example url = "wss://presence.example.com"'),
        ("[control_plane]\nurl = 'ws://my.localhost'\n", ":2: control_plane.url: not encrypted, so"),
        ("[control_plane]\nkey = 'CANARY'\nkey_file = '/k'\n", ":3: control_plane.key_file: key is set, too; remove"),
        ("[control_plane]\nurl = 'ws://127.0.0.1:99999'\n", "the port '99999'"),
        ("[control_plane]\nurl = 'wss://user:CANARY@cloud.example.com'\n", "user and password"),
        ("[control_plane]\nurl = 'wss://h/#f'\n", "fragment"),
        ("[control_plane]\nurl = 'wss://a..b.example'\n", "neither a DNS name nor"),
        ("[control_plane]\nurl = 'wss://h/{SubjectId}'\n", "placeholder"),
        ("[control_plane]\nurl = 'wss://h/?token=CANARY'\n", "a query has no place here"),
        ("[control_plane]\nproxy = 'https://p:1'\n", ":2: control_plane.proxy: only http:// and socks5:// proxies"),
        ("[control_plane]\nproxy = 'http://user:CANARY@p:1'\n", "as user:password, and give its path as proxy_cred"),
        ("[control_plane]\nproxy = 'none'\nproxy_credentials_file = 'x'\n", ":3: control_plane.proxy_cred"),
        ("[control_plane]\nclient_key = 'x'\n", ":2: control_plane.client_key: a key without a certificate; give"),
        ("[journal]\nmax_deliveries = 200\nmax_remembered = 100\n", ":3: journal.max_remembered: less than max_del"),
    ],
)
def test_an_error_says_where_and_what(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "agent.toml"))
    assert expected in str(caught.value)
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PRESENCE_LOGLEVEL", "debug", "PRESENCE_LOGLEVEL: no such setting"),
        ("PRESENCE_EGRESS__ALLOW", "10.0.0.1", 'PRESENCE_EGRESS__ALLOW: not JSON; write a list as ["first", "second"]'),
        ("PRESENCE_RETRY__MAX_ATTEMPTS", "0", "PRESENCE_RETRY__MAX_ATTEMPTS: retry.max_attempts: "),
        ("PRESENCE_CONFIG", "/nowhere/agent.toml", "/nowhere/agent.toml: there is no such file"),
    ],
)
def test_a_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert str(caught.value).startswith(expected)


def test_the_egress_policy_is_what_was_written(tmp_path: Path) -> None:
    text = "default = 'deny'\nmode = 'observe'\nallow = ['a.corp']\ndeny = ['b.corp', 'c.corp']\n"
    text += "methods = ['GET', 'POST']\ndangerously_lift = ['169.254.169.254', 'fe80::/10']\n"
    policy = settings(tmp_path, f"[egress]\n{text}").egress.policy()
    assert (policy.default, policy.mode, policy.methods) == ("deny", "observe", {"GET", "POST"})
    assert [rule.name for rule in policy.allow] == ["a.corp"]
    assert [rule.name for rule in policy.deny] == ["b.corp", "c.corp"]
    assert list(map(str, policy.lifted)) == ["169.254.169.254/32", "fe80::/10"]
    assert policy.own == frozenset()


def test_without_settings_the_policy_opens_private_addresses_for_get() -> None:
    assert load_settings().egress.policy() == EgressPolicy()


def test_every_phase_of_an_attempt_has_a_limit_of_its_own() -> None:
    delivery = load_settings().delivery
    assert (delivery.dns_timeout, delivery.connect_timeout, delivery.tls_timeout) == (5.0, 5.0, 5.0)
    assert (delivery.first_byte_timeout, delivery.attempt_timeout) == (15.0, 30.0)
    assert (delivery.max_response_bytes, delivery.max_header_bytes) == (65_536, 32_768)
    assert (delivery.max_in_flight, delivery.per_host, delivery.rate) == (64, 8, None)


def test_variables_of_the_control_plane_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRESENCE_CP_SERVER__PORT", "1")
    load_settings()


def test_no_error_and_no_repr_shows_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRESENCE_CONTROL_PLANE__KEY", "CANARY-SECRET")
    assert "CANARY" not in repr(load_settings())
    for text in ("[control_plane]\nkey_file = '/x'\n", "[control_plane]\nurl = 7\n", "[control_plane]\nnope = 1\n"):
        with pytest.raises(ConfigurationError) as caught:
            settings(tmp_path, text)
        assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("wss://cloud.example.com", "wss://cloud.example.com/agent/v1"),
        ("https://cloud.example.com/", "wss://cloud.example.com/agent/v1"),
        ("https://cloud.example.com/presence/agent/v1", "wss://cloud.example.com/presence/agent/v1"),
        ("http://127.0.0.1:8480", "ws://127.0.0.1:8480/agent/v1"),
        ("ws://[::1]:8480", "ws://[::1]:8480/agent/v1"),
        ("ws://127.0.0.2", "ws://127.0.0.2/agent/v1"),
        ("ws://localhost", "ws://localhost/agent/v1"),
    ],
)
def test_the_address_of_the_gateway(tmp_path: Path, url: str, address: str) -> None:
    assert settings(tmp_path, f"[control_plane]\nurl = '{url}'\n").control_plane.address() == address


def test_without_a_url_the_daemon_says_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match="PRESENCE_CONTROL_PLANE__URL"):
        load_settings().control_plane.require()


def test_without_a_key_the_daemon_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="PRESENCE_CONTROL_PLANE__KEY_FILE"):
        settings(tmp_path, "[control_plane]\nurl = 'wss://h'\n").control_plane.require()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("pk_1_abcdefghijkl\n", "pk_1_abcdefghijkl"),
        ('{"Key": "pk_1_abcdefghijkl", "ExpiresAt": "2027-01-01T00:00:00Z"}', "pk_1_abcdefghijkl"),
    ],
)
def test_the_key_file_is_taken_as_downloaded(tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "k").write_text(content)
    found = settings(tmp_path, f"[control_plane]\nkey_file = '{tmp_path / 'k'}'\n")
    assert found.control_plane.read_key() == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [("", "empty or damaged"), ('{"Kay": 1}', "no 'Key'"), ("a\x00b", "empty or damaged"), (None, "cannot be read")],
)
def test_a_bad_key_file_is_named(tmp_path: Path, content: str | None, expected: str) -> None:
    if content is not None:
        (tmp_path / "k").write_text(content)
    found = settings(tmp_path, f"[control_plane]\nkey_file = '{tmp_path / 'k'}'\n")
    with pytest.raises(ConfigurationError, match=expected) as caught:
        found.control_plane.read_key()
    assert str(caught.value).startswith(str(tmp_path / "k"))


def test_systemd_hands_over_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "presence.key").write_text("pk_from_systemd_0123")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert load_settings().control_plane.read_key() == "pk_from_systemd_0123"


def test_without_a_word_of_its_own_the_key_is_where_enroll_puts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "default.key").write_text("pk_from_enroll_0123")
    assert load_settings().control_plane.read_key() == "pk_from_enroll_0123"
    (tmp_path / "presence.key").write_text("pk_from_systemd_0123")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert load_settings().control_plane.read_key() == "pk_from_systemd_0123"
