"""The egress policy: what this agent may reach. Local; it has the last word over whatever the cloud asks.

Decided on the addresses that a connection would really use, after name resolution; the first line that fits decides::

    the agent's own listeners                                                    -> DENIED_OWN_LISTENER
    always denied (link-local, metadata, multicast, IPv4 hidden in IPv6, ...),
        unless lifted                                                            -> DENIED_ALWAYS
    a `deny` rule matches; one with a path and a path that contains %2F          -> DENIED_BY_RULE; PATH_AMBIGUOUS
    loopback, unless an `allow` rule names it by address                         -> DENIED_LOOPBACK
    `allow` rules match by name, all of them with an `in` that it is not in      -> OTHER_NETWORK
    an `allow` rule matches and allows the method                                -> allowed
    default = "private": RFC 1918, RFC 6598 and unique local addresses; lifted   -> allowed, for `methods`
    only an `allow` rule with a path matches, and the path contains %2F          -> PATH_AMBIGUOUS
    mode = "observe"                                                             -> allowed and recorded, for `methods`
    only the method is in the way                                                -> METHOD_NOT_ALLOWED
    anything else                                                                -> NOT_ALLOWED
"""

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from presence.domain.address import (
    LIFTABLE,
    LOOPBACK,
    PRIVATE,
    Address,
    Network,
    address_of,
    contains,
    inside,
    is_always_denied,
    is_loopback,
    within,
)
from presence.domain.outcome import Reason, Refused
from presence.domain.rule import Rule
from presence.domain.webhook import Method

METADATA_NAMES = frozenset({"metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"})
"""For names that only a proxy resolves."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a request wants to go. `host` as in a template: lower case, A-labels, no brackets.

    `encoded_slash`: the template's own part of the path contains `%2F`, so that nobody knows its segments.
    """

    scheme: str
    host: str
    port: int
    path: str = "/"
    encoded_slash: bool = False


@dataclass(frozen=True, slots=True)
class Allowed:
    """The request may be sent. `by`: the rule that says so, None for the default; `observed`: only `mode` let it."""

    by: Rule | None
    observed: bool = False


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """The administrator's rules. `methods`: what a rule without methods allows, and the default.

    `lifted`: networks of `LIFTABLE` that are open like private ones. `own`: the agent's listeners by address and port;
    0.0.0.0 and :: stand for loopback only there, so the host's other addresses must be named as well.
    """

    default: Literal["private", "deny"] = "private"
    mode: Literal["enforce", "observe"] = "enforce"
    allow: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()
    methods: frozenset[str] = frozenset({Method.GET})
    lifted: tuple[Network, ...] = ()
    own: frozenset[tuple[Address, int]] = frozenset()

    @property
    def uses_paths(self) -> bool:
        """Whether any rule looks at the path."""
        return any(rule.path for rule in (*self.allow, *self.deny))

    def decide(self, destination: Destination, addresses: Iterable[Address], method: str) -> Allowed | Refused:
        """Refused if any of a name's addresses is: a name that points to a denied place as well is not trusted."""
        open_by_default = (PRIVATE if self.default == "private" else ()) + self.lifted
        return _all([self._decide(destination, address, method, open_by_default) for address in addresses])

    def decide_proxy(self, host: str, port: int, addresses: Iterable[Address]) -> Refused | None:
        """Why a configured proxy must not be used; what is configured passes unless it is denied.

        Deny rules count that are about the place as such, without path and methods. Loopback must be written as such
        in the configuration, a name may not lead to it.
        """
        reasons = [self._denied_proxy(host, port, address) for address in addresses]
        if not reasons:
            return Refused(Reason.NOT_ALLOWED)
        return next((Refused(reason) for reason in reasons if reason is not None), None)

    def decide_proxied(
        self, destination: Destination, addresses: Iterable[Address] | None, method: str, *, proxy_resolves: bool
    ) -> Allowed | Refused:
        """As `decide`, for a request through a proxy, which the default does not open: it needs a rule.

        `addresses`: what the name resolves to here; None where it does not, which only `proxy_resolves` accepts.
        """
        literal = address_of(destination.host)
        if addresses is None and literal is not None:
            addresses = (literal,)
        if addresses is not None:
            decision = _all([self._decide(destination, address, method, ()) for address in addresses])
        else:
            decision = self._decide_unresolved(destination, method, proxy_resolves)
        return Refused(Reason.PROXY_NEEDS_RULE) if decision == Refused(Reason.NOT_ALLOWED) else decision

    def _decide(
        self, destination: Destination, address: Address, method: str, open_by_default: Sequence[Network]
    ) -> Allowed | Refused:
        reason = self._denied_address(address, destination.port) or self._denied_by_rule(destination, address, method)
        if reason is not None:
            return Refused(reason)
        rules = self._matching(destination, address)
        by_name = [rule for rule in rules if rule.name is not None]
        loopback = is_loopback(address)
        if loopback:
            # A name that resolves to loopback, or a rule as wide as 0.0.0.0/0, would open this host's own services.
            rules = [rule for rule in rules if _names_loopback(rule)]
            if not rules:
                return Refused(Reason.DENIED_LOOPBACK)
        if by_name and not any(_admits(rule, address) for rule in by_name):
            return Refused(Reason.OTHER_NETWORK)
        rules = [rule for rule in rules if _admits(rule, address)]
        return self._permit(
            destination, rules, method, by_default=within(address, open_by_default), relaxed=not loopback
        )

    def _decide_unresolved(self, destination: Destination, method: str, proxy_resolves: bool) -> Allowed | Refused:
        if destination.host in METADATA_NAMES:
            return Refused(Reason.DENIED_ALWAYS)
        if f".{destination.host}".endswith(".localhost"):
            return Refused(Reason.DENIED_LOOPBACK)
        reason = self._denied_by_rule(destination, None, method)
        if reason is not None:
            return Refused(reason)
        rules = self._matching(destination, None)
        sure = [rule for rule in rules if rule.inside is None]
        if not proxy_resolves or (rules and not sure):
            return Refused(Reason.PROXY_UNRESOLVED)
        return self._permit(destination, sure, method, by_default=False, relaxed=True)

    def _denied_proxy(self, host: str, port: int, address: Address) -> Reason | None:
        reason = self._denied_address(address, port)
        if reason is not None:
            return reason
        places = [rule for rule in self.deny if not rule.path and rule.methods is None]
        if any(rule.names(host, port, address) and _admits(rule, address) for rule in places):
            return Reason.DENIED_BY_RULE
        return Reason.DENIED_LOOPBACK if is_loopback(address) and address_of(host) != address else None

    def _denied_address(self, address: Address, port: int) -> Reason | None:
        listeners = [listener for listener, listening in self.own if listening == port]
        if address in listeners:
            return Reason.DENIED_OWN_LISTENER
        if is_loopback(address):
            return Reason.DENIED_OWN_LISTENER if any(own.is_unspecified for own in listeners) else None
        if is_always_denied(address) and not within(address, self.lifted):
            return Reason.DENIED_ALWAYS
        return None

    def _denied_by_rule(self, destination: Destination, address: Address | None, method: str) -> Reason | None:
        ambiguous = False
        for rule in self.deny:
            if not _reaches(rule, destination, address) or (rule.methods is not None and method not in rule.methods):
                continue
            if address is not None and not _admits(rule, address):
                continue
            if rule.path and destination.encoded_slash:
                ambiguous = True
            elif rule.touches(destination.path):
                return Reason.DENIED_BY_RULE
        return Reason.PATH_AMBIGUOUS if ambiguous else None

    def _matching(self, destination: Destination, address: Address | None) -> list[Rule]:
        """The rules that allow that destination, or may do so where its path is ambiguous."""
        return [
            rule
            for rule in self.allow
            if _reaches(rule, destination, address) and (destination.encoded_slash or rule.covers(destination.path))
        ]

    def _permit(
        self, destination: Destination, rules: Sequence[Rule], method: str, *, by_default: bool, relaxed: bool
    ) -> Allowed | Refused:
        """The answer where nothing is in the way; `relaxed`: mode = "observe" may let it pass."""
        sure = [rule for rule in rules if not (rule.path and destination.encoded_slash)]
        for rule in sure:
            if method in (self.methods if rule.methods is None else rule.methods):
                return Allowed(rule)
        if by_default and method in self.methods:
            return Allowed(None)
        if len(sure) < len(rules):
            return Refused(Reason.PATH_AMBIGUOUS)
        observed = relaxed and self.mode == "observe"
        if observed and method in self.methods:
            return Allowed(None, observed=True)
        return Refused(Reason.METHOD_NOT_ALLOWED if sure or by_default or observed else Reason.NOT_ALLOWED)


def parse_lifted(text: str) -> Network:
    """The link-local or metadata network that a setting opens; raises ValueError for any other."""
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"'{text}' is not a network: {error}; write for example 169.254.169.254/32") from None
    if not inside(network, LIFTABLE):
        raise ValueError(
            f"'{text}' is neither link-local nor a cloud's metadata address, and only these can be lifted,"
            " for example 169.254.169.254/32; open other addresses by an allow rule"
        )
    return network


def suggest(seen: Iterable[tuple[Destination, str, tuple[Address, ...]]]) -> list[str]:
    """The rules that default = "deny" needs for these requests (destination, method, addresses) to pass, sorted.

    What is always denied is left out. No addresses: only the proxy could resolve the name.
    """
    methods: dict[str, set[str]] = defaultdict(set)
    for destination, method, addresses in seen:
        if any(is_always_denied(address) for address in addresses):
            continue
        hosts = {str(address) if is_loopback(address) else destination.host for address in addresses}
        for host in hosts or {destination.host}:
            bracketed = f"[{host}]" if ":" in host else host
            methods[f"{destination.scheme}://{bracketed}:{destination.port}"].add(method)
    return sorted(
        place if used == {Method.GET} else f"{','.join(sorted(used))} {place}" for place, used in methods.items()
    )


def _all(decisions: Sequence[Allowed | Refused]) -> Allowed | Refused:
    """One decision for all addresses: the first refusal, else what only `mode` let pass, else the first."""
    if not decisions:
        return Refused(Reason.NOT_ALLOWED)
    for decision in decisions:
        if isinstance(decision, Refused):
            return decision
    return next((decision for decision in decisions if decision == Allowed(None, observed=True)), decisions[0])


def _reaches(rule: Rule, destination: Destination, address: Address | None) -> bool:
    return rule.scheme in (None, destination.scheme) and rule.names(destination.host, destination.port, address)


def _admits(rule: Rule, address: Address) -> bool:
    return rule.inside is None or contains(rule.inside, address)


def _names_loopback(rule: Rule) -> bool:
    network = rule.inside if rule.network is None else rule.network
    return network is not None and inside(network, LOOPBACK)
