"""Whatever is sent to whatever resource: an error in our form that repeats nothing, and never our own failure."""

import json
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from presence.controlplane.settings import Limits
from tests.integration.controlplane.peers import Caller

MARK = "s3cr3tMARK"
METHODS = {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"}
BODIES: list[bytes] = [
    b"", b"{", b"[]", b"null", b"1", b'"' + MARK.encode() + b'"', b"\xff\xfe" + MARK.encode(), b'{"a": NaN}',
    b'{"' + MARK.encode() + b'": 1}', b'{"a": 1e999}', b'{"a": ' + b"1" * 5000 + b"}", b'{"a": "\\ud800"}',
    b'{"a": "\\u0000"}', b'{"a": 1, "a": 2}', b'{"a":' * 40 + b"1" + b"}" * 40, b"[" * 100_000, b"\xef\xbb\xbf{}",
    b'{"a": Infinity}', b'{"a": tru}', b"{'a': 1}",
]  # fmt: skip
TYPES: list[Any] = [None, True, -1, 1.5, 10**30, "", MARK, "x" * 100_000, [], [MARK], {}, {MARK: MARK}, [[[]]]]
QUERIES = [
    f"$filter={MARK} eq 1", f"$filter=Id eq '{MARK}'", f"$filter='{MARK}", "$filter=" + "(" * 4000, "$filter=%ff",
    "$filter=Id eq %00", f"$orderby={MARK}", f"$select={MARK}", f"$top={MARK}", "$top=1&$top=2", f"$expand={MARK}",
    "$skip=" + "9" * 400, f"$count={MARK}", f"${MARK}=1", "$filter=" + "not " * 1000 + "true", "$filter",
]  # fmt: skip
PATHS = [
    "/" + MARK, "/api/v4", "/api/v4/", "/api/v4/" + MARK, "/api/v5/Presences", "/api/v4//Presences",
    "/api/v4/Presences//", "/api/v4/%ff%fe", "/api/v4/Deliveries/%00/Cancel/x",
    "/api/v4/Deliveries/../Presences", "/docs/x", "/" + "a" * 5000,
]  # fmt: skip


@pytest.fixture
def limits() -> Limits:
    """Some thousand requests are sent by one user."""
    return Limits(requests_per_minute=100_000, logins_per_minute=1_000)


async def document(caller: Caller) -> dict[str, dict[str, Any]]:
    async with caller.http.get(f"{caller.url}/openapi.json") as answer:
        paths: dict[str, dict[str, Any]] = (await answer.json())["paths"]
        return {path: operations for path, operations in paths.items() if path.startswith("/api/v4")}


def filled(path: str, text: str | None = None) -> str:
    """The path with ids of nothing, or with that text, in place of its variables."""
    return "/".join((text or str(uuid4())) if part.startswith("{") else part for part in path.split("/"))


async def failed(caller: Caller, method: str, path: str, **request: Any) -> tuple[int, aiohttp.ClientResponse]:
    """Sends it, with a token, and looks at the error."""
    headers = {**caller.headers, **request.pop("headers", {})}
    url = URL(caller.url + path, encoded=True)
    async with caller.http.request(method, url, headers=headers, allow_redirects=False, **request) as answer:
        text = await answer.text()
        assert 400 <= answer.status < 500, (method, path, request, answer.status, text)
        assert answer.status != 429, "nobody looked at the request"
        assert MARK not in text, (method, path, request, text)
        if method != "HEAD":
            body = json.loads(text)
            assert set(body) == {"Key", "Message", "FormatParams"}
        return answer.status, answer


async def test_odd_bodies(caller: Caller) -> None:
    count = 0
    for path, operations in (await document(caller)).items():
        for method, operation in operations.items():
            if "requestBody" not in operation:
                continue
            kind = next(iter(operation["requestBody"]["content"]))
            for body in BODIES:
                status, _ = await failed(caller, method, filled(path), data=body, headers={"Content-Type": kind})
                assert status in (400, 404), (method, path, body)
                count += 1
            for content_type in ("text/plain", "application/xml", "multipart/form-data", "/", "application/" + MARK):
                await failed(caller, method, filled(path), data=b'{"a":1}', headers={"Content-Type": content_type})
    assert count > 200


async def test_fields_of_every_type(caller: Caller) -> None:
    async with caller.http.get(f"{caller.url}/openapi.json") as answer:
        schemas = (await answer.json())["components"]["schemas"]
    for path, operations in (await document(caller)).items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
            for field in schemas.get(name, {}).get("properties", {}):
                for value in TYPES:
                    body = json.dumps({field: value, MARK: value})
                    headers = {"Content-Type": "application/json"}
                    await failed(caller, method, filled(path), data=body, headers=headers)


async def test_odd_queries_of_every_list(caller: Caller) -> None:
    lists = [
        path for path, operations in (await document(caller)).items()
        if any(parameter["name"] == "$filter" for parameter in operations.get("get", {}).get("parameters", ()))
    ]  # fmt: skip
    assert len(lists) >= 9
    for path in lists:
        for query in QUERIES:
            status, answer = await failed(caller, "GET", f"{filled(path)}?{query.replace(' ', '%20')}")
            assert (status, answer.headers["Content-Type"]) == (400, "application/json"), (path, query)


async def test_odd_paths_and_ids(caller: Caller) -> None:
    for path in PATHS:
        for method in METHODS:
            assert (await failed(caller, method, path))[0] == 404, (method, path)
    for path, operations in (await document(caller)).items():
        if "{" in path:
            for text in (MARK, "%00", "%ff", "x" * 5000, "..", "%2e%2e", "1", "null"):
                for method, operation in operations.items():
                    body = {} if "requestBody" not in operation else {"json": {}}
                    await failed(caller, method, filled(path, text), **body)


async def test_other_methods_are_told_which_there_are(caller: Caller) -> None:
    for path, operations in (await document(caller)).items():
        declared = {method.upper() for method in operations}
        for method in METHODS - declared:
            status, answer = await failed(caller, method, filled(path))
            assert status == 405, (method, path)
            assert set(answer.headers["Allow"].split(", ")) == declared


@pytest.mark.parametrize("path", ["/API/V4/PRESENCES", "/api/V4/presences/", "/Api/v4/Presences?$top=1"])
async def test_paths_of_the_api_in_any_case_with_or_without_a_slash(caller: Caller, path: str) -> None:
    async with caller.http.get(caller.url + path, headers=caller.headers, allow_redirects=False) as answer:
        assert (answer.status, (await answer.json())["Items"]) == (200, [])
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    async with caller.http.get(f"{caller.url}/HEALTHZ") as answer:
        assert answer.status == 404


async def test_who_is_not_logged_in_learns_nothing_of_what_is_wrong(caller: Caller) -> None:
    nobody = Caller(caller.url, caller.http)
    for path, operations in (await document(caller)).items():
        for method, operation in operations.items():
            if operation.get("security"):
                async with nobody.http.request(method, nobody.url + filled(path), data=b"{") as answer:
                    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer"), (method, path)


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=40),
    st.uuids().map(str),
)  # fmt: skip
values = st.recursive(scalars, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner)))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
async def test_any_json_is_an_answer_and_never_our_failure(caller: Caller, data: st.DataObject) -> None:
    if not hasattr(caller, "known"):
        async with caller.http.get(f"{caller.url}/openapi.json") as answer:
            caller.known = await answer.json()  # type: ignore[attr-defined]
    known = caller.known  # type: ignore[attr-defined]
    bodies = [
        (method, path, operation["requestBody"]["content"].get("application/json", {}).get("schema", {}))
        for path, operations in known["paths"].items()
        for method, operation in operations.items()
        if "requestBody" in operation and not path.endswith("ApiKeyLogin")
    ]
    method, path, schema = data.draw(st.sampled_from(bodies))
    model = known["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], {})
    names = st.sampled_from(sorted(model.get("properties", {"x": 1})))
    body = data.draw(st.one_of(values, st.dictionaries(names, values)))
    request = {"data": json.dumps(body).encode(), "headers": {**caller.headers, "Content-Type": "application/json"}}
    async with caller.http.request(method, caller.url + filled(path), **request) as answer:
        assert answer.status < 500, (method, path, body)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["$filter", "$orderby", "$select", "$top", "$skip", "$count", "$x", "x"]), st.text())
async def test_any_query_is_an_answer_and_never_our_failure(caller: Caller, name: str, text: str) -> None:
    usable = text.encode(errors="replace").decode()
    for path in ("Deliveries", "Presences"):
        url = URL(f"{caller.url}/api/v4/{path}").with_query({name: usable})
        async with caller.http.get(url, headers=caller.headers) as answer:
            assert answer.status in (200, 400), (name, text)
