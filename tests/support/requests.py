"""Requests as the agent makes them, without its journal: for tests of what is on the wire."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from presence.agent.deliver import destination_of
from presence.agent.dial import Progress
from presence.agent.entries import Claimed
from presence.agent.http import Http, Request, Sent
from presence.agent.settings import AgentSettings
from presence.agent.targets import Targets
from presence.domain.egress import Destination, EgressPolicy
from tests.support.clock import ManualClock

LOOPBACK = ("127.0.0.0/8", "::1")
Table = dict[str, Any]


def agent_settings(*tables: Table, egress: Table | None = None, **delivery: Any) -> AgentSettings:
    """Settings that let loopback pass, with these `[[targets]]` and this `[delivery]`."""
    sections = {"targets": tables, "egress": {"allow": LOOPBACK} | (egress or {}), "delivery": delivery}
    return AgentSettings.model_validate(sections)


def policy(**egress: Any) -> EgressPolicy:
    return agent_settings(egress=egress).egress.policy()


class Client:
    """An `Http` and the targets' options. URIs are sent as they are; they must be templates without placeholders."""

    def __init__(self, http: Http, targets: Targets) -> None:
        self.http = http
        self.targets = targets

    async def send(
        self,
        uri: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        repeatable: bool = True,
    ) -> Sent:
        destination = destination_of(uri)
        options = self.targets.of(destination.host, destination.port)
        return await self.http.send(Request(method, uri, destination, headers or {}, body, options, repeatable))


@asynccontextmanager
async def client(*tables: Table, egress: Table | None = None, **delivery: Any) -> AsyncIterator[Client]:
    """A client under these settings."""
    settings = agent_settings(*tables, egress=egress, **delivery)
    limits = settings.delivery
    http = Http(settings.egress.policy(), ManualClock(), limits.max_response_bytes, limits.max_header_bytes)
    async with http:
        yield Client(http, Targets(settings))


def progress(uri: str, targets: Targets, method: str = "GET") -> Progress:
    """An attempt that has just begun."""
    destination = destination_of(uri)
    return Progress(destination, method, targets.of(destination.host, destination.port))


def destination(host: str, port: int, scheme: str = "http") -> Destination:
    return Destination(scheme, host, port)


def claimed(uri: str, **fields: Any) -> Claimed:
    """A delivery of that URI, claimed for its first attempt, with an event that happened at the time 0."""
    values: dict[str, Any] = {
        "seq": 1,
        "id": "0f8e0f4e-6d6a-4c39-9a5a-7c7f3f1f0c11",
        "webhook_id": "5b9f7a54-4d5c-4a68-8d5f-1c7a63f3a0aa",
        "event": "ScanExecutionCompleted",
        "subject_id": "9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b",
        "uri": uri,
        "method": "GET",
        "body": None,
        "content_type": None,
        "authorization": None,
        "on_unknown": "fire",
        "born_at": 0,
        "expires_at": 86_400_000,
        "attempts": 1,
    }
    return Claimed(**values | fields)
