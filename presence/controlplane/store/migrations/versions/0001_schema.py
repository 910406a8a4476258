# ruff: noqa: E501
"""The schema: organizations and their users, presences, webhooks, events and deliveries."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def text(length: int | None = None) -> sa.String:
    """Compared byte by byte on every database."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "organization",
        sa.Column("id", text(36), nullable=False),
        sa.Column("name", text(128), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organization")),
        sa.UniqueConstraint("name", name=op.f("uq_organization_name")),
    )
    op.create_table(
        "asset_group",
        sa.Column("id", text(36), nullable=False),
        sa.Column("organization_id", text(36), nullable=False),
        sa.Column("name", text(120), nullable=False),
        sa.Column("description", text(), nullable=True),
        sa.Column("contact_person", text(256), nullable=True),
        sa.Column("is_default", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_by", text(256), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name=op.f("fk_asset_group_organization_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_asset_group")),
        sa.UniqueConstraint("organization_id", "id", name=op.f("uq_asset_group_organization_id_id")),
        sa.UniqueConstraint("organization_id", "name", name=op.f("uq_asset_group_organization_id_name")),
    )
    op.create_table(
        "audit",
        sa.Column("id", text(36), nullable=False),
        sa.Column("organization_id", text(36), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("user_id", text(36), nullable=True),
        sa.Column("user_name", text(256), nullable=True),
        sa.Column("activity", text(32), nullable=False),
        sa.Column("entity_type", text(32), nullable=False),
        sa.Column("entity_id", text(64), nullable=False),
        sa.Column("asset_group_id", text(36), nullable=True),
        sa.Column("before", text(), nullable=True),
        sa.Column("after", text(), nullable=True),
        sa.CheckConstraint(
            "before IS NOT NULL OR after IS NOT NULL OR activity <> 'Modify'", name=op.f("ck_audit_modified")
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name=op.f("fk_audit_organization_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_organization_id_at_id"), "audit", ["organization_id", "at", "id"], unique=False)
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
    op.create_table(
        "presence",
        sa.Column("id", text(36), nullable=False),
        sa.Column("organization_id", text(36), nullable=False),
        sa.Column("name", text(128), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name=op.f("fk_presence_organization_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_presence")),
        sa.UniqueConstraint("organization_id", "id", name=op.f("uq_presence_organization_id_id")),
        sa.UniqueConstraint("organization_id", "name", name=op.f("uq_presence_organization_id_name")),
    )
    op.create_table(
        "role",
        sa.Column("id", text(36), nullable=False),
        sa.Column("organization_id", text(36), nullable=False),
        sa.Column("name", text(256), nullable=False),
        sa.Column("description", text(), nullable=True),
        sa.Column("external_group_name", text(256), nullable=True),
        sa.Column("capabilities", text(), nullable=False),
        sa.Column("is_predefined", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("is_default", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name=op.f("fk_role_organization_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_role")),
        sa.UniqueConstraint("organization_id", "id", name=op.f("uq_role_organization_id_id")),
        sa.UniqueConstraint("organization_id", "name", name=op.f("uq_role_organization_id_name")),
    )
    op.create_table(
        "application",
        sa.Column("id", text(36), nullable=False),
        sa.Column("organization_id", text(36), nullable=False),
        sa.Column("asset_group_id", text(36), nullable=False),
        sa.Column("name", text(64), nullable=False),
        sa.Column("critical_issues", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("high_issues", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("medium_issues", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("low_issues", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("informational_issues", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("issues_in_progress", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("new_issues", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("open_issues", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("total_issues", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("risk_rating", text(16), server_default="Unknown", nullable=False),
        sa.Column("max_severity", text(16), server_default="Undetermined", nullable=False),
        sa.Column("testing_status", text(16), server_default="NotStarted", nullable=False),
        sa.Column("overall_compliance", sa.Boolean(), nullable=True),
        sa.Column("business_impact", text(16), server_default="Unspecified", nullable=False),
        sa.Column("attributes", text(), server_default="{}", nullable=False),
        sa.Column("created_by", text(256), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("grouped_by", text(256), nullable=True),
        sa.Column("grouped_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id", "asset_group_id"],
            ["asset_group.organization_id", "asset_group.id"],
            name=op.f("fk_application_organization_id_asset_group_id"),
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name=op.f("fk_application_organization_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_application")),
        sa.UniqueConstraint("organization_id", "id", name=op.f("uq_application_organization_id_id")),
        sa.UniqueConstraint("organization_id", "name", name=op.f("uq_application_organization_id_name")),
    )
    op.create_index(
        op.f("ix_application_organization_id_asset_group_id"),
        "application",
        ["organization_id", "asset_group_id"],
        unique=False,
    )
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
            "state IN ('queued', 'held', 'dispatched', 'accepted', 'cancelling', 'succeeded', 'failed', 'refused', 'expired', 'cancelled')",
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
    op.create_table(
        "enrollment",
        sa.Column("hash", text(64), nullable=False),
        sa.Column("organization_id", text(36), nullable=False),
        sa.Column("presence_id", text(36), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("nonce_hash", text(64), nullable=True),
        sa.Column("key_id", text(36), nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id", "presence_id"],
            ["presence.organization_id", "presence.id"],
            name=op.f("fk_enrollment_organization_id_presence_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name=op.f("fk_enrollment_organization_id")),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_enrollment")),
    )
    op.create_index(
        op.f("ix_enrollment_organization_id_presence_id"),
        "enrollment",
        ["organization_id", "presence_id"],
        unique=False,
    )
    op.create_table(
        "instance",
        sa.Column("presence_id", text(36), nullable=False),
        sa.Column("instance_id", text(36), nullable=False),
        sa.Column("organization_id", text(36), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("host", text(256), nullable=False),
        sa.Column("agent_version", text(64), nullable=False),
        sa.Column("platform", text(64), nullable=False),
        sa.Column("connected_at", sa.BigInteger(), nullable=False),
        sa.Column("last_canary_at", sa.BigInteger(), nullable=True),
        sa.Column("run", text(36), nullable=False),
        sa.Column("former_runs", text(), server_default="{}", nullable=False),
        sa.Column("conflict_at", sa.BigInteger(), nullable=True),
        sa.Column("conflict_hosts", text(), server_default="[]", nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id", "presence_id"],
            ["presence.organization_id", "presence.id"],
            name=op.f("fk_instance_organization_id_presence_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name=op.f("fk_instance_organization_id")),
        sa.PrimaryKeyConstraint("presence_id", "instance_id", name=op.f("pk_instance")),
    )
    op.create_table(
        "presence_key",
        sa.Column("id", text(36), nullable=False),
        sa.Column("organization_id", text(36), nullable=False),
        sa.Column("presence_id", text(36), nullable=False),
        sa.Column("hash", text(64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id", "presence_id"],
            ["presence.organization_id", "presence.id"],
            name=op.f("fk_presence_key_organization_id_presence_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name=op.f("fk_presence_key_organization_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_presence_key")),
    )
    op.create_index(op.f("ix_presence_key_presence_id"), "presence_key", ["presence_id"], unique=False)
    op.create_table(
        "user",
        sa.Column("id", text(36), nullable=False),
        sa.Column("organization_id", text(36), nullable=False),
        sa.Column("user_name", text(256), nullable=False),
        sa.Column("email", text(320), nullable=True),
        sa.Column("first_name", text(128), nullable=True),
        sa.Column("last_name", text(128), nullable=True),
        sa.Column("role_id", text(36), nullable=False),
        sa.Column("invited_by", text(256), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_login_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id", "role_id"],
            ["role.organization_id", "role.id"],
            name=op.f("fk_user_organization_id_role_id"),
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name=op.f("fk_user_organization_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user")),
        sa.UniqueConstraint("organization_id", "id", name=op.f("uq_user_organization_id_id")),
        sa.UniqueConstraint("organization_id", "user_name", name=op.f("uq_user_organization_id_user_name")),
    )
    op.create_index(op.f("ix_user_organization_id_role_id"), "user", ["organization_id", "role_id"], unique=False)
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
    op.create_table(
        "api_key",
        sa.Column("id", text(36), nullable=False),
        sa.Column("organization_id", text(36), nullable=False),
        sa.Column("user_id", text(36), nullable=False),
        sa.Column("secret_hash", text(64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id", "user_id"],
            ["user.organization_id", "user.id"],
            name=op.f("fk_api_key_organization_id_user_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name=op.f("fk_api_key_organization_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("organization_id", "user_id", name=op.f("uq_api_key_organization_id_user_id")),
    )
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
    op.create_table(
        "membership",
        sa.Column("user_id", text(36), nullable=False),
        sa.Column("asset_group_id", text(36), nullable=False),
        sa.Column("organization_id", text(36), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id", "asset_group_id"],
            ["asset_group.organization_id", "asset_group.id"],
            name=op.f("fk_membership_organization_id_asset_group_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["organization_id", "user_id"],
            ["user.organization_id", "user.id"],
            name=op.f("fk_membership_organization_id_user_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name=op.f("fk_membership_organization_id")),
        sa.PrimaryKeyConstraint("user_id", "asset_group_id", name=op.f("pk_membership")),
    )
    op.create_index(
        op.f("ix_membership_organization_id_asset_group_id"),
        "membership",
        ["organization_id", "asset_group_id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_membership_organization_id_user_id_asset_group_id"),
        "membership",
        ["organization_id", "user_id", "asset_group_id"],
        unique=False,
    )
    op.create_table(
        "scan",
        sa.Column("id", text(36), nullable=False),
        sa.Column("organization_id", text(36), nullable=False),
        sa.Column("application_id", text(36), nullable=False),
        sa.Column("name", text(256), nullable=False),
        sa.Column("technology", text(32), nullable=False),
        sa.Column("created_by", text(256), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id", "application_id"],
            ["application.organization_id", "application.id"],
            name=op.f("fk_scan_organization_id_application_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name=op.f("fk_scan_organization_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scan")),
        sa.UniqueConstraint("organization_id", "id", name=op.f("uq_scan_organization_id_id")),
    )
    op.create_index(
        op.f("ix_scan_organization_id_application_id"), "scan", ["organization_id", "application_id"], unique=False
    )
    op.create_table(
        "token",
        sa.Column("hash", text(64), nullable=False),
        sa.Column("organization_id", text(36), nullable=False),
        sa.Column("user_id", text(36), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id", "user_id"],
            ["user.organization_id", "user.id"],
            name=op.f("fk_token_organization_id_user_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name=op.f("fk_token_organization_id")),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_token")),
    )
    op.create_index(op.f("ix_token_expires_at"), "token", ["expires_at"], unique=False)
    op.create_index(op.f("ix_token_organization_id_user_id"), "token", ["organization_id", "user_id"], unique=False)
    op.create_table(
        "execution",
        sa.Column("id", text(36), nullable=False),
        sa.Column("organization_id", text(36), nullable=False),
        sa.Column("scan_id", text(36), nullable=False),
        sa.Column("status", text(16), nullable=False),
        sa.Column("execution_progress", text(32), nullable=False),
        sa.Column("progress", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("result", text(16), server_default="None", nullable=False),
        sa.Column("n_issues_found", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("n_critical_issues", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("n_high_issues", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("n_medium_issues", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("n_low_issues", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("n_info_issues", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("n_open_source_licenses", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("n_open_source_packages", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("n_new_app_issues", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("n_new_app_critical_issues", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("n_new_app_high_issues", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("n_new_app_medium_issues", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("n_new_app_low_issues", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("n_new_app_info_issues", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("user_message", text(), nullable=True),
        sa.Column("comment", text(), nullable=True),
        sa.Column("is_partial", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_by_id", text(36), nullable=True),
        sa.Column("created_by", text(256), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("executed_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id", "scan_id"],
            ["scan.organization_id", "scan.id"],
            name=op.f("fk_execution_organization_id_scan_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name=op.f("fk_execution_organization_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_execution")),
        sa.UniqueConstraint("organization_id", "id", name=op.f("uq_execution_organization_id_id")),
    )
    op.create_index(
        op.f("ix_execution_organization_id_scan_id_created_at"),
        "execution",
        ["organization_id", "scan_id", "created_at"],
        unique=False,
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_execution_organization_id_scan_id_created_at"), table_name="execution")
    op.drop_table("execution")
    op.drop_index(op.f("ix_token_organization_id_user_id"), table_name="token")
    op.drop_index(op.f("ix_token_expires_at"), table_name="token")
    op.drop_table("token")
    op.drop_index(op.f("ix_scan_organization_id_application_id"), table_name="scan")
    op.drop_table("scan")
    op.drop_index(op.f("ix_membership_organization_id_user_id_asset_group_id"), table_name="membership")
    op.drop_index(op.f("ix_membership_organization_id_asset_group_id"), table_name="membership")
    op.drop_table("membership")
    op.drop_index(op.f("ix_association_organization_id_asset_group_id"), table_name="association")
    op.drop_index(op.f("ix_association_organization_id_application_id"), table_name="association")
    op.drop_table("association")
    op.drop_table("api_key")
    op.drop_index(op.f("ix_webhook_organization_id_presence_id"), table_name="webhook")
    op.drop_index(op.f("ix_webhook_organization_id_host"), table_name="webhook")
    op.drop_index(op.f("ix_webhook_organization_id_event_is_global_asset_group_id"), table_name="webhook")
    op.drop_table("webhook")
    op.drop_index(op.f("ix_user_organization_id_role_id"), table_name="user")
    op.drop_table("user")
    op.drop_index(op.f("ix_presence_key_presence_id"), table_name="presence_key")
    op.drop_table("presence_key")
    op.drop_table("instance")
    op.drop_index(op.f("ix_enrollment_organization_id_presence_id"), table_name="enrollment")
    op.drop_table("enrollment")
    op.drop_index(
        "ix_delivery_waiting",
        table_name="delivery",
        sqlite_where=sa.text("state IN ('queued', 'held', 'cancelling')"),
        postgresql_where=sa.text("state IN ('queued', 'held', 'cancelling')"),
    )
    op.drop_index(
        "ix_delivery_unfinished",
        table_name="delivery",
        sqlite_where=sa.text("state IN ('queued', 'held', 'dispatched', 'accepted', 'cancelling')"),
        postgresql_where=sa.text("state IN ('queued', 'held', 'dispatched', 'accepted', 'cancelling')"),
    )
    op.drop_index(
        "ix_delivery_suspects",
        table_name="delivery",
        sqlite_where=sa.text("protocol_closes > 0"),
        postgresql_where=sa.text("protocol_closes > 0"),
    )
    op.drop_index(op.f("ix_delivery_presence_id_state_host_created_at_id"), table_name="delivery")
    op.drop_index(
        "ix_delivery_owned",
        table_name="delivery",
        sqlite_where=sa.text("state IN ('dispatched', 'accepted', 'held', 'cancelling')"),
        postgresql_where=sa.text("state IN ('dispatched', 'accepted', 'held', 'cancelling')"),
    )
    op.drop_index(op.f("ix_delivery_organization_id_webhook_id_created_at_id"), table_name="delivery")
    op.drop_index(op.f("ix_delivery_organization_id_event_id"), table_name="delivery")
    op.drop_index(op.f("ix_delivery_organization_id_created_at_id"), table_name="delivery")
    op.drop_table("delivery")
    op.drop_index(op.f("ix_application_organization_id_asset_group_id"), table_name="application")
    op.drop_table("application")
    op.drop_table("role")
    op.drop_table("presence")
    op.drop_index(op.f("ix_event_organization_id_created_at"), table_name="event")
    op.drop_table("event")
    op.drop_index(op.f("ix_audit_organization_id_at_id"), table_name="audit")
    op.drop_table("audit")
    op.drop_table("asset_group")
    op.drop_table("organization")
