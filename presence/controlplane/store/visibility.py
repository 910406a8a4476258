"""What a principal may see, as conditions of queries: the rules of `access`, where the rows are."""

from sqlalchemy import ColumnElement, and_, false, true
from sqlalchemy.sql.expression import FromClause

from presence.controlplane.access import Principal


def in_groups(principal: Principal, column: ColumnElement[str] | ColumnElement[str | None]) -> ColumnElement[bool]:
    """Rows of asset groups that the principal may enter; NULL, the organization level, only with access to all."""
    if principal.enters_all_groups:
        return true()
    return column.in_(sorted(principal.asset_group_ids)) if principal.asset_group_ids else false()


def visible(principal: Principal, table: FromClause) -> ColumnElement[bool]:
    """Rows of the principal's organization in asset groups that it may enter."""
    return and_(table.c.organization_id == principal.organization_id, in_groups(principal, table.c.asset_group_id))
