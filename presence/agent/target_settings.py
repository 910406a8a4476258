"""One `[[targets]]` table of the agent's settings: options for the hosts that it names.

Only what stands in the table is checked here; the files that it names are read by `presence.agent.targets`.
"""

import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Discriminator, Field, SecretStr, Tag, ValidationInfo, field_validator

from presence.configuration import Section
from presence.domain.header import header_value_fault
from presence.domain.rule import Rule, parse_rule
from presence.domain.template import TemplateError, parse_template

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_OURS = frozenset(
    ("host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "expect")
) | {"webhook-id", "webhook-timestamp"}

Seconds = Annotated[float, Field(gt=0, le=366 * 86_400, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)]
"""Deliveries per second."""
InFlight = Annotated[int, Field(ge=1, le=1024)]


def parse_pattern(text: str) -> Rule:
    """Which hosts a table is for, as a rule with scheme, host and port at the most; raises ValueError."""
    rule = parse_rule(text)
    if (rule.path, rule.methods, rule.inside) != ((), None, None):
        raise ValueError(
            "only a host can be given here, with scheme and port if wanted: a name, *.name, an address or a network"
        )
    return rule


def _checked_host(text: str) -> str:
    parse_pattern(text)
    return text


def _checked_name(name: str) -> str:
    lower = name.lower()
    if not _TOKEN.match(name):
        raise ValueError("not the name of a header; write letters, digits and '-', the value apart from it")
    if lower in _OURS or lower.startswith("proxy-"):
        raise ValueError("this header is the agent's own and cannot be set; remove it")
    return name


def _checked_value(value: SecretStr) -> SecretStr:
    fault = header_value_fault(value.get_secret_value())
    if fault:
        raise ValueError(fault)
    return value


def _checked_headers(headers: dict[str, Any]) -> dict[str, Any]:
    names = [name.lower() for name in headers]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the header '{name}' is given twice; the case of a name does not matter")
    return headers


def _kind(value: object) -> str | None:
    """Which branch of `HeaderValue` it is; a dictionary of any other form is none, so that there is one message."""
    match value:
        case str() | SecretStr():
            return "text"
        case FromFile():
            return "file"
        case {"file": str(), **rest} if not rest:
            return "file"
        case _:
            return None


def _checked_proxy(url: str) -> str:
    proxy_address(url)
    return url


def proxy_address(url: str) -> tuple[str, int]:
    """Host and port of a proxy's URL; raises ValueError that says what is wrong, without the URL."""
    scheme, separator, rest = url.partition("://")
    if scheme.lower() != "http" or not separator:
        raise ValueError("only proxies that are spoken to with http:// are supported (https targets are tunnelled)")
    if "@" in rest:
        raise ValueError(
            "user and password have no place here; write them into a file, as user:password, and give its path"
            " as proxy_credentials_file"
        )
    try:
        template = parse_template(f"http://{rest}")
        parts = urlsplit(template.text)
    except TemplateError:
        parts = None
    if parts is None or parts.port is None or parts.path not in ("", "/") or parts.query:
        raise ValueError("give host and port of the proxy and nothing else")
    return template.host, parts.port


class FromFile(Section):
    """The value is what the file holds, without the line's end."""

    file: Path


HeaderName = Annotated[str, AfterValidator(_checked_name)]
HeaderValue = Annotated[
    Annotated[SecretStr, AfterValidator(_checked_value), Tag("text")] | Annotated[FromFile, Tag("file")],
    Discriminator(
        _kind,
        custom_error_type="header_value",
        custom_error_message='write the value as a text, or { file = "/path" } to read it from a file',
    ),
]


class Target(Section):
    """Options for the hosts that `host` covers; the first table that covers a host is the one that counts.

    Times in seconds, `rate` in deliveries per second. What is not set comes from `[delivery]`.
    """

    host: Annotated[str, AfterValidator(_checked_host)] = Field(examples=["https://jenkins.corp:8443"])
    headers: Annotated[dict[HeaderName, HeaderValue], AfterValidator(_checked_headers)] = Field({})
    ca_file: Path | None = Field(None, examples=["/etc/presence/corp-ca.pem"])
    client_cert: Path | None = Field(None, examples=["/etc/presence/client.pem"])
    client_key: Path | None = Field(None, examples=["/etc/presence/client.key"])
    proxy: Annotated[str, AfterValidator(_checked_proxy)] | None = Field(None, examples=["http://proxy.corp:3128"])
    proxy_credentials_file: Path | None = Field(None, examples=["/etc/presence/proxy.credentials"])
    proxy_resolves: bool = False
    connect_timeout: Seconds | None = Field(None, examples=[5.0])
    timeout: Seconds | None = Field(None, examples=[30.0])
    max_in_flight: InFlight | None = Field(None, examples=[8])
    rate: Rate | None = Field(None, examples=[2.0])

    @field_validator("client_key")
    @classmethod
    def _key_of_a_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and info.data.get("client_cert", value) is None:
            raise ValueError("a key without a certificate; give client_cert, too")
        return value

    @field_validator("proxy_credentials_file", "proxy_resolves")
    @classmethod
    def _of_a_proxy(cls, value: Path | bool | None, info: ValidationInfo) -> Path | bool | None:
        if value and info.data.get("proxy", value) is None:
            raise ValueError("there is no proxy; give proxy, too, or remove this")
        return value

    def pattern(self) -> Rule:
        return parse_pattern(self.host)
