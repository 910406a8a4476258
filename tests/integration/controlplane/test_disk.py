"""A database that takes nothing more: refused loudly, nothing lost, better as soon as there is room."""

from sqlalchemy import text

from presence.clock import SystemClock
from presence.controlplane.access import EVERY_ORGANIZATION
from presence.controlplane.app import InitResult
from presence.controlplane.bus import Bus
from presence.controlplane.metrics import Metrics
from presence.controlplane.services.accounts import Accounts
from presence.controlplane.services.events import Announcer, Events
from presence.controlplane.store import presences, webhooks
from presence.controlplane.store.engine import Database
from presence.domain.events import EventType, Happening
from presence.errors import DatabaseError
from presence.tracing import UNTRACED
from tests.integration.controlplane.databases import ON_SQLITE
from tests.integration.controlplane.store.rows import HOOK


@ON_SQLITE
async def test_a_full_disk(database: Database, administrator: InitResult) -> None:
    organization_id = administrator.organization_id
    accounts = Accounts(database, SystemClock(), token_lifetime=3600)
    token = await accounts.log_in(administrator.key_id, administrator.key_secret)
    principal = await accounts.authenticate(token.text)
    async with database.write(organization_id) as transaction:
        await presences.add(transaction, organization_id, HOOK.presence_id, "office", 0)
        await webhooks.add(transaction, organization_id, HOOK)
    events = Events(database, SystemClock(), Announcer(Bus(), Metrics(), UNTRACED))
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
