"""The supervisor's protocol."""

import asyncio
import os
from pathlib import Path

import pytest

from presence.supervisor import Watchdog, notify, watchdog_seconds
from tests.support.supervisor import Supervisor


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_the_watchdog_is_fed_only_where_it_asks_for_this_process(
    environment: dict[str, str], seconds: float | None
) -> None:
    assert watchdog_seconds(environment) == seconds


def test_without_a_supervisor_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "@presence-test-nobody")
    notify("READY=1")


async def test_a_fault_stops_the_feeding_until_it_is_gone(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = Supervisor(Path(tmp_path_factory.mktemp("s")))
    monkeypatch.setenv("NOTIFY_SOCKET", supervisor.address)
    answers = [[], ["the stage 'worker' is 7 s late"], ["the stage 'worker' is 8 s late"], []]

    async def faults() -> list[str]:
        return answers.pop(0) if answers else []

    feeding = asyncio.create_task(Watchdog(0.02, faults, lambda: notify("STATUS=online")).run())
    await supervisor.told("WATCHDOG=1", times=3)
    feeding.cancel()
    supervisor.close()
    assert supervisor.lines[:5] == [
        "WATCHDOG=1",
        "STATUS=not making progress: the stage 'worker' is 7 s late",
        "STATUS=not making progress: the stage 'worker' is 8 s late",
        "WATCHDOG=1",
        "STATUS=online",
    ]
