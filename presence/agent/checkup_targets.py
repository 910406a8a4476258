"""Whether each target that the settings name can be reached: name, egress policy, TCP, TLS. No request is sent.

By the deliveries' own code: what opens the connection here opens it there.
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from presence.agent.dial import Gate, Progress, Stopped, bracketed
from presence.agent.finding import Finding, failed, ok, skipped, warning
from presence.agent.names import Resolver
from presence.agent.pool import Pool
from presence.agent.settings import AgentSettings
from presence.agent.targets import Targets
from presence.agent.wire import Wire
from presence.domain.address import address_of
from presence.domain.egress import Allowed, Destination, EgressPolicy
from presence.domain.outcome import Hint, Reason, Refused, hint_of
from presence.domain.rule import Rule, parse_rule
from presence.domain.uri import DEFAULT_PORTS
from presence.domain.webhook import Method

AT_ONCE = 16
_OTHER_REQUEST = (
    Reason.NOT_ALLOWED,
    Reason.METHOD_NOT_ALLOWED,
    Reason.PROXY_NEEDS_RULE,
    Reason.DENIED_LOOPBACK,
    Reason.DENIED_BY_RULE,
    Reason.OTHER_NETWORK,
)
"""Refusals that another method or path may not meet."""
_REMEDIES: Mapping[Hint, str] = {
    Hint.CHECK_NAME: "check the name, and this host's name servers",
    Hint.NAME_SERVER_SILENT: "look at this host's name servers: they do not answer",
    Hint.NOTHING_LISTENS: "nothing listens there: check the port, and whether the service runs",
    Hint.HOST_DOWN_OR_FILTERED: "check that the host is up, and that no firewall is between",
    Hint.NO_ROUTE: "check this host's routes",
    Hint.ADD_CA_FILE: "give its authority, as ca_file of a [[targets]] table for it",
    Hint.RENEW_CERTIFICATE: "renew its certificate, unless this host's clock is wrong",
    Hint.CHECK_CLOCK: "set this host's clock, best by NTP",
    Hint.CERTIFICATE_FOR_OTHER_NAME: "use the name that its certificate is for",
    Hint.NO_COMMON_TLS: "is it https at that port? It may want a certificate: client_cert of a [[targets]] table",
    Hint.CHECK_PROXY: "check proxy and proxy_credentials_file of the [[targets]] table",
}


class _Place(NamedTuple):
    """A single host. `scheme` and `port`: as far as they are written."""

    host: str
    scheme: str | None
    port: int | None

    def __str__(self) -> str:
        before = f"{self.scheme}://" if self.scheme else ""
        return f"{before}{bracketed(self.host)}{f':{self.port}' if self.port else ''}"


async def check_targets(settings: AgentSettings, targets: Targets) -> list[Finding]:
    """One finding for each [[targets]] table and each host of egress.allow, where they name a single host."""
    rules = [*(target.pattern() for target in settings.targets), *map(parse_rule, settings.egress.allow)]
    places = list(dict.fromkeys(map(_place, rules)))
    if not places:
        return [skipped("targets", "the settings name none; try one: presence test-fire URI --subject-id ID --dry-run")]
    visits = _Visits(settings.egress.policy(), targets, Resolver())
    try:
        return await visits.run([place for place in places if place is not None], wide=None in places)
    finally:
        await visits.close()


def _place(rule: Rule) -> _Place | None:
    if rule.name is not None:
        return None if rule.name.startswith("*.") else _Place(rule.name, rule.scheme, rule.port)
    assert rule.network is not None
    if rule.network.num_addresses > 1:
        return None
    return _Place(str(rule.network.network_address), rule.scheme, rule.port)


class _Visits:
    """Opens connections and closes them again."""

    def __init__(self, policy: EgressPolicy, targets: Targets, resolver: Resolver) -> None:
        self._policy = policy
        self._targets = targets
        self._resolver = resolver
        self._pool = Pool(Gate(policy), resolver)
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def close(self) -> None:
        await self._pool.close()
        self._resolver.close()

    async def run(self, places: list[_Place], wide: bool) -> list[Finding]:
        found = await asyncio.gather(*map(self._visit, places))
        if wide:
            found.append(skipped("targets", "wildcards and networks name no single host, so they were not tried"))
        return found

    async def _visit(self, place: _Place) -> Finding:
        async with self._turn:
            scheme = place.scheme or ("https" if place.port == DEFAULT_PORTS["https"] else "http")
            port = place.port or DEFAULT_PORTS[scheme]
            through = self._targets.of(place.host, port, scheme).proxy
            if place.scheme is None and place.port is None and through is None:
                return await self._look(place)
            requests = list(self._requests(scheme, place.host, port))
            for last, (destination, method) in enumerate(requests, 1 - len(requests)):
                try:
                    return _reached(place, *await self._connect(destination, method))
                except Stopped as stopped:
                    reason = stopped.outcome.reason if isinstance(stopped.outcome, Refused) else None
                    if last == 0 or reason not in _OTHER_REQUEST:
                        return _stopped(place, stopped)
        raise AssertionError("there is always a request to be judged")

    async def _connect(self, destination: Destination, method: str) -> tuple[Wire, Progress]:
        """An open connection, inside TLS for https. Raises Stopped."""
        options = self._targets.of(destination.host, destination.port, destination.scheme)
        progress = Progress(destination, method, options)
        progress.ends = asyncio.get_running_loop().time() + options.timeout
        async with asyncio.timeout_at(progress.ends) as progress.deadline:
            wire = await self._pool.get(progress)
        wire.abort()
        return wire, progress

    async def _look(self, place: _Place) -> Finding:
        """Name and policy only: where it listens is not written."""
        check = f"target {place}"
        try:
            addresses = await self._resolver.addresses(place.host, self._targets.of(place.host, 80).dns_timeout)
        except (OSError, UnicodeError):
            return failed(check, "the name does not resolve", "check the name, and this host's name servers")
        decided = [
            self._policy.decide(destination, addresses, method)
            for scheme, port in DEFAULT_PORTS.items()
            for destination, method in self._requests(scheme, place.host, port)
        ]
        if not any(isinstance(decision, Allowed) for decision in decided):
            return _stopped(place, Stopped(Refused(Reason.NOT_ALLOWED)))
        resolved = "" if address_of(place.host) else f"resolves to {', '.join(map(str, addresses))}; "
        return ok(check, f"{resolved}allowed; no port is written, so it was not connected to")

    def _requests(self, scheme: str, host: str, port: int) -> Iterator[tuple[Destination, str]]:
        """What a webhook might ask there, so far as the policy makes a difference."""
        rules = (rule for rule in self._policy.allow if rule.names(host, port, address_of(host)))
        paths = dict.fromkeys(["/", *("/" + "/".join(rule.path) for rule in rules)])
        for path in paths:
            for method in Method:
                yield Destination(scheme, host, port, path), method


def _reached(place: _Place, wire: Wire, progress: Progress) -> Finding:
    check, proxy = f"target {place}", progress.options.proxy
    text = f"connected to {progress.address}" + (f", the proxy {proxy.host}:{proxy.port}" if proxy else "")
    if progress.destination.scheme == "https":
        text += f"; its certificate is trusted by {progress.options.trust}"
    if progress.observed:
        remedy = "before you enforce, add what 'presence config suggest-egress' prints"
        return warning(check, f'{text}; allowed by mode = "observe" alone', remedy)
    return ok(check, text)


def _stopped(place: _Place, stopped: Stopped) -> Finding:
    outcome = stopped.outcome
    check = f"target {place}"
    if isinstance(outcome, Refused):
        text = f"the egress policy refuses it: {outcome.reason.value.replace('_', ' ')}"
        return failed(check, text, "change [egress]; 'presence test-fire URI --subject-id ID --dry-run' explains it")
    text = f"{outcome.phase.value}: {outcome.fault.value.replace('_', ' ')}"
    hint = hint_of(outcome)
    assert hint is not None, "every failure has one"
    return failed(check, text, _REMEDIES.get(hint, "look at the target, and at what is between"))
