"""The fault kit at its small sizes: `python -m tests.faults NAME` for each, a few at a time."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.faults.__main__ import FAULTS
from tests.support.disk import loop_unavailable

pytestmark = pytest.mark.timeout(900)

AT_ONCE = 3
LIMIT = 600.0
"""Seconds for one of them, on a machine that is busy with other things, too."""
ROOT = Path(__file__).parents[2]
LONGEST_FIRST = ("soak", "link-cut", "disk")
LEAST = {
    "agent-crash": (20, 2000),
    "control-plane-crash": (5, 300),
    "postgres": (4, 300),
    "link-cut": (30, 2000),
    "power-cut": (4, 1000),
    "disk": (1, 500),
    "clock": (8, 300),
    "simulate": (1000, 2000),
    "soak": (10, 2400),
}
"""Faults and deliveries that a run has at the least."""


class Kit:
    """Runs them all, from the first time on that one is asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._processes: list[subprocess.Popen[str]] = []
        self._pool = ThreadPoolExecutor(AT_ONCE)
        order = sorted(FAULTS, key=lambda name: (name not in LONGEST_FIRST, name != "soak"))
        self._runs: dict[str, Future[tuple[int, str]]] = {name: self._pool.submit(self._run, name) for name in order}

    def _run(self, name: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "tests.faults", name, "--json", str(self._directory / f"{name}.json")]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._processes.append(process)
        out, _ = process.communicate(timeout=LIMIT)
        return process.returncode, out

    def found(self, name: str) -> tuple[int, str, dict[str, Any]]:
        """Exit code, output and JSON document of that run."""
        code, out = self._runs[name].result()
        file = self._directory / f"{name}.json"
        return code, out, json.loads(file.read_text()) if file.exists() else {}

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(10.0)
            except subprocess.TimeoutExpired:
                process.kill()
        self._pool.shutdown()


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    kit = Kit(tmp_path_factory.mktemp("faults"))
    yield kit
    kit.close()


@pytest.mark.parametrize("name", [name for name in FAULTS if name != "power-cut"])
def test_nothing_is_lost_and_every_bound_holds(kit: Kit, name: str) -> None:
    assert_good(name, *kit.found(name))


def test_nothing_accepted_is_lost_by_a_power_cut_where_one_can_be_made(kit: Kit) -> None:
    code, out, found = kit.found("power-cut")
    if os.geteuid() != 0 or loop_unavailable():
        assert code == 3, out
        assert "not possible here: " in out
        return
    assert_good("power-cut", code, out, found)
    assert found["careless_lost"] > 0


def assert_good(name: str, code: int, out: str, found: dict[str, Any]) -> None:
    assert code == 0, out
    faults, deliveries = LEAST[name]
    assert (found["lost"], found["broken"]) == (0, [])
    assert found["faults"] >= faults
    assert found["deliveries"] >= deliveries
    assert {"duplicates", "seed"} <= found.keys()


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["replicas"]])
def test_the_usage_names_what_there_is(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "usage: python -m tests.faults" in done.stderr
