"""A database of its own for each test, with an organization, a presence and an event."""

from collections.abc import AsyncIterator

import pytest

from presence.controlplane.access import EVERY_ORGANIZATION
from presence.controlplane.app import InitResult
from presence.controlplane.settings import ControlPlaneSettings
from presence.controlplane.store import accounts, events
from presence.controlplane.store.engine import Database, open_database
from tests.integration.controlplane.store.rows import EVENT


@pytest.fixture
async def database(settings: ControlPlaneSettings, administrator: InitResult) -> AsyncIterator[Database]:
    async with open_database(settings.database) as database:
        async with database.write(EVERY_ORGANIZATION) as transaction:
            await accounts.add_organization(transaction, "o", "umbrella", 0)
            await events.add(transaction, "o", EVENT)
        yield database
