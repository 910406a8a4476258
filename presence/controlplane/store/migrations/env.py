"""Run by alembic for each migration, inside the transaction that `migrations.change` began."""

from alembic import context

from presence.controlplane.store.migrations import require_known
from presence.controlplane.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
require_known(context.get_context().get_current_revision())
context.run_migrations()
