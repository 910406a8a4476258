"""The type of texts in migrations."""

import sqlalchemy as sa


def text(length: int | None = None) -> sa.String:
    """Compared byte by byte on every database."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")
