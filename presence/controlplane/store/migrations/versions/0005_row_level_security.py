"""On PostgreSQL each transaction sees the rows of one organization, the one it names, or with '*' those of all.

The owner of the tables is held by it, too; only a superuser or a role with BYPASSRLS is not.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = (
    "organization",
    "role",
    "user",
    "asset_group",
    "membership",
    "api_key",
    "token",
    "audit",
    "application",
    "scan",
    "execution",
    "presence",
    "presence_key",
    "enrollment",
    "instance",
    "webhook",
    "association",
    "event",
    "delivery",
)
NAMED = "current_setting('presence.organization', true)"


def upgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    for table in TABLES:
        column = "id" if table == "organization" else "organization_id"
        op.execute(f'ALTER TABLE "{table}" ENABLE ROW LEVEL SECURITY')
        op.execute(f'ALTER TABLE "{table}" FORCE ROW LEVEL SECURITY')
        allowed = f"{column} = {NAMED} OR {NAMED} = '*'"
        op.execute(f'CREATE POLICY organization ON "{table}" USING ({allowed}) WITH CHECK ({allowed})')


def downgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    for table in reversed(TABLES):
        op.execute(f'DROP POLICY organization ON "{table}"')
        op.execute(f'ALTER TABLE "{table}" NO FORCE ROW LEVEL SECURITY')
        op.execute(f'ALTER TABLE "{table}" DISABLE ROW LEVEL SECURITY')
