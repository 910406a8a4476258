"""The second wall between organizations: what PostgreSQL shows to a query that forgot its WHERE."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Boolean, String, Table, delete, func, insert, select, text, update
from sqlalchemy.exc import ProgrammingError

from presence.controlplane.access import EVERY_ORGANIZATION
from presence.controlplane.app import InitResult
from presence.controlplane.settings import ControlPlaneSettings, Store
from presence.controlplane.store.engine import Database, open_database
from presence.controlplane.store.tables import metadata
from presence.errors import DatabaseError
from tests.integration.controlplane.conftest import name_of
from tests.integration.controlplane.databases import ON_POSTGRESQL
from tests.support.postgres import OWNER, STRANGER, USER, Postgres

pytestmark = ON_POSTGRESQL
A, B = "a", "b"
TABLES = pytest.mark.parametrize("table", metadata.sorted_tables, ids=lambda table: table.name)
LISTED = {
    "method": "GET", "on_unknown": "fire", "state": "queued", "event": "ScanExecutionCompleted",
    "type": "ScanExecutionCompleted",
}  # fmt: skip
CHOSEN = {"association": {"application_id"}}
"""What is NULL otherwise, and may not be here."""


def owner_of(table: Table) -> Any:
    return table.c.id if table.name == "organization" else table.c.organization_id


def row(table: Table, organization_id: str, number: str = "1") -> dict[str, object]:
    """A row of that organization; rows of the same number refer to each other."""
    references = {column.name for key in table.foreign_keys for column in [key.parent]}
    found: dict[str, object] = {}
    for column in table.columns:
        if column.server_default is not None or (column.nullable and column.name not in CHOSEN.get(table.name, ())):
            continue
        if column is owner_of(table):
            found[column.name] = organization_id
        elif column.name in LISTED:
            found[column.name] = LISTED[column.name]
        elif column.name in references or column.primary_key:
            found[column.name] = f"{organization_id}{number}"
        elif isinstance(column.type, Boolean):
            found[column.name] = False
        else:
            found[column.name] = f"{organization_id}{number}" if isinstance(column.type, String) else 0
    return found


@pytest.fixture
async def database(settings: ControlPlaneSettings, administrator: InitResult) -> AsyncIterator[Database]:
    """With a row of each organization in each table."""
    async with open_database(settings.database) as database:
        async with database.write(EVERY_ORGANIZATION) as transaction:
            for organization_id in (A, B):
                for table in metadata.sorted_tables:
                    await transaction.execute(insert(table).values(row(table, organization_id)))
        yield database


@TABLES
async def test_a_query_without_a_condition_sees_the_rows_of_its_organization_only(
    database: Database, table: Table
) -> None:
    async with database.read(A) as transaction:
        assert set((await transaction.execute(select(owner_of(table)))).scalars()) == {A}
    async with database.read(EVERY_ORGANIZATION) as transaction:
        assert {A, B} <= set((await transaction.execute(select(owner_of(table)))).scalars())
    async with database._pools.reader.connect() as transaction:
        assert list((await transaction.execute(select(owner_of(table)))).scalars()) == [], "on nobody's behalf"


@TABLES
async def test_a_change_without_a_condition_changes_the_rows_of_its_organization_only(
    database: Database, table: Table
) -> None:
    same = {owner_of(table).name: owner_of(table)}
    async with database.write(A) as transaction:
        assert (await transaction.execute(update(table).values(same))).rowcount == 1
        assert (await transaction.execute(delete(table).where(owner_of(table) == B))).rowcount == 0
    async with database.read(B) as transaction:
        assert (await transaction.execute(select(func.count()).select_from(table))).scalar_one() == 1


@TABLES
async def test_no_row_can_be_given_to_another_organization(database: Database, table: Table) -> None:
    attempts = (
        insert(table).values({**row(table, B, "2"), owner_of(table).name: B}),
        update(table).values({owner_of(table).name: B}),
    )
    for attempt in attempts:
        with pytest.raises(ProgrammingError, match="row-level security"):
            async with database.write(A) as transaction:
                await transaction.execute(attempt)


async def test_a_connection_keeps_nothing_of_the_transaction_before(database: Database) -> None:
    organization = metadata.tables["organization"]
    for organization_id in (A, B, A):
        async with database.write(organization_id) as transaction:
            assert list((await transaction.execute(select(organization.c.id))).scalars()) == [organization_id]
    async with database._pools.writer.connect() as transaction:
        assert list((await transaction.execute(select(organization.c.id))).scalars()) == []


async def test_an_organization_is_quoted(database: Database) -> None:
    async with database.read("'; SELECT set_config('presence.organization', '*', true); --") as transaction:
        assert (await transaction.execute(select(metadata.tables["organization"].c.id))).all() == []


async def test_every_table_is_under_row_level_security_that_its_owner_cannot_leave_out(database: Database) -> None:
    query = text("""
        SELECT relname, relrowsecurity AND relforcerowsecurity AND EXISTS (
            SELECT FROM pg_policies
            WHERE tablename = relname AND permissive = 'PERMISSIVE' AND cmd = 'ALL' AND qual = with_check
        )
        FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
    """)
    async with database.read(A) as transaction:
        found = {name: bool(is_walled) for name, is_walled in await transaction.execute(query)}
    assert found.pop("alembic_version") is False
    assert found == dict.fromkeys(metadata.tables, True)


@pytest.mark.parametrize(
    ("role", "grant", "says"),
    [
        (USER, "", "is a superuser"),
        (OWNER, "", "owns the tables"),
        ("bypassing", "CREATE ROLE bypassing LOGIN BYPASSRLS", "has BYPASSRLS"),
        ("member", f"CREATE ROLE member LOGIN IN ROLE {OWNER}", "owns the tables"),
    ],
)
async def test_a_role_that_row_level_security_does_not_hold_is_refused(
    settings: ControlPlaneSettings, administrator: InitResult, cluster: Postgres, role: str, grant: str, says: str
) -> None:
    if grant:
        cluster.execute(grant)
    with pytest.raises(DatabaseError, match=says) as caught:
        async with open_database(Store(url=cluster.url(name_of(settings.database), role))):
            pass
    assert "database.owner_url" in str(caught.value)
    assert "control-plane migrate" in str(caught.value)


async def test_a_role_without_rights_is_told_what_to_do(
    settings: ControlPlaneSettings, administrator: InitResult, cluster: Postgres
) -> None:
    with pytest.raises(DatabaseError, match="permission denied"):
        async with open_database(Store(url=cluster.url(name_of(settings.database), STRANGER))):
            pass


async def test_what_an_error_tells_holds_no_row(database: Database) -> None:
    """PostgreSQL's own text names the values of the row."""
    user = metadata.tables["user"]
    with pytest.raises(Exception, match="unique") as caught:
        async with database.write(A) as transaction:
            await transaction.execute(insert(user).values({**row(user, A), "user_name": "SECRET"}))
    chain: BaseException | None = caught.value
    while chain is not None:
        assert "SECRET" not in str(chain)
        assert "a1" not in str(chain)
        chain = chain.__cause__
