"""The journal's own time: milliseconds that only pass forward, whatever the wall clock says.

While the host is up it is the host's uptime, across a restart of the program too. A reboot stops it: nobody here
knows for how long. The next Welcome tells, by the server's time then and at the last Welcome before; so a host
that was off for a day fires nothing that is too old, and a host whose clock is wrong expires nothing.

The host's wall clock is not asked at all: without the server's time nobody could say whether it is right, and with it
nobody needs it.
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
        rebooted = not boot_id or boot_id != clock.boot_id()
        self._base = now if rebooted else now + max(0, self._started - elapsed)
        self.in_doubt = rebooted
        """Whether the host was off, and nobody has said yet for how long."""

    def now(self) -> int:
        return int(self._base + max(0, self._clock.elapsed() - self._started))

    def keep(self, db: sqlite3.Connection) -> None:
        """Part of every commit that writes."""
        boot_id, elapsed = self._clock.boot_id(), self._clock.elapsed()
        db.execute(SQL["keep_time"], (boot_id, elapsed, self.now(), self._server_time, self._server_at))

    def meet(self, server_time: int) -> None:
        """The server's time is known now; the first one after a reboot says how long the host was off.

        It is kept with the next commit: until then the one before says the same.
        """
        if self.in_doubt and self._server_time is not None:
            self._base += max(0, self._server_at + server_time - self._server_time - self.now())
        self._server_time, self._server_at = server_time, self.now()
        self.in_doubt = False
