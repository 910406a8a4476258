"""A key that is exchanged over the link, while deliveries go on."""

import asyncio
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from websockets.exceptions import InvalidStatus

from presence.controlplane.app import InitResult, run_init
from presence.controlplane.settings import ControlPlaneSettings, Dispatch
from presence.errors import CloseCode
from presence.protocol.messages import Fire, NewKey
from tests.integration.controlplane.peers import Agent, Caller, agent_connection, before_the_next_look, logged_in


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API does not wait for agents that this test keeps away."""
    monkeypatch.setattr("presence.controlplane.services.rotations.WAIT_SECONDS", 0.1)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("presence.controlplane.services.rotations.WAIT_SECONDS", 10)


async def rotate(caller: Caller, presence_id: str, status: int = 200) -> Any:
    return await caller.call("POST", f"Presences/{presence_id}/RotateKey", status)


async def standing(caller: Caller) -> Any:
    return (await caller.get("Presences"))["Items"][0]["KeyRotation"]


async def is_void(caller: Caller, key: str) -> bool:
    try:
        async with agent_connection(caller.url, key):
            return False
    except InvalidStatus as denied:
        return denied.response.status_code == 401


def back(caller: Caller, key: str, agent: Agent) -> Agent:
    """The same instance again, with that key."""
    return Agent(caller.url, key, instance=agent.instance)


async def until_done(caller: Caller) -> None:
    async with asyncio.timeout(10):
        while (await standing(caller))["Status"] != "Done":
            await before_the_next_look()


@pytest.mark.usefixtures("patient")
async def test_the_answer_is_done_once_the_agent_is_back_with_the_new_key(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    assert await standing(caller) is None
    async with Agent(caller.url, key) as agent:
        rotating = asyncio.create_task(rotate(caller, presence_id))
        new = (await agent.expect(NewKey)).key
        assert await standing(caller) == {"Status": "Pending", "PendingInstances": [agent.instance]}
        async with back(caller, new, agent) as agent:
            assert await rotating == {"Status": "Done", "PendingInstances": []}
            assert await is_void(caller, key)
            assert not await is_void(caller, new)
            await agent.settled()
            assert agent.waiting(NewKey) == []


async def test_the_old_key_is_valid_until_every_instance_is_back(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    async with Agent(caller.url, key) as one, Agent(caller.url, key) as two:
        pending = await rotate(caller, presence_id)
        assert pending == {"Status": "Pending", "PendingInstances": sorted([one.instance, two.instance])}
        new = (await one.expect(NewKey)).key
        assert (await two.expect(NewKey)).key == new
        async with back(caller, new, one):
            assert await standing(caller) == {"Status": "Pending", "PendingInstances": [two.instance]}
            assert not await is_void(caller, key)
            async with back(caller, new, two):
                await until_done(caller)
                assert await is_void(caller, key)


async def test_an_instance_that_comes_with_the_old_key_is_told_the_new_one(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    async with Agent(caller.url, key) as one:
        await rotate(caller, presence_id)
        new = (await one.expect(NewKey)).key
        async with Agent(caller.url, key) as late:
            assert (await late.expect(NewKey)).key == new
            async with back(caller, new, one):
                assert await standing(caller) == {"Status": "Pending", "PendingInstances": [late.instance]}
                async with back(caller, new, late):
                    await until_done(caller)


async def test_one_that_lost_its_link_before_it_heard_of_the_new_key_is_waited_for(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    async with Agent(caller.url, key) as away:
        await away.settled()
    async with Agent(caller.url, key) as here:
        pending = await rotate(caller, presence_id)
        assert pending["PendingInstances"] == sorted([away.instance, here.instance])
        new = (await here.expect(NewKey)).key
        async with back(caller, new, here):
            assert not await is_void(caller, key)
            async with back(caller, key, away) as away:
                assert (await away.expect(NewKey)).key == new
            async with back(caller, new, away):
                await until_done(caller)
                assert await is_void(caller, key)


async def test_nobody_is_locked_out_when_all_leave_before_they_have_the_new_key(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    async with Agent(caller.url, key) as agent:
        await rotate(caller, presence_id)
        agent.socket.transport.abort()
        await agent.over()
    async with back(caller, key, agent) as agent:
        new = (await agent.expect(NewKey)).key
    async with back(caller, new, agent):
        await until_done(caller)


async def test_a_second_rotation_takes_the_place_of_the_first(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    async with Agent(caller.url, key) as agent:
        await rotate(caller, presence_id)
        first = (await agent.expect(NewKey)).key
        async with back(caller, first, agent) as agent:
            await until_done(caller)
            await rotate(caller, presence_id)
            second = (await agent.expect(NewKey)).key
            assert second != first
            await rotate(caller, presence_id)
            third = (await agent.expect(NewKey)).key
            # An agent that has stored the second one is not locked out by the third.
            async with back(caller, second, agent) as agent:
                assert (await agent.expect(NewKey)).key == third
                async with back(caller, third, agent):
                    await until_done(caller)
                    for old in (key, first, second):
                        assert await is_void(caller, old)


async def test_a_restart_leaves_both_keys_valid_until_the_next_rotation(
    settings: ControlPlaneSettings, administrator: InitResult, http: aiohttp.ClientSession
) -> None:
    async with logged_in(settings, administrator, http) as caller:
        presence_id, key = await caller.presence()
        async with Agent(caller.url, key) as agent:
            await rotate(caller, presence_id)
            lost = (await agent.expect(NewKey)).key
    async with logged_in(settings, administrator, http) as caller:
        assert await standing(caller) is None
        assert not await is_void(caller, key)
        async with back(caller, lost, agent) as agent:
            await rotate(caller, presence_id)
            new = (await agent.expect(NewKey)).key
            async with back(caller, new, agent):
                await until_done(caller)
                assert await is_void(caller, key)
                assert await is_void(caller, lost)


async def test_new_key_voids_all_keys_and_ends_the_rotation(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    async with Agent(caller.url, key) as agent:
        await rotate(caller, presence_id)
        told = (await agent.expect(NewKey)).key
        downloaded = await caller.new_key(presence_id)
        assert await agent.closed() == CloseCode.KEY_REVOKED
    assert await standing(caller) is None
    for old in (key, told):
        assert await is_void(caller, old)
    async with back(caller, downloaded, agent) as agent:
        await agent.settled()
        assert agent.waiting(NewKey) == []


async def test_what_cannot_be_rotated(caller: Caller, settings: ControlPlaneSettings) -> None:
    presence_id, key = await caller.presence()
    refused = await rotate(caller, presence_id, status=409)
    assert (refused["Key"], refused["FormatParams"]) == ("PRESENCE_IS_NOT_CONNECTED", [presence_id])
    assert "NewKey" in refused["Message"]
    assert (await rotate(caller, str(uuid4()), status=400))["Key"] == "INVALID_PRESENCE_IDENTIFIER"
    async with Agent(caller.url, key) as agent:
        stranger = Caller(caller.url, caller.http)
        await rotate(stranger, presence_id, status=401)
        other = await asyncio.to_thread(run_init, settings, "other")
        await stranger.log_in(other.key_id, other.key_secret)
        await rotate(stranger, presence_id, status=400)
        await agent.settled()
        assert agent.waiting(NewKey) == []
    assert await standing(caller) is None


async def test_no_delivery_is_lost_or_repeated_while_the_key_rotates(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    async with Agent(caller.url, key) as agent:
        await rotate(caller, presence_id)
        new = (await agent.expect(NewKey)).key
        await caller.event()
        fire = await agent.expect(Fire)
        await agent.deliver(fire)
        async with back(caller, new, agent) as agent:
            await caller.event()
            await agent.deliver(await agent.expect(Fire))
            await until_done(caller)
    assert [entry["State"] for entry in await caller.deliveries()] == ["succeeded"] * 2


async def test_the_new_key_is_in_no_answer_and_in_no_log(caller: Caller, capsys: pytest.CaptureFixture[str]) -> None:
    presence_id, key = await caller.presence()
    async with Agent(caller.url, key) as agent:
        answers = [await rotate(caller, presence_id)]
        new = (await agent.expect(NewKey)).key
        async with back(caller, new, agent):
            await until_done(caller)
        answers += [await standing(caller), await caller.get("Presences")]
    secret = new.rpartition("_")[2]
    assert secret not in str(answers)
    assert secret not in "".join(capsys.readouterr())


class TestBrisk:
    """With short leases."""

    @pytest.fixture
    def dispatch(self) -> Dispatch:
        return Dispatch(lease=1, canary_every=0.1, canary_timeout=0.9)

    async def test_a_rotation_that_is_begun_anew_does_not_wait_for_an_instance_that_is_gone(
        self, caller: Caller
    ) -> None:
        presence_id, key = await caller.presence()
        async with Agent(caller.url, key) as gone:
            await gone.settled()
        async with Agent(caller.url, key) as agent:
            while gone.instance in (await rotate(caller, presence_id))["PendingInstances"]:
                await before_the_next_look()
            new = ""
            while received := agent.waiting(NewKey):
                new = (await agent.expect(NewKey)).key
                assert received
            async with back(caller, new, agent):
                await until_done(caller)
                assert await is_void(caller, key)
