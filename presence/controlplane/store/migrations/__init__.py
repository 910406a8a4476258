"""Migrations of the schema, run by `migrate`; there is no alembic.ini."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError

from presence.controlplane.settings import Store
from presence.errors import DatabaseError


def newest_revision() -> str:
    """The revision that this version of the program needs."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None, "no migrations in the package"
    return revision


def require_known(revision: str | None) -> None:
    """Raises DatabaseError for a database whose revision only a later version of the program has."""
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if revision is not None and revision not in known:
        raise DatabaseError(f"the database is newer than this program (revision {revision}); upgrade presence")


def migrate(store: Store) -> None:
    """Brings the schema to the newest revision; makes the file (0600) and its directory if need be.

    Blocking: call it where no event loop runs. Raises DatabaseError.
    """
    try:
        store.path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(store.path, os.O_CREAT | os.O_RDWR, 0o600))
        with closing(sqlite3.connect(store.path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        config = _config()
        config.set_main_option("sqlalchemy.url", store.url.replace("%", "%%"))
        command.upgrade(config, "head")
    except OSError as error:
        raise DatabaseError(f"the database {store.path} cannot be made: {error.strerror}") from error
    except (sqlite3.DatabaseError, DBAPIError) as error:
        raise DatabaseError(f"the database {store.path} cannot be migrated: {error}") from error


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
