"""Webhooks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

from presence.clock import Clock
from presence.controlplane.access import Principal
from presence.controlplane.bus import Bus
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.store import presences, webhooks
from presence.controlplane.store.engine import Database
from presence.controlplane.store.presences import Presence
from presence.controlplane.store.webhooks import Webhook
from presence.domain.body import check_content_type, parse_body
from presence.domain.events import EventType
from presence.domain.template import TemplateError, parse_template
from presence.domain.webhook import DEFAULT_MAX_AGE_SECONDS, Method, OnUnknown
from presence.logs import get_logger

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Draft:
    """What an organization-level webhook shall be. `max_age` in seconds; `uri` and `body` are templates."""

    presence_id: str
    uri: str
    event: EventType
    is_global: bool
    method: Method = Method.GET
    body: str | None = None
    content_type: str | None = None
    on_unknown: OnUnknown = OnUnknown.FIRE
    max_age: int = DEFAULT_MAX_AGE_SECONDS


@dataclass(frozen=True, slots=True)
class WebhookView:
    """A webhook with the presence that fires it."""

    webhook: Webhook
    presence: Presence


class Webhooks:
    def __init__(self, database: Database, clock: Clock, bus: Bus) -> None:
        self._database = database
        self._clock = clock
        self._bus = bus

    async def create(self, principal: Principal, draft: Draft) -> WebhookView:
        """Raises Refusal INVALID_URL or INVALID_INPUT for what no agent could send, INVALID_PRESENCE for an unknown
        presence."""
        _check(draft)
        added = Webhook(
            id=str(uuid4()),
            presence_id=draft.presence_id,
            uri=draft.uri,
            host=host_of(draft.uri),
            method=draft.method.value,
            body=draft.body,
            content_type=draft.content_type,
            on_unknown=draft.on_unknown.value,
            event=draft.event.value,
            is_global=draft.is_global,
            asset_group_id=None,
            max_age_seconds=draft.max_age,
            created_at=self._clock.wall(),
        )
        async with self._database.write(principal.organization_id) as transaction:
            found = await presences.find(transaction, principal.organization_id, [draft.presence_id])
            if draft.presence_id not in found:
                raise Refusal(Key.INVALID_PRESENCE, "PresenceId: there is no such presence")
            await webhooks.add(transaction, principal.organization_id, added)
        return WebhookView(added, found[draft.presence_id])

    async def page(self, principal: Principal, top: int, skip: int) -> list[WebhookView]:
        async with self._database.read(principal.organization_id) as transaction:
            rows = await webhooks.page(transaction, principal.organization_id, top, skip)
            ids = {row.presence_id for row in rows}
            found = await presences.find(transaction, principal.organization_id, ids)
        return [WebhookView(row, found[row.presence_id]) for row in rows]

    async def count(self, principal: Principal) -> int:
        async with self._database.read(principal.organization_id) as transaction:
            return await webhooks.count(transaction, principal.organization_id)


def _check(draft: Draft) -> None:
    """By the functions that the agent uses, so that what is saved can be sent."""
    with _blaming("Uri", Key.INVALID_URL):
        parse_template(draft.uri)
    with _blaming("ContentType"):
        if draft.content_type is not None:
            check_content_type(draft.content_type)
    with _blaming("RequestBody"):
        if draft.body is not None:
            if draft.method is Method.GET:
                raise TemplateError("a GET has no body; set RequestMethod to POST or PUT, or leave RequestBody out")
            parse_body(draft.body, draft.content_type)


@contextmanager
def _blaming(name: str, key: Key = Key.INVALID_INPUT) -> Iterator[None]:
    """What is wrong with that field, as a Refusal."""
    try:
        yield
    except TemplateError as error:
        raise Refusal(key, f"{name}: {error}") from None


def host_of(uri: str) -> str:
    """Host and port of a checked URI template."""
    template = parse_template(uri)
    return f"[{template.host}]:{template.port}" if ":" in template.host else f"{template.host}:{template.port}"
