"""The journal's time across restarts and reboots, with a clock that is right, wrong, or wrong by ten years."""

from pathlib import Path

import pytest

from presence.agent.journal import Journal
from presence.domain.delivery import FinalState
from tests.support.clock import ManualClock
from tests.support.control_plane import DAY
from tests.support.journal import accept, claim, claim_one, opened, retry

TEN_YEARS = 3652 * DAY
SERVER = 1_790_000_000_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def reboot(clock: ManualClock, off: int, wrong_by: int = 0) -> None:
    """The host was off for so long, and its wall clock is wrong since by so much."""
    clock.boot = f"{clock.boot}-again"
    clock.elapsed_now = clock.awake_now = 5000
    clock.wall_now += off + wrong_by


async def left(journal: Journal) -> int | None:
    return journal.backlog.next_due(journal.now())


@pytest.mark.parametrize("wrong_by", [0, -TEN_YEARS, TEN_YEARS], ids=["right", "ten years back", "ten years ahead"])
async def test_a_restart_of_the_program_costs_no_time_whatever_the_wall_clock_says(
    tmp_path: Path, clock: ManualClock, wrong_by: int
) -> None:
    async with opened(tmp_path, clock) as journal:
        await accept(journal)
        await retry(journal, await claim_one(journal), 10_000)
    clock.pass_time(3000)
    clock.wall_now += wrong_by
    async with opened(tmp_path, clock) as journal:
        assert await left(journal) == 7000


@pytest.mark.parametrize("wrong_by", [0, -TEN_YEARS, TEN_YEARS], ids=["right", "ten years back", "ten years ahead"])
async def test_after_a_reboot_without_the_server_a_delay_and_an_age_go_on_where_they_were(
    tmp_path: Path, clock: ManualClock, wrong_by: int
) -> None:
    async with opened(tmp_path, clock) as journal:
        await journal.meet(SERVER)
        (waits,) = await accept(journal, age=DAY // 2)
        await retry(journal, await claim_one(journal), 10_000)
    reboot(clock, off=2 * DAY, wrong_by=wrong_by)
    async with opened(tmp_path, clock) as journal:
        assert await left(journal) == 10_000
        clock.pass_time(10_000)
        claimed = await claim_one(journal)
        assert claimed.id == waits.id
        assert journal.now() - claimed.born_at == DAY // 2 + 10_000


@pytest.mark.parametrize("wrong_by", [0, -TEN_YEARS, TEN_YEARS], ids=["right", "ten years back", "ten years ahead"])
@pytest.mark.parametrize(("off", "expires"), [(3_600_000, False), (2 * DAY, True)], ids=["an hour", "two days"])
async def test_after_a_reboot_the_server_says_how_long_the_host_was_off(
    tmp_path: Path, clock: ManualClock, off: int, expires: bool, wrong_by: int
) -> None:
    async with opened(tmp_path, clock) as journal:
        await journal.meet(SERVER)
        clock.pass_time(1000)
        (waits,) = await accept(journal)
        await retry(journal, await claim_one(journal), 10_000)
    reboot(clock, off=off, wrong_by=wrong_by)
    async with opened(tmp_path, clock) as journal:
        await journal.meet(SERVER + 1000 + off)
        assert [claimed.id for claimed in await claim(journal)] == ([] if expires else [waits.id])
        ended = await journal.unreported(0, 10)
        assert [settled.state for settled in ended] == ([FinalState.EXPIRED] if expires else [])


@pytest.mark.parametrize("jump", [-TEN_YEARS, TEN_YEARS])
async def test_a_server_whose_clock_jumps_while_the_host_is_up_changes_nothing(
    tmp_path: Path, clock: ManualClock, jump: int
) -> None:
    async with opened(tmp_path, clock) as journal:
        await journal.meet(SERVER)
        (waits,) = await accept(journal)
        await journal.meet(SERVER + jump)
        assert (await claim_one(journal)).id == waits.id
    reboot(clock, off=1000)
    async with opened(tmp_path, clock) as journal:
        await journal.meet(SERVER + jump + 1000)  # only what it says of the time in between counts
        assert (await claim_one(journal)).id == waits.id


async def test_a_server_whose_clock_was_set_back_while_the_host_was_off_makes_nothing_younger(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with opened(tmp_path, clock) as journal:
        await journal.meet(SERVER)
        await accept(journal, max_age=1000)
        clock.pass_time(900)
        await journal.tidy(DAY)
    reboot(clock, off=DAY)
    async with opened(tmp_path, clock) as journal:
        await journal.meet(SERVER - TEN_YEARS)
        clock.pass_time(100)
        assert await claim(journal) == []


async def test_the_server_s_time_is_kept_with_the_next_commit(tmp_path: Path, clock: ManualClock) -> None:
    for number in range(3):
        async with opened(tmp_path, clock) as journal:
            before = journal.now()
            await journal.meet(SERVER + number * DAY)
            assert journal.now() - before == (DAY if number else 0)
            await accept(journal, uri=f"http://10.0.0.{number}/")
        reboot(clock, off=DAY, wrong_by=-TEN_YEARS)


async def test_time_passes_while_nothing_is_delivered(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock) as journal:
        await accept(journal)
        await retry(journal, await claim_one(journal), 600_000)
        clock.pass_time(590_000)
        await journal.tidy(DAY)
    reboot(clock, off=DAY)
    async with opened(tmp_path, clock) as journal:
        assert await left(journal) == 10_000


async def test_no_delay_is_longer_than_any_backoff(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock) as journal:
        await accept(journal)
        await retry(journal, await claim_one(journal), TEN_YEARS)
    async with opened(tmp_path, clock) as journal:
        assert await left(journal) == 2 * 3_600_000
