"""What the journal holds, counted in memory: it follows each commit, and goes back with one that is undone."""

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

HOST_SHARE = 5
"""One host may hold one of so many parts of the journal: when it is down, there is room for the others."""


class Full(StrEnum):
    """Why a fire is not kept; the reasons of `protocol.messages.Busy`."""

    JOURNAL = "journal_full"
    HOST = "host_full"
    MEMORY = "memory_full"


class Tally:
    """`unsettled`: deliveries that have not ended, also by host. `rows`: those and the ones that are remembered.

    `order`: that of the delivery that ended or was held last.
    """

    def __init__(self, max_deliveries: int, max_remembered: int) -> None:
        self._max_deliveries = max_deliveries
        self._max_of_host = max(1, max_deliveries // HOST_SHARE)
        self._max_rows = max_remembered
        self.set({}, 0, 0)

    def set(self, hosts: Mapping[str, int], rows: int, order: int) -> None:
        self._hosts = Counter(hosts)
        self.unsettled = self._hosts.total()
        self.rows = rows
        self.order = order
        self.begin()

    def begin(self) -> None:
        """What is counted from here on is undone by `undo`."""
        self._changes: list[tuple[str, int]] = []
        self._before = self.rows, self.order

    def undo(self) -> None:
        for host, change in reversed(self._changes):
            self._count(host, -change)
        self.rows, self.order = self._before
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

    def ended(self, host: str) -> None:
        self._count(host, -1)
        self._changes.append((host, -1))

    def _count(self, host: str, change: int) -> None:
        self.unsettled += change
        left = self._hosts[host] + change
        if left:
            self._hosts[host] = left
        else:
            del self._hosts[host]
