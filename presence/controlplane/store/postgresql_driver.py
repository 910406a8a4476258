"""asyncpg connections whose transactions say on whose behalf they run, in the same trip that begins them.

Row-level security goes by `presence.organization`, which ends with the transaction: a connection that nobody
dedicated sees no row.
"""

import os
import socket
from pathlib import Path
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]

from presence.errors import DatabaseError, DatabaseUnavailable

CONNECT_SECONDS = 10.0
STATEMENT_SECONDS = 60.0
SERVER_SETTINGS = {
    "application_name": f"presence {socket.gethostname()[:30]} {os.getpid()}",
    # A commit is durable, whatever the server's own settings say.
    "synchronous_commit": "on",
    # Partial indexes and skewed states: a plan that fits all values fits none.
    "plan_cache_mode": "force_custom_plan",
    "jit": "off",
    "timezone": "UTC",
    # The server drops a dead control plane's connection, and with it the right to serve, within half a minute.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "4",
    "tcp_user_timeout": "30000",
}


FAILURES: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)
"""What a statement may raise, asked of a connection directly."""
LockTimeout: Final[type[Exception]] = asyncpg.LockNotAvailableError


class Connection(asyncpg.Connection):  # type: ignore[misc]
    """What SQLAlchemy's dialect asks of an asyncpg connection."""

    __slots__ = ("organization_id", "writes")

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.organization_id: str | None = None
        """On whose behalf the next transaction runs."""
        self.writes = True

    def transaction(self, **_options: object) -> "Transaction":
        return Transaction(self)


class Transaction:
    """Begun on behalf of the connection's organization; a reading one is one snapshot."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def start(self) -> None:
        begin = "BEGIN" if self._connection.writes else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        organization_id, self._connection.organization_id = self._connection.organization_id, None
        if organization_id is not None:
            quoted = organization_id.replace("'", "''")
            begin += f"; SELECT set_config('presence.organization', '{quoted}', true)"
        await self._connection.execute(begin)

    async def commit(self) -> None:
        # After a failed statement the server answers COMMIT with a rollback, and calls that a success.
        if await self._connection.execute("COMMIT") != "COMMIT":
            raise asyncpg.InFailedSQLTransactionError("a statement of the transaction failed; nothing was committed")

    async def rollback(self) -> None:
        if not self._connection.is_closed():
            await self._connection.execute("ROLLBACK")


async def connect(url: str, password_file: Path | None, *, writes: bool = True, bounded: bool = True) -> Connection:
    """A new connection; `bounded`: no statement takes longer than `STATEMENT_SECONDS`.

    Raises DatabaseUnavailable where there is none to be had now; no error shows the password.
    """
    password = _password(password_file) if password_file else None
    try:
        connection: Connection = await asyncpg.connect(
            url,
            password=password,
            timeout=CONNECT_SECONDS,
            command_timeout=STATEMENT_SECONDS if bounded else None,
            connection_class=Connection,
            server_settings=SERVER_SETTINGS,
        )
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise DatabaseError(f"the database {url} cannot be used: {error}") from None
    except (*FAILURES, ValueError) as error:
        raise DatabaseUnavailable(f"the database {url} cannot be reached: {error or type(error).__name__}") from None
    connection.writes = writes
    _bound_silence(connection)
    return connection


def _password(file: Path) -> str:
    try:
        return file.read_text().removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise DatabaseError(f"database.password_file {file} cannot be read: {reason}") from None


def _bound_silence(connection: Connection) -> None:
    """The kernel ends a connection whose other side does not answer."""
    found = connection._transport.get_extra_info("socket")
    if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
        return
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4), ("TCP_USER_TIMEOUT", 30_000)):
        if hasattr(socket, name):
            found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
