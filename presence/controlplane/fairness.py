"""Who gets what, and how much of it: decisions without I/O.

Hosts are served in turn, and none may use more of the credit than twice what is left free: so a host that does not
answer fills two thirds of the credit at most, two of them four fifths, and there is always some for the others.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from presence.controlplane.store.queue import Due
from presence.protocol.session import ControlPlaneSession

SHARE = 2
"""How many times the free credit one host may use."""


class Seat(Protocol):
    """What `assign` asks of a connection. `in_flight`: how many deliveries it was given and has not finished."""

    @property
    def session(self) -> ControlPlaneSession: ...

    @property
    def free_credit(self) -> int: ...

    @property
    def in_flight(self) -> int: ...


S = TypeVar("S", bound=Seat)


def in_turn(hosts: Sequence[str], last: str | None) -> list[str]:
    """The hosts, which are in order, from the one that follows the `last` that was first."""
    if last is None:
        return list(hosts)
    return [host for host in hosts if host > last] + [host for host in hosts if host <= last]


def shares(hosts: Sequence[str], used: Mapping[str, int], credit: int, limit: int) -> dict[str, int]:
    """How many deliveries each host may be given of `limit` in all, if it has as many.

    `used`: the credit that each uses already; `credit`: what is free.
    """
    given = dict.fromkeys(hosts, 0)
    waiting, free = deque(hosts), credit
    while waiting and free > 0 and credit - free < limit:
        host = waiting.popleft()
        # One that has too much now has too much later, as the free credit only shrinks.
        if used.get(host, 0) + given[host] < SHARE * free:
            given[host] += 1
            free -= 1
            waiting.append(host)
    return given


def assign(due: Sequence[Due], seats: Sequence[S]) -> list[tuple[S, list[Due]]]:
    """Who gets what: always the seat with the fewest in flight, within its credit.

    A suspect goes alone to a seat with nothing unanswered; while there is none, the seat with the fewest unanswered
    gets nothing at all, so that it becomes free.
    """
    given: dict[int, list[Due]] = {id(seat): [] for seat in seats}
    free = list(seats)
    for suspect in (delivery for delivery in due if delivery.suspect):
        if not free:
            break
        seat = min(free, key=lambda seat: len(seat.session.unanswered))
        free.remove(seat)
        if seat.session.unanswered:
            break
        given[id(seat)].append(suspect)
    for delivery in (delivery for delivery in due if not delivery.suspect):
        free = [seat for seat in free if len(given[id(seat)]) < seat.free_credit]
        if not free:
            break
        seat = min(free, key=lambda seat: seat.in_flight + len(given[id(seat)]))
        given[id(seat)].append(delivery)
    return [(seat, given[id(seat)]) for seat in seats if given[id(seat)]]
