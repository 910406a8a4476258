"""When time has leapt, and by how much a clock is off."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presence.agent.vigil import Reading, Vigil, clock_offset, leap
from tests.support.clock import ManualClock

START = Reading(1_000_000, 900_000, 1_790_000_000_000)


def after(elapsed: int, awake: int, wall: int) -> Reading:
    return Reading(START.elapsed + elapsed, START.awake + awake, START.wall + wall)


@pytest.mark.parametrize(
    ("now", "event"),
    [
        (after(5_000, 5_000, 5_000), None),
        (after(15_000, 5_000, 15_000), None),
        (after(15_001, 5_000, 15_001), "the host was suspended for 10 s"),
        (after(3_605_000, 5_000, 3_605_000), "the host was suspended for 3600 s"),
        (after(5_000, 5_000, 35_000), None),
        (after(5_000, 5_000, 35_001), "the host's clock was set 30 s forward"),
        (after(5_000, 5_000, -86_395_000), "the host's clock was set 86400 s back"),
        (
            after(65_000, 5_000, 3_665_000),
            "the host was suspended for 60 s and the host's clock was set 3600 s forward",
        ),
    ],
)
def test_a_leap_is_told_from_time_that_passes(now: Reading, event: str | None) -> None:
    assert leap(START, now) == event


@given(st.integers(0, 10**12), st.integers(0, 10_000), st.integers(-30_000, 30_000))
def test_time_that_passes_is_no_leap_however_long_it_took_us_to_look(passed: int, slept: int, slewed: int) -> None:
    assert leap(START, after(passed, passed - slept, passed + slewed)) is None


async def test_a_leap_while_nobody_watches_is_told_to_the_next_who_does() -> None:
    clock = ManualClock()
    vigil = Vigil(clock, every=0.001)
    clock.wall_now += 60_000
    assert await vigil.leapt() == "the host's clock was set 60 s forward"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(vigil.leapt(), 0.02)


async def test_it_looks_again_and_again() -> None:
    clock = ManualClock()
    vigil = Vigil(clock, every=0.001)
    leapt = asyncio.create_task(vigil.leapt())
    for _ in range(20):
        clock.pass_time(5_000)
        await asyncio.sleep(0.002)
    assert not leapt.done()
    clock.elapsed_now += 20_000
    assert await leapt == "the host was suspended for 20 s"


@given(st.integers(0, 2**45), st.integers(-(10**9), 10**9), st.integers(0, 20_000))
def test_the_offset_leads_from_our_clock_to_the_server_s(server: int, ahead: int, round_trip: int) -> None:
    """The server read its clock in the middle of the round trip, whose end is now."""
    ours = server + round_trip // 2 - ahead
    assert clock_offset(server, ours, round_trip) == ahead
