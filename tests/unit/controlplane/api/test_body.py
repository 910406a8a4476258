"""JSON as it may come in."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presence.controlplane import api
from presence.controlplane.api.body import MAX_DEPTH, StrictRoute, parse


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "NaN", "[Infinity]", "-Infinity", "1e999", '{"a":1,"a":2}', '"\\ud800"', '{"\\udfff": 1}', '"\\u0000"',
        "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "[" * 100_000, "1" * 5000,
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


def test_taken() -> None:
    assert parse('{"a": ["\\ud83d\\ude00", 1.5, null, true]}') == {"a": ["\U0001f600", 1.5, None, True]}
    assert parse("[" * MAX_DEPTH + "]" * MAX_DEPTH)


@given(st.text())
def test_anything_is_a_value_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse(text)


def test_every_resource_asks_who_it_is_before_and_after_the_body() -> None:
    routes = [route for resource in api._RESOURCES for route in resource.router.routes]
    assert len(routes) > 50
    assert all(isinstance(route, StrictRoute) for route in routes)
