"""The path of a delivery: organizations, users, presences, webhooks, events, deliveries."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ID = sa.String(36)
_TIME = sa.BigInteger()
_EVENTS = "('ScanExecutionCompleted', 'ApplicationUpdated', 'NewPatchRequest')"
_METHODS = "('GET', 'POST', 'PUT')"
_ON_UNKNOWN = "('fire', 'hold')"
_STATES = (
    "('queued', 'held', 'dispatched', 'accepted', 'cancelling', "
    "'succeeded', 'failed', 'refused', 'expired', 'cancelled')"
)


def upgrade() -> None:
    _accounts()
    _presences()
    _webhooks()
    _deliveries()


def downgrade() -> None:
    for table in (
        "delivery", "event", "webhook", "instance", "presence_key", "presence",
        "token", "api_key", "user", "organization",
    ):  # fmt: skip
        op.drop_table(table)


def _accounts() -> None:
    op.create_table(
        "organization",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_organization"),
        sa.UniqueConstraint("name", name="uq_organization_name"),
    )
    op.create_table(
        "user",
        sa.Column("id", _ID, nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("user_name", sa.String(256), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_user"),
        sa.UniqueConstraint("organization_id", "user_name", name="uq_user_organization_id_user_name"),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_user_organization_id"),
    )
    op.create_table(
        "api_key",
        sa.Column("id", _ID, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("secret_hash", sa.String(64), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_api_key"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name="fk_api_key_user_id"),
    )
    op.create_index("ix_api_key_user_id", "api_key", ["user_id"])
    op.create_table(
        "token",
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("hash", name="pk_token"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name="fk_token_user_id"),
    )
    op.create_index("ix_token_user_id", "token", ["user_id"])
    op.create_index("ix_token_expires_at", "token", ["expires_at"])


def _presences() -> None:
    op.create_table(
        "presence",
        sa.Column("id", _ID, nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_presence"),
        sa.UniqueConstraint("organization_id", "name", name="uq_presence_organization_id_name"),
        sa.UniqueConstraint("organization_id", "id", name="uq_presence_organization_id_id"),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_presence_organization_id"),
    )
    op.create_table(
        "presence_key",
        sa.Column("id", _ID, nullable=False),
        sa.Column("presence_id", _ID, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("last_used_at", _TIME),
        sa.PrimaryKeyConstraint("id", name="pk_presence_key"),
        sa.ForeignKeyConstraint(["presence_id"], ["presence.id"], name="fk_presence_key_presence_id"),
    )
    op.create_index("ix_presence_key_presence_id", "presence_key", ["presence_id"])
    op.create_table(
        "instance",
        sa.Column("presence_id", _ID, nullable=False),
        sa.Column("instance_id", _ID, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("host", sa.String(256), nullable=False),
        sa.Column("agent_version", sa.String(64), nullable=False),
        sa.Column("platform", sa.String(64), nullable=False),
        sa.Column("connected_at", _TIME, nullable=False),
        sa.Column("last_canary_at", _TIME),
        sa.Column("run", _ID, nullable=False),
        sa.Column("former_runs", sa.Text(), nullable=False, server_default="{}"),
        sa.Column("conflict_at", _TIME),
        sa.Column("conflict_hosts", sa.Text(), nullable=False, server_default="[]"),
        sa.PrimaryKeyConstraint("presence_id", "instance_id", name="pk_instance"),
        sa.ForeignKeyConstraint(["presence_id"], ["presence.id"], name="fk_instance_presence_id"),
    )


def _webhooks() -> None:
    op.create_table(
        "webhook",
        sa.Column("id", _ID, nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("presence_id", _ID, nullable=False),
        sa.Column("uri", sa.String(2048), nullable=False),
        sa.Column("method", sa.String(8), nullable=False),
        sa.Column("body", sa.String(8192)),
        sa.Column("content_type", sa.String(256)),
        sa.Column("on_unknown", sa.String(8), nullable=False),
        sa.Column("event", sa.String(64), nullable=False),
        sa.Column("is_global", sa.Boolean(), nullable=False),
        sa.Column("asset_group_id", _ID),
        sa.Column("max_age_seconds", sa.Integer(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("paused_at", _TIME),
        sa.Column("paused_reason", sa.String(64)),
        sa.PrimaryKeyConstraint("id", name="pk_webhook"),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_webhook_organization_id"),
        sa.ForeignKeyConstraint(
            ["organization_id", "presence_id"],
            ["presence.organization_id", "presence.id"],
            name="fk_webhook_organization_id_presence_id",
        ),
        sa.CheckConstraint(f"event IN {_EVENTS}", name=op.f("ck_webhook_event")),
        sa.CheckConstraint(f"method IN {_METHODS}", name=op.f("ck_webhook_method")),
        sa.CheckConstraint(f"on_unknown IN {_ON_UNKNOWN}", name=op.f("ck_webhook_on_unknown")),
        sa.CheckConstraint("(paused_at IS NULL) = (paused_reason IS NULL)", name=op.f("ck_webhook_paused")),
    )
    op.create_index("ix_webhook_organization_id_event", "webhook", ["organization_id", "event"])
    op.create_table(
        "event",
        sa.Column("id", _ID, nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("source", sa.String(512), nullable=False),
        sa.Column("source_event_id", sa.String(256), nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(256), nullable=False),
        sa.Column("application_id", _ID),
        sa.Column("occurred_at", _TIME, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_event"),
        sa.UniqueConstraint(
            "organization_id", "source", "source_event_id", name="uq_event_organization_id_source_source_event_id"
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_event_organization_id"),
        sa.CheckConstraint(f"type IN {_EVENTS}", name=op.f("ck_event_type")),
    )


def _deliveries() -> None:
    op.create_table(
        "delivery",
        sa.Column("id", _ID, nullable=False),
        sa.Column("organization_id", _ID, nullable=False),
        sa.Column("webhook_id", _ID, nullable=False),
        sa.Column("presence_id", _ID, nullable=False),
        sa.Column("event_id", _ID, nullable=False),
        sa.Column("event_type", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(256), nullable=False),
        sa.Column("uri", sa.String(2048), nullable=False),
        sa.Column("host", sa.String(261), nullable=False),
        sa.Column("method", sa.String(8), nullable=False),
        sa.Column("body", sa.String(8192)),
        sa.Column("content_type", sa.String(256)),
        sa.Column("on_unknown", sa.String(8), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(64)),
        sa.Column("instance_id", _ID),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("attempt_log", sa.Text(), nullable=False, server_default="[]"),
        sa.Column("released_attempts", sa.Integer()),
        sa.Column("release_said", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("takeovers", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("protocol_closes", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("dispatched_at", _TIME),
        sa.Column("accepted_at", _TIME),
        sa.Column("settled_at", _TIME),
        sa.PrimaryKeyConstraint("id", name="pk_delivery"),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name="fk_delivery_organization_id"),
        sa.ForeignKeyConstraint(["event_id"], ["event.id"], name="fk_delivery_event_id"),
        sa.CheckConstraint(f"state IN {_STATES}", name=op.f("ck_delivery_state")),
        sa.CheckConstraint(f"method IN {_METHODS}", name=op.f("ck_delivery_method")),
        sa.CheckConstraint(f"on_unknown IN {_ON_UNKNOWN}", name=op.f("ck_delivery_on_unknown")),
    )
    op.create_index("ix_delivery_event_id", "delivery", ["event_id"])
    op.create_index(
        "ix_delivery_presence_id_state_host_created_at_id",
        "delivery",
        ["presence_id", "state", "host", "created_at", "id"],
    )
    op.create_index("ix_delivery_organization_id_created_at_id", "delivery", ["organization_id", "created_at", "id"])
    for name, condition, columns in (
        ("suspects", "protocol_closes > 0", ["presence_id", "state", "created_at", "id"]),
        ("owned", "state IN ('dispatched', 'accepted', 'held')", ["presence_id", "instance_id"]),
        ("waiting", "state IN ('queued', 'held')", ["expires_at"]),
    ):
        where = sa.text(condition)
        op.create_index(f"ix_delivery_{name}", "delivery", columns, sqlite_where=where, postgresql_where=where)
