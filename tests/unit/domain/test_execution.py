"""How the execution of a scan may go on, over all pairs of states."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presence.domain.execution import BEGINNING, FINAL, Report, Stage, Standing, Status, advanced, completes

STANDINGS = st.builds(Standing, st.sampled_from(Status), st.sampled_from(Stage), st.integers(0, 100))
REPORTS = st.builds(
    Report, st.none() | st.sampled_from(Status), st.none() | st.sampled_from(Stage), st.none() | st.integers(0, 100)
)


@pytest.mark.parametrize(("before", "after"), [*product(Status, Status)])
def test_a_final_status_is_the_last_one(before: Status, after: Status) -> None:
    standing = Standing(before, Stage.RUNNING, 50)
    moved = advanced(standing, Report(after))
    if before not in FINAL:
        assert moved is not None
        assert moved.status is after
    else:
        assert moved == (standing if after is before else None)


@pytest.mark.parametrize("report", [Report(stage=Stage.PAUSED), Report(progress=51)])
def test_what_is_final_does_not_move(report: Report) -> None:
    assert advanced(Standing(Status.READY, Stage.COMPLETED, 100), report) is None


def test_ready_is_completed_unless_the_report_says_otherwise() -> None:
    assert advanced(BEGINNING, Report(Status.READY)) == Standing(Status.READY, Stage.COMPLETED, 100)
    said = Report(Status.READY, Stage.UNDER_REVIEW, 99)
    assert advanced(BEGINNING, said) == Standing(Status.READY, Stage.UNDER_REVIEW, 99)


def test_what_fails_stays_as_far_as_it_got() -> None:
    running = Standing(Status.RUNNING, Stage.RUNNING, 42)
    assert advanced(running, Report(Status.FAILED)) == Standing(Status.FAILED, Stage.RUNNING, 42)


@given(STANDINGS, REPORTS)
def test_the_same_said_again_changes_nothing(standing: Standing, report: Report) -> None:
    after = advanced(standing, report)
    if after is not None:
        assert advanced(after, report) == after


@given(st.lists(REPORTS, max_size=8), st.booleans())
def test_an_execution_completes_at_most_once(reports: list[Report], with_failed: bool) -> None:
    standing, completions = BEGINNING, 0
    for report in reports:
        after = advanced(standing, report) or standing
        completions += completes(standing.status, after.status, with_failed=with_failed)
        standing = after
    wanted = {Status.READY, Status.FAILED} if with_failed else {Status.READY}
    assert completions == (standing.status in wanted)
