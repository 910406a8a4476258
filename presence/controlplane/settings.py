"""Settings of the control plane: a TOML file, overridden by environment variables `PRESENCE_CP_<SECTION>__<KEY>`.

Every error names where the value stands (file and line, or variable), which key it is, what is wrong
and an example of what is right; it never repeats the value, which may be a secret.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from presence.errors import ConfigurationError

PREFIX = "PRESENCE_CP_"
CONFIG_VARIABLE = "PRESENCE_CP_CONFIG"
DEFAULT_CONFIG = Path("/etc/presence/control-plane.toml")
SQLITE = "sqlite:///"


def _default_database() -> str:
    directory = os.environ.get("STATE_DIRECTORY") or Path.home() / ".local" / "state" / "presence"
    return f"{SQLITE}{Path(directory) / 'control-plane.db'}"


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


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)


class Server(_Section):
    """Where it listens. Port 0: any free one. `public_url`: how agents reach it, written into key files."""

    host: str = Field("127.0.0.1", min_length=1, examples=["127.0.0.1"])
    port: int = Field(8480, ge=0, le=65535, examples=[8480])
    public_url: Annotated[str, AfterValidator(_public_url)] | None = Field(
        None, examples=["https://presence.example.com"]
    )


class Store(_Section):
    """`sqlite:////absolute/path.db`; the default is a file in the state directory."""

    url: Annotated[str, AfterValidator(_database_url)] = Field(
        default_factory=_default_database, examples=["sqlite:////var/lib/presence/control-plane.db"]
    )

    @property
    def path(self) -> Path:
        return Path(self.url.removeprefix(SQLITE))


class Auth(_Section):
    """`token_lifetime`: seconds a bearer token lives. `key_lifetime`: days a presence key lives."""

    token_lifetime: int = Field(3600, ge=1, le=30 * 86_400, examples=[3600])
    key_lifetime: int = Field(365, ge=1, le=3650, examples=[365])


class Dispatch(_Section):
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


class Log(_Section):
    """`auto`: for a person on a terminal, else JSON."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", examples=["info"])
    format: Literal["json", "console", "auto"] = Field("auto", examples=["json"])


class ControlPlaneSettings(BaseSettings):
    """All settings, checked. Frozen: what changes is state and has an owner."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    server: Server = Server()
    database: Store = Field(default_factory=Store)
    auth: Auth = Auth()
    dispatch: Dispatch = Dispatch()
    log: Log = Log()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings


def load_settings(config: Path | None = None) -> ControlPlaneSettings:
    """The settings of that file (else $PRESENCE_CP_CONFIG, else /etc/presence/control-plane.toml if it is there).

    Raises ConfigurationError.
    """
    path = _config_path(config)
    text = _read(path) if path else ""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: not TOML: {error}") from None
    _refuse_unknown_variables(os.environ)
    try:
        return ControlPlaneSettings(**tables)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
        raise ConfigurationError(_describe(fault["loc"], fault["type"], fault["msg"], path, text)) from None
    except SettingsError:
        sections = ", ".join(f"{PREFIX}{name.upper()}" for name in ControlPlaneSettings.model_fields)
        raise ConfigurationError(
            f"a variable for a whole section ({sections}) is not JSON;"
            f" set single keys, for example {PREFIX}SERVER__PORT"
        ) from None


def _config_path(config: Path | None) -> Path | None:
    if config is not None:
        return config
    if os.environ.get(CONFIG_VARIABLE):
        return Path(os.environ[CONFIG_VARIABLE])
    return DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: is not UTF-8 text") from None


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    known = {
        f"{PREFIX}{section}__{key}".upper()
        for section, field in ControlPlaneSettings.model_fields.items()
        for key in _keys(field.annotation)
    }
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name.upper() not in known | {CONFIG_VARIABLE}:
            raise ConfigurationError(f"the variable {name} is unknown; known are {', '.join(sorted(known))}")


def _keys(section: Any) -> Mapping[str, Any]:
    return section.model_fields if isinstance(section, type) and issubclass(section, BaseModel) else {}


def _describe(loc: tuple[int | str, ...], kind: str, message: str, path: Path | None, text: str) -> str:
    """One line: where, which key, what is wrong, what is right."""
    section, key = str(loc[0]), str(loc[1]) if len(loc) > 1 else ""
    dotted = f"{section}.{key}" if key else section
    variable = f"{PREFIX}{section}__{key}".upper()
    where = f"variable {variable}" if variable in os.environ else _place(path, text, section, key)
    if kind == "extra_forbidden":
        fields = ControlPlaneSettings.model_fields
        known = _keys(fields[section].annotation) if section in fields else fields
        return f"{where}: the key '{dotted}' is unknown; known are {', '.join(known)}"
    wrong = message.removeprefix("Value error, ")
    return f"{where}: {dotted}: {wrong}{_example(section, key)}"


def _example(section: str, key: str) -> str:
    field = ControlPlaneSettings.model_fields.get(section)
    found = _keys(field.annotation).get(key) if field else None
    if found is None or not found.examples:
        return ""
    value = found.examples[0]
    return f'; for example {key} = "{value}"' if isinstance(value, str) else f"; for example {key} = {value}"


def _place(path: Path | None, text: str, section: str, key: str) -> str:
    """The file and, where it can be told, the line of the key (or of its section)."""
    inside, line_of_section = False, 0
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line)
        if header:
            inside = header[1].strip("\"'") == section
            line_of_section = number if inside else line_of_section
        elif re.match(rf"\s*[\"']?{re.escape(key if inside else section)}[\"']?\s*(=|\.)", line) and (
            inside or not key
        ):
            return f"{path} line {number}"
    return f"{path} line {line_of_section}" if line_of_section else str(path or "settings")
