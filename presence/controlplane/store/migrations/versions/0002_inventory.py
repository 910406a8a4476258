"""Applications, their scans and the executions of these."""

import sqlalchemy as sa
from alembic import op

from presence.controlplane.store.migrations.texts import text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = ("application", "scan", "execution")


def upgrade() -> None:
    _application()
    _scan()
    _execution()


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)


def _application() -> None:
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


def _scan() -> None:
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


def _execution() -> None:
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
