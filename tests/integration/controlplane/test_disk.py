"""A database that takes nothing more: refused loudly, nothing lost, better as soon as there is room."""

from sqlalchemy import text

from presence.clock import SystemClock
from presence.controlplane.access import EVERY_ORGANIZATION
from presence.controlplane.app import InitResult
from presence.controlplane.bus import Bus
from presence.controlplane.connections import Connections
from presence.controlplane.leases import Leases
from presence.controlplane.metrics import Metrics
from presence.controlplane.services.accounts import Accounts
from presence.controlplane.services.events import Events
from presence.controlplane.services.presences import Presences
from presence.controlplane.services.webhooks import Draft, Webhooks
from presence.controlplane.settings import ControlPlaneSettings
from presence.controlplane.store.engine import Database, open_database
from presence.domain.events import EventType, Happening
from presence.errors import DatabaseError
from tests.integration.controlplane.databases import ON_SQLITE


@ON_SQLITE
async def test_a_full_disk(settings: ControlPlaneSettings, administrator: InitResult) -> None:
    async with open_database(settings.database) as database:
        clock = SystemClock()
        accounts = Accounts(database, clock, 60)
        token = await accounts.log_in(administrator.key_id, administrator.key_secret)
        principal = await accounts.authenticate(token.text)
        presence = await Presences(database, clock, Connections(), Leases(60), 1).create(principal, "office")
        bus = Bus()
        draft = Draft(presence.id, "http://x/", EventType.SCAN_EXECUTION_COMPLETED, is_global=True, max_age=60)
        await Webhooks(database, clock, bus).create(principal, draft)
        events = Events(database, clock, bus, Metrics())
        await limit_pages(database, 1)
        accepted, refused = 0, None
        while refused is None:
            try:
                await events.accept(principal, [happening(accepted)])
                accepted += 1
            except DatabaseError as error:
                refused = error
        assert "full" in str(refused)
        await limit_pages(database, 100_000)
        (again,) = await events.accept(principal, [happening(accepted)])
        assert not again.repeated
        assert len(again.deliveries) == 1


def happening(number: int) -> Happening:
    return Happening("s" * 500, str(number), EventType.SCAN_EXECUTION_COMPLETED, "x" * 200)


async def limit_pages(database: Database, pages: int) -> None:
    """SQLite's own limit answers as a full disk does; it is never below what is used already."""
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await transaction.execute(text(f"PRAGMA max_page_count = {pages}"))
