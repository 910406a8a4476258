"""Run by alembic for each migration."""

from alembic import context
from sqlalchemy import create_engine, pool

from presence.controlplane.store.migrations import require_known
from presence.controlplane.store.tables import metadata


def run() -> None:
    url = context.config.get_main_option("sqlalchemy.url")
    assert url is not None, "migrate() sets the URL"
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
        require_known(context.get_context().get_current_revision())
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


run()
