"""One delivery for the command line, through the daemon's code, with a journal of its own that is thrown away."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from presence.agent.attempts import Observer
from presence.agent.backlog import Backlog
from presence.agent.deliver import Deliver
from presence.agent.entries import Claimed, Settled
from presence.agent.http import Http, Request
from presence.agent.journal import open_journal
from presence.agent.ledger import Bounds
from presence.agent.names import Resolver, is_no_such_name
from presence.agent.settings import AgentSettings
from presence.agent.targets import TargetOptions, Targets
from presence.agent.worker import Worker, host_limits
from presence.clock import SystemClock
from presence.domain.address import Address
from presence.domain.egress import Allowed, EgressPolicy
from presence.domain.outcome import Reason, Refused
from presence.domain.retry import longest_wait
from presence.domain.template import parse_template
from presence.domain.webhook import DEFAULT_MAX_AGE_SECONDS
from presence.protocol.messages import Fire

EVENT = "TestFire"


@dataclass(frozen=True, slots=True)
class Shot:
    """What is to be fired. `headers` may hold secrets."""

    uri: str
    subject_id: str
    method: str = "GET"
    body: str | None = None
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def as_fire(self) -> Fire:
        return Fire.model_validate(
            {
                "id": str(uuid.uuid4()),
                "webhook_id": str(uuid.UUID(int=0)),
                "event": EVENT,
                "subject_id": self.subject_id,
                "uri": self.uri,
                "method": self.method,
                "body": self.body,
                "content_type": self.content_type,
                "max_age": DEFAULT_MAX_AGE_SECONDS * 1000,
            }
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """The policy's answer for one address: what allows it, or why it is refused."""

    address: str
    allowed: bool
    because: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a delivery would do, with nothing sent.

    `refused` is why it would be refused, `fault` why the name does not resolve; `proxy` and its verdicts where there
    is one; `trust`: whose certificates are believed, for https. `longest_waits` in seconds.
    """

    method: str
    host: str
    port: int
    longest_waits: tuple[float, ...]
    uri: str | None = None
    headers: tuple[str, ...] = ()
    body: str | None = None
    verdicts: tuple[Verdict, ...] = ()
    proxy: str | None = None
    proxy_verdicts: tuple[Verdict, ...] = ()
    trust: str | None = None
    refused: Reason | None = None
    fault: str | None = None


async def fire(settings: AgentSettings, shot: Shot, observe: Observer) -> Settled:
    """Delivers; `observe` hears of each attempt; returns how it ended."""
    clock, retry, targets = SystemClock(), settings.retry.policy(), Targets(settings)
    backlog = Backlog(1, host_limits(targets))
    limits = settings.delivery
    with TemporaryDirectory(prefix="presence-test-fire-") as directory:
        async with (
            open_journal(Path(directory) / "journal.db", clock, Bounds(1, 1, retry), backlog) as journal,
            Http(settings.egress.policy(), clock, limits.max_response_bytes, limits.max_header_bytes) as http,
            asyncio.TaskGroup() as stages,
        ):
            worker = Worker(journal, Deliver(http, targets, retry, clock, shot.headers), 1, observe)
            await journal.accept([shot.as_fire()], retry.deadline)
            stages.create_task(worker.run(), name="worker")
            while not (ended := await journal.unreported(0, 1)):
                journal.settled.clear()
                await journal.settled.wait()
            worker.drain()
    return ended[0]


async def explain(settings: AgentSettings, shot: Shot) -> Explanation:
    """What `fire` would do: expansion, name resolution, the policy's verdict on every address, the plan of retries."""
    retry, policy, targets = settings.retry.policy(), settings.egress.policy(), Targets(settings)
    template = parse_template(shot.uri)
    waits = tuple(longest_wait(retry, attempt) / 1000 for attempt in range(1, retry.max_attempts))
    limits = settings.delivery
    async with Http(policy, SystemClock(), limits.max_response_bytes, limits.max_header_bytes) as http:
        prepared = Deliver(http, targets, retry, SystemClock(), shot.headers).prepare(_claimed(shot))
    if isinstance(prepared, Refused):
        return Explanation(shot.method, template.host, template.port, waits, refused=prepared.reason)
    plain = Explanation(
        shot.method,
        template.host,
        template.port,
        waits,
        uri=prepared.uri,
        headers=tuple(sorted(prepared.headers)),
        body=prepared.body.decode() if prepared.body is not None else None,
        trust=prepared.options.trust if template.scheme == "https" else None,
    )
    resolver = Resolver()
    try:
        return await _look(policy, resolver, prepared, plain)
    finally:
        resolver.close()


async def _look(policy: EgressPolicy, resolver: Resolver, request: Request, plain: Explanation) -> Explanation:
    """The explanation with the parts that need the name server."""
    destination, options = request.destination, request.options
    addresses, unresolved = await _addresses(resolver, destination.host, options)
    proxy = options.proxy
    if unresolved is not None and (proxy is None or not (options.proxy_resolves or unresolved.no_such_name)):
        return replace(plain, fault=unresolved.text)
    if proxy is None:
        decided = policy.decide(destination, addresses or [], request.method)
        return replace(plain, verdicts=_verdicts(policy, request, addresses or []), refused=_reason(decided))
    decided = policy.decide_proxied(destination, addresses, request.method, proxy_resolves=options.proxy_resolves)
    hops, unresolved = await _addresses(resolver, proxy.host, options)
    refused = policy.decide_proxy(proxy.host, proxy.port, hops or [])
    return replace(
        plain,
        verdicts=tuple(
            _verdict(
                str(address),
                policy.decide_proxied(destination, [address], request.method, proxy_resolves=options.proxy_resolves),
            )
            for address in addresses or []
        ),
        proxy=f"{proxy.host}:{proxy.port}",
        proxy_verdicts=tuple(
            _verdict(str(hop), policy.decide_proxy(proxy.host, proxy.port, [hop])) for hop in hops or []
        ),
        refused=_reason(decided) or (refused.reason if hops and refused else None),
        fault=unresolved.text if unresolved else None,
    )


class _Unresolved(NamedTuple):
    """Why a name has no addresses."""

    text: str
    no_such_name: bool


async def _addresses(
    resolver: Resolver, host: str, options: TargetOptions
) -> tuple[Sequence[Address] | None, _Unresolved | None]:
    """The addresses; or None, and why."""
    try:
        return await resolver.addresses(host, options.dns_timeout), None
    except TimeoutError:
        return None, _Unresolved(f"{host}: no answer from the name server in time", False)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "the name cannot be resolved"
        return None, _Unresolved(f"{host}: {why}", is_no_such_name(error))


def _verdicts(policy: EgressPolicy, request: Request, addresses: Sequence[Address]) -> tuple[Verdict, ...]:
    return tuple(
        _verdict(str(address), policy.decide(request.destination, [address], request.method)) for address in addresses
    )


def _verdict(address: str, decided: Allowed | Refused | None) -> Verdict:
    match decided:
        case Refused(reason):
            return Verdict(address, False, reason.value)
        case Allowed(by=None, observed=True):
            return Verdict(address, True, "only mode = observe")
        case Allowed(by=None):
            return Verdict(address, True, "private address")
        case Allowed(by=rule):
            return Verdict(address, True, f"allow rule '{rule.text}'" if rule else "")
        case None:
            return Verdict(address, True, "configured proxy")


def _reason(decided: Allowed | Refused) -> Reason | None:
    return decided.reason if isinstance(decided, Refused) else None


def _claimed(shot: Shot) -> Claimed:
    sample = shot.as_fire()
    return Claimed(
        0, sample.id, sample.webhook_id, EVENT, shot.subject_id, shot.uri, shot.method, shot.body, shot.content_type,
        None, sample.on_unknown, 0, sample.max_age, 1,
    )  # fmt: skip
