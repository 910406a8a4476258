"""Paths under /api/v4: in any case, with or without a slash at the end; everywhere else as written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presence.controlplane.api.paths import Found, Paths

ENROLL, PRESENCE, KEY = "/api/v4/Presences/Enroll", "/api/v4/Presences/{id}", "/api/v4/Presences/{id}/NewKey"
PATHS = Paths({PRESENCE: ["PUT", "DELETE"], ENROLL: ["POST"], KEY: ["GET"], "/healthz": ["GET"]})


@pytest.mark.parametrize(
    ("path", "template", "written"),
    [
        ("/api/v4/Presences/Enroll", ENROLL, ENROLL),
        ("/API/v4/presences/ENROLL/", ENROLL, ENROLL),
        ("/Api/V4/pResences/AbC", PRESENCE, "/api/v4/Presences/AbC"),
        ("/api/v4/presences/EnRoll/newkey", KEY, "/api/v4/Presences/EnRoll/NewKey"),
        ("/healthz", "/healthz", "/healthz"),
    ],
)
def test_what_is_found(path: str, template: str, written: str) -> None:
    found = PATHS.find(path)
    assert found is not None
    assert (found.template, found.path) == (template, written)


@pytest.mark.parametrize(
    "path", ["", "/", "/api/v4", "/api/v4/", "/api/v4/Presences", "/api/v4/Presences//", "/api/v4//Presences/Enroll",
             "/api/v4/Presences/Enroll//", "/api/v4x/Presences/Enroll", "/HEALTHZ", "/healthz/",
             "/api/v5/Presences/Enroll"],
)  # fmt: skip
def test_what_is_not_found(path: str) -> None:
    assert PATHS.find(path) is None


def test_the_methods_are_those_of_the_resource() -> None:
    assert PATHS.find("/api/v4/presences/x") == Found(PRESENCE, "/api/v4/Presences/x", frozenset({"PUT", "DELETE"}))


@given(st.text())
def test_an_id_stays_as_it_is(text: str) -> None:
    found = PATHS.find(f"/api/V4/PRESENCES/{text}")
    if found is not None and found.template == PRESENCE:
        assert found.path == f"/api/v4/Presences/{text.removesuffix('/')}"
