"""How often one may ask: counted for users, addresses and organizations, each for itself."""

import asyncio
from typing import Any

import pytest

from presence.controlplane.app import InitResult
from presence.controlplane.settings import ControlPlaneSettings, Limits
from tests.integration.controlplane.peers import Caller, cloud_event, logged_in
from tests.integration.controlplane.people import person

REQUESTS = 12


@pytest.fixture
def limits() -> Limits:
    return Limits(requests_per_minute=REQUESTS, logins_per_minute=3, events_per_second=5)


async def refused(caller: Caller, method: str, path: str, **request: Any) -> int:
    """A request that is one too many; the seconds to wait."""
    headers = {**caller.headers, **request.pop("headers", {})}
    async with caller.http.request(method, f"{caller.url}/api/v4/{path}", headers=headers, **request) as answer:
        body = await answer.json()
        assert (answer.status, body["Key"]) == (429, "TOO_MANY_REQUESTS")
        return int(answer.headers["Retry-After"])


async def test_a_user_is_limited_and_others_are_not(caller: Caller) -> None:
    other = await person(caller)
    for _ in range(REQUESTS - 2):
        await caller.get("Presences")
    assert 0 < await refused(caller, "GET", "Presences") <= 62
    # What is refused is not looked at, whatever it is.
    await refused(caller, "POST", "Presences", data=b"{", headers={"Content-Type": "text/plain"})
    await other.get("Presences")


async def test_who_is_not_logged_in_is_limited_by_address(caller: Caller) -> None:
    nobody, forger = Caller(caller.url, caller.http), Caller(caller.url, caller.http)
    forger.headers = {"Authorization": "Bearer nonsense"}
    for number in range(REQUESTS):
        await (nobody if number % 2 else forger).get("Presences", status=401)
    await refused(nobody, "GET", "Presences")
    await refused(forger, "GET", "Presences", headers={"X-Forwarded-For": "10.9.8.7", "Forwarded": "for=10.9.8.7"})
    await caller.get("Presences")
    async with caller.http.get(f"{caller.url}/healthz") as answer:
        assert answer.status == 200


async def test_what_no_resource_answers_is_counted_for_the_address(caller: Caller) -> None:
    nobody = Caller(caller.url, caller.http)
    for number in range(REQUESTS // 3):
        await nobody.get(f"Nope/{number}", 404)
        await caller.get("Nope", 404)
        await nobody.call("PATCH", "Presences", 405)
    await refused(nobody, "GET", "Nope")
    await refused(nobody, "PATCH", "Presences")
    await refused(nobody, "GET", "Presences")
    async with caller.http.get(f"{caller.url}/nope") as answer:
        assert answer.status == 404
    await caller.get("Presences")


async def test_log_ins_have_a_stricter_limit(caller: Caller, administrator: InitResult) -> None:
    body = {"KeyId": administrator.key_id, "KeySecret": administrator.key_secret}
    for _ in range(2):
        await caller.post("Account/ApiKeyLogin", body)
    await refused(caller, "POST", "Account/ApiKeyLogin", json=body)
    await refused(caller, "POST", "Account/ApiKeyLogin", data=b"{")
    await caller.get("Presences")


async def test_events_are_counted_for_the_organization_and_for_nothing_else(caller: Caller) -> None:
    batch = [cloud_event(str(number)) for number in range(5)]
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    assert len(await caller.call("POST", "Events", 201, json=batch, headers=headers)) == 5
    wait = await refused(caller, "POST", "Events", json=cloud_event("one more"))
    assert wait in (1, 2)
    for _ in range(REQUESTS):
        await caller.get("Presences")
    await refused(caller, "GET", "Presences")
    producer_less = await person_without_requests(caller)
    assert producer_less["Key"] == "TOO_MANY_REQUESTS"


async def person_without_requests(caller: Caller) -> Any:
    """The caller's own requests are spent: it cannot even make a role."""
    return await caller.post("Roles", {"Name": "x", "Capabilities": {}}, 429)


class TestBehindAProxy:
    @pytest.fixture
    def settings(self, settings: ControlPlaneSettings) -> ControlPlaneSettings:
        server = settings.server.model_copy(update={"trusted_proxies": ("127.0.0.1",)})
        return settings.model_copy(update={"server": server})

    async def test_the_address_is_the_one_that_the_trusted_proxy_saw(
        self, settings: ControlPlaneSettings, administrator: InitResult, http: Any
    ) -> None:
        async with logged_in(settings, administrator, http) as caller:
            nobody = Caller(caller.url, http)
            seen = {"X-Forwarded-For": "6.6.6.6, 10.0.0.1"}
            for number in range(REQUESTS):
                # What the client itself says of its address stands before what the proxy says.
                headers = {"X-Forwarded-For": f"6.6.6.{number}, 10.0.0.1"}
                await nobody.call("GET", "Presences", 401, headers=headers)
            await refused(nobody, "GET", "Presences", headers=seen)
            await nobody.call("GET", "Presences", 401, headers={"X-Forwarded-For": "10.0.0.2"})
            for number in range(REQUESTS):
                await nobody.call("GET", "Presences", 401, headers={"X-Forwarded-For": f"2001:db8::{number}"})
            await refused(nobody, "GET", "Presences", headers={"X-Forwarded-For": "2001:db8::ffff"})
            await nobody.call("GET", "Presences", 401, headers={"X-Forwarded-For": "2001:db8:0:1::1"})
            await nobody.call("GET", "Presences", 401, headers={"X-Forwarded-For": "nonsense"})


class TestDefaults:
    @pytest.fixture
    def limits(self) -> Limits:
        return Limits()

    async def test_of_requests_are_in_force(self, caller: Caller) -> None:
        other = await person(caller)
        of_that = 2
        for _ in range(500 - of_that):
            await caller.get("Account/IsAuthenticated")
        await refused(caller, "GET", "Account/IsAuthenticated")
        await other.get("Account/IsAuthenticated")

    async def test_of_events_are_in_force(self, caller: Caller) -> None:
        async def sent(batch: int) -> int:
            events = [cloud_event(str(number), id=f"{batch}.{number}") for number in range(100)]
            content_type = {"Content-Type": "application/cloudevents-batch+json"}
            async with caller.http.post(
                f"{caller.url}/api/v4/Events", json=events, headers={**caller.headers, **content_type}
            ) as answer:
                return answer.status

        statuses = await asyncio.gather(*(sent(batch) for batch in range(30)))
        # What is one too many is counted with one event. A second may end before the last batch is counted.
        assert statuses.count(201) >= 9
        assert statuses.count(429) > 0


def test_the_defaults() -> None:
    assert Limits().model_dump() == {"requests_per_minute": 500, "logins_per_minute": 30, "events_per_second": 1000}
