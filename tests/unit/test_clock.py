"""The host's clocks, read for real."""

import time
from pathlib import Path

import pytest

from presence.clock import Clock, SystemClock


def test_elapsed_is_whole_milliseconds_and_never_goes_back() -> None:
    clock: Clock = SystemClock()
    readings = [clock.elapsed() for _ in range(1_000)]
    assert all(isinstance(reading, int) for reading in readings)
    assert readings == sorted(readings)


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="only Linux counts suspend")
def test_elapsed_counts_from_boot_with_suspend() -> None:
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    elapsed = SystemClock().elapsed()
    assert before <= elapsed <= time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def test_elapsed_without_boottime_is_monotonic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    before = time.monotonic_ns() // 1_000_000
    elapsed = SystemClock().elapsed()
    assert before <= elapsed <= time.monotonic_ns() // 1_000_000


def test_awake_is_monotonic_without_suspend() -> None:
    before = time.monotonic_ns() // 1_000_000
    awake = SystemClock().awake()
    assert before <= awake <= time.monotonic_ns() // 1_000_000
    assert awake <= SystemClock().elapsed()


def test_two_clocks_of_one_boot_agree() -> None:
    one, other = SystemClock(), SystemClock()
    assert one.boot_id() == other.boot_id()
    first, second, third = one.elapsed(), other.elapsed(), one.elapsed()
    assert first <= second <= third


def test_wall_is_milliseconds_since_the_epoch() -> None:
    before = time.time_ns() // 1_000_000
    wall = SystemClock().wall()
    assert isinstance(wall, int)
    assert abs(wall - before) < 10_000


@pytest.mark.skipif(not Path("/proc/sys/kernel/random/boot_id").exists(), reason="only Linux names its boots")
def test_boot_id_is_the_kernels() -> None:
    boot_id = SystemClock().boot_id()
    assert boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert len(boot_id) == 36
