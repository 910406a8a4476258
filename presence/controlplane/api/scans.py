"""/api/v4/Scans: scans of applications, and their executions."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import Field, StrictBool, StrictInt
from pydantic.alias_generators import to_pascal
from starlette.responses import Response

from presence.controlplane.access import Capability
from presence.controlplane.api.auth import Authenticated, Producing, Services, Using
from presence.controlplane.api.body import StrictRoute
from presence.controlplane.api.capabilities import takes
from presence.controlplane.api.listing import asking, bare, listed
from presence.controlplane.api.schemas import (
    CONFLICT,
    ERRORS,
    FORBIDDEN,
    NOT_FOUND,
    Guid,
    Input,
    Listing,
    Output,
    Timestamp,
    optional_timestamp,
    timestamp,
)
from presence.controlplane.api.tolerance import Printable, Tolerant
from presence.controlplane.odata import Kind, ListQuery
from presence.controlplane.services.executions import Update
from presence.controlplane.services.scans import ScanView
from presence.controlplane.store.executions import Execution
from presence.controlplane.store.tables import EXECUTION_COUNTERS
from presence.controlplane.store.tables.inventory import MAX_SCAN_NAME
from presence.domain.execution import Report, Result, Stage, Status

router = APIRouter(prefix="/Scans", tags=["Scans"], route_class=StrictRoute)

MAX_TOP: Final = 500
MAX_TEXT: Final = 4096


class Technology(StrEnum):
    DYNAMIC_ANALYZER = "DynamicAnalyzer"
    STATIC_ANALYZER = "StaticAnalyzer"
    IFA = "IFA"
    DAST_AUTOMATION = "DastAutomation"
    IAST_ANALYZER = "IASTAnalyzer"
    SCA_ANALYZER = "ScaAnalyzer"


Name = Annotated[str, Printable, Field(min_length=1, max_length=MAX_SCAN_NAME)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Counter = Annotated[StrictInt, Field(ge=-1, le=2**31 - 1)]


class NewScan(Input):
    """A scan of an application that you have access to."""

    name: Name
    app_id: UUID
    technology: Technology


IGNORED: Final = frozenset(
    {
        *("Id", "ScanId", "CreatedAt", "CreatedBy", "ExecutedAt", "ScanEndTime", "ExecutionDurationSec"),
        *("QueuedDurationSec", "ReadStatus", "PredefinedMessageKey", "AvailableReports", "IncludeCustomUserMessage"),
        *("HasLogs", "FileName", "IsScanFileAvailable", "EnablementMessage", "HandledByScanEnabler"),
        *("IsValidForIncremental", "SupportModeEnabled", "CanResume"),
    }
)
"""Fields of an execution that nobody sets: accepted, so that what was read can be sent back, and not looked at."""


class ExecutionUpdate(Tolerant):
    """What a scan engine says; what is absent or null stays. Fields that nobody sets (`Id`, `CreatedAt`, ...) are
    accepted and ignored.

    `Status` `Ready` and `Failed` are final. Until then any may follow any other one; from then on `Status`,
    `ExecutionProgress` and `Progress` do not change, while the rest may still be corrected. With `Ready`, what is not
    said of the other two becomes `Completed` and 100. Counters may be -1: not applicable.
    """

    IGNORED = frozenset(name.lower() for name in IGNORED)

    status: Status | None = None
    execution_progress: Stage | None = None
    progress: Annotated[StrictInt, Field(ge=0, le=100)] | None = None
    result: Result | None = None
    user_message: Text | None = None
    comment: Text | None = None
    is_partial: StrictBool | None = None
    n_issues_found: Counter | None = None
    n_critical_issues: Counter | None = None
    n_high_issues: Counter | None = None
    n_medium_issues: Counter | None = None
    n_low_issues: Counter | None = None
    n_info_issues: Counter | None = None
    n_open_source_licenses: Counter | None = None
    n_open_source_packages: Counter | None = None
    n_new_app_issues: Counter | None = None
    n_new_app_critical_issues: Counter | None = None
    n_new_app_high_issues: Counter | None = None
    n_new_app_medium_issues: Counter | None = None
    n_new_app_low_issues: Counter | None = None
    n_new_app_info_issues: Counter | None = None


class CreatorModel(Output):
    """Who started it. Names and address are empty where they are not known: clients put them together unseen."""

    id: Guid | None
    first_name: str = ""
    last_name: str = ""
    user_name: str | None
    email: str = ""


class ScanExecutionModel(Output):
    """An execution of a scan. What is null is not known here.

    `ExecutedAt`: when it left the queue; `ScanEndTime`: when it became `Ready` or `Failed`. Durations in seconds, so
    far.
    """

    id: Guid
    scan_id: Guid
    created_at: Timestamp
    executed_at: Timestamp | None
    scan_end_time: Timestamp | None
    execution_duration_sec: int
    queued_duration_sec: int
    status: Status
    execution_progress: Stage
    progress: int
    result: Result
    user_message: str | None
    comment: str | None
    is_partial: bool
    n_issues_found: int
    n_critical_issues: int
    n_high_issues: int
    n_medium_issues: int
    n_low_issues: int
    n_info_issues: int
    n_open_source_licenses: int
    n_open_source_packages: int
    n_new_app_issues: int
    n_new_app_critical_issues: int
    n_new_app_high_issues: int
    n_new_app_medium_issues: int
    n_new_app_low_issues: int
    n_new_app_info_issues: int
    created_by: CreatorModel
    read_status: str = "None"
    predefined_message_key: str | None = None
    available_reports: tuple[object, ...] = ()
    include_custom_user_message: bool
    has_logs: bool = False
    file_name: str | None = None
    is_scan_file_available: bool = False
    enablement_message: str | None = None
    handled_by_scan_enabler: bool = False
    is_valid_for_incremental: bool = False
    support_mode_enabled: bool = False
    can_resume: bool = False


class ScanModel(Output):
    """A scan of an application. `LatestExecution` is null before the first one."""

    id: Guid
    name: str
    app_id: Guid
    app_name: str
    asset_group_id: Guid
    technology: Technology
    created_by: str | None
    created_at: Timestamp
    latest_execution: ScanExecutionModel | None


FIELDS: Final[Mapping[str, Kind]] = {
    "Id": Kind.GUID,
    "Name": Kind.TEXT,
    "AppId": Kind.GUID,
    "AppName": Kind.TEXT,
    "AssetGroupId": Kind.GUID,
    "Technology": Kind.TEXT,
    "CreatedBy": Kind.TEXT,
    "CreatedAt": Kind.TIME,
}
EXECUTION_FIELDS: Final[Mapping[str, Kind]] = {
    **dict.fromkeys(("Id", "ScanId"), Kind.GUID),
    **dict.fromkeys(("CreatedAt", "ExecutedAt", "ScanEndTime"), Kind.TIME),
    **dict.fromkeys(("Status", "ExecutionProgress", "Result", "UserMessage", "Comment"), Kind.TEXT),
    "IsPartial": Kind.BOOLEAN,
    "Progress": Kind.INTEGER,
    **{to_pascal(name): Kind.INTEGER for name in EXECUTION_COUNTERS},
}
Asked = Annotated[ListQuery, Depends(asking(FIELDS, ScanModel, MAX_TOP))]
ExecutionsAsked = Annotated[ListQuery, Depends(asking(EXECUTION_FIELDS, ScanExecutionModel, MAX_TOP))]


@router.get("", response_model=Listing[ScanModel], responses=ERRORS)
async def list_scans(services: Using, principal: Authenticated, query: Asked) -> Response:
    """The scans of the applications that you have access to, newest first; at most 500 at a time."""
    views, count = await services.scans.page(principal, query)
    return listed([_scan(view, services) for view in views], count, query)


@router.post("", status_code=201, responses={**ERRORS, **FORBIDDEN}, openapi_extra=takes(Capability.MANAGE_SCANS))
async def create_scan(services: Using, principal: Authenticated, body: NewScan) -> ScanModel:
    """A scan that has not been executed."""
    made = await services.scans.create(principal, body.name, str(body.app_id), body.technology.value)
    return _scan(made, services)


@router.get("/Execution/{execution_id}", responses={**ERRORS, **NOT_FOUND})
async def get_execution(services: Using, principal: Authenticated, execution_id: UUID) -> ScanExecutionModel:
    """The execution that is the subject of a `ScanExecutionCompleted`."""
    return _execution(await services.executions.get(principal, str(execution_id)), services)


@router.put(
    "/Execution/{execution_id}",
    responses={**ERRORS, **FORBIDDEN, **NOT_FOUND, **CONFLICT},
    openapi_extra=takes(Capability.UPDATE_SCAN_EXECUTIONS),
)
async def update_execution(
    services: Using, principal: Producing, execution_id: UUID, body: ExecutionUpdate
) -> ScanExecutionModel:
    """Says how an execution goes on. Its completion is a `ScanExecutionCompleted` event, once; the deliveries are on
    disk when this answers. It is complete when it is `Ready`, and by the setting `[events] failed_executions` also when
    it has `Failed`."""
    return _execution(await services.executions.update(principal, str(execution_id), _update(body)), services)


@router.get("/{scan_id}/Executions", responses=ERRORS, response_model=list[ScanExecutionModel])
async def list_executions(services: Using, principal: Authenticated, scan_id: UUID, query: ExecutionsAsked) -> Response:
    """The executions of a scan, newest first, as a bare array; at most 500 at a time."""
    found = await services.executions.page(principal, str(scan_id), query)
    return bare([_execution(one, services) for one in found], query)


@router.post(
    "/{scan_id}/Executions",
    status_code=201,
    responses={**ERRORS, **FORBIDDEN},
    openapi_extra=takes(Capability.MANAGE_SCANS),
)
async def start_execution(services: Using, principal: Authenticated, scan_id: UUID) -> ScanExecutionModel:
    """A new execution of a scan, `InQueue` until an engine says otherwise. Takes no body."""
    return _execution(await services.executions.start(principal, str(scan_id)), services)


def _update(body: ExecutionUpdate) -> Update:
    values = body.model_dump(mode="json", exclude_none=True, exclude={"status", "execution_progress", "progress"})
    return Update(Report(body.status, body.execution_progress, body.progress), values)


def _scan(view: ScanView, services: Services) -> ScanModel:
    return ScanModel(
        id=view.scan.id,
        name=view.scan.name,
        app_id=view.scan.application_id,
        app_name=view.scan.application_name,
        asset_group_id=view.scan.asset_group_id,
        technology=Technology(view.scan.technology),
        created_by=view.scan.created_by,
        created_at=timestamp(view.scan.created_at),
        latest_execution=None if view.latest is None else _execution(view.latest, services),
    )


def _execution(row: Execution, services: Services) -> ScanExecutionModel:
    now = services.clock.wall()
    left_queue = row.executed_at or row.ended_at or now
    fields: dict[str, Any] = {
        **row.counters,
        "id": row.id,
        "scan_id": row.scan_id,
        "created_at": timestamp(row.created_at),
        "executed_at": optional_timestamp(row.executed_at),
        "scan_end_time": optional_timestamp(row.ended_at),
        "execution_duration_sec": max(0, (row.ended_at or now) - left_queue) // 1000,
        "queued_duration_sec": max(0, left_queue - row.created_at) // 1000,
        "status": row.standing.status,
        "execution_progress": row.standing.stage,
        "progress": row.standing.progress,
        "result": row.result,
        "user_message": row.user_message,
        "include_custom_user_message": bool(row.user_message),
        "comment": row.comment,
        "is_partial": row.is_partial,
        "created_by": _creator(row),
    }
    return ScanExecutionModel.model_validate(fields)


def _creator(row: Execution) -> CreatorModel:
    # Who was invited has the address for a name.
    address = row.created_by if row.created_by is not None and "@" in row.created_by else ""
    return CreatorModel(id=row.created_by_id, user_name=row.created_by, email=address)
