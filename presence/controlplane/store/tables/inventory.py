"""Applications, their scans, and the executions of scans. What is counted and rated has the API's field names."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, Table, UniqueConstraint, false, text

from presence.controlplane.store.tables.accounts import MAX_USER_NAME
from presence.controlplane.store.tables.base import ID_LENGTH, inside, metadata, ordered, organization_column

MAX_APPLICATION_NAME = 64
MAX_SCAN_NAME = 256

APPLICATION_COUNTERS = (
    "critical_issues",
    "high_issues",
    "medium_issues",
    "low_issues",
    "informational_issues",
    "issues_in_progress",
    "new_issues",
    "open_issues",
    "total_issues",
)
"""A change of one of these is an event, as is one of the statuses."""
APPLICATION_STATUSES = ("risk_rating", "max_severity", "testing_status", "overall_compliance")

EXECUTION_COUNTERS = (
    "n_issues_found",
    "n_critical_issues",
    "n_high_issues",
    "n_medium_issues",
    "n_low_issues",
    "n_info_issues",
    "n_open_source_licenses",
    "n_open_source_packages",
    "n_new_app_issues",
    "n_new_app_critical_issues",
    "n_new_app_high_issues",
    "n_new_app_medium_issues",
    "n_new_app_low_issues",
    "n_new_app_info_issues",
)


def _counters(names: tuple[str, ...]) -> list[Column[int]]:
    return [Column(name, Integer, nullable=False, server_default=text("0")) for name in names]


# `attributes`: a JSON object of the descriptive texts that nothing is decided by.
application = Table(
    "application",
    metadata,
    Column("id", ordered(ID_LENGTH), primary_key=True),
    organization_column(),
    Column("asset_group_id", ordered(ID_LENGTH), nullable=False),
    Column("name", ordered(MAX_APPLICATION_NAME), nullable=False),
    *_counters(APPLICATION_COUNTERS),
    Column("risk_rating", ordered(16), nullable=False, server_default="Unknown"),
    Column("max_severity", ordered(16), nullable=False, server_default="Undetermined"),
    Column("testing_status", ordered(16), nullable=False, server_default="NotStarted"),
    Column("overall_compliance", Boolean),
    Column("business_impact", ordered(16), nullable=False, server_default="Unspecified"),
    Column("attributes", ordered(), nullable=False, server_default="{}"),
    Column("created_by", ordered(MAX_USER_NAME)),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("grouped_by", ordered(MAX_USER_NAME)),
    Column("grouped_at", BigInteger, nullable=False),
    inside("asset_group", "asset_group_id"),
    UniqueConstraint("organization_id", "id"),
    UniqueConstraint("organization_id", "name"),
    Index(None, "organization_id", "asset_group_id"),
)

scan = Table(
    "scan",
    metadata,
    Column("id", ordered(ID_LENGTH), primary_key=True),
    organization_column(),
    Column("application_id", ordered(ID_LENGTH), nullable=False),
    Column("name", ordered(MAX_SCAN_NAME), nullable=False),
    Column("technology", ordered(32), nullable=False),
    Column("created_by", ordered(MAX_USER_NAME)),
    Column("created_at", BigInteger, nullable=False),
    inside("application", "application_id", cascades=True),
    UniqueConstraint("organization_id", "id"),
    Index(None, "organization_id", "application_id"),
)

execution = Table(
    "execution",
    metadata,
    Column("id", ordered(ID_LENGTH), primary_key=True),
    organization_column(),
    Column("scan_id", ordered(ID_LENGTH), nullable=False),
    Column("status", ordered(16), nullable=False),
    Column("execution_progress", ordered(32), nullable=False),
    Column("progress", Integer, nullable=False, server_default=text("0")),
    Column("result", ordered(16), nullable=False, server_default="None"),
    *_counters(EXECUTION_COUNTERS),
    Column("user_message", ordered()),
    Column("comment", ordered()),
    Column("is_partial", Boolean, nullable=False, server_default=false()),
    Column("created_by_id", ordered(ID_LENGTH)),
    Column("created_by", ordered(MAX_USER_NAME)),
    Column("created_at", BigInteger, nullable=False),
    Column("executed_at", BigInteger),
    Column("ended_at", BigInteger),
    inside("scan", "scan_id", cascades=True),
    UniqueConstraint("organization_id", "id"),
    Index(None, "organization_id", "scan_id", "created_at"),
)
