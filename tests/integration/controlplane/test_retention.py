"""What is kept long enough is removed; what may still be needed is not."""

from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import Table, func, insert, select, update

from presence.controlplane.access import EVERY_ORGANIZATION
from presence.controlplane.app import InitResult
from presence.controlplane.services.retention import DAY_MS, Keeper
from presence.controlplane.settings import ControlPlaneSettings, Retention
from presence.controlplane.store import accounts, retention
from presence.controlplane.store.engine import Database
from presence.controlplane.store.tables import audit, delivery, enrollment, event, presence, role, token, user
from presence.domain.delivery import DeliveryState, FinalState
from tests.integration.controlplane.peers import Caller
from tests.support.clock import ManualClock

DAYS = Retention(deliveries=10, events=20, audits=30)
NOW = 1000 * DAY_MS


@pytest.fixture
def keeper(database: Database) -> Keeper:
    return Keeper(database, ManualClock(wall=NOW), DAYS)


async def add(database: Database, table: Table, *rows: Mapping[str, Any], of: str = "o") -> None:
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await transaction.execute(insert(table), [{"organization_id": of, **row} for row in rows])


async def left(database: Database, table: Table, of: str = "o") -> set[str]:
    async with database.read(of) as transaction:
        found = await transaction.execute(select(next(iter(table.primary_key))).where(table.c.organization_id == of))
        return set(found.scalars())


def happened(id_: str, days_ago: float) -> dict[str, Any]:
    return {
        "id": id_, "source": "s", "source_event_id": id_, "type": "ScanExecutionCompleted", "subject": "x",
        "occurred_at": 0, "created_at": NOW - int(days_ago * DAY_MS),
    }  # fmt: skip


def delivered(id_: str, event_id: str, days_ago: float, **more: Any) -> dict[str, Any]:
    ago = NOW - int(days_ago * DAY_MS)
    return {
        "id": id_, "webhook_id": "w", "presence_id": "p", "event_id": event_id, "subject": "x",
        "event_type": "ScanExecutionCompleted", "uri": "http://x/", "host": "x:80", "method": "GET",
        "on_unknown": "fire", "state": "succeeded", "created_at": ago, "expires_at": ago + 1, "settled_at": ago,
        **more,
    }  # fmt: skip


@pytest.fixture(autouse=True)
async def organizations(database: Database) -> None:
    async with database.write(EVERY_ORGANIZATION) as transaction:
        for id_ in ("o", "other"):
            await accounts.add_organization(transaction, id_, id_, 0)


async def test_deliveries_and_events_are_removed_at_their_age(database: Database, keeper: Keeper) -> None:
    await add(database, event, happened("old", 21), happened("named", 21), happened("new", 19))
    await add(
        database, delivery,
        delivered("gone", "old", 10.1), delivered("kept", "new", 9.9),
        delivered("just-ended", "named", 21, settled_at=NOW),
        delivered("held-by-an-agent", "named", 21, expires_at=NOW + 1),
    )  # fmt: skip
    assert (await keeper.remove_old())["deliveries"] == 1
    assert await left(database, delivery) == {"kept", "just-ended", "held-by-an-agent"}
    assert await left(database, event) == {"named", "new"}


async def test_what_has_not_ended_is_never_removed(database: Database, keeper: Keeper) -> None:
    await add(database, event, happened("e", 500))
    rows = [delivered(state, "e", 500, state=state, settled_at=None) for state in DeliveryState]
    await add(database, delivery, *rows)
    await keeper.remove_old()
    assert await left(database, delivery) == set(DeliveryState)
    async with database.write("o") as transaction:
        await transaction.execute(update(delivery).values(settled_at=0))
    await keeper.remove_old()
    assert await left(database, delivery) == set(DeliveryState) - {str(state) for state in FinalState}


async def test_each_organization_keeps_what_is_its_own(database: Database, keeper: Keeper) -> None:
    for organization_id in ("o", "other"):
        rows = [happened(f"{organization_id}-old", 21), happened(f"{organization_id}-new", 1)]
        await add(database, event, *rows, of=organization_id)
    assert (await keeper.remove_old())["events"] == 2
    assert await left(database, event) == {"o-new"}
    assert await left(database, event, "other") == {"other-new"}


async def test_audits_and_void_tokens(database: Database, keeper: Keeper) -> None:
    entry = {"activity": "Create", "entity_type": "Webhook", "entity_id": "w"}
    await add(
        database, audit,
        {**entry, "id": "old", "at": NOW - 30 * DAY_MS - 1}, {**entry, "id": "new", "at": NOW - 30 * DAY_MS + 1},
    )  # fmt: skip
    await add(database, role, {"id": "r", "name": "r", "capabilities": "{}", "created_at": 0})
    await add(database, user, {"id": "u", "user_name": "u", "role_id": "r", "created_at": 0})
    await add(database, presence, {"id": "p", "name": "p", "created_at": 0})
    for table, owner in ((token, {"user_id": "u"}), (enrollment, {"presence_id": "p"})):
        rows = [{"hash": name, "created_at": 0, "expires_at": at} for name, at in (("void", NOW), ("valid", NOW + 1))]
        await add(database, table, *({**row, **owner} for row in rows))
    assert await keeper.remove_old() == {"deliveries": 0, "events": 0, "audits": 1, "tokens": 2}
    assert await left(database, audit) == {"new"}
    assert await left(database, token) == await left(database, enrollment) == {"valid"}


async def test_much_is_removed_in_small_transactions(
    database: Database, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "CHUNK", 10)
    monkeypatch.setattr("presence.controlplane.services.retention.PAUSE_SECONDS", 0.001)
    await add(database, event, *(happened(str(number), 21) for number in range(25)))
    async with database.write("o") as transaction:
        assert await retention.remove_events(transaction, "o", NOW) == 10
    assert (await keeper.remove_old())["events"] == 15
    async with database.read("o") as transaction:
        assert (await transaction.execute(select(func.count()).select_from(event))).scalar_one() == 0


class TestServed:
    @pytest.fixture
    async def old(self, database: Database, administrator: InitResult) -> None:
        """From the epoch."""
        await add(database, event, {**happened("old", 0), "created_at": 0}, of=administrator.organization_id)

    async def test_a_server_removes_what_is_too_old_as_it_starts(
        self, old: None, caller: Caller, database: Database, settings: ControlPlaneSettings, administrator: InitResult
    ) -> None:
        while await left(database, event, administrator.organization_id):
            pass
        await caller.event(id="old", source="s")
