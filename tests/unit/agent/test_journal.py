"""The journal on a real file: what was returned is on the disk, and nothing is done twice."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from presence.agent.journal import Journal
from presence.agent.ledger import LOG_LENGTH
from presence.domain.delivery import FinalState
from presence.domain.outcome import Reason
from presence.errors import JournalError
from tests.support.clock import ManualClock
from tests.support.control_plane import DAY, fire
from tests.support.journal import URI, accept, claim, claim_one, deliver, entry, hold, opened, retry, settle


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def journal(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Journal]:
    async with opened(tmp_path, clock) as journal:
        yield journal


async def test_what_was_accepted_is_held_until_its_report_is_acknowledged(journal: Journal) -> None:
    (accepted,) = await accept(journal)
    assert await journal.held() == ([accepted.id], {accepted.id})
    await settle(journal, await claim_one(journal))
    assert await journal.held() == ([accepted.id], set())
    await journal.mark_reported([accepted.id])
    assert await journal.held() == ([], set())
    assert await journal.unreported(0, 10) == []


async def test_what_had_no_attempt_is_told_from_what_had_one(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock) as journal:
        waits, retried, held, under_way = [fire.id for fire in await accept(journal, 4)]
        await journal.cancel([waits])
        await accept(journal, 1, id=waits)
        claimed = {each.id: each for each in await claim(journal)}
        await retry(journal, claimed[retried], 10_000)
        await hold(journal, claimed[held])
        await journal.cancel([waits])
        (pending,) = [fire.id for fire in await accept(journal)]
        assert await journal.held() == ([waits, retried, held, under_way, pending], {waits, under_way, pending})
    async with opened(tmp_path, clock) as journal:
        # What was under way was interrupted: that was its first attempt.
        assert await journal.held() == ([waits, retried, held, under_way, pending], {pending})


async def test_says_once_whose_first_attempt_was_made(journal: Journal) -> None:
    first, second = [fire.id for fire in await accept(journal, 2)]
    for claimed in await claim(journal):
        await retry(journal, claimed)
    assert sorted(journal.attempted) == sorted([first, second])
    await journal.held()
    assert journal.attempted == []
    for claimed in await claim(journal):
        await retry(journal, claimed)
    assert journal.attempted == []


async def test_a_repeat_is_known_and_not_attempted_again(journal: Journal) -> None:
    (accepted,) = await accept(journal)
    assert await journal.accept([accepted, accepted], DAY) == [None, None]
    assert len(await claim(journal)) == 1
    assert await claim(journal) == []


async def test_twice_in_one_batch_is_one_delivery(journal: Journal) -> None:
    wanted = fire(URI)
    assert await journal.accept([wanted, wanted], DAY) == [None, None]
    assert await journal.held() == ([wanted.id], {wanted.id})


async def test_a_repeat_of_what_was_reported_is_reported_again(journal: Journal) -> None:
    (accepted,) = await accept(journal)
    await settle(journal, await claim_one(journal))
    (settled,) = await journal.unreported(0, 10)
    await journal.mark_reported([accepted.id])
    journal.settled.clear()
    await accept(journal, id=accepted.id)
    assert journal.settled.is_set()
    assert [again.id for again in await journal.unreported(settled.order, 10)] == [accepted.id]
    assert await claim(journal) == []


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


async def test_what_waits_and_becomes_too_old_expires_and_leaves_the_backlog(
    journal: Journal, clock: ManualClock
) -> None:
    held, waits = [fire.id for fire in await accept(journal, 2, max_age=1000)]
    for claimed in await claim(journal):
        await (hold if claimed.id == held else retry)(journal, claimed)
    clock.pass_time(1000)
    journal.settled.clear()
    await journal.tidy(DAY)
    assert journal.settled.is_set()
    assert waits not in journal.backlog
    assert {ended.id: ended.state for ended in await journal.unreported(0, 10)} == {
        held: FinalState.EXPIRED,
        waits: FinalState.EXPIRED,
    }


async def test_cancel_ends_what_waits(journal: Journal) -> None:
    (waiting,) = await accept(journal)
    await journal.cancel([waiting.id])
    assert waiting.id not in journal.backlog
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
    await retry(journal, claimed)
    assert accepted.id not in journal.backlog
    assert journal.attempted == []
    (settled,) = await journal.unreported(0, 10)
    assert (settled.state, settled.attempts) == (FinalState.CANCELLED, 1)


async def test_cancel_of_something_unknown_or_ended_changes_nothing(journal: Journal) -> None:
    (accepted,) = await accept(journal)
    await settle(journal, await claim_one(journal), FinalState.FAILED)
    await journal.cancel([accepted.id])
    await journal.cancel([str(uuid.uuid4())])
    (settled,) = await journal.unreported(0, 10)
    assert settled.state is FinalState.FAILED


async def test_a_decision_releases_only_the_attempt_that_it_is_about(journal: Journal) -> None:
    (accepted,) = await accept(journal)
    await hold(journal, await claim_one(journal))
    (waiting,) = await journal.waiting(0, 10)
    assert (waiting.id, waiting.reason, waiting.attempts) == (accepted.id, "unknown", 1)
    assert not await journal.release(accepted.id, 2)
    assert await journal.release(accepted.id, 1)
    assert not await journal.release(accepted.id, 1)
    assert (await claim_one(journal)).attempts == 2


async def test_a_person_on_this_host_releases_whatever_number_of_attempts_it_had(journal: Journal) -> None:
    (delivery,) = await accept(journal)
    for attempts in (1, 2):
        claimed = await claim_one(journal)
        assert claimed.attempts == attempts
        await hold(journal, claimed)
        assert await journal.release(delivery.id, None)
        assert not await journal.release(delivery.id, None)
    assert (await claim_one(journal)).attempts == 3
    assert not await journal.release("unknown", None)


async def test_a_pause_survives_and_lasts_as_long_by_the_journals_own_time(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock) as journal:
        assert not journal.is_paused
        until = journal.now() + 60_000
        await journal.pause_until(until)
        assert journal.is_paused
    clock.pass_time(10_000)
    async with opened(tmp_path, clock) as journal:
        assert journal.is_paused
        assert journal.paused_until is not None
        assert journal.paused_until - journal.now() == 50_000
        await journal.pause_until(None)
        assert not journal.is_paused
    async with opened(tmp_path, clock) as journal:
        assert not journal.is_paused


async def test_the_log_keeps_the_first_and_the_latest_attempts(journal: Journal) -> None:
    await accept(journal)
    for _ in range(LOG_LENGTH + 4):
        await retry(journal, await claim_one(journal))
    await settle(journal, await claim_one(journal), FinalState.FAILED)
    (settled,) = await journal.unreported(0, 10)
    numbers = [attempt["number"] for attempt in settled.log]
    assert len(numbers) == LOG_LENGTH
    assert (numbers[0], numbers[-2:]) == (1, [LOG_LENGTH + 4, LOG_LENGTH + 5])


async def test_settled_twice_is_a_defect_and_changes_nothing(journal: Journal) -> None:
    await accept(journal)
    claimed = await claim_one(journal)
    await settle(journal, claimed)
    with pytest.raises(AssertionError, match="not being delivered"):
        await journal.settle(claimed, entry(claimed), FinalState.FAILED, Reason.STATUS_FINAL)
    (settled,) = await journal.unreported(0, 10)
    assert settled.state is FinalState.SUCCEEDED


async def test_an_interrupted_attempt_is_pending_again_and_in_the_log(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock) as journal:
        await accept(journal)
        await claim_one(journal)
    async with opened(tmp_path, clock) as journal:
        claimed = await claim_one(journal)
        assert claimed.attempts == 2
        await settle(journal, claimed)
        (settled,) = await journal.unreported(0, 10)
        assert [(each["number"], each.get("fault")) for each in settled.log] == [(1, "interrupted"), (2, None)]


async def test_an_interrupted_attempt_waits_for_a_person_where_the_webhook_says_so(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with opened(tmp_path, clock) as journal:
        (accepted,) = await accept(journal, on_unknown="hold")
        await claim_one(journal)
    async with opened(tmp_path, clock) as journal:
        assert await claim(journal) == []
        assert [waiting.id for waiting in await journal.waiting(0, 10)] == [accepted.id]


async def test_a_delivery_that_kills_the_agent_is_not_attempted_for_ever(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock, max_attempts=2) as journal:
        await accept(journal)
        await claim_one(journal)
    async with opened(tmp_path, clock, max_attempts=2) as journal:
        await claim_one(journal)
    async with opened(tmp_path, clock, max_attempts=2) as journal:
        assert await claim(journal) == []
        (settled,) = await journal.unreported(0, 10)
        assert (settled.state, settled.reason, settled.attempts) == (FinalState.FAILED, "attempts_exhausted", 2)
        assert journal.holds("10.0.0.1:80") == 0


async def test_instance_and_epoch_survive(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock) as journal:
        instance = journal.instance
        epochs = [await journal.next_epoch() for _ in range(2500)]
        assert epochs == sorted(set(epochs))
    async with opened(tmp_path, clock) as journal:
        assert journal.instance == instance
        assert await journal.next_epoch() > epochs[-1]


async def test_fired_again_after_a_cancel_it_is_wanted_again(journal: Journal, clock: ManualClock) -> None:
    (cancelled,) = await accept(journal, max_age=1000)
    await journal.cancel([cancelled.id])
    await journal.mark_reported([cancelled.id])
    clock.pass_time(5000)
    await journal.tidy(0)  # its details are gone
    await accept(journal, id=cancelled.id, max_age=1000)
    claimed = await claim_one(journal)
    assert (claimed.id, claimed.uri, claimed.attempts) == (cancelled.id, URI, 1)
    assert journal.holds("10.0.0.1:80") == 1
    await settle(journal, claimed)
    (settled,) = await journal.unreported(0, 10)
    assert (settled.state, len(settled.log)) == (FinalState.SUCCEEDED, 1)


async def test_fired_again_while_the_cancelled_attempt_is_under_way(journal: Journal) -> None:
    (accepted,) = await accept(journal)
    claimed = await claim_one(journal)
    await journal.cancel([accepted.id])
    await journal.accept([accepted], DAY)
    await retry(journal, claimed)
    assert (await claim_one(journal)).id == accepted.id


async def test_concurrent_calls_share_commits_and_lose_nothing(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock, most=10_000) as journal:
        fires = [fire(URI) for _ in range(300)]
        await asyncio.gather(*(journal.accept([each], DAY) for each in fires))
        await asyncio.gather(*(settle(journal, each) for each in await claim(journal)))
        settled = await journal.unreported(0, 500)
        assert {each.id for each in settled} == {each.id for each in fires}
        assert [each.order for each in settled] == sorted({each.order for each in settled})


# What may be here at once


async def test_a_full_journal_takes_nothing_new_and_knows_what_it_has(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock, most=5) as journal:
        here = [fire(f"http://10.0.0.{number}/") for number in range(5)]
        another = fire("http://10.0.0.9/")
        answers = await journal.accept([*here, another, here[0]], DAY)
        assert answers == [None, None, None, None, None, "journal_full", None]
        assert await journal.accept(here, DAY) == [None] * 5
        (first, *_) = await claim(journal)
        await settle(journal, first)
        assert await journal.accept([another], DAY) == [None]


async def test_one_host_has_a_fifth_of_the_journal_whatever_its_deliveries_wait_for(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with opened(tmp_path, clock, most=20) as journal:
        await accept(journal, 4)
        pending, retried, held, under_way = await claim(journal)
        await retry(journal, retried, 1000)
        await hold(journal, held)
        await journal.retry(pending, entry(pending), 0)
        late = fire(URI)
        assert await journal.accept([late, fire("http://10.0.0.2/")], DAY) == ["host_full", None]
    async with opened(tmp_path, clock, most=20) as journal:
        assert await journal.accept([late], DAY) == ["host_full"]
        await journal.cancel([under_way.id])
        assert await journal.accept([late, fire(URI)], DAY) == [None, "host_full"]
        clock.pass_time(2 * DAY)
        await journal.tidy(DAY)
        assert await journal.accept([fire(URI) for _ in range(4)], DAY) == [None] * 4


async def test_a_full_memory_takes_nothing_new_and_forgets_nothing_early(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock, remembered=3) as journal:
        delivered = await deliver(journal, 3)
        late = fire(URI)
        clock.pass_time(DAY)
        await journal.tidy(0)
        assert await journal.accept([late, fire(URI, id=delivered[0])], DAY) == ["memory_full", None]
        await journal.mark_reported(delivered)
        clock.pass_time(2 * DAY)
        await journal.tidy(0)
        assert await journal.accept([late], DAY) == [None]
    async with opened(tmp_path, clock, remembered=1) as journal:
        assert await journal.accept([fire(URI)], DAY) == ["memory_full"]


# What is kept for how long


async def test_details_are_erased_before_the_id_is_forgotten(journal: Journal, clock: ManualClock) -> None:
    (delivered,) = await deliver(journal, max_age=1000)
    (unreported,) = await accept(journal, max_age=1000)
    await settle(journal, await claim_one(journal))
    clock.pass_time(DAY)
    await journal.tidy(1000)
    await accept(journal, id=delivered)  # still known
    again = {settled.id: settled for settled in await journal.unreported(0, 10)}
    assert (again[delivered].state, again[delivered].attempts, again[delivered].log) == ("succeeded", 1, [])
    assert len(again[unreported.id].log) == 1
    await journal.mark_reported([delivered])
    clock.pass_time(2 * 3_600_000)
    await journal.tidy(1000)
    await accept(journal, id=delivered)
    assert (await claim_one(journal)).id == delivered


async def test_an_id_is_remembered_by_the_fire_s_own_age_not_by_the_shorter_local_one(
    journal: Journal, clock: ManualClock
) -> None:
    wanted = fire(URI, max_age=10 * DAY)
    await journal.accept([wanted], 1000)
    await settle(journal, await claim_one(journal))
    await journal.mark_reported([wanted.id])
    clock.pass_time(10 * DAY)
    await journal.tidy(0)
    await journal.accept([wanted], 1000)
    assert await claim(journal) == []


async def test_an_age_without_end_is_not_remembered_without_end(journal: Journal, clock: ManualClock) -> None:
    (delivered,) = await deliver(journal, max_age=2**52)
    clock.pass_time(32 * DAY)
    await journal.tidy(0)
    await accept(journal, id=delivered)
    assert len(await claim(journal)) == 1


async def test_nothing_is_erased_while_nobody_knows_how_long_the_host_was_off(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with opened(tmp_path, clock) as journal:
        await journal.meet(1_000_000)
        (delivered,) = await deliver(journal)
    clock.boot, clock.elapsed_now = "boot-2", 40 * DAY
    async with opened(tmp_path, clock) as journal:
        clock.pass_time(40 * DAY)
        await journal.tidy(0)
        await accept(journal, id=delivered)
        assert await claim(journal) == []
        await journal.mark_reported([delivered])
        await journal.meet(1_000_000 + 40 * DAY)
        clock.pass_time(1)
        await journal.tidy(0)
        await accept(journal, id=delivered)
        assert len(await claim(journal)) == 1


@pytest.mark.parametrize("ended", ["settled", "cancelled", "expired"])
async def test_a_credential_is_in_no_file_once_its_delivery_has_ended(
    tmp_path: Path, clock: ManualClock, ended: str
) -> None:
    secret = "Bearer canary-" + "s" * 3000
    async with opened(tmp_path, clock) as journal:
        fires = await accept(journal, 20, authorization=secret, body="b" * 8000, max_age=1000)
        assert secret_in_files(tmp_path)
        if ended == "settled":
            for claimed in await claim(journal):
                await settle(journal, claimed)
        elif ended == "cancelled":
            await journal.cancel([fire.id for fire in fires])
        else:
            clock.pass_time(1000)
        await journal.tidy(DAY)
        assert not secret_in_files(tmp_path)


async def test_a_credential_is_in_no_file_of_a_journal_that_is_closed(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock) as journal:
        await accept(journal, authorization="Bearer canary-" + "s" * 3000)
        await settle(journal, await claim_one(journal))
    assert not secret_in_files(tmp_path)


async def test_erased_details_are_in_no_file(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock) as journal:
        await deliver(journal, 20, body="canary-" + "b" * 8000, subject_id="canary-subject")
        await journal.tidy(1)
        assert secret_in_files(tmp_path)
        clock.pass_time(2)
        await journal.tidy(1)
        assert not secret_in_files(tmp_path)


def secret_in_files(directory: Path) -> bool:
    return any(b"canary-" in file.read_bytes() for file in directory.iterdir())


# The file as a whole


async def test_the_files_are_small_again_after_a_flood(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock, most=10_000, remembered=20_000) as journal:
        for _ in range(4):
            await deliver(journal, 1000, body="b" * 8000, max_age=1000)
        largest = size(tmp_path)
        assert largest > 32_000_000
        clock.pass_time(2 * DAY)
        await journal.tidy(0)
        for _ in range(3):
            await journal.tidy(0)
        assert size(tmp_path) < 3_000_000


def size(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.iterdir())


async def test_a_second_opening_says_who_is_there(tmp_path: Path, clock: ManualClock, journal: Journal) -> None:
    with pytest.raises(JournalError, match="another presence agent is using this journal"):
        async with opened(tmp_path, clock):
            pass
    assert await accept(journal)


def test_the_journal_is_readable_by_its_owner_only(tmp_path: Path, clock: ManualClock) -> None:
    async def run() -> set[int]:
        async with opened(tmp_path / "state", clock):
            return {file.stat().st_mode & 0o777 for file in (tmp_path / "state").iterdir()}

    assert asyncio.run(run()) == {0o600}
