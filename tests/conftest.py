"""What holds for every test: the components it needs are there, nothing is skipped in CI, no task is left behind."""

import asyncio
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.database import DirectoryBasedExampleDatabase

IN_CI = bool(os.environ.get("CI"))
SETTLING = 20
"""Rounds of the event loop in which a task that is already ending may end."""

# Hypothesis keeps its examples by the user, not in the checkout.
_HYPOTHESIS = Path(tempfile.gettempdir()) / f"presence-hypothesis-{os.getuid()}"
set_hypothesis_home_dir(_HYPOTHESIS)
_EXAMPLES = DirectoryBasedExampleDatabase(_HYPOTHESIS / "examples")
settings.register_profile("local", deadline=None, database=_EXAMPLES, print_blob=True)
# Hypothesis's own profile "ci" repeats the same examples for ever; ours goes on looking.
settings.register_profile("ci", parent=settings.get_profile("local"), derandomize=False)
settings.load_profile("ci" if IN_CI else "local")


def pytest_sessionstart() -> None:
    """Ends the run with the missing Debian package's name, rather than with an error deep in some test."""
    check = subprocess.run(
        [Path(__file__).parent / "debian", "--check"], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )
    if check.returncode:
        pytest.exit(check.stderr.strip(), returncode=pytest.ExitCode.USAGE_ERROR)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    return report if hasattr(report, "wasxfail") else _not_skipped_in_ci(report, str(item.path))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _not_skipped_in_ci((yield), str(collector.path))


def _not_skipped_in_ci(report: Any, path: str) -> Any:
    """In CI a skipped test is a failed one: what was not tried does not count as passed."""
    if IN_CI and report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{path}: nothing may be skipped in CI: {reason}"
    return report


@pytest.fixture(autouse=True)
def no_task_left_behind(request: pytest.FixtureRequest) -> None:
    """Only asynchronous tests have an event loop: the others do not pay for one."""
    if request.node.get_closest_marker("asyncio"):
        request.getfixturevalue("_ended_tasks")


@pytest.fixture
async def _ended_tasks() -> AsyncIterator[None]:
    """Set up first and so torn down last: the test's other fixtures have ended what they started."""
    before = asyncio.all_tasks()
    yield
    own = {asyncio.current_task()} | before
    for _ in range(SETTLING):
        left = asyncio.all_tasks() - own
        if not left:
            return
        await asyncio.sleep(0)
    shown = "\n".join(sorted(map(repr, left))[:10])
    pytest.fail(f"the test left {len(left)} tasks running:\n{shown}", pytrace=False)
