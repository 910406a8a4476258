"""The execution of a scan: how it may go on, and when it is complete."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """The values are those of AppScan on Cloud's API v4. `Ready` and `Failed` are final."""

    IN_QUEUE = "InQueue"
    RUNNING = "Running"
    PAUSING = "Pausing"
    PAUSED = "Paused"
    STOPPING = "Stopping"
    READY = "Ready"
    FAILED = "Failed"


class Stage(StrEnum):
    """That API's `ExecutionProgress`."""

    PENDING = "Pending"
    RUNNING = "Running"
    UNDER_REVIEW = "UnderReview"
    RUNNING_MANUALLY = "RunningManually"
    PAUSED = "Paused"
    COMPLETED = "Completed"


class Result(StrEnum):
    """The worst that was found."""

    NONE = "None"
    NO_ISSUES = "NoIssues"
    INFORMATIONAL = "Informational"
    LOW = "Low"
    MEDIUM = "Medium"
    HIGH = "High"
    CRITICAL = "Critical"


FINAL: Final = frozenset({Status.READY, Status.FAILED})
_COMPLETE = 100


@dataclass(frozen=True, slots=True)
class Standing:
    """How far an execution is; `progress` in percent."""

    status: Status
    stage: Stage
    progress: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a scan engine says about it; None: nothing."""

    status: Status | None = None
    stage: Stage | None = None
    progress: int | None = None


BEGINNING: Final = Standing(Status.IN_QUEUE, Stage.PENDING, 0)


def advanced(standing: Standing, report: Report) -> Standing | None:
    """Where the execution stands after the report; None where it may not go there.

    Until it is final, any status may follow any other one: the engine knows. From then on nothing of this changes; the
    same said again changes nothing. One that becomes Ready is Completed, by 100 percent, unless the report says
    otherwise.
    """
    status = report.status or standing.status
    is_ready = status is Status.READY and standing.status is not Status.READY
    after = Standing(
        status,
        report.stage or (Stage.COMPLETED if is_ready else standing.stage),
        report.progress if report.progress is not None else (_COMPLETE if is_ready else standing.progress),
    )
    return None if standing.status in FINAL and after != standing else after


def completes(before: Status, after: Status, *, with_failed: bool) -> bool:
    """Whether this step is the completion of the execution that webhooks wait for. `with_failed`: a failure, too."""
    if before in FINAL:
        return False
    return after is Status.READY or (with_failed and after is Status.FAILED)
