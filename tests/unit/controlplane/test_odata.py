"""Query options: what is understood, what is refused, and that nothing else can come of any text."""

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presence.controlplane.odata import (
    MAX_DEPTH,
    MAX_LENGTH,
    Comparison,
    Every,
    Field,
    Fold,
    Kind,
    ListQuery,
    Membership,
    Negation,
    ODataError,
    Order,
    Part,
    Relation,
    Search,
    Some,
    parse,
)

FIELDS = {
    "Id": Kind.GUID,
    "Name": Kind.TEXT,
    "Size": Kind.INTEGER,
    "Global": Kind.BOOLEAN,
    "CreatedAt": Kind.TIME,
}
ID, NAME, SIZE, GLOBAL, CREATED = (Field(name, kind) for name, kind in FIELDS.items())
GUID = "9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b"
ONE = Comparison(SIZE, Relation.EQ, 1)
TWO = Comparison(SIZE, Relation.EQ, 2)


def ask(**options: str) -> ListQuery:
    return parse({f"${name}": text for name, text in options.items()}, FIELDS, ("Shown",))


UNDERSTOOD = [
    (f"Id eq {GUID}", Comparison(ID, Relation.EQ, GUID)),
    (f"id ne {GUID.upper()}", Comparison(ID, Relation.NE, GUID)),
    (f"Id in ({GUID})", Membership(ID, (GUID,))),
    (f"Id in ( {GUID} , null )", Membership(ID, (GUID, None))),
    ("Name eq 'it''s'", Comparison(NAME, Relation.EQ, "it's")),
    ("NAME gt ''", Comparison(NAME, Relation.GT, "")),
    (f"Name eq {GUID}", Comparison(NAME, Relation.EQ, GUID)),
    ("Name eq null", Comparison(NAME, Relation.EQ, None)),
    ("Size le -5", Comparison(SIZE, Relation.LE, -5)),
    ("Size lt +9223372036854775807", Comparison(SIZE, Relation.LT, 2**63 - 1)),
    ("Global", Comparison(GLOBAL, Relation.EQ, True)),
    ("Global eq false", Comparison(GLOBAL, Relation.EQ, False)),
    ("not Global", Negation(Comparison(GLOBAL, Relation.EQ, True))),
    ("CreatedAt ge 1970-01-01T00:00:01Z", Comparison(CREATED, Relation.GE, 1000)),
    ("CreatedAt ge 1970-01-01T02:00:00.0015+02:00", Comparison(CREATED, Relation.GE, 1)),
    ("CreatedAt lt 1970-01-02", Comparison(CREATED, Relation.LT, 86_400_000)),
    ("contains(Name,'%_\\')", Search(NAME, Part.CONTAINS, "%_\\")),
    ("startswith(tolower(Name), 'a')", Search(Field("Name", Kind.TEXT, Fold.LOWER), Part.STARTSWITH, "a")),
    ("endswith(Name,'a') eq true", Search(NAME, Part.ENDSWITH, "a")),
    ("endswith(Name,'a') ne true", Negation(Search(NAME, Part.ENDSWITH, "a"))),
    ("Size eq 1 and Size eq 2 and Size eq 1", Every((ONE, TWO, ONE))),
    ("Size eq 1 or Size eq 2 and Size eq 1", Some((ONE, Every((TWO, ONE))))),
    ("(Size eq 1 or Size eq 2) and Size eq 1", Every((Some((ONE, TWO)), ONE))),
    ("not (Size eq 1)", Negation(ONE)),
    ("  ((Size eq 1))  ", ONE),
    (" or ".join(["Size eq 1"] * 240), Some((ONE,) * 240)),
]


@pytest.mark.parametrize(("text", "meaning"), UNDERSTOOD, ids=[text[:50] for text, _ in UNDERSTOOD])
def test_a_filter_is_understood(text: str, meaning: object) -> None:
    assert ask(filter=text).filter == meaning


REFUSED = [
    "", " ", "Name", "5", "'x'", "null", "true", "Secret eq 1", "Name eq", "eq 1", "Name eq 'x", "Name eq Name",
    "Name eq 5", "Id eq 5", f"Id eq '{GUID}'", "Size eq '1'", "Size eq 1.5", "Size eq 9223372036854775808",
    "Size eq " + "9" * 5000, "Global gt false", "Global lt null", "Size gt null", "CreatedAt eq 1", "CreatedAt eq '1'",
    "CreatedAt eq 2026-02-30", "CreatedAt eq 2026-13-01", "CreatedAt eq 0000-01-01", "Size add 1 eq 2", "-Size eq 1",
    "Size eq -(1)", "Size div 0 eq 1", "length(Name) eq 1", "now() gt CreatedAt", "contains(Name)", "contains('a','b')",
    "contains(Name,Name)", "contains(Size,'1')", "contains(Id,'1')", "tolower(Size) eq 1", "tolower(Name)",
    "tolower(tolower(Name)) eq 'a'", "Name in 'a'", "Name in ()", "Name in ('a',)extra", "Size in (1,(2,3))",
    "(1,2) eq 3", "a/b eq 1", "Name/length eq 1", "Items/any(x: x eq 1)", "metadata eq 1", "__class__ eq 1",
    "geo.length(Name) eq 1", "a.Name eq 'x'", "not not not", "Size eq 1 Size eq 2", "Size eq 1 and", "1 eq Size",
    "contains(Name,'a') gt true", "contains(Name,'a') in (true)", "duration'P1D' eq Size", "Name eq 'a\0'",
    "Name eq '\ud800'", "Size EQ1", "$it eq 1", "Name eq \"a\"", "Name like 'a'", "Size eq 1;drop table delivery",
    "(" * 3000 + "Size eq 1" + ")" * 3000, "not " * 400 + "Global", "Name eq 'x'" + " " * MAX_LENGTH,
    "not (" * (MAX_DEPTH + 1) + "Global" + ")" * (MAX_DEPTH + 1), "a/" * 2000 + "a eq 1",
    " or ".join(["Size eq 1"] * 400), "Size in (" + ",".join(["1"] * 2000) + ")",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED, ids=[text[:40] for text in REFUSED])
def test_any_other_filter_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ODataError, match=r"^\$filter: |^a query option") as caught:
        ask(filter=text)
    if len(text) > 12:
        assert text not in str(caught.value)


def test_the_other_options() -> None:
    assert ask() == ListQuery(top=100, skip=0, counted=False)
    assert ask(top="5000", skip="7", count="TRUE") == ListQuery(top=5000, skip=7, counted=True)
    assert ask(orderby="name desc, Id,Size asc").order == (Order(NAME, True), Order(ID, False), Order(SIZE, False))
    assert ask(select="name,shown").select == {"Name", "Shown"}
    assert ask(select="*").select is None
    assert parse({"$top": "1", "filter": "x", "locale": "en"}, FIELDS).top == 1
    assert parse({}, FIELDS, most=50).top == 50


@pytest.mark.parametrize(
    "options",
    [
        {"top": "5001"}, {"top": "-1"}, {"top": ""}, {"top": "1.0"}, {"top": "1e2"}, {"top": "\u0661"},
        {"top": "9" * 30}, {"skip": "-1"}, {"skip": "2147483648"}, {"count": "1"}, {"count": ""},
        {"expand": "Presence"}, {"apply": "x"}, {"search": "x"}, {"orderby": ""}, {"orderby": "Name down"},
        {"orderby": "Secret"}, {"orderby": "Shown"},
        {"orderby": "Name DESC desc"}, {"orderby": ",".join(["Name"] * 65)}, {"select": "Secret"}, {"select": ""},
        {"select": "Name,"}, {"select": "Name;Id"}, {"select": "*,Name"},
    ],
)  # fmt: skip
def test_other_options_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(ODataError) as caught:
        ask(**options)
    assert not re.search("Secret|Presence|down", str(caught.value))


words = st.sampled_from(
    [*FIELDS, "eq", "ne", "gt", "in", "and", "or", "not", "(", ")", ",", "'a'", "'", "5", "null", "true", GUID, "/",
     ":", "contains", "tolower", "any", "all", "=", "-", "2026-01-01", "2026-01-01T00:00:00Z", "x.y", " ",
     "duration'P1D'"]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(words).map(" ".join), st.lists(words).map("".join)))
def test_no_text_brings_anything_but_a_filter_or_a_refusal(text: str) -> None:
    for option in ("filter", "orderby", "select", "top", "skip", "count"):
        with suppress(ODataError):
            ask(**{option: text})
