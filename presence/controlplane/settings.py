"""Settings of the control plane: a TOML file, overridden by environment variables `PRESENCE_CP_<SECTION>__<KEY>`.

Every error names where the value stands (file and line, or variable), which key it is, what is wrong
and an example of what is right; it never repeats the value, which may be a secret.
"""

import os
import re
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import BaseSettings

from presence.configuration import Section, fault_of, load
from presence.setting_sources import credential
from presence.tracing import TracingSettings

PREFIX = "PRESENCE_CP_"
DEFAULT_CONFIG = Path("/etc/presence/control-plane.toml")
ENCRYPTION_KEYS, DATABASE_PASSWORD = "encryption.keys", "database.password"
"""Names of the secrets in systemd's credentials directory (`LoadCredential=encryption.keys:...`)."""
SQLITE = "sqlite:///"
POSTGRESQL = "postgresql://"
_URL_OPTIONS = ("host", "port", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl")


def _state_directory() -> Path:
    return Path(os.environ.get("STATE_DIRECTORY") or Path.home() / ".local" / "state" / "presence")


def _credential(name: str) -> Path | None:
    """systemd's credential of that name, if there is one for this process."""
    with suppress(PermissionError):
        return credential(name)
    return None


def _default_database() -> str:
    return f"{SQLITE}{_state_directory() / 'control-plane.db'}"


def _database_url(url: str) -> str:
    if url.startswith(POSTGRESQL):
        return _postgresql_url(url)
    if url.startswith(("postgres:", "postgresql")):
        raise ValueError("write the scheme of a PostgreSQL database as postgresql://")
    if not url.startswith(SQLITE) or len(url) == len(SQLITE) or "?" in url or ":memory:" in url:
        raise ValueError("neither a SQLite file nor a PostgreSQL database")
    return url


def _postgresql_url(url: str) -> str:
    """A URL without secrets, so that errors may repeat it."""
    try:
        parts = urlsplit(url)
        options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError("not a PostgreSQL URL") from None
    if parts.scheme != "postgresql" or not url.startswith(POSTGRESQL):
        raise ValueError("not a PostgreSQL URL")
    if parts.password is not None:
        raise ValueError("holds a password; write that into a file, and name it as the setting for password files")
    if not parts.username or not parts.path.strip("/") or parts.fragment:
        raise ValueError("a PostgreSQL URL names the user and the database")
    if any(name not in _URL_OPTIONS for name, _ in options):
        raise ValueError(f"a PostgreSQL URL may have these options only: {', '.join(_URL_OPTIONS)}")
    return url


def _public_url(url: str) -> str:
    if not re.fullmatch(r"https?://[A-Za-z0-9.\-\[\]:]+(/[!-~]*)?", url):
        raise ValueError("not an absolute http or https URL")
    return url.rstrip("/")


def _networks(texts: tuple[str, ...]) -> tuple[str, ...]:
    try:
        for text in texts:
            ip_network(text)
    except ValueError:
        raise ValueError('not all are addresses or networks like "10.0.0.0/8"') from None
    return texts


class Server(Section):
    """Where it listens. Port 0: any free one. `public_url`: how agents reach it, written into key files.

    `trusted_proxies`: addresses and networks whose X-Forwarded-For and X-Forwarded-Proto are believed. `metrics`: who
    may read /metrics. `tls_certificate`, `tls_key`: PEM files, the first with its chain; both or none.

    `agent_package`: the agent's package that a presence's download holds.
    """

    host: str = Field("127.0.0.1", min_length=1, examples=["127.0.0.1"])
    port: int = Field(8480, ge=0, le=65535, examples=[8480])
    public_url: Annotated[str, AfterValidator(_public_url)] | None = Field(
        None, examples=["https://presence.example.com"]
    )
    trusted_proxies: Annotated[tuple[str, ...], AfterValidator(_networks)] = Field(
        (), examples=[["127.0.0.1", "10.0.0.0/8"]]
    )
    metrics: Literal["loopback", "everybody", "nobody"] = Field("loopback", examples=["loopback"])
    tls_certificate: Path | None = Field(None, examples=["/etc/presence/tls.pem"])
    tls_key: Path | None = Field(None, examples=["/etc/presence/tls.key"])
    agent_package: Path | None = Field(None, examples=["/usr/share/presence/presence_0.1.0_amd64.deb"])

    @model_validator(mode="after")
    def _both_or_none(self) -> "Server":
        if self.tls_certificate is None and self.tls_key is not None:
            raise fault_of("tls_key", "a key without a certificate; set tls_certificate, too")
        if self.tls_key is None and self.tls_certificate is not None:
            raise fault_of("tls_certificate", "a certificate without its key; set tls_key, too")
        return self


class Store(Section):
    """A SQLite file, by default one in the state directory, or a PostgreSQL database: `postgresql://user@host/name`.

    On PostgreSQL the user of `url` may read and change rows; that of `owner_url`, which `init` and `migrate` connect
    with, owns the tables. Passwords are read from the files named here, else `url`'s from systemd's credential, else as
    PGPASSFILE says.
    """

    url: Annotated[str, AfterValidator(_database_url)] = Field(
        default_factory=_default_database, examples=["sqlite:////var/lib/presence/control-plane.db"]
    )
    password_file: Path | None = Field(None, examples=["/etc/presence/database.password"])
    owner_url: Annotated[str, AfterValidator(_postgresql_url)] | None = Field(
        None, examples=["postgresql://presence_owner@db.example.com/presence"]
    )
    owner_password_file: Path | None = Field(None, examples=["/root/presence-owner.password"])

    @model_validator(mode="after")
    def _only_for_postgresql(self) -> "Store":
        for key in ("owner_url", "password_file", "owner_password_file"):
            if not self.is_postgresql and getattr(self, key):
                raise fault_of(key, "for PostgreSQL only, and url is a SQLite file; remove it")
        return self

    @property
    def is_postgresql(self) -> bool:
        return self.url.startswith(POSTGRESQL)

    @property
    def place(self) -> str:
        """As errors name it."""
        return self.url if self.is_postgresql else str(self.path)

    @property
    def path(self) -> Path:
        """The SQLite file."""
        assert not self.is_postgresql, "a PostgreSQL database has no file"
        return Path(self.url.removeprefix(SQLITE))

    @property
    def password(self) -> Path | None:
        """The file with the password of `url`'s user: the named one, else systemd's credential."""
        return self.password_file or _credential(DATABASE_PASSWORD)

    @property
    def user(self) -> str:
        """The PostgreSQL role that serves."""
        return unquote(urlsplit(self.url).username or "")


class Retention(Section):
    """Days that are kept: finished deliveries, events (and so their ids, by which a repeated one is known), audits."""

    deliveries: int = Field(90, ge=1, le=36_500, examples=[90])
    events: int = Field(90, ge=1, le=36_500, examples=[90])
    audits: int = Field(365, ge=1, le=36_500, examples=[365])

    @model_validator(mode="after")
    def _whole(self) -> "Retention":
        if self.events < self.deliveries:
            raise fault_of("events", "fewer days than deliveries, and each delivery names its event")
        return self


class Auth(Section):
    """`token_lifetime`: seconds a bearer token lives. `key_lifetime`: days a presence key lives.

    `encryption_keys_file`: the keys of the secrets in the database, the same file for all replicas.
    """

    token_lifetime: int = Field(3600, ge=1, le=30 * 86_400, examples=[3600])
    key_lifetime: int = Field(365, ge=1, le=3650, examples=[365])
    encryption_keys_file: Path | None = Field(None, examples=["/etc/presence/encryption.keys"])


class Dispatch(Section):
    """Seconds: how long an instance owns what it accepted, how often it must prove life, and for how
    long its silence is borne (two missed canaries) before its session is dropped."""

    lease: float = Field(60, gt=0, le=86_400, examples=[60])
    canary_every: float = Field(15, gt=0, le=3600, examples=[15])
    canary_timeout: float = Field(30, gt=0, le=7200, examples=[30])

    @model_validator(mode="after")
    def _ordered(self) -> "Dispatch":
        if not self.canary_every < self.canary_timeout:
            raise fault_of("canary_every", "not shorter than canary_timeout")
        if not self.canary_timeout <= self.lease:
            raise fault_of("canary_timeout", "longer than lease")
        return self


class Events(Section):
    """`failed_executions`: whether an execution of a scan that fails is complete, so that webhooks fire for it, too."""

    failed_executions: bool = Field(False, examples=[True])


class Limits(Section):
    """`requests_per_minute`: of one user or, for whoever is not logged in or asks for what the API does not have, of
    one address. `logins_per_minute`: tries to log in or to enrol, of one address. `events_per_second`: of one
    organization, its updates of scan executions included."""

    requests_per_minute: int = Field(500, ge=1, le=10_000_000, examples=[500])
    logins_per_minute: int = Field(30, ge=1, le=10_000_000, examples=[30])
    events_per_second: int = Field(1000, ge=1, le=10_000_000, examples=[1000])


class Log(Section):
    """`auto`: for a person on a terminal, else JSON."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", examples=["info"])
    format: Literal["json", "console", "auto"] = Field("auto", examples=["json"])


class ControlPlaneSettings(BaseSettings):
    """All settings, checked. Frozen: what changes is state and has an owner."""

    server: Server = Server()
    database: Store = Field(default_factory=Store)
    auth: Auth = Auth()
    dispatch: Dispatch = Dispatch()
    events: Events = Events()
    limits: Limits = Limits()
    retention: Retention = Retention()
    log: Log = Log()
    tracing: TracingSettings = TracingSettings()

    @property
    def encryption_keys_file(self) -> Path:
        """The named one, else systemd's credential, else beside the database's file or in the state directory."""
        beside = self.database.path.parent if self.database.url.startswith(SQLITE) else _state_directory()
        return self.auth.encryption_keys_file or _credential(ENCRYPTION_KEYS) or beside / ENCRYPTION_KEYS


def load_settings(config: Path | None = None) -> ControlPlaneSettings:
    """The settings of that file (else $PRESENCE_CP_CONFIG, else /etc/presence/control-plane.toml if it is there).

    Raises ConfigurationError.
    """
    return load(ControlPlaneSettings, prefix=PREFIX, config=config, default=DEFAULT_CONFIG)
