"""Events: accepted once, matched to webhooks, turned into deliveries in the same transaction.

They are queued; those of a webhook that is paused are held.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from presence.clock import Clock
from presence.controlplane.access import Capability, Principal
from presence.controlplane.bus import Bus
from presence.controlplane.metrics import Metrics
from presence.controlplane.services.acting import require, writing
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.store import applications, deliveries, events
from presence.controlplane.store.deliveries import NewDelivery
from presence.controlplane.store.engine import Database
from presence.controlplane.store.events import Caused, Event
from presence.controlplane.store.holds import WEBHOOK_PAUSED
from presence.controlplane.store.matching import Match, matching
from presence.domain.delivery import DeliveryState
from presence.domain.events import EventType, Happening
from presence.domain.scope import Place
from presence.logs import get_logger
from presence.tracing import Kind, Span, Spans

APPLICATIONS: Final = "/api/v4/Apps/"
EXECUTIONS: Final = "/api/v4/Scans/Executions"
"""How the sources of our own events begin: nobody else's may."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What came of an event: its deliveries, as far as the principal may see them. `repeated`: it had been accepted
    before, nothing new was made."""

    event_id: str
    deliveries: list[str]
    repeated: bool


@dataclass(frozen=True, slots=True)
class Taken:
    """An event that is new, the deliveries to be made of it, and the span of its acceptance."""

    event: Event
    deliveries: list[NewDelivery]
    span: Span


@dataclass(frozen=True, slots=True)
class Announcer:
    """Tells of events, whoever takes them: to the trace, to the log, and to whoever fires deliveries."""

    bus: Bus
    metrics: Metrics
    spans: Spans

    def begin(self, event: Event, traceparent: str | None) -> Span:
        return self.spans.begin(
            "event", Kind.SERVER, traceparent, presence__event=event.id, presence__event__type=event.type
        )

    def announce(self, taken: Iterable[Taken]) -> None:
        """Says what has been stored; after the commit."""
        for one in taken:
            self.metrics.event_accepted(one.event.type)
            for delivery in one.deliveries:
                self.metrics.changed(DeliveryState.QUEUED if delivery.reason is None else DeliveryState.HELD)
            one.span.end(presence__deliveries=len(one.deliveries))
            for presence_id in {delivery.presence_id for delivery in one.deliveries}:
                self.bus.wake(presence_id)
            _log.info(
                "event accepted",
                event_id=one.event.id,
                type=one.event.type,
                subject=one.event.subject,
                deliveries=len(one.deliveries),
            )


class Events:
    def __init__(self, database: Database, clock: Clock, announcer: Announcer) -> None:
        self._database = database
        self._clock = clock
        self._announcer = announcer

    async def accept(self, principal: Principal, happenings: Sequence[Happening]) -> list[Acceptance]:
        """Stores the events and their deliveries, all or none; on return they are on disk. The subjects are checked
        already.

        An event of the same source and id is a repeat, and gives what the first one gave. The application is the one
        that is said or, unsaid, the one that the subject is or is an execution of. Raises Refusal MISSING_CAPABILITIES,
        INVALID_INPUT for a source that is ours, and APPLICATION_NO_ACCESS for an application that does not exist.
        """
        if any(happening.source.startswith((APPLICATIONS, EXECUTIONS)) for happening in happenings):
            raise Refusal(Key.INVALID_INPUT, "{0}: that is the control plane's own; name the producer", "source")
        now = self._clock.wall()
        answers: dict[int, Acceptance] = {}
        new: dict[tuple[str, str], Taken] = {}
        async with writing(self._database, principal) as (transaction, principal):
            require(principal, Capability.PUBLISH_EVENTS)
            # In one order, so that two batches with the same events never wait for each other.
            for number, happening in sorted(enumerate(happenings), key=lambda item: (item[1].source, item[1].id)):
                name = (happening.source, happening.id)
                is_new = name not in new
                found = await self._take(transaction, principal, happening, now) if is_new else new[name]
                if isinstance(found, Taken):
                    new[name] = found
                    found = _acceptance(principal, found.event.id, found.deliveries, repeated=not is_new)
                answers[number] = found
            await deliveries.add(transaction, principal.organization_id, _made(new.values()))
        self._announcer.announce(new.values())
        return [answers[number] for number in range(len(happenings))]

    async def _take(
        self, transaction: AsyncConnection, principal: Principal, happening: Happening, now: int
    ) -> Taken | Acceptance:
        known = await _known(transaction, principal, happening)
        if known is not None:
            return known
        where = await _place(transaction, principal, happening)
        taken = await _store(transaction, principal, happening, where, now, self._announcer)
        if taken is not None:
            return taken
        # Another transaction has stored it since.
        known = await _known(transaction, principal, happening)
        assert known is not None, "it was there a moment ago"
        return known


async def _store(
    transaction: AsyncConnection,
    principal: Principal,
    happening: Happening,
    where: Place | None,
    now: int,
    announcer: Announcer,
) -> Taken | None:
    """Stores the event and finds what it brings about, which the caller stores; None where it is there already."""
    event = Event(
        id=str(uuid4()),
        source=happening.source,
        source_event_id=happening.id,
        type=happening.type.value,
        subject=happening.subject,
        occurred_at=now if happening.occurred_at is None else happening.occurred_at,
        created_at=now,
        application_id=None if where is None else where.application_id,
        asset_group_id=None if where is None else where.asset_group_id,
    )
    if not await events.add(transaction, principal.organization_id, event):
        return None
    matches = await matching(transaction, principal.organization_id, happening.type, where)
    span = announcer.begin(event, happening.traceparent)
    return Taken(event, [_delivery(event, match, span.traceparent) for match in matches], span)


async def bring_about(
    transaction: AsyncConnection,
    principal: Principal,
    happening: Happening,
    where: Place,
    now: int,
    announcer: Announcer,
) -> list[Taken]:
    """An event of our own, with its deliveries: nothing where there is one of that name. Announce it after the
    commit."""
    taken = await _store(transaction, principal, happening, where, now, announcer)
    if taken is None:
        return []
    await deliveries.add(transaction, principal.organization_id, taken.deliveries)
    return [taken]


async def _known(transaction: AsyncConnection, principal: Principal, happening: Happening) -> Acceptance | None:
    known = await events.find(transaction, principal.organization_id, happening.source, happening.id)
    return None if known is None else _acceptance(principal, *known, repeated=True)


def _acceptance(
    principal: Principal, event_id: str, caused: Sequence[Caused | NewDelivery], *, repeated: bool
) -> Acceptance:
    seen = sorted(one.id for one in caused if principal.sees_webhook(one.asset_group_id))
    return Acceptance(event_id, seen, repeated)


async def _place(transaction: AsyncConnection, principal: Principal, happening: Happening) -> Place | None:
    """Where it happened, as far as that is said or known."""
    if happening.application_id is not None:
        id_ = _guid(happening.application_id)
        where = None if id_ is None else await applications.place(transaction, principal, id_)
        if where is None:
            raise Refusal(Key.APPLICATION_NO_ACCESS, "{0}: there is no such application", "applicationid")
        return where
    subject = _guid(happening.subject)
    if subject is None:
        return None
    match happening.type:
        case EventType.SCAN_EXECUTION_COMPLETED:
            return await applications.place_of_execution(transaction, principal, subject)
        case EventType.APPLICATION_UPDATED:
            return await applications.place(transaction, principal, subject)
        case EventType.NEW_PATCH_REQUEST:
            return None


def _guid(text: str) -> str | None:
    """The id in the form in which we store ids, or None where it cannot be one."""
    try:
        id_ = str(UUID(text))
    except ValueError:
        return None
    return id_ if id_ == text.lower() else None


def _made(taken: Iterable[Taken]) -> list[NewDelivery]:
    return [delivery for one in taken for delivery in one.deliveries]


def _delivery(event: Event, match: Match, traceparent: str | None) -> NewDelivery:
    return NewDelivery(
        id=str(uuid4()),
        webhook_id=match.id,
        asset_group_id=match.asset_group_id,
        presence_id=match.presence_id,
        event_id=event.id,
        event_type=event.type,
        subject=event.subject,
        uri=match.uri,
        host=match.host,
        method=match.method,
        body=match.body,
        content_type=match.content_type,
        on_unknown=match.on_unknown,
        created_at=event.created_at,
        expires_at=event.created_at + match.max_age_seconds * 1000,
        reason=None if match.paused_at is None else WEBHOOK_PAUSED,
        traceparent=traceparent,
    )
