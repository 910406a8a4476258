"""Organizations, their users and roles, asset groups, and what was changed."""

import sqlalchemy as sa
from alembic import op

from presence.controlplane.store.migrations.texts import text

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = ("organization", "asset_group", "role", "user", "membership", "api_key", "token", "audit")


def upgrade() -> None:
    _organization()
    _asset_group()
    _role()
    _user()
    _membership()
    _api_key()
    _token()
    _audit()


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)


def _organization() -> None:
    op.create_table(
        "organization",
        sa.Column("id", text(36), nullable=False),
        sa.Column("name", text(128), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organization")),
        sa.UniqueConstraint("name", name=op.f("uq_organization_name")),
    )


def _asset_group() -> None:
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


def _role() -> None:
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


def _user() -> None:
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


def _membership() -> None:
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


def _api_key() -> None:
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


def _token() -> None:
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


def _audit() -> None:
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
