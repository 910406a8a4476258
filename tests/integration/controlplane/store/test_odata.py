"""The SQL of a filter agrees with what the filter means, on every database; and so do order and pages."""

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, assert_never

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from presence.controlplane.access import EVERY_ORGANIZATION
from presence.controlplane.odata import (
    Comparison,
    Every,
    Field,
    Filter,
    Fold,
    Kind,
    ListQuery,
    Membership,
    Negation,
    Order,
    Part,
    Relation,
    Search,
    Some,
    Value,
)
from presence.controlplane.store.engine import Database
from presence.controlplane.store.odata import page
from presence.controlplane.store.tables import delivery, organization

COLUMNS = {
    "Id": delivery.c.id,
    "Group": delivery.c.asset_group_id,
    "Subject": delivery.c.subject,
    "Reason": delivery.c.reason,
    "Attempts": delivery.c.attempts,
    "Released": delivery.c.released_attempts,
    "Said": delivery.c.release_said,
    "SettledAt": delivery.c.settled_at,
}
ID, GROUP = Field("Id", Kind.GUID), Field("Group", Kind.GUID)
SUBJECT, REASON = Field("Subject", Kind.TEXT), Field("Reason", Kind.TEXT)
ATTEMPTS, RELEASED = Field("Attempts", Kind.INTEGER), Field("Released", Kind.INTEGER)
SAID, SETTLED = Field("Said", Kind.BOOLEAN), Field("SettledAt", Kind.TIME)

GUIDS = [f"{number:08x}-0000-4000-8000-{number * 7:012x}" for number in range(0, 200, 40)]
TEXTS = ["", "a", "A", "b", "ab", "aB", "a b", "%", "_", "a%", "\\", "'", "''", "é", "É", "e\u0301", "ß", "SS", "İ",
         "\u0131", "\U0001f600", "\uffff", "z", "Z", "~", "aa", "a_b", "axb", "10", "9"]  # fmt: skip
NUMBERS = [0, 1, 2, 3, -1]
TIMES = [0, 1, 1000, 1_767_225_600_000, 1_767_225_600_001]
BIG = [2**31, -(2**31) - 1, 2**63 - 1, -(2**63)]

Row = dict[str, Any]


def rows() -> list[Row]:
    """Every value in some row, and NULL wherever it may be."""
    choose = random.Random(7)

    def some(values: Sequence[Any]) -> Any:
        return choose.choice([*values, None])

    return [
        {
            "Id": f"{number:08x}-1111-4111-8111-111111111111",
            "Group": some(GUIDS),
            "Subject": TEXTS[number % len(TEXTS)],
            "Reason": some(TEXTS),
            "Attempts": NUMBERS[number % len(NUMBERS)],
            "Released": some(NUMBERS),
            "Said": number % 3 == 0,
            "SettledAt": some(TIMES),
        }
        for number in range(90)
    ]


ROWS = rows()


async def stored(database: Database) -> None:
    """The rows are in the database; the first example puts them there."""
    async with database.write(EVERY_ORGANIZATION) as transaction:
        if (await transaction.execute(select(organization.c.id).where(organization.c.id == "odata"))).first():
            return
        await transaction.execute(insert(organization).values(id="odata", name="odata", created_at=0))
        fixed = {
            "organization_id": "odata", "webhook_id": "w", "presence_id": "p", "event_type": "e", "uri": "u",
            "host": "h", "method": "GET", "on_unknown": "fire", "state": "queued", "created_at": 0, "expires_at": 0,
        }  # fmt: skip
        values = [fixed | {COLUMNS[name].name: value for name, value in row.items()} for row in ROWS]
        await transaction.execute(insert(delivery), values)


async def asked(database: Database, query: ListQuery) -> tuple[list[str], int | None]:
    await stored(database)
    statement = select(delivery.c.id).where(delivery.c.organization_id == "odata")
    async with database.read(EVERY_ORGANIZATION) as transaction:
        found, count = await page(transaction, statement, query, COLUMNS, [delivery.c.id])
    return [row[0] for row in found], count


def holds(filter_: Filter, row: Row) -> bool:
    """What the filter means."""
    match filter_:
        case Every(terms=terms):
            return all(holds(term, row) for term in terms)
        case Some(terms=terms):
            return any(holds(term, row) for term in terms)
        case Negation(term=term):
            return not holds(term, row)
        case Membership(field=field, values=values):
            return folded(field, row) in values
        case Search(field=field, part=part, text=text):
            value = folded(field, row)
            return value is not None and PARTS[part](value, text)
        case Comparison(field=field, relation=relation, value=value):
            return compared(folded(field, row), relation, value)
        case _:
            assert_never(filter_)


PARTS: dict[Part, Callable[[str, str], bool]] = {
    Part.CONTAINS: lambda value, text: text in value,
    Part.STARTSWITH: str.startswith,
    Part.ENDSWITH: str.endswith,
}


def compared(found: Any, relation: Relation, value: Value | None) -> bool:
    if relation is Relation.EQ or relation is Relation.NE:
        return bool(found == value) is (relation is Relation.EQ)
    if found is None or value is None:
        return False
    return bool(
        {
            Relation.LT: found < value, Relation.LE: found <= value,
            Relation.GT: found > value, Relation.GE: found >= value,
        }[relation]
    )  # fmt: skip


def folded(field: Field, row: Row) -> Any:
    value = row[field.name]
    if value is None or field.fold is None:
        return value
    change = str.lower if field.fold is Fold.LOWER else str.upper
    return "".join(change(character) if character.isascii() else character for character in value)


def comparisons(fields: list[Field], values: list[Any]) -> st.SearchStrategy[Filter]:
    return st.one_of(
        st.builds(Comparison, st.sampled_from(fields), st.sampled_from(Relation), st.sampled_from(values)),
        st.builds(Comparison, st.sampled_from(fields), st.sampled_from([Relation.EQ, Relation.NE]), st.none()),
        st.builds(
            Membership, st.sampled_from(fields), st.lists(st.sampled_from([*values, None]), min_size=1).map(tuple)
        ),
    )


folds = [Field(field.name, field.kind, fold) for field in (SUBJECT, REASON) for fold in (None, *Fold)]
leaves = st.one_of(
    comparisons([ID, GROUP], [*GUIDS, ROWS[3]["Id"]]),
    comparisons(folds, TEXTS),
    st.builds(Search, st.sampled_from(folds), st.sampled_from(Part), st.sampled_from(TEXTS)),
    comparisons([ATTEMPTS, RELEASED], [*NUMBERS, *BIG]),
    st.builds(Comparison, st.just(SAID), st.sampled_from([Relation.EQ, Relation.NE]), st.booleans()),
    comparisons([SETTLED], [*TIMES, -1]),
)
filters: st.SearchStrategy[Filter] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Negation, inner),
        st.builds(Every, st.lists(inner, min_size=1, max_size=4).map(tuple)),
        st.builds(Some, st.lists(inner, min_size=1, max_size=4).map(tuple)),
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(filters)
async def test_the_query_finds_what_the_filter_means(database: Database, filter_: Filter) -> None:
    expected = [row["Id"] for row in ROWS if holds(filter_, row)]
    assert await asked(database, ListQuery(top=5000, filter=filter_, counted=True)) == (expected, len(expected))


def _rank(name: str, row: Row) -> tuple[Any, ...]:
    """Null comes before everything."""
    return (0,) if row[name] is None else (1, row[name])


fields = [ID, GROUP, SUBJECT, REASON, ATTEMPTS, RELEASED, SAID, SETTLED]
orders = st.lists(
    st.builds(Order, st.sampled_from(fields), st.booleans()), max_size=3, unique_by=lambda order: order.field
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(orders, st.integers(0, 100), st.integers(0, 100))
async def test_order_and_pages(database: Database, order: list[Order], top: int, skip: int) -> None:
    expected = sorted(ROWS, key=lambda row: row["Id"])
    for one in reversed(order):
        # A reversed sort keeps the order of equals, as SQL does by the columns that follow.
        expected.sort(key=partial(_rank, one.field.name), reverse=one.descending)
    query = ListQuery(top=top, skip=skip, counted=True, order=tuple(order))
    assert await asked(database, query) == ([row["Id"] for row in expected][skip : skip + top], len(ROWS))


@pytest.mark.parametrize("order", [False, True])
async def test_the_default_order_decides_between_equals(database: Database, order: bool) -> None:
    found, _ = await asked(database, ListQuery(top=5000, order=(Order(SAID, order),)))
    assert found == sorted(found, key=lambda id_: ((int(id_[:8], 16) % 3 == 0) is not order, id_))
