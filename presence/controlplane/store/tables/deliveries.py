"""Events, and the deliveries that they cause."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Index,
    Integer,
    Table,
    UniqueConstraint,
    false,
    literal_column,
)

from presence.controlplane.store.tables.base import ID_LENGTH, inside, listed, metadata, ordered, organization_column
from presence.controlplane.store.tables.webhooks import MAX_HOST_LENGTH
from presence.domain.delivery import DeliveryState
from presence.domain.events import EventType
from presence.domain.trace import TRACEPARENT_LENGTH
from presence.domain.webhook import (
    MAX_BODY_LENGTH,
    MAX_CONTENT_TYPE_LENGTH,
    MAX_URI_LENGTH,
    Method,
    OnUnknown,
)

# `application_id`, `asset_group_id`: where it happened, as far as is known; history, so no references.
event = Table(
    "event",
    metadata,
    Column("id", ordered(ID_LENGTH), primary_key=True),
    organization_column(),
    Column("source", ordered(512), nullable=False),
    Column("source_event_id", ordered(256), nullable=False),
    Column("type", ordered(64), nullable=False),
    Column("subject", ordered(256), nullable=False),
    Column("application_id", ordered(ID_LENGTH)),
    Column("asset_group_id", ordered(ID_LENGTH)),
    Column("occurred_at", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("organization_id", "id"),
    UniqueConstraint("organization_id", "source", "source_event_id"),
    Index(None, "organization_id", "created_at"),
    listed("type", EventType),
)

# What a delivery needs is copied into it: the log stays true when its webhook or presence changes or goes. Only the
# secret of the webhook is not: it is read when the delivery is fired. `asset_group_id`: the webhook's own, which says
# who may see the delivery. `redelivery_of`: the delivery that somebody had repeated. `traceparent`: what caused it.
delivery = Table(
    "delivery",
    metadata,
    Column("id", ordered(ID_LENGTH), primary_key=True),
    organization_column(),
    Column("webhook_id", ordered(ID_LENGTH), nullable=False),
    Column("asset_group_id", ordered(ID_LENGTH)),
    Column("presence_id", ordered(ID_LENGTH), nullable=False),
    Column("event_id", ordered(ID_LENGTH)),
    Column("redelivery_of", ordered(ID_LENGTH)),
    Column("event_type", ordered(64), nullable=False),
    Column("subject", ordered(256), nullable=False),
    Column("uri", ordered(MAX_URI_LENGTH), nullable=False),
    Column("host", ordered(MAX_HOST_LENGTH), nullable=False),
    Column("method", ordered(8), nullable=False),
    Column("body", ordered(MAX_BODY_LENGTH)),
    Column("content_type", ordered(MAX_CONTENT_TYPE_LENGTH)),
    Column("on_unknown", ordered(8), nullable=False),
    Column("state", ordered(16), nullable=False),
    Column("reason", ordered(64)),
    Column("instance_id", ordered(ID_LENGTH)),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("attempt_log", ordered(), nullable=False, server_default="[]"),
    Column("released_attempts", Integer),
    Column("release_said", Boolean, nullable=False, server_default=false()),
    Column("takeovers", Integer, nullable=False, server_default="0"),
    Column("protocol_closes", Integer, nullable=False, server_default="0"),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("dispatched_at", BigInteger),
    Column("accepted_at", BigInteger),
    Column("settled_at", BigInteger),
    Column("traceparent", ordered(TRACEPARENT_LENGTH)),
    inside("event", "event_id"),
    UniqueConstraint("organization_id", "id"),
    listed("state", DeliveryState),
    listed("method", Method),
    listed("on_unknown", OnUnknown),
    Index(None, "presence_id", "state", "host", "created_at", "id"),
    Index(None, "organization_id", "created_at", "id"),
    Index(None, "organization_id", "webhook_id", "created_at", "id"),
    Index(None, "organization_id", "event_id"),
)


def _listed_literally(*states: str) -> ColumnElement[bool]:
    """A partial index is used where the query holds its condition word for word: with literals, not bound values."""
    return delivery.c.state.in_([literal_column(f"'{state}'") for state in states])


SUSPECT = delivery.c.protocol_closes > literal_column("0")
"""Deliveries under suspicion are few and looked for at every claim."""
OWNED = _listed_literally("dispatched", "accepted", "held", "cancelling")
"""Those that an instance may have, few beside those that have ended."""
WAITING = _listed_literally("queued", "held", "cancelling")
"""Those that time ends."""
UNFINISHED = _listed_literally("queued", "held", "dispatched", "accepted", "cancelling")


def _partial_index(name: str, condition: ColumnElement[bool], *columns: str) -> None:
    listed_columns = [delivery.c[column] for column in columns]
    Index(f"ix_delivery_{name}", *listed_columns, sqlite_where=condition, postgresql_where=condition)


_partial_index("suspects", SUSPECT, "presence_id", "state", "created_at", "id")
_partial_index("owned", OWNED, "presence_id", "instance_id")
_partial_index("waiting", WAITING, "expires_at")
_partial_index("unfinished", UNFINISHED, "webhook_id")
