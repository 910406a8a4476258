"""Settings of the control plane: a TOML file, overridden by environment variables `PRESENCE_CP_<SECTION>__<KEY>`.

Every error names where the value stands (file and line, or variable), which key it is, what is wrong
and an example of what is right; it never repeats the value, which may be a secret.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import BaseSettings

from presence.configuration import Section, load

PREFIX = "PRESENCE_CP_"
DEFAULT_CONFIG = Path("/etc/presence/control-plane.toml")
SQLITE = "sqlite:///"


def _state_directory() -> Path:
    return Path(os.environ.get("STATE_DIRECTORY") or Path.home() / ".local" / "state" / "presence")


def _default_database() -> str:
    return f"{SQLITE}{_state_directory() / 'control-plane.db'}"


def _database_url(url: str) -> str:
    if url.startswith(("postgresql:", "postgres:", "postgresql+")):
        raise ValueError("PostgreSQL comes with a later version; use a SQLite file")
    if not url.startswith(SQLITE) or len(url) == len(SQLITE) or "?" in url or ":memory:" in url:
        raise ValueError("only a SQLite file is supported")
    return url


def _public_url(url: str) -> str:
    if not re.fullmatch(r"https?://[A-Za-z0-9.\-\[\]:]+(/[!-~]*)?", url):
        raise ValueError("not an absolute http or https URL")
    return url.rstrip("/")


class Server(Section):
    """Where it listens. Port 0: any free one. `public_url`: how agents reach it, written into key files.

    `agent_package`: the agent's package that a presence's download holds.
    """

    host: str = Field("127.0.0.1", min_length=1, examples=["127.0.0.1"])
    port: int = Field(8480, ge=0, le=65535, examples=[8480])
    public_url: Annotated[str, AfterValidator(_public_url)] | None = Field(
        None, examples=["https://presence.example.com"]
    )
    agent_package: Path | None = Field(None, examples=["/usr/share/presence/presence_0.1.0_amd64.deb"])


class Store(Section):
    """`sqlite:////absolute/path.db`; the default is a file in the state directory."""

    url: Annotated[str, AfterValidator(_database_url)] = Field(
        default_factory=_default_database, examples=["sqlite:////var/lib/presence/control-plane.db"]
    )

    @property
    def path(self) -> Path:
        return Path(self.url.removeprefix(SQLITE))


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
        if not self.canary_every < self.canary_timeout <= self.lease:
            raise ValueError("canary_every must be shorter than canary_timeout, and that no longer than lease")
        return self


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
    log: Log = Log()

    @property
    def encryption_keys_file(self) -> Path:
        """Beside the database's file, or in the state directory, where none is named."""
        beside = self.database.path.parent if self.database.url.startswith(SQLITE) else _state_directory()
        return self.auth.encryption_keys_file or beside / "encryption.keys"


def load_settings(config: Path | None = None) -> ControlPlaneSettings:
    """The settings of that file (else $PRESENCE_CP_CONFIG, else /etc/presence/control-plane.toml if it is there).

    Raises ConfigurationError.
    """
    return load(ControlPlaneSettings, prefix=PREFIX, config=config, default=DEFAULT_CONFIG)
