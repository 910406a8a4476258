"""The journal on a real file: what was returned is on the disk, and time only passes forward."""

import asyncio
import sqlite3
import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from presence.agent.journal import LOG_LENGTH, Claimed, Journal, open_journal
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


def opened(directory: Path, clock: ManualClock, most: int = 1000) -> AbstractAsyncContextManager[Journal]:
    return open_journal(directory / "journal.db", clock, most, max_attempts=50)


async def accept(journal: Journal, count: int = 1, **fields: Any) -> list[Fire]:
    fires = [fire(URI, **fields) for _ in range(count)]
    assert await journal.accept(fires, DAY) == [True] * count
    return fires


async def claim_one(journal: Journal) -> Claimed:
    (claimed,) = (await journal.claim(1)).deliveries
    return claimed


async def test_what_was_accepted_is_held_until_its_report_is_acknowledged(journal: Journal) -> None:
    (accepted,) = await accept(journal)
    assert await journal.held() == [accepted.id]
    await journal.settle(await claim_one(journal), ENTRY, FinalState.SUCCEEDED, Reason.DELIVERED)
    assert await journal.held() == [accepted.id]
    await journal.mark_reported([accepted.id])
    assert await journal.held() == []
    assert await journal.unreported(0, 10) == []


async def test_a_repeat_is_known_and_not_attempted_again(journal: Journal) -> None:
    (accepted,) = await accept(journal)
    assert await journal.accept([accepted], DAY) == [True]
    assert len((await journal.claim(10)).deliveries) == 1


async def test_a_repeat_of_what_was_reported_is_reported_again(journal: Journal) -> None:
    (accepted,) = await accept(journal)
    await journal.settle(await claim_one(journal), ENTRY, FinalState.SUCCEEDED, Reason.DELIVERED)
    (settled,) = await journal.unreported(0, 10)
    await journal.mark_reported([accepted.id])
    journal.settled.clear()
    assert await journal.accept([accepted], DAY) == [True]
    assert journal.settled.is_set()
    assert [again.id for again in await journal.unreported(settled.order, 10)] == [accepted.id]
    assert (await journal.claim(10)).deliveries == []


async def test_claims_the_longest_due_first_and_says_when_the_next_is(journal: Journal, clock: ManualClock) -> None:
    fires = await accept(journal, 3)
    claimed = (await journal.claim(2)).deliveries
    assert [delivery.id for delivery in claimed] == [fires[0].id, fires[1].id]
    assert [delivery.attempts for delivery in claimed] == [1, 1]
    await journal.retry(claimed[0], ENTRY, 5000)
    await journal.settle(claimed[1], ENTRY, FinalState.FAILED, Reason.STATUS_FINAL)
    third, next_due = await journal.claim(5)
    assert [delivery.id for delivery in third] == [fires[2].id]
    assert next_due == 5000
    clock.pass_time(5000)
    again = await claim_one(journal)
    assert (again.id, again.attempts) == (fires[0].id, 2)


async def test_a_delivery_older_than_allowed_expires_instead_of_being_attempted(
    journal: Journal, clock: ManualClock
) -> None:
    (old,) = await accept(journal, age=900, max_age=1000)
    clock.pass_time(100)
    assert (await journal.claim(1)).deliveries == []
    (settled,) = await journal.unreported(0, 10)
    assert (settled.id, settled.state, settled.reason, settled.attempts) == (old.id, FinalState.EXPIRED, "too_old", 0)


async def test_the_smaller_of_both_limits_of_age_wins(journal: Journal, clock: ManualClock) -> None:
    await journal.accept([fire(URI, max_age=DAY)], 500)
    clock.pass_time(500)
    assert (await journal.claim(1)).deliveries == []


async def test_a_full_journal_takes_nothing_new_and_knows_what_it_has(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock, most=2) as journal:
        first, second, third = (fire(URI) for _ in range(3))
        assert await journal.accept([first, second, third, first], DAY) == [True, True, False, True]
        await journal.settle(await claim_one(journal), ENTRY, FinalState.SUCCEEDED, Reason.DELIVERED)
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
    await journal.settle(claimed, ENTRY, FinalState.SUCCEEDED, Reason.DELIVERED)
    (settled,) = await journal.unreported(0, 10)
    assert settled.state is FinalState.SUCCEEDED


async def test_cancel_prevents_the_attempt_after_the_one_under_way(journal: Journal) -> None:
    (accepted,) = await accept(journal)
    claimed = await claim_one(journal)
    await journal.cancel([accepted.id])
    await journal.retry(claimed, ENTRY, 0)
    (settled,) = await journal.unreported(0, 10)
    assert (settled.state, settled.attempts) == (FinalState.CANCELLED, 1)


async def test_cancel_of_something_unknown_or_ended_changes_nothing(journal: Journal) -> None:
    (accepted,) = await accept(journal)
    await journal.settle(await claim_one(journal), ENTRY, FinalState.FAILED, Reason.STATUS_FINAL)
    await journal.cancel([accepted.id])
    await journal.cancel([str(uuid.uuid4())])
    (settled,) = await journal.unreported(0, 10)
    assert settled.state is FinalState.FAILED


async def test_the_log_keeps_the_first_and_the_latest_attempts(journal: Journal) -> None:
    await accept(journal)
    for number in range(1, LOG_LENGTH + 5):
        await journal.retry(await claim_one(journal), {**ENTRY, "number": number}, 0)
    await journal.settle(await claim_one(journal), {**ENTRY, "number": 99}, FinalState.FAILED, Reason.STATUS_FINAL)
    (settled,) = await journal.unreported(0, 10)
    numbers = [entry["number"] for entry in settled.log]
    assert len(numbers) == LOG_LENGTH
    assert (numbers[0], numbers[-2:]) == (1, [LOG_LENGTH + 4, 99])


async def test_settled_twice_is_a_defect_and_changes_nothing(journal: Journal) -> None:
    await accept(journal)
    claimed = await claim_one(journal)
    await journal.settle(claimed, ENTRY, FinalState.SUCCEEDED, Reason.DELIVERED)
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
        await journal.retry(await claim_one(journal), ENTRY, 10_000)
    clock.elapsed_now += passed
    clock.wall_now += wall
    clock.boot = boot
    async with opened(tmp_path, clock) as journal:
        assert await journal.claim(1) == ([], left)


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
        assert len((await journal.claim(1)).deliveries) == (0 if expires else 1)
        await journal.meet(5_000_000_000 + 100 * DAY)  # only the first one counts: the server's clock may jump, too
        await accept(journal)
        assert len((await journal.claim(1)).deliveries) == 1


async def test_fired_again_after_a_cancel_it_is_wanted_again(journal: Journal, clock: ManualClock) -> None:
    (cancelled,) = await accept(journal, max_age=1000)
    await journal.cancel([cancelled.id])
    await journal.mark_reported([cancelled.id])
    clock.pass_time(5000)
    assert await journal.accept([cancelled], DAY) == [True]
    claimed = await claim_one(journal)
    assert (claimed.id, claimed.attempts) == (cancelled.id, 1)
    await journal.settle(claimed, ENTRY, FinalState.SUCCEEDED, Reason.DELIVERED)
    (settled,) = await journal.unreported(0, 10)
    assert (settled.state, len(settled.log)) == (FinalState.SUCCEEDED, 1)


async def test_fired_again_while_the_cancelled_attempt_is_under_way(journal: Journal) -> None:
    (accepted,) = await accept(journal)
    claimed = await claim_one(journal)
    await journal.cancel([accepted.id])
    await journal.accept([accepted], DAY)
    await journal.retry(claimed, ENTRY, 0)
    assert (await claim_one(journal)).id == accepted.id


async def test_a_delivery_that_kills_the_agent_is_not_attempted_for_ever(tmp_path: Path, clock: ManualClock) -> None:
    for _ in range(2):
        async with open_journal(tmp_path / "journal.db", clock, 10, max_attempts=2) as journal:
            await (accept(journal) if not await journal.held() else asyncio.sleep(0))
            await claim_one(journal)
    async with open_journal(tmp_path / "journal.db", clock, 10, max_attempts=2) as journal:
        assert (await journal.claim(1)).deliveries == []
        (settled,) = await journal.unreported(0, 10)
        assert (settled.state, settled.reason, settled.attempts) == (FinalState.FAILED, "attempts_exhausted", 2)


async def test_prune_forgets_only_what_is_reported_and_past_its_memory(journal: Journal, clock: ManualClock) -> None:
    gone, kept = await accept(journal, 2, max_age=1000)
    for claimed in (await journal.claim(2)).deliveries:
        await journal.settle(claimed, ENTRY, FinalState.SUCCEEDED, Reason.DELIVERED)
    await journal.mark_reported([gone.id])
    clock.pass_time(1500)
    assert await journal.prune(1000, 1000) == 0
    clock.pass_time(1000)
    assert await journal.prune(1000, 1000) == 1
    assert await journal.held() == [kept.id]


async def test_concurrent_calls_share_commits_and_lose_nothing(journal: Journal) -> None:
    fires = [fire(URI) for _ in range(300)]
    await asyncio.gather(*(journal.accept([each], DAY) for each in fires))
    claimed = (await journal.claim(300)).deliveries
    await asyncio.gather(*(journal.settle(each, ENTRY, FinalState.SUCCEEDED, Reason.DELIVERED) for each in claimed))
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
