"""The proxy on the way to the control plane: as the settings name it, or as the environment does.

Only the link looks here. Requests to targets know no environment: their proxies stand in `[[targets]]`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Literal
from urllib.parse import unquote, urlsplit

from presence.agent.target_settings import proxy_address

DIRECT = "none"
"""The setting that means: no proxy, whatever the environment says."""

Scheme = Literal["http", "socks5"]
_SCHEMES: Mapping[str, Scheme] = {"http": "http", "socks5": "socks5", "socks5h": "socks5"}
_DEFAULT_PORTS = {"http": 80, "socks5": 1080}
_SUPPORTED = "only http:// and socks5:// proxies are supported (http:// carries wss://, too, in a tunnel)"


@dataclass(frozen=True, slots=True)
class LinkProxy:
    """A proxy that makes the connection and resolves the control plane's name.

    `credentials` as user:password; `origin`: the setting or the variable that names it.
    """

    scheme: Scheme
    host: str
    port: int
    origin: str
    credentials: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def parse_setting(text: str) -> LinkProxy | None:
    """The proxy of `control_plane.proxy`; None for "none". Raises ValueError, without the text."""
    if text == DIRECT:
        return None
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in _SCHEMES:
        raise ValueError(f'{_SUPPORTED}; "{DIRECT}" is no proxy')
    host, port = proxy_address(f"http://{rest}")
    return LinkProxy(_SCHEMES[scheme.lower()], host, port, "control_plane.proxy")


def from_environment(environment: Mapping[str, str], secure: bool, host: str, port: int) -> LinkProxy | None:
    """The proxy that the environment names for that host, as curl reads it; None: go direct.

    A host of this machine is never looked for behind such a proxy. Raises ValueError that names the variable.
    """
    if _is_loopback(host) or is_exempt(_variable(environment, "NO_PROXY")[1], host, port):
        return None
    for name in ("HTTPS_PROXY" if secure else "HTTP_PROXY", "ALL_PROXY"):
        name, text = _variable(environment, name)
        if text:
            try:
                return _parse(text, name)
            except ValueError as error:
                raise ValueError(f"{name} (environment): {error}; or set control_plane.proxy") from None
    return None


def is_exempt(no_proxy: str, host: str, port: int) -> bool:
    """Whether `NO_PROXY` covers the host: names (with all below), .suffix, *, addresses, networks, each with :port."""
    return any(_covers(entry.strip().lower(), host, port) for entry in no_proxy.replace(" ", ",").split(","))


def _covers(entry: str, host: str, port: int) -> bool:
    if not entry:
        return False
    if entry == "*":
        return True
    bare, colon, digits = entry.rpartition(":")
    if colon and digits.isdecimal() and len(digits) < 6 and (":" not in bare or bare.endswith("]")):
        if int(digits) != port:
            return False
        entry = bare
    try:
        network = ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        suffix = entry.removeprefix("*")
        return host.endswith(suffix) if suffix.startswith(".") else host == suffix or host.endswith(f".{suffix}")
    try:
        return ip_address(host) in network
    except ValueError:
        return False


def _variable(environment: Mapping[str, str], name: str) -> tuple[str, str]:
    """The variable's name as it is written there, and its value: in capitals it precedes."""
    for written in (name, name.lower()):
        if environment.get(written):
            return written, environment[written].strip()
    return name, ""


def _parse(text: str, origin: str) -> LinkProxy:
    """A proxy as people write it in the environment: with or without scheme, port, user and password."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    known = _SCHEMES.get(scheme.lower())
    if known is None:
        raise ValueError(_SUPPORTED)
    credentials, _, authority = rest.rpartition("@")
    authority = authority.rstrip("/")
    if urlsplit(f"//{authority}").port is None:
        authority = f"{authority}:{_DEFAULT_PORTS[known]}"
    host, port = proxy_address(f"http://{authority}")
    return LinkProxy(known, host, port, origin, unquote(credentials) or None)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
