"""The tables. The migrations make them; a test holds the two together."""

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    literal_column,
)

from presence.domain.delivery import DeliveryState
from presence.domain.events import EventType
from presence.domain.webhook import (
    MAX_BODY_LENGTH,
    MAX_CONTENT_TYPE_LENGTH,
    MAX_URI_LENGTH,
    Method,
    OnUnknown,
)

MAX_HOST_LENGTH = 261
"""A DNS name (253), a colon, a port; or an IPv6 address in brackets and a port."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _listed(column: str, values: type[StrEnum]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(str(value)) for value in values)})", name=column)


organization = Table(
    "organization",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(128), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
)

user = Table(
    "user",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("organization_id", String(36), ForeignKey("organization.id"), nullable=False),
    Column("user_name", String(256), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("organization_id", "user_name"),
)

api_key = Table(
    "api_key",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("user_id", String(36), ForeignKey("user.id"), nullable=False, index=True),
    Column("secret_hash", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

token = Table(
    "token",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("user_id", String(36), ForeignKey("user.id"), nullable=False, index=True),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
)

presence = Table(
    "presence",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("organization_id", String(36), ForeignKey("organization.id"), nullable=False),
    Column("name", String(128), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("organization_id", "name"),
    UniqueConstraint("organization_id", "id"),
)

presence_key = Table(
    "presence_key",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("presence_id", String(36), ForeignKey("presence.id"), nullable=False, index=True),
    Column("hash", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger),
)

instance = Table(
    "instance",
    metadata,
    Column("presence_id", String(36), ForeignKey("presence.id"), primary_key=True),
    Column("instance_id", String(36), primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("host", String(256), nullable=False),
    Column("agent_version", String(64), nullable=False),
    Column("platform", String(64), nullable=False),
    Column("connected_at", BigInteger, nullable=False),
    Column("last_canary_at", BigInteger),
    Column("run", String(36), nullable=False),
    Column("former_runs", Text, nullable=False, server_default="{}"),
    Column("conflict_at", BigInteger),
    Column("conflict_hosts", Text, nullable=False, server_default="[]"),
)

webhook = Table(
    "webhook",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("organization_id", String(36), ForeignKey("organization.id"), nullable=False),
    Column("presence_id", String(36), nullable=False),
    Column("uri", String(MAX_URI_LENGTH), nullable=False),
    Column("method", String(8), nullable=False),
    Column("body", String(MAX_BODY_LENGTH)),
    Column("content_type", String(MAX_CONTENT_TYPE_LENGTH)),
    Column("on_unknown", String(8), nullable=False),
    Column("event", String(64), nullable=False),
    Column("is_global", Boolean, nullable=False),
    Column("asset_group_id", String(36)),
    Column("max_age_seconds", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("paused_at", BigInteger),
    Column("paused_reason", String(64)),
    ForeignKeyConstraint(["organization_id", "presence_id"], ["presence.organization_id", "presence.id"]),
    _listed("event", EventType),
    _listed("method", Method),
    _listed("on_unknown", OnUnknown),
    CheckConstraint("(paused_at IS NULL) = (paused_reason IS NULL)", name="paused"),
    Index(None, "organization_id", "event"),
)

event = Table(
    "event",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("organization_id", String(36), ForeignKey("organization.id"), nullable=False),
    Column("source", String(512), nullable=False),
    Column("source_event_id", String(256), nullable=False),
    Column("type", String(64), nullable=False),
    Column("subject", String(256), nullable=False),
    Column("application_id", String(36)),
    Column("occurred_at", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("organization_id", "source", "source_event_id"),
    _listed("type", EventType),
)

# What a delivery needs is copied into it: the log stays true when its webhook or presence changes or goes.
delivery = Table(
    "delivery",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("organization_id", String(36), ForeignKey("organization.id"), nullable=False),
    Column("webhook_id", String(36), nullable=False),
    Column("presence_id", String(36), nullable=False),
    Column("event_id", String(36), ForeignKey("event.id"), nullable=False, index=True),
    Column("event_type", String(64), nullable=False),
    Column("subject", String(256), nullable=False),
    Column("uri", String(MAX_URI_LENGTH), nullable=False),
    Column("host", String(MAX_HOST_LENGTH), nullable=False),
    Column("method", String(8), nullable=False),
    Column("body", String(MAX_BODY_LENGTH)),
    Column("content_type", String(MAX_CONTENT_TYPE_LENGTH)),
    Column("on_unknown", String(8), nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", String(64)),
    Column("instance_id", String(36)),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("attempt_log", Text, nullable=False, server_default="[]"),
    Column("released_attempts", Integer),
    Column("release_said", Boolean, nullable=False, server_default=false()),
    Column("takeovers", Integer, nullable=False, server_default="0"),
    Column("protocol_closes", Integer, nullable=False, server_default="0"),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("dispatched_at", BigInteger),
    Column("accepted_at", BigInteger),
    Column("settled_at", BigInteger),
    _listed("state", DeliveryState),
    _listed("method", Method),
    _listed("on_unknown", OnUnknown),
    Index(None, "presence_id", "state", "host", "created_at", "id"),
    Index(None, "organization_id", "created_at", "id"),
)


def _listed_literally(*states: str) -> ColumnElement[bool]:
    """A partial index is used where the query holds its condition word for word: with literals, not bound values."""
    return delivery.c.state.in_([literal_column(f"'{state}'") for state in states])


SUSPECT = delivery.c.protocol_closes > literal_column("0")
"""Deliveries under suspicion are few and looked for at every claim."""
OWNED = _listed_literally("dispatched", "accepted", "held")
"""Those that an instance may have, few beside those that have ended."""
WAITING = _listed_literally("queued", "held")
"""Those that expire."""


def _partial_index(name: str, condition: ColumnElement[bool], *columns: str) -> None:
    listed = [delivery.c[column] for column in columns]
    Index(f"ix_delivery_{name}", *listed, sqlite_where=condition, postgresql_where=condition)


_partial_index("suspects", SUSPECT, "presence_id", "state", "created_at", "id")
_partial_index("owned", OWNED, "presence_id", "instance_id")
_partial_index("waiting", WAITING, "expires_at")
