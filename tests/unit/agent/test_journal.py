"""The journal on a real file: what was returned is on the disk, and time only passes forward."""

import asyncio
import sqlite3
import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from presence.agent.backlog import Backlog, HostLimits
from presence.agent.entries import Claimed
from presence.agent.journal import Journal, open_journal
from presence.domain.delivery import FinalState
from presence.domain.outcome import Reason
from presence.errors import JournalError
from presence.protocol.messages import Fire
from tests.support.clock import ManualClock
from tests.support.control_plane import DAY, fire

URI = "http://10.0.0.1/{SubjectId}"
ENTRY = {"number": 1, "at": 0, "took": 3, "status": 204}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def journal(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Journal]:
    async with opened(tmp_path, clock) as journal:
        yield journal


def opened(
    directory: Path, clock: ManualClock, most: int = 1000, attempts: int = 50
) -> AbstractAsyncContextManager[Journal]:
    backlog = Backlog(1000, lambda _: HostLimits(1000, None))
    return open_journal(directory / "journal.db", clock, most, attempts, backlog)


async def accept(journal: Journal, count: int = 1, **fields: Any) -> list[Fire]:
    fires = [fire(URI, **fields) for _ in range(count)]
    assert await journal.accept(fires, DAY) == [True] * count
    return fires


async def claim(journal: Journal) -> list[Claimed]:
    """What may be attempted now, as the worker takes it."""
    taken = journal.backlog.take(journal.now())
    claimed = await journal.claim(taken)
    for gone in set(taken) - {each.id for each in claimed}:
        journal.backlog.finished(gone, journal.now(), None)
    return claimed


async def claim_one(journal: Journal) -> Claimed:
    (claimed,) = await claim(journal)
    return claimed


async def settle(journal: Journal, claimed: Claimed, state: FinalState = FinalState.SUCCEEDED) -> None:
    reason = Reason.DELIVERED if state is FinalState.SUCCEEDED else Reason.STATUS_FINAL
    await journal.settle(claimed, ENTRY, state, reason)
    journal.backlog.finished(claimed.id, journal.now(), True)


async def retry(journal: Journal, claimed: Claimed, delay: int, **entry: Any) -> None:
    await journal.retry(claimed, {**ENTRY, **entry}, delay)
    journal.backlog.finished(claimed.id, journal.now(), True)


async def hold(journal: Journal, claimed: Claimed) -> None:
    await journal.hold(claimed, ENTRY, Reason.UNKNOWN)
    journal.backlog.finished(claimed.id, journal.now(), False)


async def settled_ids(journal: Journal) -> list[str]:
    return [settled.id for settled in await journal.unreported(0, 1000)]


async def test_what_was_accepted_is_held_until_its_report_is_acknowledged(journal: Journal) -> None:
    (accepted,) = await accept(journal)
    assert await journal.held() == [accepted.id]
    await settle(journal, await claim_one(journal))
    assert await journal.held() == [accepted.id]
    await journal.mark_reported([accepted.id])
    assert await journal.held() == []
    assert await journal.unreported(0, 10) == []


async def test_a_repeat_is_known_and_not_attempted_again(journal: Journal) -> None:
    (accepted,) = await accept(journal)
    assert await journal.accept([accepted], DAY) == [True]
    assert len(await claim(journal)) == 1


async def test_a_repeat_of_what_was_reported_is_reported_again(journal: Journal) -> None:
    (accepted,) = await accept(journal)
    await settle(journal, await claim_one(journal))
    (settled,) = await journal.unreported(0, 10)
    await journal.mark_reported([accepted.id])
    journal.settled.clear()
    assert await journal.accept([accepted], DAY) == [True]
    assert journal.settled.is_set()
    assert [again.id for again in await journal.unreported(settled.order, 10)] == [accepted.id]
    assert await claim(journal) == []


async def test_the_backlog_says_what_is_due_and_when_the_next_is(journal: Journal, clock: ManualClock) -> None:
    first, second, third = await accept(journal, 3)
    claimed = await claim(journal)
    assert [(each.id, each.attempts) for each in claimed] == [(first.id, 1), (second.id, 1), (third.id, 1)]
    await retry(journal, claimed[0], 5000)
    await retry(journal, claimed[1], 9000)
    await settle(journal, claimed[2], FinalState.FAILED)
    assert await claim(journal) == []
    assert journal.backlog.next_due(journal.now()) == 5000
    clock.pass_time(5000)
    again = await claim_one(journal)
    assert (again.id, again.attempts) == (first.id, 2)
    assert journal.backlog.next_due(journal.now()) == 4000


async def test_a_delivery_older_than_allowed_expires_instead_of_being_attempted(
    journal: Journal, clock: ManualClock
) -> None:
    (old,) = await accept(journal, age=900, max_age=1000)
    clock.pass_time(100)
    assert await claim(journal) == []
    (settled,) = await journal.unreported(0, 10)
    assert (settled.id, settled.state, settled.reason, settled.attempts) == (old.id, FinalState.EXPIRED, "too_old", 0)


async def test_the_smaller_of_both_limits_of_age_wins(journal: Journal, clock: ManualClock) -> None:
    await journal.accept([fire(URI, max_age=DAY)], 500)
    clock.pass_time(500)
    assert await claim(journal) == []


async def test_a_full_journal_takes_nothing_new_and_knows_what_it_has(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock, most=2) as journal:
        first, second, third = (fire(URI) for _ in range(3))
        assert await journal.accept([first, second, third, first], DAY) == [True, True, False, True]
        await settle(journal, (await claim(journal))[0])
        assert await journal.accept([third], DAY) == [True]


async def test_cancel_ends_what_waits(journal: Journal) -> None:
    (waiting,) = await accept(journal)
    await journal.cancel([waiting.id])
    (settled,) = await journal.unreported(0, 10)
    assert settled.state is FinalState.CANCELLED


async def test_cancel_lets_the_attempt_under_way_finish(journal: Journal) -> None:
    (accepted,) = await accept(journal)
    claimed = await claim_one(journal)
    await journal.cancel([accepted.id])
    await settle(journal, claimed)
    (settled,) = await journal.unreported(0, 10)
    assert settled.state is FinalState.SUCCEEDED


async def test_cancel_prevents_the_attempt_after_the_one_under_way(journal: Journal) -> None:
    (accepted,) = await accept(journal)
    claimed = await claim_one(journal)
    await journal.cancel([accepted.id])
    await retry(journal, claimed, 0)
    (settled,) = await journal.unreported(0, 10)
    assert (settled.state, settled.attempts) == (FinalState.CANCELLED, 1)


async def test_cancel_of_something_unknown_or_ended_changes_nothing(journal: Journal) -> None:
    (accepted,) = await accept(journal)
    await settle(journal, await claim_one(journal), FinalState.FAILED)
    await journal.cancel([accepted.id])
    await journal.cancel([str(uuid.uuid4())])
    (settled,) = await journal.unreported(0, 10)
    assert settled.state is FinalState.FAILED


async def test_settled_twice_is_a_defect_and_changes_nothing(journal: Journal) -> None:
    await accept(journal)
    claimed = await claim_one(journal)
    await settle(journal, claimed)
    with pytest.raises(AssertionError, match="not being delivered"):
        await journal.settle(claimed, ENTRY, FinalState.FAILED, Reason.STATUS_FINAL)
    (settled,) = await journal.unreported(0, 10)
    assert settled.state is FinalState.SUCCEEDED


async def test_an_interrupted_attempt_is_pending_again_and_in_the_log(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock) as journal:
        await accept(journal)
        await claim_one(journal)
    async with opened(tmp_path, clock) as journal:
        claimed = await claim_one(journal)
        assert claimed.attempts == 2
        await journal.settle(claimed, {**ENTRY, "number": 2}, FinalState.SUCCEEDED, Reason.DELIVERED)
        (settled,) = await journal.unreported(0, 10)
        assert [(entry["number"], entry.get("fault")) for entry in settled.log] == [(1, "interrupted"), (2, None)]


async def test_instance_and_epoch_survive(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock) as journal:
        instance, first = journal.instance, await journal.next_epoch()
    async with opened(tmp_path, clock) as journal:
        assert journal.instance == instance
        assert await journal.next_epoch() > first


@pytest.mark.parametrize(
    ("passed", "wall", "boot", "left"),
    [
        (3000, 3000, "boot-1", 7000),
        (3000, -10 * 365 * DAY, "boot-1", 7000),
        (3000, 10 * 365 * DAY, "boot-1", 7000),
        (-999_000, 4000, "boot-2", 10_000),
        (-999_000, 10 * 365 * DAY, "boot-2", 10_000),
    ],
    ids=["restart", "wall set back", "wall set forth", "reboot", "reboot with a wrong wall"],
)
async def test_a_retry_survives_a_restart_and_is_due_in_time(
    tmp_path: Path, clock: ManualClock, passed: int, wall: int, boot: str, left: int
) -> None:
    async with opened(tmp_path, clock) as journal:
        await accept(journal)
        await retry(journal, await claim_one(journal), 10_000)
    clock.elapsed_now += passed
    clock.wall_now += wall
    clock.boot = boot
    async with opened(tmp_path, clock) as journal:
        assert await claim(journal) == []
        assert journal.backlog.next_due(journal.now()) == left
        clock.pass_time(left)
        assert (await claim_one(journal)).attempts == 2


@pytest.mark.parametrize(("away", "expires"), [(1000, False), (DAY, True), (-DAY, False)])
async def test_after_a_reboot_the_server_tells_how_long_it_took(
    tmp_path: Path, clock: ManualClock, away: int, expires: bool
) -> None:
    async with opened(tmp_path, clock) as journal:
        await journal.meet(5_000_000_000)
        await accept(journal)
    clock.elapsed_now, clock.boot, clock.wall_now = 10, "boot-2", 0
    async with opened(tmp_path, clock) as journal:
        await journal.meet(5_000_000_000 + away)
        assert len(await claim(journal)) == (0 if expires else 1)
        await journal.meet(5_000_000_000 + 100 * DAY)  # only the first one counts: the server's clock may jump, too
        await accept(journal)
        assert len(await claim(journal)) == 1


async def test_fired_again_after_a_cancel_it_is_wanted_again(journal: Journal, clock: ManualClock) -> None:
    (cancelled,) = await accept(journal, max_age=1000)
    await journal.cancel([cancelled.id])
    await journal.mark_reported([cancelled.id])
    clock.pass_time(5000)
    assert await journal.accept([cancelled], DAY) == [True]
    claimed = await claim_one(journal)
    assert (claimed.id, claimed.attempts) == (cancelled.id, 1)
    await settle(journal, claimed)
    (settled,) = await journal.unreported(0, 10)
    assert (settled.state, len(settled.log)) == (FinalState.SUCCEEDED, 1)


async def test_fired_again_while_the_cancelled_attempt_is_under_way(journal: Journal) -> None:
    (accepted,) = await accept(journal)
    claimed = await claim_one(journal)
    await journal.cancel([accepted.id])
    await journal.accept([accepted], DAY)
    await retry(journal, claimed, 0)
    assert (await claim_one(journal)).id == accepted.id


async def test_cancelled_while_it_waits_for_a_retry_and_fired_again_it_begins_at_once(journal: Journal) -> None:
    (accepted,) = await accept(journal)
    await retry(journal, await claim_one(journal), 900_000)
    await journal.cancel([accepted.id])
    assert len(journal.backlog) == 0
    await journal.accept([accepted], DAY)
    assert (await claim_one(journal)).attempts == 1


async def test_cancelled_during_an_attempt_that_fails_and_fired_again_it_begins_at_once(journal: Journal) -> None:
    (accepted,) = await accept(journal)
    claimed = await claim_one(journal)
    await journal.cancel([accepted.id])
    await retry(journal, claimed, 900_000)
    assert len(journal.backlog) == 0
    await journal.accept([accepted], DAY)
    assert (await claim_one(journal)).attempts == 1


@pytest.mark.parametrize("end", ["retry", "hold"])
async def test_fired_again_in_the_commit_that_ends_the_cancelled_attempt_it_begins_at_once(
    journal: Journal, end: str
) -> None:
    """Calls of one kind are made together, so that the fire comes after the end although it was submitted before."""
    other, accepted = await accept(journal, 2)
    claimed = {each.id: each for each in await claim(journal)}
    await journal.cancel([accepted.id])

    async def finish(delivery: str) -> None:
        await (retry(journal, claimed[delivery], 900_000) if end == "retry" else hold(journal, claimed[delivery]))

    await asyncio.gather(finish(other.id), journal.accept([accepted], DAY), finish(accepted.id))
    again = await claim_one(journal)
    assert (again.id, again.attempts) == (accepted.id, 1)


async def test_fired_again_what_waits_for_a_retry_does_not_wait_less(journal: Journal, clock: ManualClock) -> None:
    (accepted,) = await accept(journal)
    await retry(journal, await claim_one(journal), 900_000)
    clock.pass_time(1000)
    await journal.accept([accepted], DAY)
    assert await claim(journal) == []
    assert journal.backlog.next_due(journal.now()) == 899_000


async def test_fired_again_what_is_under_way_is_not_attempted_twice_at_once(journal: Journal) -> None:
    (accepted,) = await accept(journal)
    claimed = await claim_one(journal)
    await journal.accept([accepted], DAY)
    assert await claim(journal) == []
    await retry(journal, claimed, 5000)
    assert journal.backlog.next_due(journal.now()) == 5000


async def test_held_it_waits_for_a_person_and_no_longer_than_its_age_allows(
    journal: Journal, clock: ManualClock
) -> None:
    first, second = await accept(journal, 2, on_unknown="hold", max_age=5000)
    for claimed in await claim(journal):
        await hold(journal, claimed)
    assert journal.settled.is_set()
    assert {waiting.id for waiting in await journal.waiting(0, 10)} == {first.id, second.id}
    assert await journal.held() == [first.id, second.id]
    assert (await claim(journal), await settled_ids(journal)) == ([], [])
    clock.pass_time(4000)
    assert await journal.release(first.id, 1)
    assert (await claim_one(journal)).attempts == 2
    journal.settled.clear()
    clock.pass_time(1000)
    assert await journal.expire() == 1
    assert journal.settled.is_set()
    (settled,) = await journal.unreported(0, 10)
    assert (settled.id, settled.state, settled.attempts) == (second.id, FinalState.EXPIRED, 1)
    assert await journal.waiting(0, 10) == []


@pytest.mark.parametrize("attempts", [0, 2])
async def test_a_release_that_answers_another_question_is_none(journal: Journal, attempts: int) -> None:
    (accepted,) = await accept(journal)
    await hold(journal, await claim_one(journal))
    assert not await journal.release(accepted.id, attempts)
    assert not await journal.release(str(uuid.uuid4()), 1)
    assert await claim(journal) == []
    assert await journal.release(accepted.id, 1)
    assert not await journal.release(accepted.id, 1)
    assert len(await claim(journal)) == 1


async def test_a_cancel_ends_what_is_held(journal: Journal) -> None:
    (accepted,) = await accept(journal)
    await hold(journal, await claim_one(journal))
    await journal.cancel([accepted.id])
    (settled,) = await journal.unreported(0, 10)
    assert (settled.state, settled.attempts) == (FinalState.CANCELLED, 1)
    assert not await journal.release(accepted.id, 1)


async def test_what_is_held_can_be_fired_again_and_stays_held(journal: Journal) -> None:
    (accepted,) = await accept(journal)
    await hold(journal, await claim_one(journal))
    assert await journal.accept([accepted], DAY) == [True]
    assert await claim(journal) == []
    assert [waiting.id for waiting in await journal.waiting(0, 10)] == [accepted.id]


async def test_opened_again_it_knows_what_is_due_when(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock) as journal:
        ids = [each.id for each in await accept(journal, 5)]
        first, second, third, fourth, _ = await claim(journal)
        await retry(journal, first, 5000)
        await hold(journal, second)
        await settle(journal, third)
        await retry(journal, fourth, 2000)
    async with opened(tmp_path, clock) as journal:
        assert len(journal.backlog) == 3
        assert [claimed.id for claimed in await claim(journal)] == [ids[4]]  # it was interrupted
        assert journal.backlog.next_due(journal.now()) == 2000
        clock.pass_time(2000)
        assert [claimed.id for claimed in await claim(journal)] == [ids[3]]
        clock.pass_time(3000)
        assert [claimed.id for claimed in await claim(journal)] == [ids[0]]
        assert await journal.release(ids[1], 1)
        assert [claimed.id for claimed in await claim(journal)] == [ids[1]]


async def test_what_was_returned_is_in_the_files_of_that_moment(
    journal: Journal, tmp_path: Path, clock: ManualClock
) -> None:
    """As after SIGKILL: the files as they are, without anything that closing them would do."""
    accepted = await accept(journal, 3, on_unknown="hold", authorization="Bearer secret")
    ids = [each.id for each in accepted]
    first, second, third = await claim(journal)
    await hold(journal, first)
    await settle(journal, second)
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in [tmp_path / "journal.db", tmp_path / "journal.db-wal"]:
        (copy / file.name).write_bytes(file.read_bytes())
    async with opened(copy, clock) as restarted:
        waiting = await restarted.waiting(0, 10)
        assert [each.id for each in waiting] == [first.id, third.id]
        assert [each.log[-1].get("fault") for each in waiting] == [None, "interrupted"]
        assert await settled_ids(restarted) == [second.id]
        assert await restarted.held() == ids
        assert await claim(restarted) == []
        assert await restarted.release(third.id, 1)
        assert (await claim_one(restarted)).authorization == "Bearer secret"


async def test_claims_only_what_is_pending_whoever_asks(journal: Journal) -> None:
    one, two = await accept(journal, 2)
    assert [each.id for each in await journal.claim([two.id, "unknown"])] == [two.id]
    assert await journal.claim([two.id]) == []
    assert await journal.claim([]) == []
    assert [each.id for each in await claim(journal)] == [one.id]


async def test_a_delivery_that_kills_the_agent_is_not_attempted_for_ever(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock, attempts=2) as journal:
        await accept(journal)
        await claim_one(journal)
    async with opened(tmp_path, clock, attempts=2) as journal:
        assert (await claim_one(journal)).attempts == 2
    async with opened(tmp_path, clock, attempts=2) as journal:
        assert await claim(journal) == []
        (settled,) = await journal.unreported(0, 10)
        assert (settled.state, settled.reason, settled.attempts) == (FinalState.FAILED, "attempts_exhausted", 2)


async def test_prune_forgets_only_what_is_reported_and_past_its_memory(journal: Journal, clock: ManualClock) -> None:
    gone, kept = await accept(journal, 2, max_age=1000)
    for claimed in await claim(journal):
        await settle(journal, claimed)
    await journal.mark_reported([gone.id])
    clock.pass_time(1500)
    assert await journal.prune(1000, 1000) == 0
    clock.pass_time(1000)
    assert await journal.prune(1000, 1000) == 1
    assert await journal.held() == [kept.id]


async def test_concurrent_calls_share_commits_and_lose_nothing(journal: Journal) -> None:
    fires = [fire(URI) for _ in range(300)]
    await asyncio.gather(*(journal.accept([each], DAY) for each in fires))
    claimed = await claim(journal)
    assert len(claimed) == 300
    await asyncio.gather(*(settle(journal, each) for each in claimed))
    settled = await journal.unreported(0, 500)
    assert {each.id for each in settled} == {each.id for each in fires}
    assert [each.order for each in settled] == sorted({each.order for each in settled})


async def test_a_disk_that_takes_nothing_is_a_journal_error_and_passes(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock) as journal:
        database = journal._commits._connection
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        database.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(JournalError, match="full"):
            await journal.accept([fire(URI) for _ in range(500)], DAY)
        database.execute("PRAGMA max_page_count = 1000000")
        assert len(await accept(journal, 1000)) == 1000


async def test_a_second_opening_says_who_is_there(tmp_path: Path, clock: ManualClock, journal: Journal) -> None:
    with pytest.raises(JournalError, match="another presence agent is using this journal"):
        async with opened(tmp_path, clock):
            pass


async def test_a_newer_journal_is_refused(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock):
        pass
    with sqlite3.connect(tmp_path / "journal.db") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(JournalError, match="newer version"):
        async with opened(tmp_path, clock):
            pass


async def test_a_file_that_is_no_journal_is_refused(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "journal.db").write_bytes(b"no database at all, but long enough to be looked at" * 100)
    with pytest.raises(JournalError, match="cannot be opened"):
        async with opened(tmp_path, clock):
            pass


def test_the_journal_is_readable_by_its_owner_only(tmp_path: Path, clock: ManualClock) -> None:
    async def run() -> int:
        async with opened(tmp_path / "state", clock):
            return (tmp_path / "state" / "journal.db").stat().st_mode & 0o777

    assert asyncio.run(run()) == 0o600
