"""One delivery for the command line, through the daemon's code, with a journal of its own that is thrown away."""

import asyncio
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from presence.agent.deliver import Deliver
from presence.agent.http import Http, Resolver, as_address
from presence.agent.journal import Claimed, Settled, open_journal
from presence.agent.settings import AgentSettings
from presence.agent.worker import Observer, Worker
from presence.clock import SystemClock
from presence.domain.egress import Rule
from presence.domain.outcome import Outcome, Reason, Refused
from presence.domain.retry import longest_wait
from presence.domain.template import parse_template
from presence.domain.webhook import DEFAULT_MAX_AGE_SECONDS
from presence.protocol.messages import Fire

EVENT = "TestFire"


@dataclass(frozen=True, slots=True)
class Shot:
    """What is to be fired."""

    uri: str
    subject_id: str
    method: str
    headers: Mapping[str, str]

    def as_fire(self) -> Fire:
        return Fire.model_validate(
            {
                "id": str(uuid.uuid4()),
                "webhook_id": str(uuid.UUID(int=0)),
                "event": EVENT,
                "subject_id": self.subject_id,
                "uri": self.uri,
                "method": self.method,
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
    """What a delivery would do, with nothing sent. `refused` is why it would be refused, `fault` why not resolved."""

    uri: str | None
    host: str
    port: int
    verdicts: tuple[Verdict, ...]
    refused: Reason | None
    fault: str | None
    longest_waits: tuple[float, ...]


async def fire(settings: AgentSettings, shot: Shot, observe: Observer) -> Settled:
    """Delivers; `observe` hears of each attempt; returns how it ended."""
    clock = SystemClock()
    retry = settings.retry.policy()
    with TemporaryDirectory(prefix="presence-test-fire-") as directory:
        async with (
            open_journal(Path(directory) / "journal.db", clock, 1, retry.max_attempts) as journal,
            Http(settings.delivery, settings.egress.policy()) as http,
            asyncio.TaskGroup() as stages,
        ):
            worker = Worker(journal, Deliver(http, retry, clock, shot.headers), 1, observe)
            await journal.accept([shot.as_fire()], retry.deadline)
            stages.create_task(worker.run(), name="worker")
            while not (ended := await journal.unreported(0, 1)):
                journal.settled.clear()
                await journal.settled.wait()
            worker.drain()
    return ended[0]


async def explain(settings: AgentSettings, shot: Shot) -> Explanation:
    """What `fire` would do: expansion, name resolution, the policy's verdict on every address, the plan of retries."""
    retry, policy = settings.retry.policy(), settings.egress.policy()
    waits = tuple(longest_wait(retry, attempt) / 1000 for attempt in range(1, retry.max_attempts))
    template = parse_template(shot.uri)
    async with Http(settings.delivery, policy) as http:
        prepared = Deliver(http, retry, SystemClock(), shot.headers).prepare(_claimed(shot))
    if isinstance(prepared, Refused):
        return Explanation(None, template.host, template.port, (), prepared.reason, None, waits)
    literal = as_address(template.host)
    resolver = Resolver(policy, settings.delivery.connect_timeout)
    try:
        addresses = [literal] if literal else await resolver.addresses(template.host, template.port)
    except (socket.gaierror, TimeoutError) as error:
        fault = getattr(error, "strerror", None) or "no answer from the name server in time"
        return Explanation(prepared.uri, template.host, template.port, (), None, fault, waits)
    finally:
        await resolver.close()
    verdicts = tuple(
        _verdict(str(address), policy.decide(template.host, template.port, address)) for address in addresses
    )
    refused = policy.decide_all(template.host, template.port, addresses)
    reason = refused.reason if refused else None
    return Explanation(prepared.uri, template.host, template.port, verdicts, reason, None, waits)


def _verdict(address: str, decision: Outcome | Rule | None) -> Verdict:
    match decision:
        case Refused(reason):
            return Verdict(address, False, reason.value)
        case Rule(text=text):
            return Verdict(address, True, f"allow rule {text}")
        case _:
            return Verdict(address, True, "private address")


def _claimed(shot: Shot) -> Claimed:
    sample = shot.as_fire()
    return Claimed(0, sample.id, sample.webhook_id, EVENT, shot.subject_id, shot.uri, shot.method, 0, sample.max_age, 1)
