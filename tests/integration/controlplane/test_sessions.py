"""Who may connect, and how sessions end."""

import asyncio
import json
from contextlib import AsyncExitStack
from uuid import uuid4

import aiohttp
import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from presence.controlplane.app import InitResult
from presence.controlplane.settings import ControlPlaneSettings, Dispatch
from presence.errors import CloseCode
from presence.protocol.messages import Accepted, Canary, Fire, GoAway
from tests.integration.controlplane.peers import Agent, Caller, agent_connection, logged_in

REVOKED_WITHIN = 5.0
BRISK = Dispatch(lease=1, canary_every=0.1, canary_timeout=0.9)


async def test_a_wrong_key_is_denied_before_the_handshake_ends(caller: Caller) -> None:
    for key in ("", "wrong", f"pk_{uuid4()}_{'x' * 43}"):
        with pytest.raises(InvalidStatus) as denied:
            async with agent_connection(caller.url, key):
                pass
        assert denied.value.response.status_code == 401
        body = json.loads(denied.value.response.body or b"")
        assert body["Key"] == "WRONG_CREDENTIALS"
        assert "NewKey" in body["Message"]


async def test_the_subprotocol_must_be_offered(caller: Caller) -> None:
    _, key = await caller.presence()
    with pytest.raises(InvalidStatus) as denied:
        async with agent_connection(caller.url, key, subprotocol="presence.v9"):
            pass
    assert denied.value.response.status_code == 400
    assert b"presence.v1" in (denied.value.response.body or b"")


async def test_a_new_key_ends_the_session_and_voids_the_old_key(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    async with Agent(caller.url, key) as agent:
        began_at = asyncio.get_running_loop().time()
        new = await caller.new_key(presence_id)
        assert await agent.closed() == CloseCode.KEY_REVOKED
        assert asyncio.get_running_loop().time() - began_at < REVOKED_WITHIN
    with pytest.raises(InvalidStatus):
        async with agent_connection(caller.url, key):
            pass
    async with Agent(caller.url, new) as agent:
        await agent.settled()


async def test_a_revoked_key_is_void_within_5_s_for_an_agent_that_does_not_read(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    for number in range(20):
        await caller.webhook(presence_id, Uri=f"http://x/{number}", RequestMethod="POST", RequestBody="x" * 8192)
    async with Agent(caller.url, key, credit=10_000) as agent:
        agent.socket.transport.pause_reading()
        # Some 8 MB, more than the kernel takes for it, so that the control plane's writer is stuck.
        for _ in range(50):
            last = (await caller.event())["Deliveries"][-1]
        await caller.until(last, "dispatched")
        began_at = asyncio.get_running_loop().time()
        new = await caller.new_key(presence_id)
        await caller.until(last, "queued")
        assert asyncio.get_running_loop().time() - began_at < REVOKED_WITHIN
        agent.socket.transport.abort()
    async with Agent(caller.url, new, instance=agent.instance) as agent:
        await agent.expect(Fire)


async def test_the_newest_session_of_an_instance_wins(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    async with Agent(caller.url, key) as older:
        await caller.event()
        fire = await older.expect(Fire)
        async with Agent(caller.url, key, instance=older.instance) as newer:
            assert await older.closed() == CloseCode.SUPERSEDED
            assert (await newer.expect(Fire)).id == fire.id
            await newer.deliver(fire)
    assert (await caller.delivery(fire.id))["State"] == "succeeded"


async def test_two_instances_share_the_work(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    async with Agent(caller.url, key) as one, Agent(caller.url, key) as two:
        for agent in (one, two):
            await agent.settled()
        for number in range(4):
            await caller.event(f"subject-{number}")
        fires = await one.fires(2) + await two.fires(2)
        assert len({fire.id for fire in fires}) == 4


BROKEN: list[tuple[str | bytes, int]] = [
    ("{", 1007),
    ('{"type": "accepted"}', 1007),
    ('{"type": "ready"}', 1002),
    (b"\x00", 1002),
    ("x" * 300_000, 1009),
]


async def test_a_broken_protocol_ends_the_session(caller: Caller) -> None:
    _, key = await caller.presence()
    for frame, code in BROKEN:
        async with Agent(caller.url, key) as agent:
            await agent.socket.send(frame)
            assert await agent.closed() == code


async def test_no_more_ids_are_held_than_the_bound(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("presence.controlplane.gateway.MAX_HELD", 2500)
    _, key = await caller.presence()
    held = [str(uuid4()) for _ in range(2501)]
    async with Agent(caller.url, key, held=held[:2500]) as agent:
        await agent.settled()
    with pytest.raises(ConnectionClosedError) as closed:
        async with Agent(caller.url, key, held=held):
            pass
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (CloseCode.PROTOCOL_ERROR, "more than 2500 ids held")


async def test_a_delivery_that_breaks_two_sessions_is_set_aside(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    await caller.event("poison")
    await caller.event("bystander")
    poison = (await caller.deliveries())[0]["Id"]
    async with Agent(caller.url, key, credit=1) as agent:
        assert (await agent.expect(Fire)).id == poison
        await agent.socket.send("not JSON")
        assert await agent.closed() == CloseCode.INVALID_PAYLOAD
    await caller.until(poison, "queued")
    async with Agent(caller.url, key) as agent:
        assert (await agent.expect(Fire)).id == poison
        await agent.settled()
        assert not agent.waiting(Fire), "a suspect goes alone"
        await agent.socket.close(CloseCode.PROTOCOL_ERROR, "bad fire")
    entry = await caller.until(poison, "failed")
    assert entry["Reason"] == "poison"
    assert entry["SettledAt"] is not None
    async with Agent(caller.url, key) as agent:
        assert (await agent.expect(Fire)).subject_id == "bystander"


async def test_a_suspect_that_is_answered_makes_way_for_the_others(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    await caller.webhook(presence_id)
    for number in range(3):
        await caller.event(f"subject-{number}")
    async with Agent(caller.url, key) as agent:
        fires = await agent.fires(3)
        await agent.socket.send("not JSON")
        await agent.closed()
    async with Agent(caller.url, key) as agent:
        for expected in fires:
            fire = await agent.expect(Fire)
            assert fire.id == expected.id
            assert not agent.waiting(Fire)
            await agent.deliver(fire)
    assert {entry["State"] for entry in await caller.deliveries()} == {"succeeded"}


async def test_a_restart_says_go_away(
    settings: ControlPlaneSettings, administrator: InitResult, http: aiohttp.ClientSession
) -> None:
    async with AsyncExitStack() as agents:
        async with logged_in(settings, administrator, http) as caller:
            _, key = await caller.presence()
            agent = await agents.enter_async_context(Agent(caller.url, key))
            await agent.settled()
        assert (await agent.expect(GoAway)).reason == "restart"
        assert await agent.closed() == CloseCode.SERVICE_RESTART


async def test_the_status_of_a_presence_is_true(caller: Caller) -> None:
    made = await caller.post("Presences", {"PresenceName": "branch"})
    assert (made["Status"], made["KeyExpiresAt"], made["HostName"]) == ("NeverUsed", None, None)
    assert (made["LastCanaryAgeSeconds"], made["Conflict"], made["ConflictHosts"]) == (None, False, [])
    key = await caller.new_key(made["Id"])
    async with Agent(caller.url, key) as agent:
        await agent.settled()
        listed = (await caller.get("Presences"))["Items"][0]
    assert (listed["Status"], listed["HostName"], listed["Platform"]) == ("Active", "inside", "linux_x64")
    assert listed["KeyExpiresAt"] is not None
    assert listed["LastCanaryAgeSeconds"] == 0


class TestBrisk:
    """With short leases and canaries."""

    @pytest.fixture
    def dispatch(self) -> Dispatch:
        return BRISK

    async def test_an_agent_that_answers_no_canary_is_dropped(self, caller: Caller) -> None:
        _, key = await caller.presence()
        async with Agent(caller.url, key, echoes=False) as agent:
            assert await agent.closed() == CloseCode.CANARY_MISSED
            assert len(agent.waiting(Canary)) >= 2

    async def test_an_accepted_delivery_moves_when_its_lease_ended_and_another_instance_is_ready(
        self, caller: Caller
    ) -> None:
        presence_id, key = await caller.presence()
        await caller.webhook(presence_id)
        await caller.event()
        async with Agent(caller.url, key) as owner:
            fire = await owner.expect(Fire)
            await owner.say(Accepted(id=fire.id))
            await owner.settled()
        async with Agent(caller.url, key) as heir:
            assert (await heir.expect(Fire)).id == fire.id
            await heir.deliver(fire)
        entry = await caller.delivery(fire.id)
        assert (entry["State"], entry["InstanceId"]) == ("succeeded", heir.instance)

    async def test_a_delivery_that_no_agent_took_in_time_expires(self, caller: Caller) -> None:
        presence_id, _ = await caller.presence()
        await caller.webhook(presence_id, MaxAgeSeconds=1)
        delivery = (await caller.event())["Deliveries"][0]
        assert (await caller.until(delivery, "expired"))["Reason"] == "too_old"
