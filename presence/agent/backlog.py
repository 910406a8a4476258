"""Which deliveries may start now: the journal's pending ones by host, in memory. No clock, no I/O, no tasks.

A host's entries are due at their times; those of its first attempts and its retries are kept apart::

    add --> entries of a host --its next one is due--> rotation of hosts --take--> in flight --finished--> (gone)
                 ^               and it may start            |
                 +--the host is full, its circuit is open, --+
                    its rate is used up, nothing is due

- At most `max_in_flight` attempts at once, and for each host its own bound. Of either, retries hold at most three
  quarters, so that a wave of them leaves room for first attempts. Within a host the one that is due longest goes first,
  so that no stream of first attempts keeps its retries waiting for ever.
- Hosts take turns, one attempt each, however long their queues are. Hosts whose retries found all places for retries
  taken wait in a rotation of their own for the next such place.
- A host whose circuit is open gives nothing. When its time has come and nothing of it is in flight any more, it gives
  one: the probe, a first attempt rather than a retry, so that no single delivery pays with all its attempts.
- What a host's rate or the overall rate does not allow waits.

What is known of a host that has nothing here (its failures, its rate) is forgotten ten minutes later, or earlier if
more than 10,000 such hosts are known. Times are in milliseconds, all of one clock.
"""

import random
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from presence.domain.circuit import CLOSED, Circuit, CircuitState
from presence.domain.rate import TokenBucket

IDLE_KEPT = 600_000
IDLE_HOSTS = 10_000

_READY = -1
_NEVER = 2**63
_SLACK = 64


class HostLimits(NamedTuple):
    """Attempts at once, and started per second (None: no limit)."""

    max_in_flight: int
    rate: float | None


class _Host:
    """What is known of one host. `at`: when the timers look at it, or _READY: it is in the rotation."""

    __slots__ = (
        "at", "bucket", "circuit", "first", "gate", "in_flight", "most", "most_retries", "name", "retries",
        "retrying", "stale",
    )  # fmt: skip

    def __init__(self, name: str, limits: HostLimits) -> None:
        self.name = name
        self.most = limits.max_in_flight
        self.most_retries = _places_for_retries(limits.max_in_flight)
        self.bucket = None if limits.rate is None else TokenBucket(limits.rate)
        self.circuit = CLOSED
        self.first: list[_Entry] = []
        self.retries: list[_Entry] = []
        self.stale = 0
        self.in_flight = 0
        self.retrying = 0
        self.at = _NEVER
        self.gate = 0

    @property
    def waiting(self) -> int:
        return len(self.first) + len(self.retries) - self.stale

    def close_gate(self, now: int) -> None:
        """Sets `gate`: before it nothing may start, _NEVER: not before something has finished."""
        if self.in_flight >= self.most:
            self.gate = _NEVER
        elif self.circuit is CLOSED or self.circuit.state is CircuitState.CLOSED:
            self.gate = 0
        else:
            self.gate = _NEVER if self.in_flight else self.circuit.probe_at
        if self.bucket is not None:
            self.gate = max(self.gate, now + self.bucket.wait(now))


_Entry = tuple[int, int, str, _Host]
"""Due at, order, id, host."""


class Backlog:
    """`limits` of a host are asked for when its first entry comes; `rate` is the overall one, per second."""

    def __init__(
        self,
        max_in_flight: int,
        limits: Callable[[str], HostLimits],
        rate: float | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._most = max_in_flight
        self._most_retries = _places_for_retries(max_in_flight)
        self._limits = limits
        self._bucket = None if rate is None else TokenBucket(rate)
        self._jitter = jitter
        self._in_flight = 0
        self._retrying = 0
        self._order = 0
        self._entries: dict[str, _Entry] = {}
        self._started: dict[str, tuple[_Host, bool]] = {}
        self._again: dict[str, tuple[str, int, bool]] = {}
        self._hosts: dict[str, _Host] = {}
        self._rotation: deque[_Host] = deque()
        self._retry_rotation: OrderedDict[_Host, None] = OrderedDict()
        self._timers: list[tuple[int, int, _Host]] = []
        self._idle: OrderedDict[_Host, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, id: str) -> bool:
        """Whether it waits here or is in flight."""
        return id in self._entries or id in self._started

    def waiting(self, host: str) -> int:
        """How many entries of that host are here."""
        known = self._hosts.get(host)
        return known.waiting if known else 0

    def circuits(self) -> Mapping[str, Circuit]:
        """The circuits that are not closed, by host."""
        return {host.name: host.circuit for host in self._hosts.values() if host.circuit.state != CircuitState.CLOSED}

    def add(self, id: str, host: str, due_at: int, *, first: bool) -> None:
        """A delivery that waits for its attempt; `first`: it had none yet.

        One that waits here already is replaced; one in flight waits from `finished` on, so that it is never twice
        in flight.
        """
        if id in self._started:
            self._again[id] = (host, due_at, first)
            return
        if id in self._entries:
            self._forget_entry(id)
        known = self._hosts.get(host)
        if known is None:
            known = self._hosts[host] = _Host(host, self._limits(host))
        elif self._idle:
            self._idle.pop(known, None)
        self._order += 1
        entry = (due_at, self._order, id, known)
        self._entries[id] = entry
        heappush(known.first if first else known.retries, entry)
        if due_at < known.at:
            self._wake(known, max(due_at, known.gate))

    def discard(self, id: str) -> None:
        """The delivery is not to be attempted (again). Nothing happens if it is not here."""
        self._again.pop(id, None)
        if id in self._entries:
            self._wake(self._forget_entry(id), 0)

    def take(self, now: int) -> list[str]:
        """Those that may start now; each is in flight until `finished` is told its id."""
        taken: list[str] = []
        self._look_at_timers(now)
        rotation, retry_rotation = self._rotation, self._retry_rotation
        while self._in_flight < self._most:
            if self._bucket is not None and self._bucket.wait(now):
                break
            if retry_rotation and self._retrying < self._most_retries:
                host = retry_rotation.popitem(last=False)[0]
            elif rotation:
                host = rotation.popleft()
                host.at = _NEVER
            else:
                break
            chosen = self._choose(host, now)
            if chosen is not None:
                taken.append(self._start(host, chosen, now))
            if host.at != _READY:
                self._place(host, now)
        return taken

    def finished(self, id: str, now: int, reached: bool | None) -> Circuit | None:
        """An attempt that was taken has ended; `reached`: whether the host answered, None: it was not asked.

        Returns the host's circuit if its state is another one now.
        """
        known, first = self._started.pop(id)
        known.in_flight -= 1
        self._in_flight -= 1
        if not first:
            known.retrying -= 1
            self._retrying -= 1
        before = known.circuit
        if before is not CLOSED or reached is False:
            known.circuit = before.ended(reached, now, self._jitter())
        known.close_gate(now)
        if id in self._again:
            host, due_at, first = self._again.pop(id)
            self.add(id, host, due_at, first=first)
        if known.at != _READY and (known.first or known.retries or not known.in_flight):
            self._place(known, now)
        return known.circuit if known.circuit.state is not before.state else None

    def next_due(self, now: int) -> int | None:
        """How long until `take` may give something; None: not before `add` or `finished`."""
        if self._in_flight >= self._most:
            return None
        wait = 0 if self._bucket is None else self._bucket.wait(now)
        if self._rotation or (self._retry_rotation and self._retrying < self._most_retries):
            return wait
        timers = self._timers
        while timers and timers[0][2].at != timers[0][0]:
            heappop(timers)
        return max(wait, timers[0][0] - now) if timers else None

    def _look_at_timers(self, now: int) -> None:
        timers, idle = self._timers, self._idle
        while timers and timers[0][0] <= now:
            at, _, host = heappop(timers)
            if host.at == at:
                host.at = _NEVER
                self._place(host, now)
        while idle and next(iter(idle.values())) <= now:
            self._forget(idle.popitem(last=False)[0])

    def _choose(self, host: _Host, now: int) -> "list[_Entry] | None":
        """From which of its queues the host may start one; a retry for which there is no place has to line up."""
        if host.gate > now:
            return None
        if host.stale:
            self._prune(host)
        first = host.first if host.first and host.first[0][0] <= now else None
        if not host.retries or host.retries[0][0] > now or not self._may_retry(host):
            return first
        if first is not None and (host.circuit is not CLOSED or first[0] < host.retries[0]):
            return first
        if self._retrying >= self._most_retries:
            self._retry_rotation[host] = None
            return first
        return host.retries

    def _start(self, host: _Host, queue: "list[_Entry]", now: int) -> str:
        id = heappop(queue)[2]
        del self._entries[id]
        host.in_flight += 1
        self._in_flight += 1
        first = queue is host.first
        self._started[id] = host, first
        if not first:
            host.retrying += 1
            self._retrying += 1
        if self._bucket is not None:
            self._bucket.take(now)
        if host.bucket is not None:
            host.bucket.take(now)
        if host.circuit is not CLOSED:
            host.circuit = host.circuit.started()
        host.close_gate(now)
        return id

    def _place(self, host: _Host, now: int) -> None:
        """Puts a host that is not in the rotation where `take` will find it."""
        if host.stale:
            self._prune(host)
        at = host.first[0][0] if host.first else _NEVER
        if host.retries and host.retries[0][0] < at and self._may_retry(host):
            at = host.retries[0][0]
        at = max(at, host.gate)
        if at <= now:
            host.at = _READY
            self._rotation.append(host)
        elif at != host.at:
            self._set_timer(host, at)
        if not (host.in_flight or host.first or host.retries):
            self._rest(host, now)

    def _may_retry(self, host: _Host) -> bool:
        """Whether a place for a retry of this host is free, and it is not lined up for one of all hosts' places."""
        return host.retrying < host.most_retries and host not in self._retry_rotation

    def _wake(self, host: _Host, at: int) -> None:
        if at < host.at:
            self._set_timer(host, at)

    def _set_timer(self, host: _Host, at: int) -> None:
        host.at = at
        if at == _NEVER:
            return
        self._order += 1
        heappush(self._timers, (at, self._order, host))
        if len(self._timers) > 2 * len(self._hosts) + _SLACK:
            hosts = enumerate(self._hosts.values())
            self._timers[:] = [(host.at, order, host) for order, host in hosts if _READY < host.at < _NEVER]
            heapify(self._timers)

    def _rest(self, host: _Host, now: int) -> None:
        """Keeps for a while what is known of a host that has nothing here."""
        if host.circuit is CLOSED and (host.bucket is None or host.bucket.is_full(now)):
            self._forget(host)
            return
        self._idle[host] = now + IDLE_KEPT
        if len(self._idle) > IDLE_HOSTS:
            self._forget(self._idle.popitem(last=False)[0])

    def _forget(self, host: _Host) -> None:
        del self._hosts[host.name]
        self._retry_rotation.pop(host, None)

    def _forget_entry(self, id: str) -> _Host:
        """Takes an entry out of the count; its queue is tidied when more than half of it is such entries."""
        host = self._entries.pop(id)[3]
        host.stale += 1
        if host.stale > host.waiting + _SLACK:
            for queue in (host.first, host.retries):
                queue[:] = [entry for entry in queue if self._entries.get(entry[2]) is entry]
                heapify(queue)
            host.stale = 0
        return host

    def _prune(self, host: _Host) -> None:
        """Afterwards the first of each queue is one that is still here."""
        for queue in (host.first, host.retries):
            while queue and self._entries.get(queue[0][2]) is not queue[0]:
                heappop(queue)
                host.stale -= 1


def _places_for_retries(places: int) -> int:
    return max(1, places * 3 // 4)
