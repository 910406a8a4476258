"""Into `held` and out of it: what the guards let through, on each database."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import EVERY_ORGANIZATION, Peer
from presence.controlplane.store import deliveries, holds, presences, queue, sweep, webhook_actions, webhooks
from presence.controlplane.store.chunks import CHUNK
from presence.controlplane.store.engine import Database
from presence.controlplane.store.holds import WEBHOOK_PAUSED, Waiting
from presence.controlplane.store.sweep import Owner, TakeOver
from presence.controlplane.store.tables import delivery, instance, webhook
from presence.controlplane.store.webhooks import Webhook
from tests.integration.controlplane.store.rows import HOOK, PEER, administrator_of, queued


def waiting(delivery_id: str, attempts: int = 1) -> Waiting:
    return Waiting(delivery_id, "unknown", attempts, f"[{attempts}]")


async def held(transaction: AsyncConnection, ids: list[str]) -> None:
    """They are held by the instance `i`, after one attempt."""
    await deliveries.accept(transaction, PEER, "i", ids, 1)
    await holds.hold(transaction, PEER, "i", [waiting(id_) for id_ in ids])


async def row(transaction: AsyncConnection, delivery_id: str) -> dict[str, Any]:
    names = ("state", "reason", "instance_id", "attempts", "attempt_log", "released_attempts")
    query = select(*(delivery.c[name] for name in names)).where(delivery.c.id == delivery_id)
    return dict((await transaction.execute(query)).mappings().one())


HELD = {
    "state": "held", "reason": "unknown", "instance_id": "i", "attempts": 1, "attempt_log": "[1]",
    "released_attempts": None,
}  # fmt: skip
RELEASED = {**HELD, "state": "accepted", "reason": None, "released_attempts": 1}


async def test_only_what_its_instance_has_accepted_becomes_held(database: Database) -> None:
    (id_,) = await queued(database, 1)
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await holds.hold(transaction, PEER, "i", [waiting(id_)])
        assert (await row(transaction, id_))["state"] == "queued"
        await deliveries.accept(transaction, PEER, "i", [id_], 1)
        for peer, other in ((PEER, "other"), (Peer("other", "p", "k", 0), "i"), (Peer("o", "other", "k", 0), "i")):
            await holds.hold(transaction, peer, other, [waiting(id_)])
            assert (await row(transaction, id_))["state"] == "accepted"
        await holds.hold(transaction, PEER, "i", [waiting(id_)])
        assert await row(transaction, id_) == HELD


async def test_a_decision_counts_for_the_attempts_it_was_made_about(database: Database) -> None:
    (id_,) = await queued(database, 1)
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await held(transaction, [id_])
        await holds.release(transaction, "o", id_, said=False)
        assert await row(transaction, id_) == RELEASED
        await holds.hold(transaction, PEER, "i", [waiting(id_, attempts=1)])
        assert await row(transaction, id_) == RELEASED
        await holds.hold(transaction, PEER, "i", [waiting(id_, attempts=2)])
        assert await row(transaction, id_) == {**HELD, "attempts": 2, "attempt_log": "[2]"}


async def test_stating_it_leaves_it_held(database: Database) -> None:
    (id_,) = await queued(database, 1)
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await held(transaction, [id_])
        for instance_id in ("i", "other"):
            await deliveries.accept(transaction, PEER, instance_id, [id_], 2)
            assert await row(transaction, id_) == HELD
        assert await deliveries.had_in_vain(transaction, PEER, "i", [id_]) == []
        assert await deliveries.had_in_vain(transaction, PEER, "other", [id_]) == [id_]


async def test_what_no_instance_has_becomes_accepted_by_who_states_it(database: Database) -> None:
    paused, lost = await queued(database, 2)
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await held(transaction, [lost])
        await holds.disown(transaction, PEER, "i", [lost])
        assert await row(transaction, lost) == {**HELD, "instance_id": None}
        assert await holds.hold_queued(transaction, PEER, ["w"]) == 1
        assert (await row(transaction, paused))["reason"] == WEBHOOK_PAUSED
        await deliveries.accept(transaction, PEER, "j", [paused, lost], 2)
        for id_ in (paused, lost):
            found = await row(transaction, id_)
            assert (found["state"], found["reason"], found["instance_id"]) == ("accepted", None, "j")


async def test_a_journal_that_is_lost_takes_the_decision_with_it(database: Database) -> None:
    (id_,) = await queued(database, 1)
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await held(transaction, [id_])
        await holds.release(transaction, "o", id_, said=False)
        assert await deliveries.had_by(transaction, PEER, "i") == {id_}
        await deliveries.requeue_accepted(transaction, PEER, "i", [id_])
        found = await row(transaction, id_)
        assert (found["state"], found["instance_id"], found["released_attempts"]) == ("queued", None, None)


async def known(transaction: AsyncConnection) -> None:
    """The presence `p` and its instance `i`."""
    await presences.add(transaction, "o", "p", "office", 0)
    facts = {
        "organization_id": "o",
        "epoch": 1,
        "run": "r",
        "host": "",
        "connected_at": 0,
        "agent_version": "",
        "platform": "",
    }
    await transaction.execute(insert(instance).values(presence_id="p", instance_id="i", **facts))


async def test_what_is_taken_over_is_queued_or_held_as_its_webhook_says(database: Database) -> None:
    (on_its_way,), (fire,) = await queued(database, 1), await queued(database, 1)
    (hold,) = await queued(database, 1, on_unknown="hold")
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await known(transaction)
        assert await sweep.owners(transaction, ["p"]) == []
        await queue.dispatch(transaction, PEER, "i", [on_its_way], 1)
        await deliveries.accept(transaction, PEER, "i", [fire, hold], 1)
        assert await sweep.owners(transaction, ["p", "other"]) == [Owner("o", "p", "i")]
        assert await sweep.owners(transaction, ["other"]) == []
        assert await sweep.take_over(transaction, Owner("o", "p", "other")) == TakeOver(0, 0)
        assert await sweep.take_over(transaction, Owner("o", "other", "i")) == TakeOver(0, 0)
        assert await sweep.take_over(transaction, Owner("o", "p", "i")) == TakeOver(queued=2, held=1)
        free = {"instance_id": None, "attempts": 0, "attempt_log": "[]", "released_attempts": None}
        assert await row(transaction, on_its_way) == {**free, "state": "queued", "reason": None}
        assert await row(transaction, fire) == {**free, "state": "queued", "reason": None}
        assert await row(transaction, hold) == {**free, "state": "held", "reason": "unknown"}
        assert await takeovers(transaction, [on_its_way, fire, hold]) == [0, 1, 1]


async def takeovers(transaction: AsyncConnection, ids: list[str]) -> list[int]:
    query = select(delivery.c.takeovers)
    return [(await transaction.execute(query.where(delivery.c.id == id_))).scalar_one() for id_ in ids]


async def test_what_was_decided_and_not_heard_needs_no_second_decision(database: Database) -> None:
    undecided, unheard, heard, asked_again = await queued(database, 4, on_unknown="hold")
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await known(transaction)
        await held(transaction, [undecided])
        assert await sweep.owners(transaction, ["p"]) == []
        await held(transaction, [unheard, heard, asked_again])
        await holds.release(transaction, "o", unheard, said=False)
        await holds.release(transaction, "o", heard, said=True)
        await holds.release(transaction, "o", asked_again, said=False)
        await holds.say_release(transaction, PEER, [asked_again])
        assert await sweep.owners(transaction, ["p"]) == [Owner("o", "p", "i")]
        assert await sweep.take_over(transaction, Owner("o", "p", "i")) == TakeOver(queued=1, held=2)
        assert await row(transaction, undecided) == HELD
        found = await row(transaction, unheard)
        assert (found["state"], found["instance_id"], found["released_attempts"]) == ("queued", None, None)
        for id_ in (heard, asked_again):
            assert await row(transaction, id_) == {**HELD, "instance_id": None}


async def test_only_what_waits_for_a_decision_can_be_decided(database: Database) -> None:
    asked, plain, paused = await queued(database, 3)
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await held(transaction, [asked])
        await deliveries.accept(transaction, PEER, "i", [plain], 1)
        await holds.hold_queued(transaction, PEER, ["w"])
        before = [await row(transaction, id_) for id_ in (asked, plain, paused)]
        for organization, ids in (("other", (asked, plain, paused)), ("o", (plain, paused))):
            for id_ in ids:
                await holds.release(transaction, organization, id_, said=False)
                await holds.abandon(transaction, organization, id_, 7)
        assert [await row(transaction, id_) for id_ in (asked, plain, paused)] == before
        await holds.abandon(transaction, "o", asked, 7)
        assert await row(transaction, asked) == {**HELD, "state": "cancelled", "reason": "abandoned"}


async def test_what_nobody_has_is_queued_when_it_is_released(database: Database) -> None:
    (id_,) = await queued(database, 1)
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await held(transaction, [id_])
        await holds.disown(transaction, PEER, "other", [id_])
        assert await row(transaction, id_) == HELD
        await holds.disown(transaction, PEER, "i", [id_])
        await holds.release(transaction, "o", id_, said=False)
        assert await row(transaction, id_) == {**HELD, "state": "queued", "reason": None, "instance_id": None}


async def test_many_are_held_and_lost_in_one_transaction(database: Database) -> None:
    ids = await queued(database, 20)
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await held(transaction, ids)
        await holds.disown(transaction, PEER, "i", [*ids, *(str(uuid4()) for _ in range(2 * CHUNK))])
        for id_ in ids:
            assert await row(transaction, id_) == {**HELD, "instance_id": None}


async def test_queued_and_held_expire_and_nothing_else(database: Database) -> None:
    fresh, asked, accepted = await queued(database, 3)
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await held(transaction, [asked])
        await deliveries.accept(transaction, PEER, "i", [accepted], 1)
        assert not await sweep.has_expired(transaction, 99)
        assert await sweep.has_expired(transaction, 100)
        assert await sweep.expire(transaction, 100) == 2
        states = [(await row(transaction, id_))["state"] for id_ in (fresh, asked, accepted)]
    assert states == ["expired", "expired", "accepted"]


async def test_only_deliveries_of_the_webhook_are_queued_again(database: Database) -> None:
    paused, asked, other = await queued(database, 3)
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await held(transaction, [asked])
        await transaction.execute(update(delivery).where(delivery.c.id == other).values(webhook_id="other"))
        assert await holds.hold_queued(transaction, PEER, ["w", "other"]) == 2
        assert await holds.requeue_paused(transaction, "stranger", "w") == []
        assert await holds.requeue_paused(transaction, "o", "w") == ["p"]
        assert (await row(transaction, paused))["state"] == "queued"
        assert (await row(transaction, paused))["reason"] is None
        assert (await row(transaction, other))["reason"] == WEBHOOK_PAUSED
        assert await row(transaction, asked) == HELD


async def hook(transaction: AsyncConnection, organization_id: str) -> Webhook | None:
    shown = await webhooks.find(transaction, administrator_of(organization_id), "w")
    return shown and shown.webhook


async def test_a_webhook_is_paused_once_and_says_why(database: Database) -> None:
    async with database.write(EVERY_ORGANIZATION) as transaction:
        await presences.add(transaction, "o", "p", "office", 0)
        await webhooks.add(transaction, "o", HOOK)
        assert await webhooks.pause(transaction, "other", ["w"], "gone", 7) == []
        assert await webhooks.pause(transaction, "o", ["w"], "gone", 7) == ["w"]
        assert await webhooks.pause(transaction, "o", ["w"], "gone", 8) == []
        assert await hook(transaction, "o") == replace(HOOK, paused_at=7, paused_reason="gone")
        assert await hook(transaction, "other") is None
        await webhook_actions.mark(transaction, "other", "w", None, None)
        assert await hook(transaction, "o") != HOOK
        await webhook_actions.mark(transaction, "o", "w", None, None)
        assert await hook(transaction, "o") == HOOK
    with pytest.raises(DBAPIError, match=r"(?i)check"):
        async with database.write(EVERY_ORGANIZATION) as transaction:
            await transaction.execute(update(webhook).values(paused_at=7))


@pytest.mark.parametrize("column", ["method", "on_unknown"])
async def test_a_method_or_choice_that_does_not_exist_is_refused_by_the_schema(database: Database, column: str) -> None:
    await queued(database, 1)
    with pytest.raises(DBAPIError, match=r"(?i)check"):
        async with database.write(EVERY_ORGANIZATION) as transaction:
            await transaction.execute(update(delivery).values({column: "other"}))
