"""What all tables share: naming, lists of allowed values, references that stay inside an organization."""

from collections.abc import Collection
from enum import StrEnum

from sqlalchemy import CheckConstraint, Column, ForeignKey, ForeignKeyConstraint, MetaData, String

ID_LENGTH = 36

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def listed(column: str, values: type[StrEnum] | Collection[str]) -> CheckConstraint:
    """The column holds one of these, or NULL where it may."""
    return CheckConstraint(f"{column} IN ({', '.join(repr(str(value)) for value in values)})", name=column)


def organization_column() -> Column[str]:
    """Whose row it is. Every table has it: row-level security goes by it."""
    return Column("organization_id", ordered(ID_LENGTH), ForeignKey("organization.id"), nullable=False)


def inside(table: str, column: str, *, cascades: bool = False) -> ForeignKeyConstraint:
    """A reference to a row of the same organization: no other one can be named."""
    return ForeignKeyConstraint(
        ["organization_id", column],
        [f"{table}.organization_id", f"{table}.id"],
        ondelete="CASCADE" if cascades else None,
    )


def ordered(length: int | None = None) -> String:
    """Text that is compared byte by byte on every database, as Python does. All texts are: no two collations meet."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")
