"""Settings: precedence, defaults, and errors that name place, key, fault and remedy but no value."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from presence.controlplane.settings import ControlPlaneSettings, load_settings
from presence.errors import ConfigurationError, ExitCode


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    monkeypatch.delenv("PRESENCE_CP_CONFIG", raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "control-plane.toml"


def test_defaults(tmp_path: Path) -> None:
    settings = load_settings()
    assert (settings.server.host, settings.server.port, settings.server.public_url) == ("127.0.0.1", 8480, None)
    assert settings.database.path == tmp_path / "control-plane.db"
    assert (settings.dispatch.lease, settings.dispatch.canary_every, settings.dispatch.canary_timeout) == (60, 15, 30)
    assert (settings.auth.token_lifetime, settings.auth.key_lifetime) == (3600, 365)


def test_the_environment_beats_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('[server]\nport = 1\nhost = "0.0.0.0"\n[database]\nurl = "sqlite:////tmp/x.db"\n')
    monkeypatch.setenv("PRESENCE_CP_SERVER__PORT", "2")
    settings = load_settings(file)
    assert (settings.server.port, settings.server.host) == (2, "0.0.0.0")
    assert settings.database.path == Path("/tmp/x.db")


@pytest.mark.parametrize(
    "url", ["postgresql://u@h:5433/d", "postgresql://u@/d?host=/run/postgresql", "postgresql://u@h/d?sslmode=require"]
)
def test_a_postgresql_database(file: Path, url: str) -> None:
    file.write_text(f'[database]\nurl = "{url}"\nowner_url = "postgresql://o@h/d"\npassword_file = "/x"\n')
    database = load_settings(file).database
    assert (database.is_postgresql, database.url, database.user) == (True, url, "u")


def test_the_file_named_by_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("[server]\nport = 5\n")
    monkeypatch.setenv("PRESENCE_CP_CONFIG", str(file))
    assert load_settings().server.port == 5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[server\n", ["not TOML", "line 1"]),
        ("[server]\n\nport = 'SECRET'\n", [":3: ", "server.port", "integer", "for example port = 8480"]),
        ("[server]\nport = 70000\n", [":2: ", "65535"]),
        ("[server]\nprot = 1\n", [":2: ", "server.prot: no such setting", "did you mean port?"]),
        ("[sever]\nport = 1\n", [":1: ", "sever: no such setting", "server"]),
        ("server = 1\n", [":1: ", "server"]),
        ('[database]\nurl = "postgresql://u:SECRET@h/d"\n', [":2: ", "database.url", "holds a password", "file"]),
        ('[database]\nurl = "postgresql://h/SECRET"\n', [":2: ", "database.url", "names the user and the database"]),
        ('[database]\nurl = "postgresql://u@h"\n', [":2: ", "database.url", "names the user and the database"]),
        ('[database]\nurl = "postgresql://u@h/d?password=SECRET"\n', ["database.url", "these options only", "sslmode"]),
        ('[database]\nurl = "postgresql://u@[h/d"\n', ["database.url", "not a PostgreSQL URL"]),
        ('[database]\nurl = "postgresql+asyncpg://u@h/d"\n', ["database.url", "postgresql://"]),
        ('[database]\nurl = "mysql://SECRET"\n', [":2: ", "database.url", "neither a SQLite file nor", "sqlite:////"]),
        ('[database]\nowner_url = "postgresql://u@h/d"\n', [":2: ", "database.owner_url", "url is a SQLite file"]),
        ('[database]\nowner_url = "sqlite:////x"\n', ["database.owner_url", "not a PostgreSQL URL"]),
        ('[server]\npublic_url = "SECRET"\n', ["server.public_url", "https://presence.example.com"]),
        ('[server]\ntrusted_proxies = ["SECRET"]\n', ["server.trusted_proxies", "addresses or networks", "10.0.0.0/8"]),
        ('[server]\nmetrics = "SECRET"\n', ["server.metrics", "'loopback'"]),
        ("[limits]\nrequests_per_minute = 0\n", ["limits.requests_per_minute", "greater"]),
        ("[dispatch]\ncanary_every = 60\n", [":2: ", "dispatch.canary_every: not shorter than canary_timeout"]),
        ("[retention]\nevents = 30\n", [":2: ", "retention.events: fewer days than deliveries"]),
        ("[dispatch]\nlease = nan\n", ["dispatch.lease", "finite"]),
        ('[log]\nlevel = "loud"\n', ["log.level", "'debug'", 'level = "info"']),
    ],
)
def test_errors_in_the_file(file: Path, text: str, says: list[str]) -> None:
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(file)
    message = str(caught.value)
    assert message.startswith(str(file))
    assert all(part in message for part in says), message
    assert "SECRET" not in message
    assert "\n" not in message
    assert caught.value.exit_code is ExitCode.CONFIGURATION


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("PRESENCE_CP_SERVER__PORT", "SECRET", "PRESENCE_CP_SERVER__PORT: server.port"),
        (
            "PRESENCE_CP_SERVER__PROT",
            "1",
            "PRESENCE_CP_SERVER__PROT: no such setting; did you mean PRESENCE_CP_SERVER__PORT?",
        ),
        ("PRESENCE_CP_SERVER", "SECRET", "PRESENCE_CP_SERVER: not JSON"),
        ("PRESENCE_CP_CONFIG", "/nowhere.toml", "/nowhere.toml: there is no such file"),
    ],
)
def test_errors_in_the_environment(monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert says in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no such file"):
        load_settings(tmp_path / "absent.toml")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        ControlPlaneSettings().server.port = 1  # type: ignore[misc]
