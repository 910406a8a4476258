"""A database of its own for each test, with an organization and an event."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from presence.controlplane.access import EVERY_ORGANIZATION
from presence.controlplane.settings import Store
from presence.controlplane.store import accounts, events
from presence.controlplane.store.engine import Database, open_database
from presence.controlplane.store.migrations import migrate
from tests.integration.controlplane.store.rows import EVENT


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    store = Store(url=f"sqlite:///{tmp_path}/x.db")
    migrate(store)
    async with open_database(store) as database:
        async with database.write(EVERY_ORGANIZATION) as transaction:
            await accounts.add_organization(transaction, "o", "acme", 0)
            await events.add(transaction, "o", EVENT)
        yield database
