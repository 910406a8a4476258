"""The REST API over HTTP: shapes, limits, and input that is wrong."""

import asyncio
import json
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from presence.controlplane.app import InitResult, run_init
from presence.controlplane.settings import ControlPlaneSettings
from presence.errors import PresenceError
from tests.integration.controlplane.peers import Caller, cloud_event

WEBHOOK = {"Uri": "http://myservice.com/ScanEnded/{SubjectId}", "Event": "ScanExecutionCompleted"}


@pytest.fixture
async def presence_id(caller: Caller) -> str:
    return (await caller.presence())[0]


async def test_log_in(caller: Caller, administrator: InitResult) -> None:
    right = {"keyid": administrator.key_id, "keySECRET": administrator.key_secret}
    answer = await caller.post("Account/ApiKeyLogin", right)
    assert set(answer) == {"Token", "Expire"}
    assert answer["Expire"].endswith("Z")
    for wrong in ({**right, "keyid": str(uuid4())}, {**right, "keySECRET": "wrong-secret"}):
        refused = await caller.post("Account/ApiKeyLogin", wrong, status=401)
        assert refused["Key"] == "WRONG_CREDENTIALS"
        assert set(refused) == {"Key", "Message", "FormatParams"}


async def test_everything_needs_a_token(caller: Caller) -> None:
    for path in ("Presences", "Webhooks", "Deliveries", f"Presences/{uuid4()}/NewKey"):
        async with caller.http.get(f"{caller.url}/api/v4/{path}") as answer:
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert (await answer.json())["Key"] == "USER_NOT_AUTHORIZED"
        await caller.call("GET", path, 401, headers={"Authorization": "Bearer nonsense"})


async def test_organizations_do_not_see_each_other(caller: Caller, settings: ControlPlaneSettings) -> None:
    presence_id, _ = await caller.presence()
    await caller.webhook(presence_id)
    await caller.event(id="1")
    stranger = Caller(caller.url, caller.http)
    other = await asyncio.to_thread(run_init, settings, "other")
    await stranger.log_in(other.key_id, other.key_secret)
    for path in ("Presences", "Webhooks", "Deliveries"):
        assert await stranger.get(f"{path}?$count=true") == {"Items": [], "Count": 0}
    assert (await stranger.event(id="1"))["Deliveries"] == []
    assert (await stranger.get(f"Presences/{presence_id}/NewKey", status=400))["Key"] == "INVALID_PRESENCE_IDENTIFIER"
    foreign = await stranger.post("Webhooks", {**WEBHOOK, "PresenceId": presence_id}, status=400)
    assert foreign["Key"] == "INVALID_PRESENCE_IDENTIFIER"
    await stranger.post("Presences", {"PresenceName": "office"})


def test_an_organization_exists_once(settings: ControlPlaneSettings, administrator: InitResult) -> None:
    assert len(administrator.key_secret) <= 100
    with pytest.raises(PresenceError, match="'acme' exists already"):
        run_init(settings, "acme")


async def test_the_key_file(caller: Caller) -> None:
    made = await caller.post("Presences", {"PresenceName": "branch"})
    async with caller.http.get(f"{caller.url}/api/v4/Presences/{made['Id']}/NewKey", headers=caller.headers) as answer:
        assert answer.headers["Content-Disposition"] == 'attachment; filename="AppScanPresence.key"'
        file = await answer.json()
    assert set(file) == {"Key", "ExpiresAt", "WebServiceHost"}
    assert file["Key"].startswith("pk_")
    assert file["WebServiceHost"] == caller.url
    again = await caller.post("Presences", {"PresenceName": "branch"}, status=400)
    assert again["Key"] == "PRESENCE_NAME_ALREADY_EXISTS"


async def test_a_webhook_as_it_is_shown(caller: Caller, presence_id: str) -> None:
    made = await caller.webhook(presence_id, MaxAgeSeconds=60)
    assert made["Presence"]["Id"] == presence_id
    assert made["Global"] is True
    assert made["RequestMethod"] == "GET"
    assert made["MaxAgeSeconds"] == 60
    assert made["OnUnknown"] == "Fire"
    assert made["Paused"] is False
    absent = ("AssetGroup", "AuthorizationHeader", "RequestBody", "ContentType", "PausedReason", "PausedAt")
    assert all(made[name] is None for name in absent)
    assert (await caller.get("Webhooks?$count=true")) == {"Items": [made], "Count": 1}


async def test_a_webhook_with_a_body_as_it_is_shown(caller: Caller, presence_id: str) -> None:
    asked = {
        "RequestMethod": "PUT",
        "RequestBody": '{"patch_id": "{SubjectId}"}',
        "ContentType": "application/json; charset=utf-8",
        "OnUnknown": "Hold",
    }
    made = await caller.webhook(presence_id, **asked)
    assert {name: made[name] for name in asked} == asked
    assert (await caller.get("Webhooks"))["Items"] == [made]


async def test_null_and_empty_are_the_defaults_of_what_is_optional(caller: Caller, presence_id: str) -> None:
    nulls = dict.fromkeys(("RequestMethod", "RequestBody", "ContentType", "AuthorizationHeader", "OnUnknown"))
    made = await caller.webhook(presence_id, **nulls)
    assert (made["RequestMethod"], made["OnUnknown"]) == ("GET", "Fire")
    made = await caller.webhook(presence_id, RequestBody="", ContentType="", AuthorizationHeader="")
    assert (made["RequestBody"], made["ContentType"], made["AuthorizationHeader"]) == (None, None, None)


JSON = {"RequestMethod": "POST", "ContentType": "application/json"}
WEBHOOK_FAULTS: list[tuple[dict[str, object], str, str]] = [
    ({"Uri": "http://x/{Nope}"}, "INVALID_URL", "{Nope} is unknown"),
    ({"Uri": "http://x/{SubjectId"}, "INVALID_URL", "not closed"),
    ({"Uri": "http://{SubjectId}/"}, "INVALID_URL", "host"),
    ({"Uri": "ftp://x/"}, "INVALID_URL", "ftp"),
    ({"Uri": "http://x/../y"}, "INVALID_URL", "'..'"),
    ({"Uri": ""}, "INVALID_URL", "empty"),
    ({"Uri": "http://x/" + "a" * 2048}, "INVALID_INPUT", "2048"),
    ({"Event": "Nope"}, "INVALID_INPUT", "ScanExecutionCompleted"),
    ({"PresenceId": str(uuid4())}, "INVALID_PRESENCE_IDENTIFIER", "no such presence"),
    ({"PresenceId": "x"}, "INVALID_INPUT", "not a UUID"),
    ({"AssetGroupId": str(uuid4())}, "ASSETGROUP_NO_ACCESS", "no such asset group"),
    ({"RequestMethod": "DELETE"}, "INVALID_INPUT", "'GET', 'POST' or 'PUT'"),
    ({"RequestMethod": "post"}, "INVALID_INPUT", "'GET', 'POST' or 'PUT'"),
    ({"RequestBody": "x"}, "INVALID_INPUT", "RequestBody: a GET has no body; set RequestMethod"),
    ({"RequestMethod": "GET", "RequestBody": "x"}, "INVALID_INPUT", "a GET has no body"),
    ({"RequestMethod": "POST", "RequestBody": "x" * 8193}, "INVALID_INPUT", "8192"),
    ({**JSON, "RequestBody": '{"id": "{SubjectId}"'}, "INVALID_INPUT", "RequestBody: the body is not JSON at line 1"),
    ({**JSON, "RequestBody": '{"id": {SubjectId}}'}, "INVALID_INPUT", "outside of a string"),
    ({"ContentType": "json"}, "INVALID_INPUT", "ContentType: the content type is not a media type"),
    ({"ContentType": "a/b\r\nX-Evil: 1"}, "INVALID_INPUT", "ContentType: the content type is not a media type"),
    ({"ContentType": "a/" + "b" * 255}, "INVALID_INPUT", "256"),
    ({"AuthorizationHeader": "Basic x\r\ny"}, "INVALID_INPUT", "one line of printable ASCII"),
    ({"AuthorizationHeader": "********"}, "INVALID_INPUT", "is the mask"),
    ({"AuthorizationHeader": "x" * 4097}, "INVALID_INPUT", "4096"),
    ({"OnUnknown": "Drop"}, "INVALID_INPUT", "'Fire' or 'Hold'"),
    ({"Global": "yes"}, "INVALID_INPUT", "boolean"),
    ({"MaxAgeSeconds": 0}, "INVALID_INPUT", "greater"),
    ({"MaxAgeSeconds": 2_592_001}, "INVALID_INPUT", "2592000"),
    ({"Colour": "red"}, "INVALID_INPUT", "is unknown"),
]


async def test_a_webhook_that_cannot_be(caller: Caller, presence_id: str) -> None:
    for fields, key, says in WEBHOOK_FAULTS:
        refused = await caller.post("Webhooks", {**WEBHOOK, "PresenceId": presence_id, **fields}, status=400)
        assert (refused["Key"], says in refused["Message"]) == (key, True), (fields, refused)
    assert (await caller.get("Webhooks"))["Items"] == []


EVENT_FAULTS: list[tuple[dict[str, object], str]] = [
    ({"subject": ""}, "INVALID_INPUT"),
    ({"subject": ".."}, "INVALID_INPUT"),
    ({"subject": "a\x01"}, "INVALID_INPUT"),
    ({"subject": "s" * 257}, "INVALID_INPUT"),
    ({"subject": None}, "INVALID_INPUT"),
    ({"type": "Nope"}, "INVALID_INPUT"),
    ({"specversion": "0.3"}, "INVALID_INPUT"),
    ({"id": ""}, "INVALID_INPUT"),
    ({"time": "yesterday"}, "INVALID_INPUT"),
    ({"time": "2026-01-01T00:00:00"}, "INVALID_INPUT"),
    ({"applicationid": str(uuid4())}, "APPLICATION_NO_ACCESS"),
]


async def test_an_event_that_cannot_be(caller: Caller) -> None:
    for fields, key in EVENT_FAULTS:
        refused = await caller.post("Events", cloud_event("x") | fields, status=400)
        assert refused["Key"] == key, fields


async def test_an_event_as_other_producers_send_it(caller: Caller) -> None:
    body = json.dumps(cloud_event("x", time="2026-01-01T00:00:00+02:00", traceparent="00-x", data={"any": [1.5]}))
    headers = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
    assert (await caller.call("POST", "Events", 201, data=body, headers=headers))["Deliveries"] == []


BODIES = [
    b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"PresenceName": NaN}', b'{"PresenceName": 1e999}',
    b'{"PresenceName": "a", "x": Infinity}', b'{"PresenceName": "\\ud800"}', b'{"PresenceName": "a\\u0000"}',
    b'{"PresenceName": "a", "PresenceName": "b"}', b'{"PresenceName": "a", "presencename": "b"}',
    b'{"PresenceName": ' + b"1" * 5000 + b"}", b"[" * 100_000, b'{"a":' * 50 + b"1" + b"}" * 50,
    b'{"PresenceName": ""}', b'{"PresenceName": "' + b"x" * 129 + b'"}', b'{"PresenceName": ["a"]}',
]  # fmt: skip


async def test_odd_bodies_are_a_400_that_repeats_nothing(caller: Caller) -> None:
    for body in BODIES:
        headers = {"Content-Type": "application/json"}
        refused = await caller.call("POST", "Presences", 400, data=body, headers=headers)
        assert refused["Key"] == "INVALID_INPUT", body
        assert "xxx" not in json.dumps(refused)
    await caller.call("POST", "Presences", 400, data=b'{"PresenceName": "a"}', headers={"Content-Type": "text/plain"})
    assert (await caller.get("Presences"))["Items"] == []


async def test_huge_bodies_are_refused(caller: Caller) -> None:
    async with caller.http.post(
        f"{caller.url}/api/v4/Presences",
        data=_endless(),
        headers={**caller.headers, "Content-Type": "application/json"},
    ) as answer:
        assert answer.status == 413
        assert (await answer.json())["Key"] == "INPUT_LENGTH_LIMIT_EXCEEDED"


async def _endless() -> AsyncIterator[bytes]:
    for _ in range(40):
        yield b" " * 65536


async def test_lists_are_paged(caller: Caller) -> None:
    for name in "cab":
        await caller.post("Presences", {"PresenceName": name})
    page = await caller.get("Presences?$top=2&$skip=1&$count=true")
    assert [item["PresenceName"] for item in page["Items"]] == ["b", "c"]
    assert page["Count"] == 3
    assert (await caller.get("Presences?$top=0"))["Items"] == []
    for query in ("$filter=Id eq 1", "$top=5001", "$top=-1", "$top=x", "$skip=99999999999999999999", "$count=maybe"):
        assert (await caller.get(f"Presences?{query}", status=400))["Key"] == "ODATA_QUERY_ERROR"


async def test_a_list_that_is_always_whole_has_no_query_options(caller: Caller) -> None:
    assert (await caller.get("EffectiveAccess?host=myservice.com"))["Items"] == []
    for query in ("$top=1", "$filter=Global", "$x="):
        refused = await caller.get(f"EffectiveAccess?host=myservice.com&{query}", 400)
        assert refused["Key"] == "ODATA_QUERY_ERROR"


async def test_what_is_not_there(caller: Caller) -> None:
    assert (await caller.get("Nope", status=404))["Key"] == "RESOURCE_NOT_FOUND"
    async with caller.http.put(f"{caller.url}/api/v4/Presences") as answer:
        assert answer.status == 405
        assert answer.headers["Allow"]
    await caller.get("Presences/not-a-uuid/NewKey", status=400)
    resolution = {"Action": "Fire"}
    assert (await caller.post(f"Deliveries/{uuid4()}/Resolve", resolution, status=404))["Key"] == "RESOURCE_NOT_FOUND"
    await caller.post("Deliveries/not-a-uuid/Resolve", resolution, status=400)
    unknown = await caller.call("POST", f"Webhooks/{uuid4()}/Resume", 400)
    assert unknown["Key"] == "INVALID_WEBHOOK_IDENTIFIER"


async def test_openapi_and_health(caller: Caller) -> None:
    async with caller.http.get(f"{caller.url}/openapi.json") as answer:
        paths = (await answer.json())["paths"]
    assert {"/api/v4/Webhooks", "/api/v4/Events", "/api/v4/Deliveries", "/healthz"} < set(paths)
    resolve = paths["/api/v4/Deliveries/{delivery_id}/Resolve"]["post"]
    assert {"200", "400", "401", "404", "409"} <= set(resolve["responses"])
    assert "abandoned" in resolve["description"]
    assert "requestBody" not in paths["/api/v4/Webhooks/{webhook_id}/Resume"]["post"]
    async with caller.http.get(f"{caller.url}/healthz") as answer:
        assert await answer.json() == {"Status": "ok"}


async def test_a_body_of_another_type_is_told_which_to_send(caller: Caller, administrator: InitResult) -> None:
    body = json.dumps({"KeyId": administrator.key_id, "KeySecret": administrator.key_secret})
    taken = ("application/json", "application/json; charset=utf-8", "text/json", "Text/JSON ;charset=utf-8")
    refused = ("text/plain", "", "text/jsonp", "text/json+x", "x-text/json")
    for content_type, status in [*((one, 200) for one in taken), *((one, 400) for one in refused)]:
        headers = {"Content-Type": content_type}
        login = f"{caller.url}/api/v4/Account/ApiKeyLogin"
        async with caller.http.post(login, data=body, headers=headers) as answer:
            assert answer.status == status
            if status == 400:
                assert "Content-Type: application/json" in (await answer.json())["Message"]
