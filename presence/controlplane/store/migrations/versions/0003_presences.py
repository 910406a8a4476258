"""Presences with their keys, how agents enrol, and the agents' instances."""

import sqlalchemy as sa
from alembic import op

from presence.controlplane.store.migrations.texts import text

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = ("presence", "presence_key", "enrollment", "instance")


def upgrade() -> None:
    _presence()
    _presence_key()
    _enrollment()
    _instance()


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)


def _presence() -> None:
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


def _presence_key() -> None:
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


def _enrollment() -> None:
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


def _instance() -> None:
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
