"""The journal's own time: milliseconds that only pass forward, whatever the wall clock says.

While the host is up it is the host's uptime, across a restart of the program too. A reboot stops it: nobody here
knows for how long. The next Welcome tells, by the server's time then and at the last Welcome before; so a host
that was off for a day fires nothing that is too old, and a host whose clock is wrong expires nothing.
"""

import sqlite3

from presence.agent.journal_file import SQL
from presence.clock import Clock


class JournalTime:
    """Continues where the journal's last commit was."""

    def __init__(self, db: sqlite3.Connection, clock: Clock) -> None:
        boot_id, elapsed, now, self._server_time, self._server_at = db.execute(SQL["time"]).fetchone()
        self._clock = clock
        self._started = clock.elapsed()
        self._rebooted = not boot_id or boot_id != clock.boot_id()
        self._base = now if self._rebooted else now + max(0, self._started - elapsed)

    def now(self) -> int:
        return int(self._base + max(0, self._clock.elapsed() - self._started))

    def keep(self, db: sqlite3.Connection) -> None:
        """Part of every commit that writes."""
        db.execute(SQL["keep_time"], (self._clock.boot_id(), self._clock.elapsed(), self.now()))

    def meet(self, db: sqlite3.Connection, server_time: int) -> None:
        """The server's time is known now; the first one after a reboot says how long the host was off."""
        if self._rebooted and self._server_time is not None:
            self._base += max(0, self._server_at + server_time - self._server_time - self.now())
        self._rebooted = False
        self._server_time, self._server_at = server_time, self.now()
        db.execute(SQL["meet"], (self._server_time, self._server_at))
