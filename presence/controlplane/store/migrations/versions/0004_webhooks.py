"""Webhooks with their associations, events and deliveries."""

import sqlalchemy as sa
from alembic import op

from presence.controlplane.store.migrations.texts import text

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = ("webhook", "association", "event", "delivery")


def upgrade() -> None:
    _webhook()
    _association()
    _event()
    _delivery()
    _delivery_indices()


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)


def _webhook() -> None:
    op.create_table(
        "webhook",
        sa.Column("id", text(36), nullable=False),
        sa.Column("organization_id", text(36), nullable=False),
        sa.Column("presence_id", text(36), nullable=False),
        sa.Column("uri", text(2048), nullable=False),
        sa.Column("host", text(261), nullable=False),
        sa.Column("method", text(8), nullable=False),
        sa.Column("body", text(8192), nullable=True),
        sa.Column("content_type", text(256), nullable=True),
        sa.Column("authorization", text(), nullable=True),
        sa.Column("on_unknown", text(8), nullable=False),
        sa.Column("event", text(64), nullable=False),
        sa.Column("is_global", sa.Boolean(), nullable=False),
        sa.Column("asset_group_id", text(36), nullable=True),
        sa.Column("max_age_seconds", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("paused_at", sa.BigInteger(), nullable=True),
        sa.Column("paused_reason", text(64), nullable=True),
        sa.CheckConstraint(
            "event IN ('ScanExecutionCompleted', 'ApplicationUpdated', 'NewPatchRequest')",
            name=op.f("ck_webhook_event"),
        ),
        sa.CheckConstraint("method IN ('GET', 'POST', 'PUT')", name=op.f("ck_webhook_method")),
        sa.CheckConstraint("on_unknown IN ('fire', 'hold')", name=op.f("ck_webhook_on_unknown")),
        sa.CheckConstraint("(paused_at IS NULL) = (paused_reason IS NULL)", name=op.f("ck_webhook_paused")),
        sa.ForeignKeyConstraint(
            ["organization_id", "asset_group_id"],
            ["asset_group.organization_id", "asset_group.id"],
            name=op.f("fk_webhook_organization_id_asset_group_id"),
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "presence_id"],
            ["presence.organization_id", "presence.id"],
            name=op.f("fk_webhook_organization_id_presence_id"),
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name=op.f("fk_webhook_organization_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook")),
        sa.UniqueConstraint("organization_id", "id", name=op.f("uq_webhook_organization_id_id")),
    )
    op.create_index(
        op.f("ix_webhook_organization_id_event_is_global_asset_group_id"),
        "webhook",
        ["organization_id", "event", "is_global", "asset_group_id"],
        unique=False,
    )
    op.create_index(op.f("ix_webhook_organization_id_host"), "webhook", ["organization_id", "host"], unique=False)
    op.create_index(
        op.f("ix_webhook_organization_id_presence_id"), "webhook", ["organization_id", "presence_id"], unique=False
    )


def _association() -> None:
    op.create_table(
        "association",
        sa.Column("id", text(36), nullable=False),
        sa.Column("organization_id", text(36), nullable=False),
        sa.Column("webhook_id", text(36), nullable=False),
        sa.Column("application_id", text(36), nullable=True),
        sa.Column("asset_group_id", text(36), nullable=True),
        sa.CheckConstraint("(application_id IS NULL) <> (asset_group_id IS NULL)", name=op.f("ck_association_scope")),
        sa.ForeignKeyConstraint(
            ["organization_id", "application_id"],
            ["application.organization_id", "application.id"],
            name=op.f("fk_association_organization_id_application_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "asset_group_id"],
            ["asset_group.organization_id", "asset_group.id"],
            name=op.f("fk_association_organization_id_asset_group_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "webhook_id"],
            ["webhook.organization_id", "webhook.id"],
            name=op.f("fk_association_organization_id_webhook_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name=op.f("fk_association_organization_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_association")),
        sa.UniqueConstraint("webhook_id", "application_id", name=op.f("uq_association_webhook_id_application_id")),
        sa.UniqueConstraint("webhook_id", "asset_group_id", name=op.f("uq_association_webhook_id_asset_group_id")),
    )
    op.create_index(
        op.f("ix_association_organization_id_application_id"),
        "association",
        ["organization_id", "application_id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_association_organization_id_asset_group_id"),
        "association",
        ["organization_id", "asset_group_id"],
        unique=False,
    )


def _event() -> None:
    op.create_table(
        "event",
        sa.Column("id", text(36), nullable=False),
        sa.Column("organization_id", text(36), nullable=False),
        sa.Column("source", text(512), nullable=False),
        sa.Column("source_event_id", text(256), nullable=False),
        sa.Column("type", text(64), nullable=False),
        sa.Column("subject", text(256), nullable=False),
        sa.Column("application_id", text(36), nullable=True),
        sa.Column("asset_group_id", text(36), nullable=True),
        sa.Column("occurred_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "type IN ('ScanExecutionCompleted', 'ApplicationUpdated', 'NewPatchRequest')", name=op.f("ck_event_type")
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name=op.f("fk_event_organization_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
        sa.UniqueConstraint("organization_id", "id", name=op.f("uq_event_organization_id_id")),
        sa.UniqueConstraint(
            "organization_id", "source", "source_event_id", name=op.f("uq_event_organization_id_source_source_event_id")
        ),
    )
    op.create_index(
        op.f("ix_event_organization_id_created_at"), "event", ["organization_id", "created_at"], unique=False
    )


def _delivery() -> None:
    op.create_table(
        "delivery",
        sa.Column("id", text(36), nullable=False),
        sa.Column("organization_id", text(36), nullable=False),
        sa.Column("webhook_id", text(36), nullable=False),
        sa.Column("asset_group_id", text(36), nullable=True),
        sa.Column("presence_id", text(36), nullable=False),
        sa.Column("event_id", text(36), nullable=True),
        sa.Column("redelivery_of", text(36), nullable=True),
        sa.Column("event_type", text(64), nullable=False),
        sa.Column("subject", text(256), nullable=False),
        sa.Column("uri", text(2048), nullable=False),
        sa.Column("host", text(261), nullable=False),
        sa.Column("method", text(8), nullable=False),
        sa.Column("body", text(8192), nullable=True),
        sa.Column("content_type", text(256), nullable=True),
        sa.Column("on_unknown", text(8), nullable=False),
        sa.Column("state", text(16), nullable=False),
        sa.Column("reason", text(64), nullable=True),
        sa.Column("instance_id", text(36), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempt_log", text(), server_default="[]", nullable=False),
        sa.Column("released_attempts", sa.Integer(), nullable=True),
        sa.Column("release_said", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("takeovers", sa.Integer(), server_default="0", nullable=False),
        sa.Column("protocol_closes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("dispatched_at", sa.BigInteger(), nullable=True),
        sa.Column("accepted_at", sa.BigInteger(), nullable=True),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.Column("traceparent", text(55), nullable=True),
        sa.CheckConstraint("method IN ('GET', 'POST', 'PUT')", name=op.f("ck_delivery_method")),
        sa.CheckConstraint("on_unknown IN ('fire', 'hold')", name=op.f("ck_delivery_on_unknown")),
        sa.CheckConstraint(
            "state IN ('queued', 'held', 'dispatched', 'accepted', 'cancelling', "
            "'succeeded', 'failed', 'refused', 'expired', 'cancelled')",
            name=op.f("ck_delivery_state"),
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "event_id"],
            ["event.organization_id", "event.id"],
            name=op.f("fk_delivery_organization_id_event_id"),
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name=op.f("fk_delivery_organization_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery")),
        sa.UniqueConstraint("organization_id", "id", name=op.f("uq_delivery_organization_id_id")),
    )


def _delivery_indices() -> None:
    op.create_index(
        op.f("ix_delivery_organization_id_created_at_id"),
        "delivery",
        ["organization_id", "created_at", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_delivery_organization_id_event_id"), "delivery", ["organization_id", "event_id"], unique=False
    )
    op.create_index(
        op.f("ix_delivery_organization_id_webhook_id_created_at_id"),
        "delivery",
        ["organization_id", "webhook_id", "created_at", "id"],
        unique=False,
    )
    op.create_index(
        "ix_delivery_owned",
        "delivery",
        ["presence_id", "instance_id"],
        unique=False,
        sqlite_where=sa.text("state IN ('dispatched', 'accepted', 'held', 'cancelling')"),
        postgresql_where=sa.text("state IN ('dispatched', 'accepted', 'held', 'cancelling')"),
    )
    op.create_index(
        op.f("ix_delivery_presence_id_state_host_created_at_id"),
        "delivery",
        ["presence_id", "state", "host", "created_at", "id"],
        unique=False,
    )
    op.create_index(
        "ix_delivery_suspects",
        "delivery",
        ["presence_id", "state", "created_at", "id"],
        unique=False,
        sqlite_where=sa.text("protocol_closes > 0"),
        postgresql_where=sa.text("protocol_closes > 0"),
    )
    op.create_index(
        "ix_delivery_unfinished",
        "delivery",
        ["webhook_id"],
        unique=False,
        sqlite_where=sa.text("state IN ('queued', 'held', 'dispatched', 'accepted', 'cancelling')"),
        postgresql_where=sa.text("state IN ('queued', 'held', 'dispatched', 'accepted', 'cancelling')"),
    )
    op.create_index(
        "ix_delivery_waiting",
        "delivery",
        ["expires_at"],
        unique=False,
        sqlite_where=sa.text("state IN ('queued', 'held', 'cancelling')"),
        postgresql_where=sa.text("state IN ('queued', 'held', 'cancelling')"),
    )
