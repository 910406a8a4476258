"""Webhooks and what they are associated with."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    Table,
    UniqueConstraint,
)

from presence.controlplane.store.tables.base import ID_LENGTH, inside, listed, metadata, ordered, organization_column
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

# `authorization`: sealed, with the id of the key that opens it in front.
webhook = Table(
    "webhook",
    metadata,
    Column("id", ordered(ID_LENGTH), primary_key=True),
    organization_column(),
    Column("presence_id", ordered(ID_LENGTH), nullable=False),
    Column("uri", ordered(MAX_URI_LENGTH), nullable=False),
    Column("host", ordered(MAX_HOST_LENGTH), nullable=False),
    Column("method", ordered(8), nullable=False),
    Column("body", ordered(MAX_BODY_LENGTH)),
    Column("content_type", ordered(MAX_CONTENT_TYPE_LENGTH)),
    Column("authorization", ordered()),
    Column("on_unknown", ordered(8), nullable=False),
    Column("event", ordered(64), nullable=False),
    Column("is_global", Boolean, nullable=False),
    Column("asset_group_id", ordered(ID_LENGTH)),
    Column("max_age_seconds", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("paused_at", BigInteger),
    Column("paused_reason", ordered(64)),
    inside("presence", "presence_id"),
    inside("asset_group", "asset_group_id"),
    UniqueConstraint("organization_id", "id"),
    listed("event", EventType),
    listed("method", Method),
    listed("on_unknown", OnUnknown),
    CheckConstraint("(paused_at IS NULL) = (paused_reason IS NULL)", name="paused"),
    Index(None, "organization_id", "event", "is_global", "asset_group_id"),
    Index(None, "organization_id", "presence_id"),
    Index(None, "organization_id", "host"),
)

# One scope of a webhook that is not Global: an application, or for an organization-level one an asset group.
association = Table(
    "association",
    metadata,
    Column("id", ordered(ID_LENGTH), primary_key=True),
    organization_column(),
    Column("webhook_id", ordered(ID_LENGTH), nullable=False),
    Column("application_id", ordered(ID_LENGTH)),
    Column("asset_group_id", ordered(ID_LENGTH)),
    inside("webhook", "webhook_id", cascades=True),
    inside("application", "application_id", cascades=True),
    inside("asset_group", "asset_group_id", cascades=True),
    UniqueConstraint("webhook_id", "application_id"),
    UniqueConstraint("webhook_id", "asset_group_id"),
    CheckConstraint("(application_id IS NULL) <> (asset_group_id IS NULL)", name="scope"),
    Index(None, "organization_id", "application_id"),
    Index(None, "organization_id", "asset_group_id"),
)
