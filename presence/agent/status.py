"""The state of the running daemon: what hangs, what keeps it from being ready, and all of it as one document.

The document holds numbers, states, names of hosts and files; never a secret, nor what a URI or a body holds.
Durations are in seconds.
"""

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from presence import __version__, logs
from presence.agent import listing
from presence.agent.journal import Journal
from presence.agent.link import Link
from presence.agent.link_state import LinkState, LinkStatus
from presence.agent.pause import Pause
from presence.agent.pulse import Pulse
from presence.agent.reload import Reload
from presence.agent.removal import REMEDY
from presence.agent.worker import Worker
from presence.errors import ConfigurationError

Document = dict[str, object]

ANSWER_SECONDS = 10.0
"""Within so many the journal's thread answers, or it hangs."""
LAG_EVERY, LAG_SECONDS = 1.0, 5.0
"""How often the event loop's lag is measured, and from when on it is a fault."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What is looked at. `reload` has the settings in force, `config` names their file; `listeners`: our own places."""

    journal: Journal
    path: Path
    link: Link
    worker: Worker
    pause: Pause
    pulses: tuple[Pulse, ...]
    reload: Reload
    config: Path | None
    run: str
    listeners: tuple[str, ...]


class Status:
    """`run` measures the event loop; the rest is asked when somebody wants to know."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._began = self._turned = monotonic()
        self._lag = 0.0
        self._probe: asyncio.Task[None] | None = None

    async def run(self) -> None:
        while True:
            self._turned = monotonic()
            await asyncio.sleep(LAG_EVERY)
            self._lag = max(0.0, monotonic() - self._turned - LAG_EVERY)

    async def hanging(self) -> list[str]:
        """What makes no progress, one line each. Being disconnected, or a disk that takes nothing, is no such thing."""
        faults = []
        if not await self._journal_answers():
            faults.append(f"the journal's thread has not answered for {ANSWER_SECONDS:g} s")
        if self._lag > LAG_SECONDS:
            faults.append(f"the event loop was late by {self._lag:.1f} s")
        if self._parts.journal.is_writable:  # else stages wait for the disk, and a restart would not help
            faults += [
                f"the stage '{pulse.name}' is {pulse.overdue:.0f} s late"
                for pulse in self._parts.pulses
                if pulse.overdue
            ]
        return faults

    def unready(self) -> list[str]:
        """What keeps the agent from taking fires, one line each."""
        faults = []
        link = self._parts.link.status()
        if link.state is not LinkState.ONLINE:
            faults.append(f"not connected: {describe(link)}")
        if not self._parts.journal.is_writable:
            faults.append("the journal cannot be written; free space on its disk, or look at its permissions")
        if self._parts.journal.is_removed:
            faults.append(f"the journal's file was removed; {REMEDY}")
        return faults

    async def document(self) -> Document:
        """The document of /status and `presence status --json`."""
        parts = self._parts
        hanging, unready = await self.hanging(), self.unready()
        return {
            "version": __version__,
            "instance": parts.journal.instance,
            "run": parts.run,
            "pid": os.getpid(),
            "uptime_s": _rounded(monotonic() - self._began),
            "config": str(parts.config) if parts.config else None,
            "reload": {"fault": parts.reload.fault, "restart_needed": parts.reload.restart},
            "listeners": list(parts.listeners),
            "live": not hanging,
            "ready": not (hanging or unready),
            "faults": [*hanging, *unready],
            "paused": self._paused(),
            "link": self._link(),
            "journal": await self._journal(),
            "deliveries": self._deliveries(),
            "log": {"dropped": logs.dropped()},
        }

    async def _journal_answers(self) -> bool:
        """One question at a time: a thread that hangs must not be asked more and more."""
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._parts.journal.answer(), name="status-probe")
        await asyncio.wait([self._probe], timeout=ANSWER_SECONDS)
        return self._probe.done()

    def _paused(self) -> Document | None:
        if not self._parts.journal.is_paused:
            return None
        return {"remaining_s": _seconds(self._parts.pause.remaining)}

    def _link(self) -> Document:
        control_plane = self._parts.reload.settings.control_plane
        proxy = None
        with suppress(ConfigurationError):
            proxy = control_plane.model_copy(update={"proxy_credentials_file": None}).link_proxy()
        link = self._parts.link.status()
        failure = link.failure
        return {
            "state": link.state.value,
            "for_s": _seconds(link.lasts),
            "tries": link.tries,
            "url": control_plane.address(),
            "proxy": f"{proxy.scheme}://{proxy.host}:{proxy.port}" if proxy else None,
            "canary_ago_s": _seconds(link.canary_ago),
            "clock_offset_s": _seconds(link.clock_offset),
            "last_failure": failure
            and {"cause": failure.cause.value, "reason": failure.reason, "ago_s": _seconds(failure.ago)},
        }

    async def _journal(self) -> Document:
        journal, answers = self._parts.journal, await self._journal_answers()
        document: Document = {
            "path": str(self._parts.path),
            "writable": answers and journal.is_writable and not journal.is_removed,
            "size_bytes": size_of(self._parts.path),
            "remembered": journal.tally.rows,
        }
        if answers:
            sums = await journal.look(listing.sums, None)
            oldest = None if sums.oldest is None else _seconds(journal.now() - sums.oldest)
            document |= {**sums._asdict(), "oldest_s": oldest}
            del document["oldest"]
        return document

    def _deliveries(self) -> Document:
        journal, last = self._parts.journal, self._parts.worker.last_success
        now = journal.now()
        circuits = journal.backlog.circuits()
        return {
            "in_flight": journal.backlog.in_flight,
            "waiting": len(journal.backlog),
            "circuits": [
                {
                    "host": host,
                    "state": circuit.state.value,
                    "probe_in_s": _seconds(max(0, circuit.probe_at - now)),
                    "waiting": journal.backlog.waiting(host),
                }
                for host, circuit in sorted(circuits.items())
            ],
            "last_success": last and {"ago_s": _seconds(now - last[0]), "target": last[1]},
        }


def describe(link: LinkStatus) -> str:
    """The link's state and, where it is not connected, why."""
    if link.state in (LinkState.ONLINE, LinkState.DRAINING) or link.failure is None:
        return link.state.value
    return f"{link.state.value}: {link.failure.cause.value}: {link.failure.reason}"


def size_of(path: Path) -> int:
    """Bytes of the journal's files."""
    return sum(_bytes(file) for file in (path, path.with_name(f"{path.name}-wal")))


def _bytes(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else _rounded(milliseconds / 1000)


def _rounded(seconds: float) -> float:
    return round(seconds, 3)
