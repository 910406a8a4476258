"""A disk that takes nothing: when it is tried again, and what the log says. On a loop whose time is set by hand."""

import asyncio

import pytest
import structlog

from presence.agent.outage import FIRST_PAUSE, LONGEST_PAUSE, Outage, Unwritable

ERROR = Unwritable("no space")


@pytest.fixture
async def time(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now[0])
    return now


async def test_the_pause_doubles_up_to_its_bound_and_begins_anew(time: list[float]) -> None:
    outage = Outage(lambda: None)
    pauses = []
    for _ in range(8):
        outage.failed(ERROR)
        pauses.append(outage.pause)
        time[0] += outage.pause
        assert outage.pause == 0
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert (pauses[0], pauses[-1]) == (FIRST_PAUSE, LONGEST_PAUSE)
    outage.passed()
    outage.failed(ERROR)
    assert outage.pause == FIRST_PAUSE


async def test_what_fails_during_the_pause_does_not_lengthen_it(time: list[float]) -> None:
    outage = Outage(lambda: None)
    outage.failed(ERROR)
    time[0] += 0.5
    outage.failed(ERROR)
    assert outage.pause == 0.5


async def test_one_line_when_it_begins_and_one_when_it_is_over(time: list[float]) -> None:
    over: list[None] = []
    outage = Outage(lambda: over.append(None))
    with structlog.testing.capture_logs() as lines:
        outage.passed()
        for _ in range(5):
            outage.failed(ERROR)
            time[0] += LONGEST_PAUSE
        outage.passed()
        outage.passed()
    assert [(line["log_level"], line["state"]) for line in lines] == [
        ("error", "failing"),
        ("warning", "written again"),
    ]
    assert lines[1]["after_s"] == 5 * LONGEST_PAUSE
    assert len(over) == 1


async def test_who_waits_goes_on_when_it_is_over() -> None:
    outage = Outage(lambda: None)
    await outage.next_try()
    outage.failed(ERROR)
    waiting = [asyncio.create_task(outage.next_try()) for _ in range(3)]
    await asyncio.sleep(0)
    outage.passed()
    async with asyncio.timeout(FIRST_PAUSE / 2):
        await asyncio.gather(*waiting)
