"""The agent's settings. Frozen; loaded once; every option is described in `config/agent.toml`."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings

from presence.agent.control_path import DEFAULT_FILE, control_socket, state_directory
from presence.agent.files import NamedFiles
from presence.agent.listeners import split
from presence.agent.route import DIRECT, LinkProxy, from_environment, parse_setting
from presence.agent.setting_names import FOREIGN, PREFIX
from presence.agent.target_settings import InFlight, Rate, Seconds, Target
from presence.configuration import Section, fault_of, load
from presence.domain.address import address_of
from presence.domain.egress import EgressPolicy, parse_lifted
from presence.domain.retry import RetryPolicy
from presence.domain.rule import parse_rule
from presence.domain.template import TemplateError, UriTemplate, parse_template
from presence.domain.webhook import Method
from presence.errors import ConfigurationError
from presence.protocol import AGENT_PATH
from presence.setting_sources import credential
from presence.tracing import TracingSettings

CREDENTIAL = "presence.key"
"""Name of the key in systemd's credentials directory (`LoadCredential=presence.key:...`)."""
DEFAULT_KEY_FILE = Path("/etc/presence/presence.key")

_NO_KEY = (
    "no presence key; run 'presence enroll', or set control_plane.key_file to the file that NewKey returned,"
    " or the variable PRESENCE_CONTROL_PLANE__KEY_FILE"
)
_SCHEMES = {"ws": "ws", "http": "ws", "wss": "wss", "https": "wss"}


def _checked_rule(text: str) -> str:
    parse_rule(text)
    return text


def _checked_lifted(text: str) -> str:
    parse_lifted(text)
    return text


def _checked_place(text: str) -> str:
    split(text)
    return text


Rules = tuple[Annotated[str, AfterValidator(_checked_rule)], ...]
Lifted = tuple[Annotated[str, AfterValidator(_checked_lifted)], ...]


def _parsed(url: str) -> UriTemplate:
    """A usable control plane URL; the rules of a webhook's URI hold for it, too."""
    scheme, separator, rest = url.partition("://")
    if scheme not in _SCHEMES or not separator:
        raise ValueError("not an address of a control plane")
    try:
        template = parse_template(f"{'https' if _SCHEMES[scheme] == 'wss' else 'http'}://{rest}")
    except TemplateError as error:
        raise ValueError(str(error)) from None
    if template.placeholders:
        raise ValueError("a placeholder has no place here")
    if "?" in rest:
        raise ValueError("a query has no place here: it would be shown in logs; the key has a file of its own")
    return template


def _is_this_host(host: str) -> bool:
    """Whether what is sent there cannot leave this host."""
    address = address_of(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _checked_url(url: str) -> str:
    _parsed(url)
    return url


def _checked_proxy(text: str) -> str:
    parse_setting(text)
    return text


Places = tuple[Annotated[str, AfterValidator(_checked_place)], ...]


class ControlPlane(Section):
    """How to reach the control plane and as whom."""

    url: Annotated[str, AfterValidator(_checked_url)] | None = Field(None, examples=["wss://presence.example.com"])
    key: SecretStr | None = None
    key_file: Path | None = Field(None, examples=["/etc/presence/presence.key"])
    allow_plaintext: bool = False
    proxy: Annotated[str, AfterValidator(_checked_proxy)] | None = Field(None, examples=["http://proxy.corp:3128"])
    proxy_credentials_file: Path | None = Field(None, examples=["/etc/presence/proxy.credentials"])
    ca_file: Path | None = Field(None, examples=["/etc/presence/corp-ca.pem"])
    ca_directory: Path | None = Field(None, examples=["/etc/presence/authorities"])
    client_cert: Path | None = Field(None, examples=["/etc/presence/client.pem"])
    client_key: Path | None = Field(None, examples=["/etc/presence/client.key"])

    @model_validator(mode="after")
    def _check(self) -> "ControlPlane":
        plain = self.url is not None and _SCHEMES[urlsplit(self.url).scheme] == "ws"
        if plain and not self.allow_plaintext and not _is_this_host(_parsed(self.url or "").host):
            raise fault_of(
                "url",
                "not encrypted, so the key would travel in clear; use wss://, or set allow_plaintext = true if you"
                " accept that",
            )
        if self.key is not None and self.key_file is not None:
            raise fault_of("key_file", "key is set, too; remove one of them")
        if self.client_key is not None and self.client_cert is None:
            raise fault_of("client_key", "a key without a certificate; give client_cert, too")
        if self.proxy_credentials_file is not None and self.proxy == DIRECT:
            raise fault_of("proxy_credentials_file", "proxy says that there is none; remove one of them")
        return self

    def address(self) -> str:
        """The websocket URL; a URL without a path gets the gateway's."""
        if self.url is None:
            raise ConfigurationError(
                "control_plane.url is not set; write it into the settings file or set"
                " PRESENCE_CONTROL_PLANE__URL, for example wss://presence.example.com"
            )
        parts = urlsplit(self.url)
        path = parts.path if parts.path not in ("", "/") else AGENT_PATH
        return parts._replace(scheme=_SCHEMES[parts.scheme], path=path).geturl()

    def endpoint(self) -> tuple[str, str, int]:
        """The scheme, ws or wss, the host without brackets, and the port. Raises ConfigurationError without a URL."""
        parsed = _parsed(self.address())
        return ("wss" if parsed.scheme == "https" else "ws"), parsed.host, parsed.port

    def link_proxy(self) -> LinkProxy | None:
        """The proxy on the way, as the settings or else the environment name it, read afresh with its credentials."""
        scheme, host, port = self.endpoint()
        try:
            if self.proxy is None:
                found = from_environment(os.environ, scheme == "wss", host, port)
            else:
                found = parse_setting(self.proxy)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        if found is None or found.credentials is not None or self.proxy_credentials_file is None:
            return found
        credentials = NamedFiles("control_plane").credentials("proxy_credentials_file", self.proxy_credentials_file)
        return replace(found, credentials=credentials)

    def secret_files(self) -> tuple[Path, ...]:
        """The files that nobody else should be able to read."""
        secrets = self.credential_file(), self.proxy_credentials_file, self.client_key
        return tuple(file for file in secrets if file is not None)

    def named_files(self) -> tuple[Path, ...]:
        """The files whose change may mend a connection."""
        public = self.ca_file, self.ca_directory, self.client_cert
        return (*self.secret_files(), *(file for file in public if file is not None))

    def credential_file(self) -> Path | None:
        """The file that holds the key: the configured one, else systemd's credential, else DEFAULT_KEY_FILE.

        None if `key` is set, or there is none of these, or none that is this process's.
        """
        if self.key is not None or self.key_file is not None:
            return self.key_file
        try:
            if (found := credential(CREDENTIAL)) is not None:
                return found
        except PermissionError:
            return None
        return DEFAULT_KEY_FILE if os.path.exists(DEFAULT_KEY_FILE) else None

    def require(self) -> None:
        """Raises ConfigurationError unless there is an address, and a key or at least the name of its file."""
        self.address()
        if self.key is None and self.credential_file() is None:
            raise ConfigurationError(_NO_KEY)

    def read_key(self) -> str:
        """The presence key, read afresh: bare, or in the JSON form that `NewKey` returns."""
        file = self.credential_file()
        if self.key is not None:
            return self.key.get_secret_value()
        if file is None:
            raise ConfigurationError(_NO_KEY)
        try:
            text = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not text"
            raise ConfigurationError(f"{file}: the presence key cannot be read: {reason}") from None
        if text.startswith("{"):
            try:
                text = str(json.loads(text)["Key"])
            except (ValueError, KeyError):
                raise ConfigurationError(f"{file}: the key file is JSON, but has no 'Key'; download it again") from None
        if not text or not text.isascii() or not text.isprintable():
            raise ConfigurationError(f"{file}: the key file is empty or damaged; download it again")
        return text


class Egress(Section):
    """What the agent may reach."""

    default: Literal["private", "deny"] = "private"
    mode: Literal["enforce", "observe"] = "enforce"
    allow: Rules = ()
    deny: Rules = ()
    methods: Annotated[tuple[Method, ...], Field(min_length=1)] = (Method.GET,)
    dangerously_lift: Lifted = ()

    def policy(self) -> EgressPolicy:
        """The policy without the agent's own listeners, which only the running daemon knows."""
        return EgressPolicy(
            default=self.default,
            mode=self.mode,
            allow=tuple(map(parse_rule, self.allow)),
            deny=tuple(map(parse_rule, self.deny)),
            methods=frozenset(self.methods),
            lifted=tuple(map(parse_lifted, self.dangerously_lift)),
        )


class Delivery(Section):
    """Bounds of the requests. Times in seconds, `rate` and `drain_rate` in deliveries per second."""

    max_in_flight: InFlight = 64
    per_host: InFlight = 8
    rate: Rate | None = Field(None, examples=[50.0])
    dns_timeout: Seconds = 5.0
    connect_timeout: Seconds = 5.0
    tls_timeout: Seconds = 5.0
    first_byte_timeout: Seconds = 15.0
    attempt_timeout: Seconds = 30.0
    max_response_bytes: Annotated[int, Field(ge=0, le=16 * 1024 * 1024)] = 65_536
    max_header_bytes: Annotated[int, Field(ge=1024, le=1024 * 1024)] = 32_768
    grace: Seconds = 20.0
    drain_rate: Rate = 10.0


class Retry(Section):
    """When a failed attempt is repeated. Times in seconds."""

    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 12
    initial: Seconds = 1.0
    maximum: Seconds = 900.0
    deadline: Seconds = 86_400.0

    def policy(self) -> RetryPolicy:
        return RetryPolicy(
            max_attempts=self.max_attempts,
            initial=int(self.initial * 1000),
            maximum=int(self.maximum * 1000),
            deadline=int(self.deadline * 1000),
        )


class Journal(Section):
    """The durable record. `retention` in seconds; `path` unset: `journal.db` in the state directory."""

    path: Path | None = None
    retention: Seconds = 86_400.0
    max_deliveries: Annotated[int, Field(ge=100, le=10_000_000)] = 100_000
    max_remembered: Annotated[int, Field(ge=100, le=100_000_000)] = 1_000_000

    @model_validator(mode="after")
    def _check(self) -> "Journal":
        if self.max_remembered < self.max_deliveries:
            raise fault_of("max_remembered", "less than max_deliveries; what waits is remembered, too")
        return self

    def location(self) -> Path:
        return self.path or state_directory() / "journal.db"


class Health(Section):
    """Where HTTP tells of the agent's health: places as "127.0.0.1:8481"; none of them: nowhere."""

    listen: Places = ("127.0.0.1:8481",)


class Control(Section):
    """The socket for `presence status`, `pause` and the like."""

    socket: Path | None = Field(None, examples=["/run/presence/control.sock"])


class Log(Section):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class AgentSettings(BaseSettings):
    """All of it; a command that needs more than the defaults says what is missing."""

    control_plane: ControlPlane = ControlPlane()
    egress: Egress = Egress()
    targets: tuple[Target, ...] = ()
    delivery: Delivery = Delivery()
    retry: Retry = Retry()
    journal: Journal = Journal()
    health: Health = Health()
    control: Control = Control()
    log: Log = Log()
    tracing: TracingSettings = TracingSettings()

    def control_socket(self) -> Path:
        return control_socket(self.control.socket, self.journal.path)


def load_settings(config: Path | None = None) -> AgentSettings:
    """The settings from the file and the environment; raises ConfigurationError."""
    return load(AgentSettings, prefix=PREFIX, config=config, default=DEFAULT_FILE, foreign=FOREIGN)
