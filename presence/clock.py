"""Time, as a value that is handed in: durations come from `elapsed`, only display uses `wall`."""

import time
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """What the stages ask of time. All figures are milliseconds."""

    def elapsed(self) -> int:
        """Milliseconds since the host booted, suspend included; never goes back while it is up."""

    def awake(self) -> int:
        """Milliseconds that the host was awake since it booted: suspend excluded."""

    def wall(self) -> int:
        """Milliseconds since the Unix epoch, as the host believes; may jump either way."""

    def boot_id(self) -> str:
        """Names this boot of the host: two readings of `elapsed` compare only under the same name."""


class SystemClock:
    """The host's clocks: CLOCK_BOOTTIME where there is one, else the monotonic clock."""

    def __init__(self) -> None:
        self._source = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        try:
            self._boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            self._boot_id = ""

    def elapsed(self) -> int:
        return time.clock_gettime_ns(self._source) // 1_000_000

    def awake(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000_000

    def wall(self) -> int:
        return time.time_ns() // 1_000_000

    def boot_id(self) -> str:
        return self._boot_id
