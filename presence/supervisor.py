"""What the daemon tells its supervisor: systemd's notification protocol (sd_notify(3)), without a library.

The watchdog is fed by proof only: whoever asks `Watchdog` to be fed has shown that every stage makes progress.
"""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping

AGAIN = 1.0
"""Seconds after which the proof is asked for once more where it failed: a stage that comes back in time is forgiven."""


def notify(*lines: str) -> None:
    """Sends `READY=1`, `STATUS=...`, `STOPPING=1` to systemd, where it asked for them; else does nothing.

    Never blocks and never fails: a supervisor that does not listen must not stop a delivery.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.setblocking(False)
            channel.sendto("\n".join(lines).encode(), address)
    except OSError:
        return


def notify_reloading() -> None:
    """A reload begins; READY=1 ends it."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """How often the supervisor wants a sign of life from this process at least; None: it wants none."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    wanted = environment.get("WATCHDOG_USEC", "")
    return int(wanted) / 1_000_000 if wanted.isascii() and wanted.isdigit() and int(wanted) else None


class Watchdog:
    """Feeds the supervisor's watchdog at half its interval, as long as `faults` gives none.

    `recovered` is called when there are none again: STATUS= told of them.
    """

    def __init__(
        self, seconds: float, faults: Callable[[], Awaitable[list[str]]], recovered: Callable[[], None]
    ) -> None:
        self._every = seconds / 2
        self._faults = faults
        self._recovered = recovered

    async def run(self) -> None:
        told = False
        while True:
            faults = await self._faults()
            if faults:
                notify(f"STATUS=not making progress: {'; '.join(faults)}")
            else:
                notify("WATCHDOG=1")
                if told:
                    self._recovered()
            told = bool(faults)
            await asyncio.sleep(min(self._every, AGAIN) if faults else self._every)
