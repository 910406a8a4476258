"""What each target gets beside the request: local headers, trust, client certificate, proxy, limits.

`Targets` reads all files that the settings name, once; `of` answers from memory. Values of headers and
credentials appear in no error and no repr.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from presence.agent.files import NamedFiles, basic
from presence.agent.settings import AgentSettings, Delivery
from presence.agent.target_settings import HeaderValue, Target, proxy_address
from presence.domain.address import address_of
from presence.domain.header import header_value_fault
from presence.domain.rule import Rule

REMEMBERED = 10_000
"""Hosts with ports whose options are remembered."""

SYSTEM = "the system's authorities"


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy. `authorization` is the value of `Proxy-Authorization`."""

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class TargetOptions:
    """How requests to one host and port are made. Times in seconds, `rate` in deliveries per second.

    `trust` says in words whose certificates `tls` believes.
    There is one for each `[[targets]]` table and one for all other hosts; they are compared by identity.
    """

    headers: Mapping[str, str] = field(repr=False)
    tls: ssl.SSLContext
    trust: str
    proxy: Proxy | None
    proxy_resolves: bool
    dns_timeout: float
    connect_timeout: float
    tls_timeout: float
    first_byte_timeout: float
    timeout: float
    max_in_flight: int
    rate: float | None


class Targets:
    """The options of every target. Raises ConfigurationError that names target, key and file if a file is no good."""

    def __init__(self, settings: AgentSettings) -> None:
        self._default = _default(settings.delivery)
        # A context costs 50 ms and a copy of the system's store; tables that name the same files share one.
        contexts: dict[tuple[Path | None, ...], ssl.SSLContext] = {(None, None, None): self._default.tls}
        self._entries: list[tuple[Rule, TargetOptions]] = []
        for number, target in enumerate(settings.targets):
            files = _Files(f"targets[{number}]", target)
            named = target.ca_file, target.client_cert, target.client_key
            if named not in contexts:
                contexts[named] = files.context()
            self._entries.append((target.pattern(), _options(target, files, contexts[named], self._default)))
        self._known: dict[tuple[str, int, str | None], TargetOptions] = {}
        self.longest = max(options.timeout for options in (self._default, *(entry[1] for entry in self._entries)))
        """Seconds that any attempt may take."""

    def of(self, host: str, port: int, scheme: str | None = None) -> TargetOptions:
        """The options of the first entry that covers the host (as `UriTemplate.host` writes it), else the defaults.

        Without a scheme, an entry for one scheme covers both: that is for what holds for the host as a whole.
        """
        found = self._known.get((host, port, scheme))
        if found is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            address = address_of(host)
            matching = (
                options
                for pattern, options in self._entries
                if pattern.names(host, port, address) and (scheme is None or pattern.scheme in (None, scheme))
            )
            found = self._known[host, port, scheme] = next(matching, self._default)
        return found


def _default(delivery: Delivery) -> TargetOptions:
    return TargetOptions(
        headers={},
        tls=_context(),
        trust=SYSTEM,
        proxy=None,
        proxy_resolves=False,
        dns_timeout=delivery.dns_timeout,
        connect_timeout=delivery.connect_timeout,
        tls_timeout=delivery.tls_timeout,
        first_byte_timeout=delivery.first_byte_timeout,
        timeout=delivery.attempt_timeout,
        max_in_flight=delivery.per_host,
        rate=None,
    )


def _options(target: Target, files: "_Files", tls: ssl.SSLContext, default: TargetOptions) -> TargetOptions:
    return TargetOptions(
        headers={name: files.header(name, value) for name, value in target.headers.items()},
        tls=tls,
        trust=f"{SYSTEM} and {target.ca_file}" if target.ca_file else default.trust,
        proxy=files.proxy(),
        proxy_resolves=target.proxy_resolves,
        dns_timeout=default.dns_timeout,
        connect_timeout=target.connect_timeout or default.connect_timeout,
        tls_timeout=default.tls_timeout,
        first_byte_timeout=target.timeout or default.first_byte_timeout,
        timeout=target.timeout or default.timeout,
        max_in_flight=target.max_in_flight or default.max_in_flight,
        rate=target.rate,
    )


def _context() -> ssl.SSLContext:
    """Verifies names and chains against the system's store; TLS 1.2 at least; speaks HTTP/1.1 only."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class _Files:
    """Reads what one target names; every fault becomes a ConfigurationError with its place."""

    def __init__(self, place: str, target: Target) -> None:
        self._files = NamedFiles(place, f" (host {target.host})")
        self._target = target

    def header(self, name: str, value: HeaderValue) -> str:
        if isinstance(value, SecretStr):
            return value.get_secret_value()
        key = f"headers.{name}"
        text = self._files.line(key, value.file)
        fault = header_value_fault(text)
        if fault:
            raise self._files.fault(key, value.file, f"{fault}; write the bare value into the file")
        return text

    def proxy(self) -> Proxy | None:
        if self._target.proxy is None:
            return None
        host, port = proxy_address(self._target.proxy)
        file = self._target.proxy_credentials_file
        if file is None:
            return Proxy(host, port)
        return Proxy(host, port, basic(self._files.credentials("proxy_credentials_file", file)))

    def context(self) -> ssl.SSLContext:
        context = _context()
        if self._target.ca_file is not None:
            self._files.trust(context, "ca_file", self._target.ca_file)
            # An intermediate authority, or the target's own certificate, is trusted as it stands there.
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if self._target.client_cert is not None:
            self._files.identify(context, self._target.client_cert, self._target.client_key)
        return context
