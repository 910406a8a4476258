"""OData query options of a list, read and checked: a subset of OData V4, and everything else is refused.

`$top` (default 100, at most 5000), `$skip`, `$count`, `$orderby` (names with `asc` or `desc`; null comes before
everything), `$select` (names, or `*`), and `$filter`::

    or   and   not (...)   (...)
    Name eq | ne | gt | ge | lt | le  literal          Name in (literal, literal, ...)
    contains(Name, 'text')   startswith(Name, 'text')   endswith(Name, 'text')
    a boolean field by itself

where `tolower(Name)` or `toupper(Name)` (of ASCII letters) may stand for a text field. A field stands on the left, a
literal of its kind on the right: `'text'` (`''` is a quote), a bare GUID (for a text field, too), an integer, `true`,
`false`, a date-time with its offset (UTC where there is none; milliseconds, the rest is cut off) or a date (its
midnight), or `null`. Texts are compared character by character, case included, by code points. There are two truth
values: null equals null only, is neither less nor greater than anything, and contains nothing.

Names are those of the resource, in any case. Length, tokens and depth are bounded; what is refused is an `ODataError`
that never repeats the input.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, assert_never
from uuid import UUID

from odata_query import ast, exceptions
from odata_query.grammar import ODataLexer, ODataParser

DEFAULT_TOP: Final = 100
MAX_TOP: Final = 5000
MAX_SKIP: Final = 2**31 - 1
MAX_LENGTH: Final = 8192
"""Of one option, in characters."""
MAX_TOKENS: Final = 1000
MAX_DEPTH: Final = 24
MAX_NAMES: Final = 64
OPTIONS: Final = ("$top", "$skip", "$filter", "$select", "$orderby", "$count")

_SUPPORTED = "supported are or, and, not, eq, ne, gt, ge, lt, le, in, contains, startswith, endswith, tolower, toupper"
_INT64 = 2**63
_TOKENS = frozenset(
    {
        *("ODATA_IDENTIFIER", "NULL", "STRING", "GUID", "DATETIME", "DATE", "INTEGER", "BOOLEAN"),
        *("AND", "OR", "NOT", "EQ", "NE", "LT", "LE", "GT", "GE", "IN", "WS", "(", ")", ","),
    }
)


class Kind(StrEnum):
    """What a field holds, and so which literals it is compared with. TIME: milliseconds since the Unix epoch."""

    TEXT = "text"
    GUID = "GUID"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    TIME = "date-time"


class Relation(StrEnum):
    EQ = "eq"
    NE = "ne"
    GT = "gt"
    GE = "ge"
    LT = "lt"
    LE = "le"


class Part(StrEnum):
    """Where a text is looked for in a field."""

    CONTAINS = "contains"
    STARTSWITH = "startswith"
    ENDSWITH = "endswith"


class Fold(StrEnum):
    """What is done to the ASCII letters of a field before it is compared."""

    LOWER = "tolower"
    UPPER = "toupper"


Value = str | int | bool
"""A GUID is text in lower case, a time is milliseconds."""


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    kind: Kind
    fold: Fold | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """`value` None is null, which stands with EQ and NE only."""

    field: Field
    relation: Relation
    value: Value | None


@dataclass(frozen=True, slots=True)
class Membership:
    field: Field
    values: tuple[Value | None, ...]


@dataclass(frozen=True, slots=True)
class Search:
    field: Field
    part: Part
    text: str


@dataclass(frozen=True, slots=True)
class Every:
    """All of them are true."""

    terms: "tuple[Filter, ...]"


@dataclass(frozen=True, slots=True)
class Some:
    """At least one of them is true."""

    terms: "tuple[Filter, ...]"


@dataclass(frozen=True, slots=True)
class Negation:
    term: "Filter"


Filter = Comparison | Membership | Search | Every | Some | Negation


@dataclass(frozen=True, slots=True)
class Order:
    field: Field
    descending: bool


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What of a list is asked for. `counted`: and how many there are in all. `select` None: all fields."""

    top: int = DEFAULT_TOP
    skip: int = 0
    counted: bool = False
    filter: Filter | None = None
    order: tuple[Order, ...] = ()
    select: frozenset[str] | None = None


class ODataError(ValueError):
    """A query option that is not understood or not supported. The text holds none of the input."""


def parse(
    options: Mapping[str, str], fields: Mapping[str, Kind], shown: Collection[str] = (), most: int = MAX_TOP
) -> ListQuery:
    """The query in those options, of which the ones that begin with `$` count.

    `fields`: what may be filtered and ordered by, and so be selected. `shown`: what else may be selected. `most`: the
    limit of `$top`. Raises ODataError.
    """
    given = {name: text for name, text in options.items() if name.startswith("$")}
    if not given.keys() <= set(OPTIONS):
        raise ODataError(f"supported query options are {', '.join(OPTIONS)}")
    if any(len(text) > MAX_LENGTH for text in given.values()):
        raise ODataError(f"a query option has more than {MAX_LENGTH} characters")
    found = {name.lower(): Field(name, kind) for name, kind in fields.items()}
    return ListQuery(
        top=_number(given, "$top", DEFAULT_TOP, most),
        skip=_number(given, "$skip", 0, MAX_SKIP),
        counted=_truth(given.get("$count", "false")),
        filter=_filter(given["$filter"], found) if "$filter" in given else None,
        order=_order(given["$orderby"], found) if "$orderby" in given else (),
        select=_select(given["$select"], [*fields, *shown]) if "$select" in given else None,
    )


def _number(given: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = given.get(name)
    if text is None:
        return min(default, most)
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > most:
        raise ODataError(f"{name}: must be a whole number from 0 to {most}")
    return int(text)


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ODataError("$count: must be true or false")
    return text.lower() == "true"


def _names(option: str, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if len(names) > MAX_NAMES:
        raise ODataError(f"{option}: names more than {MAX_NAMES} fields")
    return names


def _order(text: str, fields: Mapping[str, Field]) -> tuple[Order, ...]:
    orders = []
    for item in _names("$orderby", text):
        name, _, direction = item.partition(" ")
        if direction.strip() not in ("", "asc", "desc") or name.lower() not in fields:
            raise ODataError(f"$orderby: must be fields, each with asc or desc; they are {_listed(fields)}")
        orders.append(Order(fields[name.lower()], direction.strip() == "desc"))
    return tuple(orders)


def _select(text: str, shown: Iterable[str]) -> frozenset[str] | None:
    known = {name.lower(): name for name in shown}
    names = _names("$select", text)
    if names == ["*"]:
        return None
    if not {name.lower() for name in names} <= known.keys():
        raise ODataError(f"$select: the fields are {', '.join(dict.fromkeys(known.values()))}")
    return frozenset(known[name.lower()] for name in names)


def _listed(fields: Mapping[str, Field]) -> str:
    return ", ".join(field.name for field in fields.values())


def _filter(text: str, fields: Mapping[str, Field]) -> Filter:
    try:
        tokens = list(_tokens(text))
        tree = ODataParser().parse(iter(tokens))
    except exceptions.ODataException:
        raise ODataError(f"$filter: is not an expression that is understood; {_SUPPORTED}") from None
    return _Reader(fields).read(tree, 1)


def _tokens(text: str) -> Iterator[Any]:
    """The text's tokens, those only that the subset has; a list of one literal gets the comma that the parser wants."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ODataError("$filter: has NUL or a lone surrogate")
    before, single = "", None
    for count, token in enumerate(ODataLexer().tokenize(text.strip())):
        if count >= MAX_TOKENS:
            raise ODataError(f"$filter: has more than {MAX_TOKENS} tokens")
        if token.type not in _TOKENS:
            raise ODataError(f"$filter: uses what is not supported; {_SUPPORTED}")
        if token.type == "(" and before == "IN":
            single = True
        elif token.type == ",":
            single = None
        elif token.type == ")" and single:
            comma = type(token)()
            comma.type = comma.value = ","
            comma.lineno, comma.index = token.lineno, token.index
            yield comma
            single = None
        if token.type == "WS" and single:
            continue
        before = token.type
        yield token


_RELATIONS: Final[Mapping[type, Relation]] = {
    ast.Eq: Relation.EQ,
    ast.NotEq: Relation.NE,
    ast.Gt: Relation.GT,
    ast.GtE: Relation.GE,
    ast.Lt: Relation.LT,
    ast.LtE: Relation.LE,
}
_PARTS = frozenset(Part)
_FOLDS = frozenset(Fold)


class _Reader:
    """Turns the parser's tree into a Filter; what is not listed here is refused."""

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self._fields = fields

    def read(self, node: object, depth: int) -> Filter:
        if depth > MAX_DEPTH:
            raise ODataError(f"$filter: is nested more than {MAX_DEPTH} deep")
        match node:
            case ast.BoolOp(op=ast.And()):
                return Every(tuple(self.read(term, depth + 1) for term in _chain(node)))
            case ast.BoolOp(op=ast.Or()):
                return Some(tuple(self.read(term, depth + 1) for term in _chain(node)))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return Negation(self.read(operand, depth + 1))
            case ast.Compare(
                comparator=ast.Eq() | ast.NotEq() as comparator, left=left, right=ast.Boolean() as right
            ) if not isinstance(left, ast.Identifier):
                term = self.read(left, depth + 1)
                return term if right.py_val == isinstance(comparator, ast.Eq) else Negation(term)
            case ast.Compare(comparator=ast.In(), left=left, right=ast.List(val=literals)):
                field = self._field(left)
                return Membership(field, tuple(_value(field.kind, literal) for literal in literals))
            case ast.Compare(comparator=comparator, left=left, right=right):
                return self._comparison(self._field(left), _RELATIONS[type(comparator)], right)
            case ast.Call(func=ast.Identifier(name=name, namespace=()), args=[left, ast.String(val=text)]) if (
                name in _PARTS
            ):
                return self._search(self._field(left), Part(name), text)
            case ast.Identifier():
                return self._comparison(self._field(node), Relation.EQ, ast.Boolean("true"))
            case _:
                raise ODataError(f"$filter: is no condition; {_SUPPORTED}")

    def _field(self, node: object) -> Field:
        match node:
            case ast.Identifier(name=name, namespace=()) if name.lower() in self._fields:
                return self._fields[name.lower()]
            case ast.Call(func=ast.Identifier(name=name, namespace=()), args=[ast.Identifier() as inner]) if (
                name in _FOLDS
            ):
                field = self._field(inner)
                if field.kind is not Kind.TEXT:
                    raise ODataError("$filter: tolower and toupper take a text field")
                return Field(field.name, field.kind, Fold(name))
            case _:
                raise ODataError(f"$filter: a field must stand on the left; they are {_listed(self._fields)}")

    def _comparison(self, field: Field, relation: Relation, literal: object) -> Comparison:
        value = _value(field.kind, literal)
        if relation not in (Relation.EQ, Relation.NE) and (value is None or field.kind is Kind.BOOLEAN):
            raise ODataError("$filter: null and booleans can be compared by eq, ne and in only")
        return Comparison(field, relation, value)

    def _search(self, field: Field, part: Part, text: str) -> Search:
        if field.kind is not Kind.TEXT:
            raise ODataError(f"$filter: {part} takes a text field and a text")
        return Search(field, part, text)


def _chain(node: ast.BoolOp) -> list[object]:
    """The terms of a chain of the same operator, which may be long but is not deep."""
    terms: list[object] = []
    waiting: list[object] = [node]
    while waiting:
        term = waiting.pop()
        if isinstance(term, ast.BoolOp) and type(term.op) is type(node.op):
            waiting += [term.right, term.left]
        else:
            terms.append(term)
    return terms


def _value(kind: Kind, literal: object) -> Value | None:
    """The literal as a value of that kind. Raises ODataError."""
    match kind, literal:
        case _, ast.Null():
            return None
        case Kind.TEXT, ast.String(val=text) | ast.GUID(val=text):
            return str(text)
        case Kind.GUID, ast.GUID(val=text):
            return str(UUID(text))
        case Kind.BOOLEAN, ast.Boolean():
            return bool(literal.py_val)
        case Kind.INTEGER, ast.Integer(val=text):
            return _integer(text)
        case Kind.TIME, ast.DateTime(val=text) | ast.Date(val=text):
            return _time(text)
        case ((Kind.TEXT | Kind.GUID | Kind.INTEGER | Kind.BOOLEAN | Kind.TIME), _):
            raise ODataError(f"$filter: a field is compared with a literal of another kind than {kind}")
        case never:
            assert_never(never[0])


def _integer(text: str) -> int:
    value = int(text) if len(text) <= 20 else _INT64
    if not -_INT64 <= value < _INT64:
        raise ODataError("$filter: a number is too large")
    return value


def _time(text: str) -> int:
    try:
        time = datetime.fromisoformat(text.upper())
    except ValueError:
        raise ODataError("$filter: a date-time does not exist") from None
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    since = time - datetime(1970, 1, 1, tzinfo=UTC)
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000
