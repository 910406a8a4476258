"""What operators and readers get: readiness, metrics, the document and its page."""

import asyncio
import re
from typing import Any

import jsonschema_rs
import pytest

from presence.controlplane.access import PREDEFINED_ROLES, Capability
from presence.controlplane.api.examples import BODIES
from presence.controlplane.app import InitResult
from presence.controlplane.settings import ControlPlaneSettings
from presence.protocol.messages import Fire
from tests.integration.controlplane.access.people import CUSTOM, PREDEFINED, ROLES
from tests.integration.controlplane.access.table import TABLE, WITHOUT_LOG_IN
from tests.integration.controlplane.peers import Agent, Caller, logged_in

CAPABILITIES = {capability.value for capability in Capability}


async def fetched(caller: Caller, path: str, status: int = 200, **headers: str) -> tuple[str, Any]:
    async with caller.http.get(f"{caller.url}{path}", headers=headers) as answer:
        text = await answer.text()
        assert answer.status == status, text
        return text, answer.headers


async def metrics(caller: Caller) -> dict[str, float]:
    text, headers = await fetched(caller, "/metrics")
    assert headers["Content-Type"].startswith("text/plain")
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


async def test_readiness(caller: Caller) -> None:
    assert (await fetched(caller, "/healthz"))[0] == '{"Status":"ok"}'
    assert (await fetched(caller, "/readyz"))[0] == '{"Status":"ok","Faults":[]}'


async def test_metrics_are_told_in_the_form_that_is_asked_for(caller: Caller) -> None:
    _, headers = await fetched(caller, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    for accept in ("*/*", 'text/plain;version="x"', "text/html", "a" * 4000):
        _, headers = await fetched(caller, "/metrics", Accept=accept)
        assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_metrics_count_what_happens(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    webhook = await caller.webhook(presence_id)
    await caller.call("GET", "presences/", 200)
    await caller.get("Nope", status=404)
    await caller.get(f"Deliveries/{webhook['Id']}", status=404)
    async with Agent(caller.url, key) as agent:
        await caller.event("x")
        await agent.deliver(await agent.expect(Fire))
        await caller.call("POST", f"Webhooks/{webhook['Id']}/Pause", 200)
        await caller.event("y")
        found = await metrics(caller)
    expected = {
        'presence_cp_requests_total{method="GET",route="/api/v4/Presences",status="200"}': 1,
        'presence_cp_requests_total{method="GET",route="(other)",status="404"}': 1,
        'presence_cp_requests_total{method="GET",route="/api/v4/Deliveries/{delivery_id}",status="404"}': 1,
        'presence_cp_requests_total{method="POST",route="/api/v4/Events",status="201"}': 2,
        'presence_cp_events_accepted_total{type="ScanExecutionCompleted"}': 2,
        'presence_cp_delivery_changes_total{state="queued"}': 1,
        'presence_cp_delivery_changes_total{state="dispatched"}': 1,
        'presence_cp_delivery_changes_total{state="accepted"}': 1,
        'presence_cp_delivery_changes_total{state="succeeded"}': 1,
        'presence_cp_delivery_changes_total{state="held"}': 1,
        'presence_cp_deliveries{state="held"}': 1,
        'presence_cp_deliveries{state="queued"}': 0,
        "presence_cp_connected_agents": 1,
        "presence_cp_oldest_queued_seconds": 0,
        "presence_cp_dispatch_seconds_count": 1,
    }
    assert {name: found.get(name) for name in expected} == expected
    assert found['presence_cp_transaction_seconds_count{kind="write"}'] > 5
    assert not any(webhook["Id"] in name or presence_id in name for name in found)


@pytest.mark.parametrize(("readers", "forwarded", "status"), [
    ("loopback", None, 200), ("loopback", "10.0.0.1", 404), ("everybody", "10.0.0.1", 200), ("nobody", None, 404),
])  # fmt: skip
async def test_who_may_read_the_metrics(
    settings: ControlPlaneSettings,
    administrator: InitResult,
    http: Any,
    readers: str,
    forwarded: str | None,
    status: int,
) -> None:
    update = {"trusted_proxies": ("127.0.0.1",), "metrics": readers}
    settings = settings.model_copy(update={"server": settings.server.model_copy(update=update)})
    async with logged_in(settings, administrator, http) as caller:
        await fetched(caller, "/metrics", status, **({"X-Forwarded-For": forwarded} if forwarded else {}))


async def document(caller: Caller) -> dict[str, Any]:
    async with caller.http.get(f"{caller.url}/openapi.json") as answer:
        found: dict[str, Any] = await answer.json()
        return found


async def test_the_document_says_what_is_answered(caller: Caller) -> None:
    found = await document(caller)
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            responses = set(operation["responses"])
            assert "422" not in responses, path
            assert operation["description"], path
            if path.startswith("/api/v4"):
                assert {"400", "401", "413", "429", "503"} <= responses, (method, path)
    bodies = [
        content["schema"].get("$ref", "").rpartition("/")[2]
        for operations in found["paths"].values()
        for operation in operations.values()
        for kind, content in operation.get("requestBody", {}).get("content", {}).items()
        if kind == "application/json" and "$ref" in content["schema"]
    ]
    assert set(bodies) == set(BODIES)
    for name, example in BODIES.items():
        schema = {"$ref": f"#/components/schemas/{name}", "components": found["components"]}
        jsonschema_rs.validator_for(schema).validate(example)


async def test_every_answer_has_an_example_that_is_one(caller: Caller) -> None:
    found = await document(caller)
    count = 0
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            for status, answer in operation["responses"].items():
                content = answer.get("content", {}).get("application/json")
                if content is None or path.startswith("/readyz"):
                    continue
                schema = content.get("schema", {}) | {"components": found["components"]}
                jsonschema_rs.validator_for(schema).validate(content["example"])
                assert content["example"] is not None, (method, path, status)
                count += 1
    assert count > 200


async def test_the_document_tells_what_every_capability_is_and_which_resource_takes_it(caller: Caller) -> None:
    found = await document(caller)
    paragraphs = found["info"]["description"].split("\n\n")
    for capability in Capability:
        (paragraph,) = [text for text in paragraphs if text.startswith(f"`{capability.value}`: ")]
        roles = [name for name, given in PREDEFINED_ROLES.items() if capability in given]
        assert paragraph.rstrip().endswith(f". {', '.join(roles)}.")
    for route in {row.route for row in TABLE}:
        method, path = route.split()
        operation = found["paths"][f"/api/v4{path}"][method.lower()]
        needed = set(operation.get("x-capabilities", ()))
        said = operation["description"].rpartition("\n\n")[2]
        assert said.startswith("It takes no log-in" if route in WITHOUT_LOG_IN else "It takes "), route
        assert {name for name in CAPABILITIES if f"`{name}`" in said} == needed, route
        assert ("403" in operation["responses"]) == bool(needed), route
        rows = [row.cells for row in TABLE if row.route == route]
        may = {letter for cells in rows for letter, cell in zip(ROLES, cells, strict=True) if cell in "+!"}
        # Who is in no asset group may not do what the capabilities alone would let it do.
        everybody = {*PREDEFINED, *CUSTOM}
        assert may & everybody == {letter for letter in everybody if needed <= held_by(letter)}, route


def held_by(letter: str) -> set[str]:
    """The capabilities of that role of the access table."""
    if letter in CUSTOM:
        return set(CUSTOM[letter])
    return {capability.value for capability in PREDEFINED_ROLES[PREDEFINED[letter]]}


async def test_the_page_needs_no_internet_and_no_script(caller: Caller) -> None:
    text, headers = await fetched(caller, "/docs")
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self';")
    assert "<script" not in text
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text)
    assert not re.search(r"\son[a-z]+=|style=", text)
    for link in set(re.findall(r'href="#([^"]+)"', text)):
        assert f'id="{link}"' in text, link
    style, headers = await fetched(caller, re.findall(r'<link rel="stylesheet" href="([^"]+)"', text)[0])
    assert headers["Content-Type"].startswith("text/css")
    assert "url(" not in style
    paths = (await document(caller))["paths"]
    assert all(path in text for path in paths)


async def test_asking_often_whether_it_is_ready_costs_one_transaction(caller: Caller) -> None:
    await fetched(caller, "/readyz")
    before = (await metrics(caller))['presence_cp_transaction_seconds_count{kind="write"}']
    await asyncio.gather(*(fetched(caller, "/readyz") for _ in range(50)))
    after = (await metrics(caller))['presence_cp_transaction_seconds_count{kind="write"}']
    assert after - before < 10
