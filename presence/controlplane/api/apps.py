"""/api/v4/Apps: applications, what is counted of them, and how they are rated."""

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import Field, StrictBool, StrictInt
from pydantic.alias_generators import to_pascal
from starlette.responses import Response

from presence.controlplane.access import Capability
from presence.controlplane.api.auth import Authenticated, Using
from presence.controlplane.api.body import StrictRoute
from presence.controlplane.api.capabilities import takes
from presence.controlplane.api.listing import asking, listed
from presence.controlplane.api.scans import Technology
from presence.controlplane.api.schemas import ERRORS, FORBIDDEN, Guid, Listing, Output, Timestamp, timestamp
from presence.controlplane.api.tolerance import Printable, Tolerant
from presence.controlplane.odata import Kind, ListQuery
from presence.controlplane.services.applications import Given
from presence.controlplane.store.applications import FIGURES, Application
from presence.controlplane.store.tables import APPLICATION_COUNTERS
from presence.controlplane.store.tables.inventory import MAX_APPLICATION_NAME

router = APIRouter(prefix="/Apps", tags=["Apps"], route_class=StrictRoute)

MAX_TEXT: Final = 2048


class RiskRating(StrEnum):
    UNKNOWN = "Unknown"
    LOW = "Low"
    MEDIUM = "Medium"
    HIGH = "High"
    CRITICAL = "Critical"


class MaxSeverity(StrEnum):
    UNDETERMINED = "Undetermined"
    INFORMATIONAL = "Informational"
    LOW = "Low"
    MEDIUM = "Medium"
    HIGH = "High"
    CRITICAL = "Critical"


class TestingStatus(StrEnum):
    __test__ = False  # pytest takes it for a test

    NOT_STARTED = "NotStarted"
    IN_PROGRESS = "InProgress"
    COMPLETED = "Completed"


class BusinessImpact(StrEnum):
    UNSPECIFIED = "Unspecified"
    LOW = "Low"
    MEDIUM = "Medium"
    HIGH = "High"
    CRITICAL = "Critical"


_FLAGS: Final[Mapping[Technology, str]] = {
    Technology.DYNAMIC_ANALYZER: "DAST",
    Technology.DAST_AUTOMATION: "DAST",
    Technology.STATIC_ANALYZER: "SAST",
    Technology.IFA: "SAST",
    Technology.IAST_ANALYZER: "IAST",
    Technology.SCA_ANALYZER: "SCA",
}

Name = Annotated[str, Printable, Field(min_length=1, max_length=MAX_APPLICATION_NAME)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Counter = Annotated[StrictInt, Field(ge=-1, le=2**31 - 1)]


IGNORED: Final = frozenset(
    {
        *("Id", "AssetGroupName", "DateCreated", "LastUpdated", "CreatedBy", "TotalScans", "NScanExecutions"),
        *("AddedToAssetGroupBy", "AddedToAssetGroupAt", "CanBeDeleted", "CorrelationState", "RR_MaxSeverity"),
        *("ComplianceStatuses", "CustomFields", "LockedToSubscription", "ScanTechnologies"),
        *("HasExceedingIssuesNumber", "HasExceedingScansNumber", "AutoDeleteExceededScans"),
        *("Presences", "PresencesIds", "UseOnlyAppPresences"),
    }
)
"""Fields of that API which nobody sets, or which mean nothing here: accepted, so that clients work unchanged and what
was read can be sent back, and not looked at."""


class _Fields(Tolerant):
    """What may be said about an application. A field that is absent or null stays as it is.

    Counters may be -1: not applicable. Accepted and ignored are the fields that nobody sets (`Id`, `TotalScans`, ...)
    and those which mean nothing here (`Presences`, `PresencesIds`, `UseOnlyAppPresences`, `CustomFields`, ...).
    """

    IGNORED = frozenset(name.lower() for name in IGNORED)

    business_impact: BusinessImpact | None = None
    critical_issues: Counter | None = None
    high_issues: Counter | None = None
    medium_issues: Counter | None = None
    low_issues: Counter | None = None
    informational_issues: Counter | None = None
    issues_in_progress: Counter | None = None
    new_issues: Counter | None = None
    open_issues: Counter | None = None
    total_issues: Counter | None = None
    risk_rating: RiskRating | None = None
    max_severity: MaxSeverity | None = None
    testing_status: TestingStatus | None = None
    overall_compliance: StrictBool | None = None
    url: Text | None = None
    description: Text | None = None
    business_unit: Text | None = None
    business_unit_id: Text | None = None
    type: Text | None = None
    technology: Text | None = None
    hosts: Text | None = None
    collateral_damage_potential: Text | None = None
    target_distribution: Text | None = None
    confidentiality_requirement: Text | None = None
    integrity_requirement: Text | None = None
    availability_requirement: Text | None = None
    tester: Text | None = None
    business_owner: Text | None = None
    development_contact: Text | None = None
    preferred_offering_type: Text | None = None
    last_comment: Text | None = None


class NewApplication(_Fields):
    """An application in an asset group that you have access to."""

    name: Name
    asset_group_id: UUID


class ApplicationUpdate(_Fields):
    """What to change; what is absent or null stays. `AssetGroupId` moves it: that takes access to both groups, and ends
    the associations that the other group does not allow."""

    name: Name | None = None
    asset_group_id: UUID | None = None


class ApplicationModel(Output):
    """An application. What is null is not known here.

    A change of a counter (`CriticalIssues` to `TotalIssues`) or of a status (`RiskRating`, `MaxSeverity`,
    `TestingStatus`, `OverallCompliance`) by `PUT` is an `ApplicationUpdated`; that of anything else, and of
    `TotalScans` and `NScanExecutions`, is none.

    `ScanTechnologies`: those of its scans, of `DAST`, `SAST`, `IAST` and `SCA`, or `NONE`. `RR_MaxSeverity`: the place
    of `MaxSeverity` among its values, from 0.
    """

    id: Guid
    name: str
    asset_group_id: Guid
    asset_group_name: str
    business_impact: BusinessImpact
    critical_issues: int
    high_issues: int
    medium_issues: int
    low_issues: int
    informational_issues: int
    issues_in_progress: int
    new_issues: int
    open_issues: int
    total_issues: int
    risk_rating: RiskRating
    max_severity: MaxSeverity
    testing_status: TestingStatus
    overall_compliance: bool | None
    url: str | None = None
    description: str | None = None
    business_unit: str | None = None
    business_unit_id: str | None = None
    type: str | None = None
    technology: str | None = None
    hosts: str | None = None
    collateral_damage_potential: str | None = None
    target_distribution: str | None = None
    confidentiality_requirement: str | None = None
    integrity_requirement: str | None = None
    availability_requirement: str | None = None
    tester: str | None = None
    business_owner: str | None = None
    development_contact: str | None = None
    preferred_offering_type: str | None = None
    last_comment: str | None = None
    total_scans: int
    n_scan_executions: int
    created_by: str | None
    date_created: Timestamp
    last_updated: Timestamp
    added_to_asset_group_by: str | None
    added_to_asset_group_at: Timestamp
    rr_max_severity: int = Field(alias="RR_MaxSeverity")
    correlation_state: str = "None"
    custom_fields: tuple[object, ...] | None = None
    compliance_statuses: tuple[object, ...] = ()
    can_be_deleted: bool = True
    locked_to_subscription: bool = False
    has_exceeding_issues_number: bool = False
    has_exceeding_scans_number: bool = False
    auto_delete_exceeded_scans: bool = False
    presences: tuple[object, ...] = ()
    use_only_app_presences: bool = False
    scan_technologies: Annotated[str, Field(examples=["DAST, SCA"])]


FIELDS: Final[Mapping[str, Kind]] = {
    "Id": Kind.GUID,
    "Name": Kind.TEXT,
    "AssetGroupId": Kind.GUID,
    "AssetGroupName": Kind.TEXT,
    "BusinessImpact": Kind.TEXT,
    "RiskRating": Kind.TEXT,
    "MaxSeverity": Kind.TEXT,
    "TestingStatus": Kind.TEXT,
    "OverallCompliance": Kind.BOOLEAN,
    "CreatedBy": Kind.TEXT,
    "DateCreated": Kind.TIME,
    "LastUpdated": Kind.TIME,
    "AddedToAssetGroupBy": Kind.TEXT,
    "AddedToAssetGroupAt": Kind.TIME,
    "TotalScans": Kind.INTEGER,
    "NScanExecutions": Kind.INTEGER,
    **{to_pascal(name): Kind.INTEGER for name in APPLICATION_COUNTERS},
}
Asked = Annotated[ListQuery, Depends(asking(FIELDS, ApplicationModel))]
_NOT_TEXTS = {"name", "asset_group_id", "business_impact", *FIGURES}


@router.get("", response_model=Listing[ApplicationModel], responses=ERRORS)
async def list_applications(services: Using, principal: Authenticated, query: Asked) -> Response:
    """The applications of the asset groups that you have access to, by name."""
    rows, count = await services.applications.page(principal, query)
    return listed([_model(row) for row in rows], count, query)


@router.post(
    "", status_code=201, responses={**ERRORS, **FORBIDDEN}, openapi_extra=takes(Capability.MANAGE_APPLICATIONS)
)
async def create_application(services: Using, principal: Authenticated, body: NewApplication) -> ApplicationModel:
    """A new application. That is no event."""
    made = await services.applications.create(principal, body.name, str(body.asset_group_id), _given(body))
    return _model(made)


@router.put("/{application_id}", responses={**ERRORS, **FORBIDDEN}, openapi_extra=takes(Capability.MANAGE_APPLICATIONS))
async def update_application(
    services: Using, principal: Authenticated, application_id: UUID, body: ApplicationUpdate
) -> ApplicationModel:
    """Changes what is given. Where that changes a counter or a status, it is an `ApplicationUpdated` event; its
    deliveries are on disk when this answers."""
    group = body.asset_group_id
    given = replace(_given(body), name=body.name, asset_group_id=None if group is None else str(group))
    return _model(await services.applications.change(principal, str(application_id), given))


@router.delete(
    "/{application_id}",
    status_code=204,
    responses={**ERRORS, **FORBIDDEN},
    openapi_extra=takes(Capability.MANAGE_APPLICATIONS),
)
async def delete_application(services: Using, principal: Authenticated, application_id: UUID) -> None:
    """Deletes an application with its scans and the associations of webhooks with it. Events and deliveries stay."""
    await services.applications.delete(principal, str(application_id))


def _given(body: _Fields) -> Given:
    said = {name: value for name, value in body.model_dump(mode="json").items() if value is not None}
    return Given(
        business_impact=said.get("business_impact"),
        figures={name: said[name] for name in FIGURES if name in said},
        attributes={to_pascal(name): text for name, text in said.items() if name not in _NOT_TEXTS},
    )


def _model(row: Application) -> ApplicationModel:
    return ApplicationModel.model_validate(
        {
            **row.attributes,
            **row.figures,
            "id": row.id,
            "name": row.name,
            "asset_group_id": row.asset_group_id,
            "asset_group_name": row.asset_group_name,
            "business_impact": row.business_impact,
            "total_scans": row.scans,
            "n_scan_executions": row.executions,
            "created_by": row.created_by,
            "date_created": timestamp(row.created_at),
            "last_updated": timestamp(row.updated_at),
            "added_to_asset_group_by": row.grouped_by,
            "added_to_asset_group_at": timestamp(row.grouped_at),
            "rr_max_severity": list(MaxSeverity).index(MaxSeverity(str(row.figures["max_severity"]))),
            "scan_technologies": _technologies(row),
        }
    )


def _technologies(row: Application) -> str:
    """Flags as that API writes them."""
    flags = {_FLAGS[Technology(technology)] for technology in row.technologies}
    return ", ".join(flag for flag in dict.fromkeys(_FLAGS.values()) if flag in flags) or "NONE"
