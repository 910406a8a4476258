"""How often somebody may ask: a sliding window, counted in slots, for a bounded number of callers. Pure.

In no window of the given length are more admitted than the limit. A slot leaves the window as a whole, so a caller
may have to wait for up to one slot longer than by the exact moments.
"""

from collections import OrderedDict, deque
from typing import Final

SLOTS: Final = 30
"""Of one window: more would be more exact, and take more memory."""
MAX_CALLERS: Final = 10_000
"""The one that asked least recently is forgotten for a new one."""


class SlidingWindow:
    """`limit`: how much is admitted in `seconds`. Times are of any clock that never goes back, in seconds."""

    def __init__(self, limit: int, seconds: float, most: int = MAX_CALLERS) -> None:
        self._limit = limit
        self._slot = seconds / SLOTS
        self._most = most
        self._callers: OrderedDict[str, _Count] = OrderedDict()

    def admit(self, caller: str, now: float, amount: int = 1) -> float:
        """Counts the amount for the caller and gives 0.0; or, where that would be too much, counts nothing and gives
        the seconds after which it would be admitted.

        An amount beyond the limit counts as the limit: it is admitted when nothing else is in the window.
        """
        slot, amount = int(now // self._slot), min(amount, self._limit)
        count = self._callers.get(caller)
        if count is None:
            if len(self._callers) >= self._most:
                self._callers.popitem(last=False)
            count = self._callers[caller] = _Count()
        self._callers.move_to_end(caller)
        count.leave(slot - SLOTS)
        excess = count.total + amount - self._limit
        if excess > 0:
            return max((count.freed_by(excess) + SLOTS) * self._slot - now, self._slot / SLOTS)
        count.add(slot, amount)
        return 0.0


class _Count:
    """What was admitted in the slots of the window, oldest first."""

    __slots__ = ("slots", "total")

    def __init__(self) -> None:
        self.slots: deque[tuple[int, int]] = deque()
        self.total = 0

    def leave(self, until: int) -> None:
        """Forgets the slots before that one, of which nothing is in the window any more."""
        while self.slots and self.slots[0][0] < until:
            self.total -= self.slots.popleft()[1]

    def add(self, slot: int, amount: int) -> None:
        self.total += amount
        if self.slots and self.slots[-1][0] == slot:
            amount += self.slots.pop()[1]
        self.slots.append((slot, amount))

    def freed_by(self, amount: int) -> int:
        """The slot after whose leaving so much is free."""
        for slot, admitted in self.slots:
            amount -= admitted
            if amount <= 0:
                return slot + 1
        raise AssertionError("no more than the limit is asked for")
