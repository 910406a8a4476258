"""A page of a list as OData asks for it. Means the same on SQLite and on PostgreSQL, and the same as `odata` says."""

from collections.abc import Mapping, Sequence
from typing import Any, assert_never

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Row,
    Select,
    String,
    and_,
    collate,
    false,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy.ext.asyncio import AsyncConnection

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

POSTGRESQL = "postgresql"
Condition = ColumnElement[bool]
Columns = Mapping[str, ColumnElement[Any]]


async def page(
    transaction: AsyncConnection,
    statement: Select[Any],
    query: ListQuery,
    columns: Columns,
    default: Sequence[ColumnElement[Any]],
) -> tuple[list[Row[*tuple[Any, ...]]], int | None]:
    """The rows of the statement that are asked for, and how many there are in all if that is asked, too.

    `columns`: what is behind each field of the resource. `default`: the order where none is asked for, and what
    decides where that leaves rows equal; it must make the order total.
    """
    dialect = transaction.dialect.name
    if query.filter is not None:
        statement = statement.where(condition(query.filter, columns, dialect))
    count = None
    if query.counted:
        ones: Select[Any] = statement.with_only_columns(literal_column("1"), maintain_column_froms=True).order_by(None)
        count = (await transaction.execute(select(func.count()).select_from(ones.subquery()))).scalar_one()
    if query.top == 0:
        return [], count
    orders = [_order(order, columns, dialect) for order in query.order]
    rows = await transaction.execute(statement.order_by(*orders, *default).limit(query.top).offset(query.skip))
    found: list[Any] = list(rows.all())
    return found, count


def condition(filter_: Filter, columns: Columns, dialect: str) -> Condition:
    """The filter as a condition for WHERE."""
    return _Compiler(columns, dialect).compile(filter_, negated=False)


def _order(order: Order, columns: Columns, dialect: str) -> ColumnElement[Any]:
    """Null is the least on every database."""
    operand = _operand(order.field, columns, dialect)
    return operand.desc().nulls_last() if order.descending else operand.asc().nulls_first()


def _operand(field: Field, columns: Columns, dialect: str) -> ColumnElement[Any]:
    """What is compared: text by its code points, whatever the database's own collation."""
    column = columns[field.name]
    if field.kind is Kind.TEXT and dialect == POSTGRESQL:
        column = collate(column, "C")
    match field.fold:
        case None:
            return column
        case Fold.LOWER:
            return func.lower(column, type_=String())
        case Fold.UPPER:
            return func.upper(column, type_=String())
        case _:
            assert_never(field.fold)


class _Compiler:
    """Negations are moved down to the leaves, so that NULL, which is neither true nor false there, counts as false in
    what is given: the leaves say themselves what they mean for NULL."""

    def __init__(self, columns: Columns, dialect: str) -> None:
        self._columns = columns
        self._dialect = dialect

    def compile(self, filter_: Filter, *, negated: bool) -> Condition:
        match filter_:
            case Every(terms=terms) | Some(terms=terms):
                parts = [self.compile(term, negated=negated) for term in terms]
                return and_(*parts) if isinstance(filter_, Every) is not negated else or_(*parts)
            case Negation(term=term):
                return self.compile(term, negated=not negated)
            case Comparison():
                return self._comparison(filter_, negated)
            case Membership(field=field, values=values):
                equal = [self._comparison(Comparison(field, Relation.EQ, value), negated) for value in values]
                return and_(*equal) if negated else or_(*equal)
            case Search():
                found = self._search(filter_)
                return or_(~found, self._operand(filter_.field).is_(None)) if negated else found
            case _:
                assert_never(filter_)

    def _operand(self, field: Field) -> ColumnElement[Any]:
        return _operand(field, self._columns, self._dialect)

    def _comparison(self, comparison: Comparison, negated: bool) -> Condition:
        operand, relation = self._operand(comparison.field), comparison.relation
        if comparison.value is None:
            return operand.is_(None) if (relation is Relation.EQ) is not negated else operand.is_not(None)
        if negated and relation in (Relation.EQ, Relation.NE):
            relation, negated = (Relation.NE if relation is Relation.EQ else Relation.EQ), False
        value = _literal(comparison.value)
        match relation:
            case Relation.EQ:
                return operand == value
            case Relation.NE:
                return or_(operand != value, operand.is_(None))
            case Relation.GT:
                return or_(operand <= value, operand.is_(None)) if negated else operand > value
            case Relation.GE:
                return or_(operand < value, operand.is_(None)) if negated else operand >= value
            case Relation.LT:
                return or_(operand >= value, operand.is_(None)) if negated else operand < value
            case Relation.LE:
                return or_(operand > value, operand.is_(None)) if negated else operand <= value
            case _:
                assert_never(relation)

    def _search(self, search: Search) -> Condition:
        operand, text = self._operand(search.field), _literal(search.text)
        if not search.text:
            return operand.is_not(None)
        match search.part:
            case Part.CONTAINS:
                position = func.strpos if self._dialect == POSTGRESQL else func.instr
                return position(operand, text) > 0
            case Part.STARTSWITH:
                return func.substr(operand, 1, len(search.text)) == text
            case Part.ENDSWITH:
                if self._dialect == POSTGRESQL:
                    return func.right(operand, len(search.text)) == text
                return func.substr(operand, -len(search.text)) == text
            case _:
                assert_never(search.part)


def _literal(value: Value) -> ColumnElement[Any]:
    """A bound value that is large enough for what OData may bring."""
    match value:
        case bool():
            return true() if value else false()
        case int():
            return literal(value, BigInteger())
        case str():
            return literal(value, String())
        case _:
            assert_never(value)
