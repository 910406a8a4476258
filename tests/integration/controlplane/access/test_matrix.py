"""Every cell of the access table, on both databases."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest

from presence.controlplane.settings import ControlPlaneSettings, Limits
from tests.integration.controlplane.access.actions import ACTIONS, Action, Cell
from tests.integration.controlplane.access.people import ROLES
from tests.integration.controlplane.access.table import PUBLIC, TABLE, WITHOUT_LOG_IN, Row
from tests.integration.controlplane.access.world import World
from tests.integration.controlplane.peers import Caller
from tests.integration.controlplane.people import Person, stranger

API = "/api/v4"
METHODS = {"get", "post", "put", "delete", "patch", "head", "options", "trace"}
RESOURCES = sorted({row.route.split("/")[1] for row in TABLE})
Answer = tuple[int, Any]


@pytest.fixture
def limits() -> Limits:
    """A cell is a request, and there are thousands; everybody logs in within seconds."""
    return Limits(requests_per_minute=100_000, logins_per_minute=1_000)


async def asked(who: Caller, method: str, path: str, body: object = None) -> Answer:
    """Status, and what was said."""
    async with who.http.request(method, f"{who.url}{API}/{path}", headers=who.headers, json=body) as answer:
        said = await answer.read()
        return answer.status, json.loads(said) if answer.content_type == "application/json" and said else None


async def ask(action: Action, method: str, who: Caller, cell: Cell) -> Answer:
    return await asked(who, method, await action.path(cell), await action.body(cell))


async def outcome(action: Action, method: str, cell: Cell) -> tuple[str, Answer]:
    """The sign of the table for what the user is answered."""
    status, said = answer = await ask(action, method, cell.person, cell)
    if 200 <= status <= 299:
        return "+" if not action.listed or said["Items"] else ".", answer
    if status == 403:
        return "-" if said["Key"] == "MISSING_CAPABILITIES" else "403 with another key", answer
    if status not in (400, 404, 409):
        return "another status", answer
    if cell.id:
        nothing = Cell(cell.world, cell.place, cell.person, str(uuid4()))
        if status != 409 and await ask(action, method, cell.person, nothing) == answer:
            return ".", answer
    return "!", answer


async def settle(route: str, person: Person, answer: Answer) -> None:
    """After these a user needs another token, or has another key."""
    if route == "GET /Account/Logout":
        await person.log_in(person.key_id, person.key_secret)
    elif route == "POST /Account/ApiKey":
        person.key_id, person.key_secret = answer[1]["KeyId"], answer[1]["KeySecret"]


async def faults(world: World, row: Row, documented: set[str]) -> list[str]:
    """What is not as the row says."""
    found, shared = [], None
    action, method = ACTIONS[row.route, row.aspect], row.route.split()[0]
    for letter, expected in zip(ROLES, row.cells, strict=True):
        person = world.people[letter]
        if expected == "+" or action.for_each:
            id_ = await action.make(world, row.place, person)
        else:
            shared = id_ = shared or await action.make(world, row.place, person)
        sign, answer = await outcome(action, method, Cell(world, row.place, person, id_))
        if sign != expected or str(answer[0]) not in documented:
            found.append(f"{' | '.join(row[:3])}: {letter} should have {expected}, has {sign}: {answer}")
        await settle(row.route, person, answer)
    if shared and action.by_owner:
        owner = world.owner(row.place)
        answer = await ask(action, method, owner, Cell(world, row.place, world.people["A"], shared))
        if not 200 <= answer[0] <= 299 or (action.listed and not answer[1]["Items"]):
            found.append(f"{' | '.join(row[:3])}: what was refused is not there any more, or was wrong: {answer}")
    return found


async def document(caller: Caller) -> dict[str, dict[str, Any]]:
    """What the API says of itself: operations by `METHOD /path`."""
    async with caller.http.get(f"{caller.url}/openapi.json") as answer:
        paths = (await answer.json())["paths"]
    return {
        f"{method.upper()} {path.removeprefix(API)}": operation
        for path, operations in paths.items()
        for method, operation in operations.items()
        if method in METHODS
    }


@pytest.mark.timeout(600)
@pytest.mark.parametrize("resource", RESOURCES)
async def test_every_cell_is_as_the_table_says(resource: str, caller: Caller, settings: ControlPlaneSettings) -> None:
    world = World(caller, await stranger(caller, settings))
    await world.prepare()
    operations = await document(caller)
    rows = [row for row in TABLE if row.route.split("/")[1] == resource]
    found = [fault for row in rows for fault in await faults(world, row, set(operations[row.route]["responses"]))]
    assert not found, "\n".join(found)


async def test_every_route_is_in_the_table(caller: Caller) -> None:
    routes = {row.route for row in TABLE}
    assert routes == set(await document(caller)) - PUBLIC | routes & PUBLIC
    assert {(row.route, row.aspect) for row in TABLE} == set(ACTIONS)
    assert not [row for row in TABLE if len(row.cells) != len(ROLES)]


async def test_what_is_in_an_asset_group_is_tried_at_every_place() -> None:
    """Own, other and foreign; what belongs to the organization, in that and in a foreign one."""
    places: dict[str, set[str]] = {}
    for row in TABLE:
        places.setdefault(row.route, set()).add(row.place)
    for route, tried in places.items():
        if "{" in route:
            assert "foreign" in tried, route
            assert {"own", "other"} <= tried or "organization" in tried, route


async def test_without_a_log_in_there_is_nothing(caller: Caller) -> None:
    nobody, expired = Caller(caller.url, caller.http), Caller(caller.url, caller.http)
    expired.headers = dict(caller.headers)
    routes = set(await document(caller)) - PUBLIC - WITHOUT_LOG_IN
    await caller.call("GET", "Account/Logout", 200)
    for who in (nobody, expired):
        for route in sorted(routes):
            method, path = route.split()
            filled = "/".join(str(uuid4()) if part.startswith("{") else part for part in path.split("/"))
            status, said = await asked(who, method, filled.removeprefix("/"), {})
            assert (status, said["Key"]) == (401, "USER_NOT_AUTHORIZED"), (route, said)


async def test_whoever_loses_a_right_loses_it_at_once(caller: Caller, settings: ControlPlaneSettings) -> None:
    """The tokens that there are count with the role that the user has now."""
    world = World(caller, await stranger(caller, settings))
    await world.prepare()
    somebody, webhook = world.people["w"], await world.webhook("own")
    path, body = f"Webhooks/{webhook}", {"MaxAgeSeconds": 60}
    assert (await asked(somebody, "PUT", path, body))[0] == 200
    await caller.call("PUT", f"Roles/{somebody.role_id}", 200, json={"Capabilities": {}})
    assert (await asked(somebody, "PUT", path, body))[0] == 403
    await caller.call("PUT", f"User/{somebody.user_id}", 200, json={"AssetGroupIds": []})
    assert (await asked(somebody, "PUT", path, body))[0] == 400
    await caller.call("DELETE", f"User/{somebody.user_id}", 204)
    answers = await asyncio.gather(*(asked(somebody, "PUT", path, body) for _ in range(3)))
    assert {status for status, _ in answers} == {401}
