"""The query that finds the webhooks of an event: it agrees with the rule, and goes by index."""

import re
from collections import Counter
from collections.abc import Mapping
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from presence.controlplane.access import EVERY_ORGANIZATION
from presence.controlplane.settings import Store
from presence.controlplane.store.engine import Database
from presence.controlplane.store.matching import MATCHING, asked, matching
from presence.controlplane.store.tables import application, asset_group, presence, webhook
from presence.domain.events import EventType
from presence.domain.scope import Place, Reach, fires
from tests.support.matching import add_applications, add_groups, add_large_organization, add_webhooks, plan

GROUPS = ["g1", "g2", "g3"]
APPLICATIONS = ["a1", "a2", "a3", "a4"]
REACHES = st.builds(
    Reach,
    event=st.sampled_from(EventType),
    is_global=st.booleans(),
    asset_group_id=st.none() | st.sampled_from(GROUPS),
    application_ids=st.frozensets(st.sampled_from(APPLICATIONS), max_size=2),
    asset_group_ids=st.frozensets(st.sampled_from(GROUPS), max_size=2),
)
WORLDS = st.tuples(
    st.fixed_dictionaries({id_: st.sampled_from(GROUPS) for id_ in APPLICATIONS}),
    st.dictionaries(st.sampled_from([f"w{number}" for number in range(9)]), REACHES),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(world=WORLDS)
async def test_the_query_finds_what_the_rule_says(
    database: Database, world: tuple[Mapping[str, str], Mapping[str, Reach]]
) -> None:
    """Also with associations that no webhook can be given, or not any more."""
    applications, reaches = world
    places = [None, *(Place(id_, group_id) for id_, group_id in applications.items())]
    async with database.write("o") as transaction:
        for table in (webhook, application, asset_group, presence):
            await transaction.execute(delete(table).where(table.c.organization_id == "o"))
        await add_groups(transaction, "o", GROUPS)
        await add_applications(transaction, "o", applications)
        await add_webhooks(transaction, "o", reaches)
        for kind, place in product(EventType, places):
            found = [match.id for match in await matching(transaction, "o", kind, place)]
            assert sorted(found) == sorted(id_ for id_, reach in reaches.items() if fires(reach, kind, place)), (
                kind,
                place,
            )


async def test_nothing_of_another_organization_fires(database: Database) -> None:
    async with database.write(EVERY_ORGANIZATION) as transaction:
        shop = await add_large_organization(transaction, "o", 20, 200)
        assert len(await matching(transaction, "o", EventType.SCAN_EXECUTION_COMPLETED, shop)) == 4
        assert await matching(transaction, "other", EventType.SCAN_EXECUTION_COMPLETED, shop) == []


async def test_a_thousand_webhooks_and_ten_thousand_applications_are_searched_by_index(
    database: Database, store: Store, request: pytest.FixtureRequest
) -> None:
    async with database.write("o") as transaction:
        shop = await add_large_organization(transaction, "o", 1000, 10_000)
    if store.is_postgresql:
        # As autovacuum does, which is off in the tests.
        request.getfixturevalue("cluster").execute("ANALYZE", store.url.partition("?")[0].rpartition("/")[2])
    async with database.write("o") as transaction:
        how = await plan(
            transaction,
            MATCHING[transaction.dialect.name],
            asked("o", EventType.SCAN_EXECUTION_COMPLETED, shop),
        )
    used = Counter(re.findall(r"(?:ix|uq|pk|sqlite_autoindex)_\w+", how))
    by_id = "uq_webhook_organization_id_id" if store.is_postgresql else "sqlite_autoindex_webhook_2"
    assert used == {
        "ix_association_organization_id_application_id": 1,
        "ix_association_organization_id_asset_group_id": 1,
        by_id: 2,
        "ix_webhook_organization_id_event_is_global_asset_group_id": 2,
    }, how
    assert not re.search(r"\bSCAN \w|Seq Scan", how), how
