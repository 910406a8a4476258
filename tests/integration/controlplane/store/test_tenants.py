"""Every statement says whose rows it is about: looked for in all that the program asks its database."""

import asyncio
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import greenlet
import pytest
from sqlalchemy import Delete, Engine, Insert, Table, Update, event, select, text
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, ClauseElement, ColumnClause, TextClause
from sqlalchemy.sql.selectable import Alias

from presence.clock import SystemClock
from presence.controlplane.access import EVERY_ORGANIZATION
from presence.controlplane.services.reach import EffectiveAccess
from presence.controlplane.services.retention import Keeper
from presence.controlplane.settings import ControlPlaneSettings, Dispatch, Retention
from presence.controlplane.store import cancellation, sweep
from presence.controlplane.store.engine import open_database
from presence.controlplane.store.sweep import OnItsWay, Owner
from presence.controlplane.store.tables import application, delivery, metadata, webhook
from presence.domain.delivery import FinalState
from presence.protocol.messages import Accepted, Busy, Fire
from tests.integration.controlplane.access.actions import ACTIONS, Cell
from tests.integration.controlplane.access.table import TABLE
from tests.integration.controlplane.access.test_matrix import ask
from tests.integration.controlplane.access.world import World
from tests.integration.controlplane.databases import ON_SQLITE
from tests.integration.controlplane.peers import SECONDS, Agent, Caller
from tests.integration.controlplane.people import stranger

OF_ALL_ORGANIZATIONS = {
    "accounts.organization_named": "init: names are unique among all",
    "accounts.find_api_key": "log-in: whose key it is",
    "accounts.keep_api_key": "log-in: the key that was found is there still",
    "accounts.add_token": "log-in: tokens that have expired are dropped, whosever they were",
    "accounts.find_token": "whose token it is",
    "enrollments.find": "whose enrolment token it is",
    "presences.find_key": "whose presence key it is",
    "sweep.presences_with_due": "of the presences that are connected, whosever they are",
    "sweep.owners": "of the presences that are connected, whosever they are",
    "sweep.dispatched": "of the presences that are connected, whosever they are",
    "sweep.has_expired": "time ends deliveries everywhere",
    "sweep.expire": "time ends deliveries everywhere",
    "sweep.requeue_all_dispatched": "a restart ends all sessions",
    "webhooks.sealed": "the keys that seal secrets are those of all",
    "reach.organizations": "the operator asks about all",
    "retention.organizations": "what is kept is looked through for one after the other",
}
"""What may look at the rows of all organizations, and why."""
EVERY_SECOND = {"sweep.presences_with_due", "sweep.owners", "sweep.dispatched"}
"""What is done while an agent is connected."""


STORE = Path(sweep.__file__).parent


def forgotten(statement: ClauseElement) -> set[str]:
    """The tables that the statement touches without saying whose rows it means."""
    if isinstance(statement, TextClause):
        said = {table: len(re.findall(rf"{table}\.organization_id = ", statement.text)) for table in metadata.tables}
        asked = Counter(re.findall(r"(?:FROM|JOIN) (\w+)", statement.text))
        return {table for table in said if asked[table] > said[table]}
    touched: set[Any] = set()
    same: list[tuple[Any, Any]] = []
    bound: set[Any] = set()
    for element in visitors.iterate(statement):
        if isinstance(element, ColumnClause) and _is_row_source(element.table):
            touched.add(element.table)
        if isinstance(element, BinaryExpression) and element.operator is operators.eq:
            sides = [side for side in (element.left, element.right) if _names_owner(side)]
            if len(sides) == 2:
                same.append((sides[0].table, sides[1].table))
            elif sides and isinstance(element.left if sides[0] is element.right else element.right, BindParameter):
                bound.add(sides[0].table)
    if isinstance(statement, Update | Delete):
        touched.add(statement.table)
    found = True
    while found:
        found = False
        for one, other in (*same, *((other, one) for one, other in same)):
            if one in bound and other not in bound:
                bound.add(other)
                found = True
    return {_table(source).name for source in touched - bound}


def _is_row_source(source: object) -> bool:
    return isinstance(source, Table) or (isinstance(source, Alias) and isinstance(source.element, Table))


def _table(source: Any) -> Table:
    return source if isinstance(source, Table) else source.element


def _names_owner(side: object) -> bool:
    if not isinstance(side, ColumnClause) or not _is_row_source(side.table):
        return False
    return side.name == ("id" if _table(side.table).name == "organization" else "organization_id")


def asker() -> str:
    """The function of the store that asks, as `module.function`."""
    frame = sys._getframe()
    current = greenlet.getcurrent()
    while True:
        walked: Any = frame
        while walked is not None:
            file, name = Path(walked.f_code.co_filename), walked.f_code.co_name
            if file.parent == STORE and not name.startswith(("_", "<")) and file.stem not in ("engine", "odata"):
                return f"{file.stem}.{name}"
            walked = walked.f_back
        assert current.parent is not None, "a statement that the store did not ask"
        current = current.parent
        frame = current.gr_frame


@contextmanager
def listening() -> Iterator[dict[str, set[str]]]:
    """What was asked while entered: the functions of the store, with the tables that they forgot to bound."""
    asked: dict[str, set[str]] = {}

    def note(_connection: object, statement: ClauseElement, *_: object) -> None:
        # Alembic's own table belongs to nobody; an INSERT cannot forget what may not be NULL.
        if not isinstance(statement, Insert) and "alembic_version" not in str(statement):
            asked.setdefault(asker(), set()).update(forgotten(statement))

    event.listen(Engine, "before_execute", note)
    try:
        yield asked
    finally:
        event.remove(Engine, "before_execute", note)


@pytest.mark.parametrize(
    ("statement", "tables"),
    [
        (select(webhook.c.id), {"webhook"}),
        (select(webhook.c.id).where(webhook.c.organization_id == "o"), set()),
        (
            select(webhook.c.id, application.c.id)
            .join(application, application.c.organization_id == webhook.c.organization_id)
            .where(webhook.c.organization_id == "o"),
            set(),
        ),
        (
            select(webhook.c.id)
            .join(delivery, delivery.c.webhook_id == webhook.c.id)
            .where(webhook.c.organization_id == "o"),
            {"delivery"},
        ),
        (
            select(webhook.c.id).where(
                webhook.c.organization_id == "o",
                select(delivery.c.id).where(delivery.c.webhook_id == webhook.c.id).exists(),
            ),
            {"delivery"},
        ),
        (delivery.update().values(state="queued"), {"delivery"}),
        (delivery.delete().where(delivery.c.id == "x"), {"delivery"}),
        (select(webhook.alias().c.id), {"webhook"}),
        (text("SELECT 1 FROM webhook WHERE webhook.organization_id = :o"), set()),
        (text("SELECT 1 FROM webhook WHERE webhook.organization_id = :o UNION SELECT 1 FROM webhook"), {"webhook"}),
    ],
)
def test_what_is_forgotten_is_seen(statement: ClauseElement, tables: set[str]) -> None:
    assert forgotten(statement) == tables


def test_every_table_has_an_owner() -> None:
    assert not [name for name, table in metadata.tables.items() if not _owned(table)]


def _owned(table: Table) -> bool:
    return table.name == "organization" or "organization_id" in table.c


@pytest.fixture
def dispatch() -> Dispatch:
    return Dispatch(canary_every=1)


@ON_SQLITE
@pytest.mark.timeout(300)
async def test_every_statement_says_whose_rows_it_means(caller: Caller, settings: ControlPlaneSettings) -> None:
    """Whatever the API can be asked, a session of an agent, and what time brings about."""
    with listening() as asked:
        world = World(caller, await stranger(caller, settings))
        await world.prepare()
        await ask_everything(world)
        await deliver(caller, asked)
        await sweep_up(settings)
    assert {name for name, tables in asked.items() if tables} == OF_ALL_ORGANIZATIONS.keys()
    assert len(asked) > 100, sorted(asked)


async def ask_everything(world: World) -> None:
    """Each row of the access table by the administrator, where that is done."""
    person = world.people["A"]
    for row in TABLE:
        if row.cells[0] == "+" and "Logout" not in row.route:
            action, method = ACTIONS[row.route, row.aspect], row.route.split()[0]
            cell = Cell(world, row.place, person, await action.make(world, row.place, person))
            status, _ = await ask(action, method, person, cell)
            assert status < 300, row


async def deliver(caller: Caller, asked: Mapping[str, set[str]]) -> None:
    """One delivery, one that is held for a person, one that its webhook's pause holds, one that is refused as busy; and
    a session that lasts until time has brought about what it does once a second."""
    presence_id, key = await caller.presence()
    webhook_id = (await caller.webhook(presence_id, OnUnknown="Hold"))["Id"]
    async with Agent(caller.url, key) as agent:
        await caller.event("1")
        first = await agent.expect(Fire)
        await agent.deliver(first)
        await caller.event("2")
        await agent.hold(await agent.expect(Fire))
        await caller.event("3")
        refused = await agent.expect(Fire)
        await agent.say(Busy(id=refused.id, retry_in=1, reason="host_full"))
        await agent.settled()
        await caller.call("POST", f"Webhooks/{webhook_id}/Pause", 200)
        await caller.event("4")
        await caller.resume(webhook_id)
    async with Agent(caller.url, key, instance=agent.instance, held=[first.id]) as agent:
        await agent.say(Accepted(id=first.id))
        async with asyncio.timeout(SECONDS):
            while not asked.keys() >= EVERY_SECOND:
                await agent.settled()
    await caller.call("DELETE", f"Webhooks/{webhook_id}", 204)
    assert FinalState.SUCCEEDED in {one["State"] for one in await caller.deliveries()}


async def sweep_up(settings: ControlPlaneSettings) -> None:
    owner = Owner("o", "p", "i")
    async with open_database(settings.database) as database:
        async with database.write(EVERY_ORGANIZATION) as transaction:
            await sweep.requeue_all_dispatched(transaction)
            await sweep.requeue_unsaid(transaction, [OnItsWay(owner, "d")])
            await sweep.take_over(transaction, owner)
            await sweep.expire(transaction, 1)
            await cancellation.end_of_instance(transaction, owner, 1)
        await EffectiveAccess(database).everywhere("myservice.com")
        await Keeper(database, SystemClock(), Retention()).remove_old()
