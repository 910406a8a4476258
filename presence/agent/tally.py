"""What the journal holds, counted in memory: it follows each commit, and goes back with one that is undone."""

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

from presence.domain.delivery import FinalState
from presence.domain.outcome import Reason

HOST_SHARE = 5
"""One host may hold one of so many parts of the journal: when it is down, there is room for the others."""


class Full(StrEnum):
    """Why a fire is not kept; the reasons of `protocol.messages.Busy`."""

    JOURNAL = "journal_full"
    HOST = "host_full"
    MEMORY = "memory_full"


class Tally:
    """`unsettled`: deliveries that have not ended, also by host. `rows`: those and the ones that are remembered.

    `order`: that of the delivery that ended or was held last. `held` wait for a person; `unreported` have ended, and
    their reports are not acknowledged. `ends`: how those ended that ended since the start.
    """

    def __init__(self, max_deliveries: int, max_remembered: int) -> None:
        self._max_deliveries = max_deliveries
        self._max_of_host = max(1, max_deliveries // HOST_SHARE)
        self._max_rows = max_remembered
        self.ends: Counter[tuple[FinalState, Reason]] = Counter()
        self.set({}, 0, 0, 0, 0)

    def set(self, hosts: Mapping[str, int], rows: int, order: int, held: int, unreported: int) -> None:
        self._hosts = Counter(hosts)
        self.unsettled = self._hosts.total()
        self.rows = rows
        self.order = order
        self.held = held
        self.unreported = unreported
        self.begin()

    def begin(self) -> None:
        """What is counted from here on is undone by `undo`."""
        self._changes: list[tuple[str, int]] = []
        self._new_ends: list[tuple[FinalState, Reason]] = []
        self._before = self.rows, self.order, self.held, self.unreported

    def undo(self) -> None:
        for host, change in reversed(self._changes):
            self._count(host, -change)
        self.ends.subtract(self._new_ends)
        self.rows, self.order, self.held, self.unreported = self._before
        self.begin()

    def of(self, host: str) -> int:
        """How many deliveries to that host have not ended."""
        return self._hosts[host]

    def full(self, host: str) -> Full | None:
        """Why no further delivery to that host is taken; None: it is."""
        if self.unsettled >= self._max_deliveries:
            return Full.JOURNAL
        if self.rows >= self._max_rows:
            return Full.MEMORY
        if self._hosts[host] >= self._max_of_host:
            return Full.HOST
        return None

    def began(self, host: str) -> None:
        """A delivery to that host is to be made."""
        self._count(host, 1)
        self._changes.append((host, 1))

    def ended(self, host: str, state: FinalState, reason: Reason) -> None:
        """A delivery to that host has ended so; its report is not acknowledged."""
        self._count(host, -1)
        self._changes.append((host, -1))
        self.unreported += 1
        end = state, reason
        self.ends[end] += 1
        self._new_ends.append(end)

    def _count(self, host: str, change: int) -> None:
        self.unsettled += change
        left = self._hosts[host] + change
        if left:
            self._hosts[host] = left
        else:
            del self._hosts[host]
