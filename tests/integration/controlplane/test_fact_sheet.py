"""The resources of AppScan on Cloud's API v4, against what is known of it: in our document, and in what is answered."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import uuid4

import jsonschema_rs
import pytest

from tests.integration.controlplane import fact_sheet
from tests.integration.controlplane.peers import Caller
from tests.integration.controlplane.people import default_group, group, invite, role_id

API = "/api/v4"
TYPES = {
    "uuid": {"type": "string", "format": "uuid"},
    "string": {"type": "string"},
    "integer": {"type": "integer"},
    "boolean": {"type": "boolean"},
    "time": {"type": "string", "format": "date-time"},
}


class Fact(NamedTuple):
    """A field. `length`: shortest and longest."""

    name: str
    type: str
    is_nullable: bool
    is_list: bool
    length: tuple[int, int] | None
    is_required: bool


def facts(text: str) -> Iterator[Fact]:
    for line in filter(None, map(str.strip, text.splitlines())):
        name, kind, *more = line.split()
        shortest, _, longest = next((word for word in more if ".." in word), "").partition("..")
        length = (int(shortest), int(longest)) if longest else None
        plain = kind.removesuffix("?").removesuffix("[]")
        yield Fact(name, plain, kind.endswith("?"), "[]" in kind, length, "required" in more)


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip()]


def as_schema(model: str) -> dict[str, Any]:
    """What an answer must be: every field there, ours included, and no other."""
    own = {fact.name: of_field(fact) for fact in facts(fact_sheet.ANSWERS[model])}
    ours: dict[str, Any] = {name: {} for name in fact_sheet.OURS.get(model, "").split()}
    properties = own | ours
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def of_field(fact: Fact) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    if fact.type in fact_sheet.ENUMERATIONS:
        schema = {"enum": fact_sheet.ENUMERATIONS[fact.type].split()}
    elif fact.type != "any":
        schema = TYPES.get(fact.type) or as_schema(fact.type)
    if fact.is_list:
        schema = {"type": "array", "items": schema}
    return {"anyOf": [schema, {"type": "null"}]} if fact.is_nullable else schema


def fits(model: str, answer: Any) -> None:
    jsonschema_rs.validator_for(as_schema(model), validate_formats=True).validate(answer)


class Document:
    def __init__(self, document: dict[str, Any]) -> None:
        self._schemas = document["components"]["schemas"]
        self.operations = {
            (method.upper(), "/".join("{}" if part.startswith("{") else part for part in path.split("/"))): operation
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
        }

    def fields(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._schemas[name]["properties"]
        return found

    def required(self, name: str) -> set[str]:
        return set(self._schemas[name].get("required", ()))

    def options(self, schema: dict[str, Any]) -> list[dict[str, Any]]:
        """What it may be, references resolved."""
        if "$ref" in schema:
            return self.options(self._schemas[schema["$ref"].rpartition("/")[2]])
        if "anyOf" in schema:
            return [option for inner in schema["anyOf"] for option in self.options(inner)]
        return [schema]

    def check(self, fact: Fact, schema: dict[str, Any], *, asked: bool) -> None:
        """`asked`: in a request, where null must be taken that is taken there; an answer must not be null that is not
        there."""
        options = self.options(schema)
        proper = [option for option in options if option.get("type") != "null"]
        is_nullable = len(proper) < len(options)
        if fact.type != "any":
            assert fact.is_nullable <= is_nullable if asked else is_nullable <= fact.is_nullable
        (found,) = proper or [{}]
        if fact.is_list:
            assert found["type"] == "array"
            (found,) = self.options(found["items"]) if fact.type != "any" else [{}]
        if fact.type in fact_sheet.ENUMERATIONS:
            known = set(fact_sheet.ENUMERATIONS[fact.type].split())
            alias = {fact_sheet.ALIASES[fact.type]} if asked and fact.type in fact_sheet.ALIASES else set()
            values = set(found.get("enum") or [found[name] for name in ("const", "default") if name in found][:1])
            assert values == known | alias if asked else values and values <= known
        elif fact.type in TYPES:
            expected = TYPES[fact.type]
            assert {name: found.get(name) for name in expected} == expected
        if fact.length is not None:
            shortest, longest = fact.length
            assert (found.get("minLength", 0), found["maxLength"]) == (shortest, longest)


@pytest.fixture
async def document(caller: Caller) -> Document:
    async with caller.http.get(f"{caller.url}/openapi.json") as answer:
        return Document(await answer.json())


async def test_the_routes(document: Document) -> None:
    for method, path, success, *errors in rows(fact_sheet.ROUTES):
        responses = set(document.operations[method, API + path]["responses"])
        assert responses == {success, *errors} | fact_sheet.ALWAYS, (method, path)
    for route in fact_sheet.ABSENT:
        method, path = route.split()
        assert (method, API + path) not in document.operations


async def test_the_models_of_the_document(document: Document) -> None:
    for asked, models in ((True, fact_sheet.REQUESTS), (False, fact_sheet.ANSWERS)):
        for model, text in models.items():
            known = list(facts(text))
            name = fact_sheet.NAMES.get(model, model)
            if model == "WebhookAssociation":
                name = "NewAssociation" if asked else "AssociationModel"
            fields = document.fields(name)
            assert set(fields) == {fact.name for fact in known} | set(fact_sheet.OURS.get(model, "").split()), model
            required = {fact.name for fact in known if fact.is_required}
            assert document.required(name) == required if asked else document.required(name) >= required, model
            for fact in known:
                try:
                    document.check(fact, fields[fact.name], asked=asked)
                except AssertionError as error:
                    raise AssertionError(f"{model}.{fact.name}") from error


async def test_lists_have_the_query_options_of_odata(document: Document) -> None:
    lists = [path for method, path, *_ in rows(fact_sheet.ROUTES) if method == "GET" and "{" not in path]
    lists = [path for path in lists if not path.startswith("/Account")]
    for path in [*lists, "/Webhooks/Associations/{}", "/Scans/{}/Executions"]:
        parameters = {one["name"] for one in document.operations["GET", API + path]["parameters"]}
        assert parameters >= {"$top", "$skip", "$filter", "$select", "$orderby", "$count"}, path


async def test_the_predefined_roles(caller: Caller) -> None:
    roles = (await caller.get("Roles"))["Items"]
    for role in roles:
        fits("RoleModel", role)
        held = {name for name, is_held in role["Capabilities"].items() if is_held}
        assert (role["Predefined"], held) == (True, set(fact_sheet.ROLES[role["Name"]].split())), role["Name"]
    assert len(roles) == len(fact_sheet.ROLES)


async def test_the_errors(caller: Caller) -> None:
    for method, path, key in rows(fact_sheet.ERRORS):
        body = {"json": {}} if method == "PUT" else {}
        refused = await caller.call(method, path.replace("{}", str(uuid4())), 400, **body)
        fits("ErrorMessage", refused)
        assert refused["Key"] == key, path
    for path in (
        "Webhooks?$top=5000&$count=true",
        "Scans?$top=500&$count=true",
        "Webhooks?$filter=Id eq " + str(uuid4()),
    ):
        assert await caller.get(path) == {"Items": [], "Count": 0 if "$count" in path else None}


async def test_requests_that_are_not_as_they_must_be(caller: Caller) -> None:
    presence, app = (await caller.presence())[0], await application(caller)
    webhook = await caller.webhook(presence, Global=False)
    uri = {"Uri": "http://x/{SubjectId}"}
    whole: dict[str, tuple[str, str, dict[str, Any]]] = {
        "ApiKey": ("POST", "Account/ApiKeyLogin", {"KeyId": str(uuid4()), "KeySecret": "12345"}),
        "NewWebhook": ("POST", "Webhooks", {"PresenceId": presence, "Event": "ApplicationUpdated", **uri}),
        "UpdateWebhook": ("PUT", f"Webhooks/{webhook['Id']}", {}),
        "WebhookAssociation": (
            "POST", f"Webhooks/Associations/{webhook['Id']}", {"Scope": "Application", "ScopeId": app}
        ),
        "NewPresence": ("POST", "Presences", {"PresenceName": "another"}),
        "UpdatePresence": ("PUT", f"Presences/{presence}", {"PresenceName": "another"}),
        "NewRole": ("POST", "Roles", {"Name": "another", "Capabilities": {}}),
        "UserUpdate": ("PUT", f"User/{uuid4()}", {}),
        "InviteUsers": ("POST", "Account/InviteUsers", {"Emails": ["ci@example.com"]}),
        "NewAssetGroup": ("POST", "AssetGroups", {"Name": "another"}),
    }  # fmt: skip
    assert whole.keys() == fact_sheet.REQUESTS.keys()
    for model, (method, path, body) in whole.items():
        for fact in facts(fact_sheet.REQUESTS[model]):
            wrong: list[Any] = [{"x": [1]}] if fact.type != "any" else []
            if fact.length is not None:
                wrong += ["x" * (fact.length[1] + 1), "x" * (fact.length[0] - 1)][: 2 if fact.length[0] else 1]
            for value in wrong:
                refused = await caller.call(method, path, 400, json={**body, fact.name: value})
                assert refused["Key"] in ("INVALID_INPUT", "INVALID_URL"), (model, fact.name)
            if fact.is_required:
                rest = {name: value for name, value in body.items() if name != fact.name}
                refused = await caller.call(method, path, 400, json=rest)
                assert (refused["Key"], refused["FormatParams"]) == ("INVALID_INPUT", [fact.name]), model
    for event in (*fact_sheet.ENUMERATIONS["Event"].split(), fact_sheet.ALIASES["Event"]):
        made = await caller.webhook(presence, Event=event)
        assert made["Event"] == {fact_sheet.ALIASES["Event"]: "ApplicationUpdated"}.get(event, event)
    for name in ("Event", "AssetGroupId"):
        await caller.call("PUT", f"Webhooks/{webhook['Id']}", 400, json={name: webhook.get(name)})


async def application(caller: Caller) -> str:
    body = {"Name": f"app {uuid4()}", "AssetGroupId": await default_group(caller)}
    return str((await caller.post("Apps", body, 201))["Id"])


async def listed(caller: Caller, model: str, resource: str, id_: str) -> None:
    """In the list it is as it was when it was made."""
    page = await caller.get(f"{resource}?$filter=Id eq {id_}&$count=true")
    assert (set(page), page["Count"]) == ({"Items", "Count"}, 1)
    fits(model, page["Items"][0])


async def test_a_webhook_and_what_belongs_to_it(caller: Caller) -> None:
    presence = await caller.post("Presences", {"PresenceName": "office"})
    fits("Presence", presence)
    fits("NewKey", await caller.get(f"Presences/{presence['Id']}/NewKey"))
    await caller.get(f"Presences/{presence['Id']}/Download/Windows", 400)
    await listed(caller, "Presence", "Presences", presence["Id"])
    north = await group(caller, "north")
    body = {
        "PresenceId": presence["Id"], "Uri": "https://x/", "Event": "NewPatchRequest", "Global": True,
        "AssetGroupId": north, "AuthorizationHeader": "Basic YTpi", "RequestMethod": "POST",
        "RequestBody": json.dumps({"patch_id": "{SubjectId}"}), "ContentType": "application/json",
    }  # fmt: skip
    for more in ({}, {"AssetGroupId": None, "Global": False}):
        made = await caller.post("Webhooks", body | more, 201)
        fits("WebhookModel", made)
        await listed(caller, "WebhookModel", "Webhooks", made["Id"])
        fits("WebhookModel", await caller.call("PUT", f"Webhooks/{made['Id']}", 200, json={"Uri": "https://x/y"}))
    path = f"Webhooks/Associations/{made['Id']}"
    fits("WebhookAssociation", await caller.post(path, {"Scope": "AssetGroup", "ScopeId": north}, 201))
    (association,) = await caller.get(path)
    fits("WebhookAssociation", association)
    await caller.call("DELETE", f"{path}?scope=AssetGroup&scopeId={north}", 204)
    await caller.call("DELETE", f"Webhooks/{made['Id']}", 204)


async def test_people_and_what_they_may(caller: Caller) -> None:
    fits("TenantInfo", await caller.get("Account/TenantInfo"))
    key = await caller.call("POST", "Account/ApiKey", 201)
    fits("ApiKeyInfo", key)
    login = {"keyId": key["KeyId"], "keySecret": key["KeySecret"], "ClientType": "github-dast-linux-1"}
    fits("AccessTokenData", await caller.post("Account/ApiKeyLogin", login))
    made = await caller.post("Roles", {"Name": "Integrator", "Capabilities": {"CreateModifyWebhooks": True}}, 201)
    fits("RoleModel", made)
    fits("RoleModel", await caller.call("PUT", f"Roles/{made['Id']}", 200, json={"Description": "x"}))
    north = await group(caller, "north")
    await listed(caller, "AssetGroupModel", "AssetGroups", north)
    path = f"AssetGroups/{north}"
    fits("AssetGroupModel", await caller.call("PUT", path, 200, json={"Description": "x"}))
    user = await invite(caller, await role_id(caller, "Tester"), [north])
    await listed(caller, "UserModel", "User", user["UserId"])
    fits("UserModel", await caller.call("PUT", f"User/{user['UserId']}", 200, json={"RoleId": made["Id"]}))
    await caller.call("DELETE", f"User/{user['UserId']}", 204)
    await caller.call("DELETE", f"{path}?forceDeletion=true", 204)


async def test_applications_and_scans(caller: Caller) -> None:
    app = await application(caller)
    await listed(caller, "ApplicationModel", "Apps", app)
    fits("ApplicationModel", await caller.call("PUT", f"Apps/{app}", 200, json={"CriticalIssues": 1}))
    scan = await caller.post("Scans", {"Name": "x", "AppId": app, "Technology": "ScaAnalyzer"}, 201)
    fits("MinScanModel", scan)
    execution = await caller.call("POST", f"Scans/{scan['Id']}/Executions", 201)
    fits("ScanExecutionModel", execution)
    path = f"Scans/Execution/{execution['Id']}"
    await caller.call("PUT", path, 200, json={"Status": "Ready", "Result": "High"})
    fits("ScanExecutionModel", await caller.get(path))
    (one,) = await caller.get(f"Scans/{scan['Id']}/Executions")
    fits("ScanExecutionModel", one)
    await listed(caller, "MinScanModel", "Scans", scan["Id"])
    await caller.call("DELETE", f"Apps/{app}", 204)
