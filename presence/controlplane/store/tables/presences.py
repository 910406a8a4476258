"""Presences, their keys and enrolment tokens, and the instances that were heard of."""

from sqlalchemy import BigInteger, Column, Index, Table, UniqueConstraint

from presence.controlplane.store.tables.base import ID_LENGTH, inside, metadata, ordered, organization_column

MAX_PRESENCE_NAME = 128

presence = Table(
    "presence",
    metadata,
    Column("id", ordered(ID_LENGTH), primary_key=True),
    organization_column(),
    Column("name", ordered(MAX_PRESENCE_NAME), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("organization_id", "name"),
    UniqueConstraint("organization_id", "id"),
)

presence_key = Table(
    "presence_key",
    metadata,
    Column("id", ordered(ID_LENGTH), primary_key=True),
    organization_column(),
    Column("presence_id", ordered(ID_LENGTH), nullable=False, index=True),
    Column("hash", ordered(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger),
    inside("presence", "presence_id", cascades=True),
)

# Trades once for a key. `nonce_hash`: of the client that traded it, which alone may ask for its answer again.
enrollment = Table(
    "enrollment",
    metadata,
    Column("hash", ordered(64), primary_key=True),
    organization_column(),
    Column("presence_id", ordered(ID_LENGTH), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("nonce_hash", ordered(64)),
    Column("key_id", ordered(ID_LENGTH)),
    inside("presence", "presence_id", cascades=True),
    Index(None, "organization_id", "presence_id"),
)

instance = Table(
    "instance",
    metadata,
    Column("presence_id", ordered(ID_LENGTH), primary_key=True),
    Column("instance_id", ordered(ID_LENGTH), primary_key=True),
    organization_column(),
    Column("epoch", BigInteger, nullable=False),
    Column("host", ordered(256), nullable=False),
    Column("agent_version", ordered(64), nullable=False),
    Column("platform", ordered(64), nullable=False),
    Column("connected_at", BigInteger, nullable=False),
    Column("last_canary_at", BigInteger),
    Column("run", ordered(36), nullable=False),
    Column("former_runs", ordered(), nullable=False, server_default="{}"),
    Column("conflict_at", BigInteger),
    Column("conflict_hosts", ordered(), nullable=False, server_default="[]"),
    inside("presence", "presence_id", cascades=True),
)
