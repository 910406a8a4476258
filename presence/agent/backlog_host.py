"""What the backlog holds and knows of one host, and what it may start by itself. Times in milliseconds."""

from heapq import heapify, heappop

from presence.domain.circuit import CLOSED, Circuit, CircuitState
from presence.domain.rate import TokenBucket

NEVER = 2**63
_SLACK = 64


Entry = tuple[int, int, str, "Host"]
"""Due at, order (of all entries), id, host."""


class Host:
    """First attempts and retries, each in the order in which they are due; bounds, rate and circuit.

    `gate`: before that time nothing may start; NEVER: not before something has ended. `at` belongs to the backlog.
    """

    __slots__ = (
        "at", "bucket", "circuit", "first", "gate", "gone", "in_flight", "most", "most_retries", "name", "retries",
        "retrying",
    )  # fmt: skip

    def __init__(self, name: str, max_in_flight: int, rate: float | None) -> None:
        self.name = name
        self.most = max_in_flight
        self.most_retries = places_for_retries(max_in_flight)
        self.bucket = None if rate is None else TokenBucket(rate)
        self.circuit = CLOSED
        self.first: list[Entry] = []
        self.retries: list[Entry] = []
        self.gone: set[int] = set()
        self.in_flight = 0
        self.retrying = 0
        self.gate = 0
        self.at = NEVER

    def limit(self, max_in_flight: int, rate: float | None) -> None:
        """Other bounds from now on. The gate opens: it is set anew when something starts or ends."""
        self.most = max_in_flight
        self.most_retries = places_for_retries(max_in_flight)
        self.bucket = None if rate is None else TokenBucket(rate)
        if self.circuit.state is CircuitState.CLOSED:
            self.gate = NEVER if self.in_flight >= self.most else 0

    @property
    def waiting(self) -> int:
        return len(self.first) + len(self.retries) - len(self.gone)

    def is_idle(self) -> bool:
        return not (self.in_flight or self.waiting)

    def knows_nothing(self, now: int) -> bool:
        """Whether a new host would be the same, once this one is idle."""
        return self.circuit is CLOSED and (self.bucket is None or self.bucket.is_full(now))

    def remove(self, entry: Entry) -> None:
        """An entry that was added will not start. It leaves its queue later, before half of that is such entries."""
        self.gone.add(entry[1])
        if len(self.gone) > self.waiting + _SLACK:
            for queue in (self.first, self.retries):
                queue[:] = [entry for entry in queue if entry[1] not in self.gone]
                heapify(queue)
            self.gone.clear()

    def next_start(self, may_retry: bool) -> int:
        """When something may start if nothing but time passes; NEVER: not so."""
        if self.gone:
            self._prune()
        at = self.first[0][0] if self.first else NEVER
        if may_retry and self.retries and self.retries[0][0] < at and self.retrying < self.most_retries:
            at = self.retries[0][0]
        return max(at, self.gate)

    def choose(self, now: int, may_retry: bool) -> list[Entry] | None:
        """The queue whose first entry is the next to start; None: nothing may start now."""
        if self.gate > now:
            return None
        if self.gone:
            self._prune()
        first = self.first if self.first and self.first[0][0] <= now else None
        if not (may_retry and self.retries and self.retries[0][0] <= now and self.retrying < self.most_retries):
            return first
        if first is not None and (first[0] < self.retries[0] or self.circuit.state is CircuitState.OPEN):
            return first
        return self.retries

    def start(self, queue: list[Entry], now: int) -> str:
        """The id of the first of the queue that was chosen; its attempt has started."""
        id = heappop(queue)[2]
        self.in_flight += 1
        if queue is self.retries:
            self.retrying += 1
        if self.bucket is not None:
            self.bucket.take(now)
        if self.circuit is not CLOSED:
            self.circuit = self.circuit.started()
        self._set_gate(now)
        return id

    def end(self, first: bool, circuit: Circuit, now: int) -> None:
        """An attempt that was started has ended, which made that of the circuit."""
        self.in_flight -= 1
        if not first:
            self.retrying -= 1
        self.circuit = circuit
        self._set_gate(now)

    def _set_gate(self, now: int) -> None:
        if self.in_flight >= self.most:
            self.gate = NEVER
        elif self.circuit is CLOSED or self.circuit.state is CircuitState.CLOSED:
            self.gate = 0
        else:
            self.gate = NEVER if self.in_flight else self.circuit.probe_at
        if self.bucket is not None:
            self.gate = max(self.gate, now + self.bucket.wait(now))

    def _prune(self) -> None:
        """Afterwards the first of each queue is one that may start."""
        for queue in (self.first, self.retries):
            while queue and queue[0][1] in self.gone:
                self.gone.remove(heappop(queue)[1])


def places_for_retries(places: int) -> int:
    """How many of so many places retries may hold: three quarters, at least one."""
    return max(1, places * 3 // 4)
