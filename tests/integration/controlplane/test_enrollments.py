"""Enrolment over HTTP: a token trades once for a key, and a lost answer is given again to whoever asked for it."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import select, update

from presence.controlplane.access import EVERY_ORGANIZATION
from presence.controlplane.settings import ControlPlaneSettings
from presence.controlplane.store.engine import open_database
from presence.controlplane.store.tables import enrollment, presence_key
from presence.errors import CloseCode
from presence.protocol.messages import NewKey
from tests.integration.controlplane.peers import Agent, Caller

NONCE = "0123456789abcdef"


async def token_for(caller: Caller, presence_id: str) -> str:
    made = await caller.call("POST", f"Presences/{presence_id}/EnrollmentToken", 201)
    assert set(made) == {"Token", "ExpiresAt"}
    return str(made["Token"])


async def enroll(caller: Caller, token: str, nonce: str = NONCE, status: int = 200) -> dict[str, Any]:
    """As an agent does: without logging in."""
    agent = Caller(caller.url, caller.http)
    return dict(await agent.post("Presences/Enroll", {"Token": token, "Nonce": nonce}, status))


async def test_a_token_becomes_a_key_that_works(caller: Caller) -> None:
    presence_id, _ = await caller.presence()
    enrolled = await enroll(caller, await token_for(caller, presence_id))
    assert set(enrolled) == {"PresenceId", "PresenceName", "Key", "ExpiresAt", "WebServiceHost"}
    assert (enrolled["PresenceId"], enrolled["PresenceName"]) == (presence_id, "office")
    assert enrolled["WebServiceHost"] == caller.url
    async with Agent(caller.url, enrolled["Key"]) as agent:
        await agent.settled()


async def test_a_lost_answer_is_given_again_to_the_same_nonce_only(caller: Caller) -> None:
    presence_id, _ = await caller.presence()
    token = await token_for(caller, presence_id)
    first = await enroll(caller, token)
    assert await enroll(caller, token) == first
    refused = await enroll(caller, token, "another-nonce-of-another-agent", 400)
    assert refused["Key"] == "INVALID_ENROLLMENT_TOKEN"
    assert await enroll(caller, token) == first


async def test_of_two_agents_with_one_token_one_is_enrolled(caller: Caller) -> None:
    presence_id, _ = await caller.presence()
    token = await token_for(caller, presence_id)

    async def attempt(nonce: str) -> int:
        url = f"{caller.url}/api/v4/Presences/Enroll"
        async with caller.http.post(url, json={"Token": token, "Nonce": nonce}) as answer:
            return answer.status

    statuses = await asyncio.gather(*(attempt(f"nonce-of-agent-{number:04}") for number in range(8)))
    assert sorted(statuses) == [200, *[400] * 7]


async def test_unknown_expired_and_used_tokens_are_refused_alike(
    caller: Caller, settings: ControlPlaneSettings
) -> None:
    presence_id, _ = await caller.presence()
    used, expired = await token_for(caller, presence_id), await token_for(caller, presence_id)
    await enroll(caller, used)
    await _expire_all(settings)
    fresh = await token_for(caller, presence_id)
    await enroll(caller, fresh)
    await caller.new_key(presence_id)
    wrong = [expired, used, fresh, "pe_" + "x" * 43, "x", "é" * 10]
    answers = [await enroll(caller, token, NONCE, 400) for token in wrong]
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["Key"] == "INVALID_ENROLLMENT_TOKEN"
    for body in ({}, {"Token": fresh}, {"Token": fresh, "Nonce": "short"}, {"Token": fresh, "Nonce": "é" * 20}):
        await caller.post("Presences/Enroll", body, 400)


async def _expire_all(settings: ControlPlaneSettings) -> None:
    async with open_database(settings.database) as database, database.write(EVERY_ORGANIZATION) as transaction:
        await transaction.execute(update(enrollment).values(expires_at=1))


async def test_enrolling_leaves_other_agents_alone_until_the_key_is_replaced(caller: Caller) -> None:
    presence_id, old_key = await caller.presence()
    first = (await enroll(caller, await token_for(caller, presence_id)))["Key"]
    second = (await enroll(caller, await token_for(caller, presence_id)))["Key"]
    async with (
        Agent(caller.url, old_key) as old,
        Agent(caller.url, first) as one,
        Agent(caller.url, second) as two,
    ):
        for agent in (old, one, two):
            await agent.settled()
        await caller.new_key(presence_id)
        assert {await agent.closed() for agent in (old, one, two)} == {CloseCode.KEY_REVOKED}


async def test_who_enrols_while_the_key_rotates_stays_enrolled(caller: Caller) -> None:
    presence_id, key = await caller.presence()
    token = await token_for(caller, presence_id)
    async with Agent(caller.url, key) as agent:
        rotating = asyncio.create_task(caller.call("POST", f"Presences/{presence_id}/RotateKey", 200))
        new_key = (await agent.expect(NewKey)).key
        enrolled = (await enroll(caller, token))["Key"]
    async with Agent(caller.url, new_key, instance=agent.instance):
        assert (await rotating)["Status"] == "Done"
        async with Agent(caller.url, enrolled) as other:
            await other.settled()


async def test_nothing_that_is_stored_is_the_key_or_the_token(caller: Caller, settings: ControlPlaneSettings) -> None:
    presence_id, _ = await caller.presence()
    token = await token_for(caller, presence_id)
    key = (await enroll(caller, token))["Key"]
    async with open_database(settings.database) as database, database.read(EVERY_ORGANIZATION) as transaction:
        rows = [*(await transaction.execute(select(enrollment))), *(await transaction.execute(select(presence_key)))]
    stored = str([tuple(row) for row in rows])
    assert token not in stored
    assert NONCE not in stored
    assert key.rpartition("_")[2] not in stored


async def test_tokens_and_enrolments_are_audited_without_their_secrets(caller: Caller) -> None:
    presence_id, _ = await caller.presence()
    token = await token_for(caller, presence_id)
    enrolled = await enroll(caller, token)
    await enroll(caller, token)
    entries = (await caller.get(f"Audits?$filter=EntityId eq '{presence_id}'"))["Items"]
    assert sorted((entry["Activity"], entry["UserName"]) for entry in entries) == [
        ("Create", "administrator"),
        ("Enroll", None),
        ("NewEnrollmentToken", "administrator"),
        ("NewKey", "administrator"),
    ]
    assert token not in str(entries)
    assert enrolled["Key"] not in str(entries)


@pytest.mark.parametrize("kind", ["key", "token"])
async def test_a_deleted_presence_takes_its_keys_and_tokens_with_it(caller: Caller, kind: str) -> None:
    presence_id, _ = await caller.presence()
    token = await token_for(caller, presence_id)
    if kind == "key":
        await enroll(caller, token)
    await caller.call("DELETE", f"Presences/{presence_id}", 204)
    assert (await enroll(caller, token, NONCE, 400))["Key"] == "INVALID_ENROLLMENT_TOKEN"
