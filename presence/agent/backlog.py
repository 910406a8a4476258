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

from presence.agent.backlog_host import NEVER, Entry, Host, places_for_retries
from presence.domain.circuit import CLOSED, Circuit, CircuitState
from presence.domain.rate import TokenBucket

IDLE_KEPT = 600_000
IDLE_HOSTS = 10_000

_READY = -1
"""In place of a timer: the host is in the rotation."""
_SLACK = 64


class HostLimits(NamedTuple):
    """Attempts at once, and started per second (None: no limit)."""

    max_in_flight: int
    rate: float | None


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
        self._most_retries = places_for_retries(max_in_flight)
        self._limits = limits
        self._bucket = None if rate is None else TokenBucket(rate)
        self._easing: tuple[TokenBucket, int] | None = None
        self._jitter = jitter
        self._retrying = 0
        self._order = 0
        self._entries: dict[str, Entry] = {}
        self._started: dict[str, tuple[Host, bool]] = {}
        self._again: dict[str, tuple[str, int, bool]] = {}
        self._hosts: dict[str, Host] = {}
        self._rotation: deque[Host] = deque()
        self._retry_rotation: OrderedDict[Host, None] = OrderedDict()
        self._timers: list[tuple[int, int, Host]] = []
        self._idle: OrderedDict[Host, int] = OrderedDict()

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
        return {
            host.name: host.circuit for host in self._hosts.values() if host.circuit.state is not CircuitState.CLOSED
        }

    @property
    def in_flight(self) -> int:
        return len(self._started)

    def ease(self, rate: float, now: int) -> None:
        """What waits now starts at that rate per second at the most: for as long as all of it takes at that rate."""
        self._easing = TokenBucket(rate), now + int(len(self._entries) * 1000 / rate)

    def limit(self, limits: Callable[[str], HostLimits], rate: float | None) -> None:
        """Other bounds from now on, for the hosts that are known, too; what is in flight goes on."""
        self._limits = limits
        self._bucket = None if rate is None else TokenBucket(rate)
        for host in self._hosts.values():
            host.limit(*limits(host.name))
            self._wake(host, 0)

    def add(self, id: str, host: str, due_at: int, *, first: bool) -> None:
        """A delivery that waits for its attempt; `first`: it had none yet.

        One that waits here already is replaced; one in flight waits from `finished` on, so that it is never twice
        in flight.
        """
        if id in self._started:
            self._again[id] = (host, due_at, first)
            return
        if id in self._entries:
            self.discard(id)
        known = self._hosts.get(host)
        if known is None:
            known = self._hosts[host] = Host(host, *self._limits(host))
        elif self._idle:
            self._idle.pop(known, None)
        self._order += 1
        entry = self._entries[id] = (due_at, self._order, id, known)
        heappush(known.first if first else known.retries, entry)
        if due_at < known.at:
            self._wake(known, max(due_at, known.gate))

    def discard(self, id: str) -> None:
        """The delivery is not to be attempted (again). Nothing happens if it is not here."""
        self._again.pop(id, None)
        entry = self._entries.pop(id, None)
        if entry is not None:
            entry[3].remove(entry)
            self._wake(entry[3], 0)

    def take(self, now: int) -> list[str]:
        """Those that may start now; each is in flight until `finished` is told its id."""
        taken: list[str] = []
        self._look_at_timers(now)
        rotation, retry_rotation = self._rotation, self._retry_rotation
        while len(self._started) < self._most:
            if self._wait(now):
                break
            if retry_rotation and self._retrying < self._most_retries:
                host = retry_rotation.popitem(last=False)[0]
            elif rotation:
                host = rotation.popleft()
                host.at = NEVER
            else:
                break
            queue = self._choose(host, now)
            if queue is not None:
                taken.append(self._start(host, queue, now))
            if host.at != _READY:
                self._place(host, now)
        return taken

    def finished(self, id: str, now: int, reached: bool | None) -> Circuit | None:
        """An attempt that was taken has ended; `reached`: whether the host answered, None: it was not asked.

        Returns the host's circuit if its state is another one now.
        """
        host, first = self._started.pop(id)
        if not first:
            self._retrying -= 1
        before = after = host.circuit
        if before is not CLOSED or reached is False:
            after = before.ended(reached, now, self._jitter())
        host.end(first, after, now)
        if id in self._again:
            name, due_at, first = self._again.pop(id)
            self.add(id, name, due_at, first=first)
        if host.at != _READY and (host.first or host.retries or not host.in_flight):
            self._place(host, now)
        return after if after.state is not before.state else None

    def put_back(self, id: str, now: int) -> None:
        """What was taken could not start: it waits as before."""
        host, first = self._started[id]
        self.finished(id, now, None)
        if id not in self._entries:
            self.add(id, host.name, now, first=first)

    def next_due(self, now: int) -> int | None:
        """How long until `take` may give something; None: not before `add` or `finished`."""
        if len(self._started) >= self._most:
            return None
        wait = self._wait(now)
        if self._rotation or (self._retry_rotation and self._retrying < self._most_retries):
            return wait
        timers = self._timers
        while timers and timers[0][2].at != timers[0][0]:
            heappop(timers)
        return max(wait, timers[0][0] - now) if timers else None

    def _wait(self, now: int) -> int:
        """How long until the rates over all hosts let one start."""
        if self._easing is not None and self._easing[1] <= now:
            self._easing = None
        if self._bucket is None and self._easing is None:
            return 0
        buckets = (self._bucket, self._easing[0] if self._easing else None)
        return max(bucket.wait(now) for bucket in buckets if bucket is not None)

    def _look_at_timers(self, now: int) -> None:
        timers, idle = self._timers, self._idle
        while timers and timers[0][0] <= now:
            at, _, host = heappop(timers)
            if host.at == at:
                host.at = NEVER
                self._place(host, now)
        while idle and next(iter(idle.values())) <= now:
            self._forget(idle.popitem(last=False)[0])

    def _choose(self, host: Host, now: int) -> list[Entry] | None:
        """From which of its queues the host may start one; a retry for which there is no place has to line up."""
        queue = host.choose(now, True)
        if queue is host.retries and self._retrying >= self._most_retries:
            self._retry_rotation[host] = None
            return host.choose(now, False)
        return queue

    def _start(self, host: Host, queue: list[Entry], now: int) -> str:
        first = queue is host.first
        id = host.start(queue, now)
        del self._entries[id]
        self._started[id] = host, first
        if not first:
            self._retrying += 1
        if self._bucket is not None:
            self._bucket.take(now)
        if self._easing is not None:
            self._easing[0].take(now)
        return id

    def _place(self, host: Host, now: int) -> None:
        """Puts a host that is not in the rotation where `take` will find it."""
        at = host.next_start(host not in self._retry_rotation)
        if at <= now:
            host.at = _READY
            self._rotation.append(host)
        elif at != host.at:
            self._set_timer(host, at)
        if at == NEVER and host.is_idle():
            self._rest(host, now)

    def _wake(self, host: Host, at: int) -> None:
        if at < host.at:
            self._set_timer(host, at)

    def _set_timer(self, host: Host, at: int) -> None:
        host.at = at
        if at == NEVER:
            return
        self._order += 1
        heappush(self._timers, (at, self._order, host))
        if len(self._timers) > 2 * len(self._hosts) + _SLACK:
            hosts = enumerate(self._hosts.values())
            self._timers[:] = [(host.at, order, host) for order, host in hosts if _READY < host.at < NEVER]
            heapify(self._timers)

    def _rest(self, host: Host, now: int) -> None:
        """Keeps for a while what is known of a host that has nothing here."""
        self._retry_rotation.pop(host, None)
        if host.knows_nothing(now):
            self._forget(host)
            return
        self._idle[host] = now + IDLE_KEPT
        if len(self._idle) > IDLE_HOSTS:
            self._forget(self._idle.popitem(last=False)[0])

    def _forget(self, host: Host) -> None:
        del self._hosts[host.name]
        self._idle.pop(host, None)
