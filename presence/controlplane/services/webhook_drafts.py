"""What a webhook shall be: a draft, checked by the functions that the agent uses, and how it is stored and shown."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.store.audits import Fields
from presence.controlplane.store.webhooks import Webhook
from presence.domain.body import check_content_type, parse_body
from presence.domain.events import EventType
from presence.domain.header import header_value_fault
from presence.domain.template import TemplateError, parse_template
from presence.domain.webhook import DEFAULT_MAX_AGE_SECONDS, Method, OnUnknown

MASK: Final = "********"
"""What is shown in place of a secret."""


class Stored(Enum):
    """In place of a secret: the one that is stored already."""

    AS_IT_IS = "as it is"


@dataclass(frozen=True, slots=True)
class Draft:
    """What a webhook shall be, at organization level or of an asset group. `max_age` in seconds; `uri` and `body` are
    templates. `authorization`: the header's value, which is a secret."""

    presence_id: str
    uri: str
    event: EventType
    is_global: bool
    asset_group_id: str | None = None
    authorization: str | Stored | None = field(default=None, repr=False)
    method: Method = Method.GET
    body: str | None = None
    content_type: str | None = None
    on_unknown: OnUnknown = OnUnknown.FIRE
    max_age: int = DEFAULT_MAX_AGE_SECONDS


def masked(sealed: str | None, which: str = "") -> str | None:
    """What may be shown of a secret: whether there is one."""
    return None if sealed is None else f"{MASK} {which}".strip()


def fields_of(webhook: Webhook) -> Fields:
    """As the audit log shows it."""
    return {
        "PresenceId": webhook.presence_id,
        "Uri": webhook.uri,
        "Event": webhook.event,
        "Global": webhook.is_global,
        "AssetGroupId": webhook.asset_group_id,
        "AuthorizationHeader": masked(webhook.authorization),
        "RequestMethod": webhook.method,
        "RequestBody": webhook.body,
        "ContentType": webhook.content_type,
        "MaxAgeSeconds": webhook.max_age_seconds,
        "OnUnknown": webhook.on_unknown.capitalize(),
    }


def draft_of(webhook: Webhook) -> Draft:
    """As it is; its secret stays the stored one."""
    return Draft(
        presence_id=webhook.presence_id,
        uri=webhook.uri,
        event=EventType(webhook.event),
        is_global=webhook.is_global,
        asset_group_id=webhook.asset_group_id,
        authorization=Stored.AS_IT_IS,
        method=Method(webhook.method),
        body=webhook.body,
        content_type=webhook.content_type,
        on_unknown=OnUnknown(webhook.on_unknown),
        max_age=webhook.max_age_seconds,
    )


def webhook_of(draft: Draft, webhook_id: str, created_at: int, sealed: str | None) -> Webhook:
    """As it is stored, not paused. The draft is checked already."""
    return Webhook(
        id=webhook_id,
        presence_id=draft.presence_id,
        uri=draft.uri,
        host=host_of(draft.uri),
        method=draft.method.value,
        body=draft.body,
        content_type=draft.content_type,
        on_unknown=draft.on_unknown.value,
        event=draft.event.value,
        is_global=draft.is_global,
        asset_group_id=draft.asset_group_id,
        max_age_seconds=draft.max_age,
        created_at=created_at,
        authorization=sealed,
    )


def check(draft: Draft) -> None:
    """Raises Refusal INVALID_URL or INVALID_INPUT for what no agent could send."""
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
    with _blaming("AuthorizationHeader"):
        fault = header_value_fault(draft.authorization) if isinstance(draft.authorization, str) else None
        if fault is not None:
            raise TemplateError(fault)


@contextmanager
def _blaming(name: str, key: Key = Key.INVALID_INPUT) -> Iterator[None]:
    """What is wrong with that field, as a Refusal."""
    try:
        yield
    except TemplateError as error:
        raise Refusal(key, f"{name}: {error}") from None


def leaves(old: str, new: str) -> bool:
    """Whether the second URI template names another server than the first, or speaks to it otherwise."""
    before, after = parse_template(old), parse_template(new)
    return (before.scheme, before.host, before.port) != (after.scheme, after.host, after.port)


def host_of(uri: str) -> str:
    """Host and port of a checked URI template."""
    template = parse_template(uri)
    return f"[{template.host}]:{template.port}" if ":" in template.host else f"{template.host}:{template.port}"
