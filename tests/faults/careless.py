"""`presence` with a journal that is not synchronised at each commit: what a power cut must be seen to break.

Nothing but the tests can do that; it is no setting of the product.
"""

import functools
import sqlite3
from typing import Any

from presence.cli import main


class Careless(sqlite3.Connection):
    """Says FULL and does NORMAL."""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        match sql.lower().replace(" ", ""):
            case "pragmasynchronous=full":
                sql = "PRAGMA synchronous = NORMAL"
            case "pragmasynchronous":
                sql = "SELECT 2"
        return super().execute(sql, *parameters)


if __name__ == "__main__":
    sqlite3.connect = functools.partial(sqlite3.connect, factory=Careless)  # type: ignore[misc, assignment]
    main()
