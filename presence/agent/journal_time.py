"""The journal's own time: milliseconds that only pass forward.

While the host is up it is the host's uptime; across a reboot it grows by the wall clock, never backwards.
So a retry survives a restart, and a wall clock set back or forth while the daemon runs changes nothing.
"""

import sqlite3

from presence.agent.journal_file import SQL
from presence.clock import Clock


class JournalTime:
    """Continues where the journal's last commit was."""

    def __init__(self, db: sqlite3.Connection, clock: Clock) -> None:
        boot_id, elapsed, wall, now = db.execute(SQL["time"]).fetchone()
        self._clock = clock
        self._started = clock.elapsed()
        same_boot = boot_id and boot_id == clock.boot_id()
        passed = self._started - elapsed if same_boot else clock.wall() - wall
        self._base = now + max(0, passed)

    def now(self) -> int:
        return int(self._base + max(0, self._clock.elapsed() - self._started))

    def keep(self, db: sqlite3.Connection) -> None:
        """Part of every commit that writes."""
        clock = self._clock
        db.execute(SQL["keep_time"], (clock.boot_id(), clock.elapsed(), clock.wall(), self.now()))
