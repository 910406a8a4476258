"""The states of a delivery, on both sides, and the changes that are allowed.

In the agent's journal::

    pending --claim--> delivering --settle--> succeeded | failed | refused
       ^                   |
       +---- retry --------+        (also: found in `delivering` after a crash)
    pending | delivering <-> held
    pending | held --> refused | expired | cancelled
    cancelled --> pending                    (fired again: another instance had it meanwhile)

In the control plane::

    queued --dispatch--> dispatched --Accepted--> accepted --Report--> succeeded | failed | refused
      ^ ^                    |                        |                | expired | cancelled
      | +-- Busy, session ---+                        |
      |     lost                                      |
      +---- lease ended and another instance ready ---+
    queued <-> held;  queued | held --> expired | cancelled;  dispatched | accepted --> cancelling --> final
    accepted <-> held        (the outcome is unknown and a person decides; the instance still has it, so that
                              no other one is given it when a lease ends)

What the agent says is the truth about the network. A `Report` of success ends a delivery that is not final yet
from any state and from any instance; every other end counts from the instance that the delivery was given to.
`Accepted` or `Holding` takes one out of `queued`, because a session that was lost before `Accepted` arrived
had put it back there.
"""

from collections.abc import Mapping
from enum import StrEnum

LONGEST_PAUSE = 366 * 86_400.0
"""Seconds that the local maintenance of an agent may last, if it is to end by itself."""


class FinalState(StrEnum):
    """How a delivery ends. The same five names on both sides and on the wire."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUSED = "refused"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class JournalState(StrEnum):
    """State of a delivery in the agent's journal."""

    PENDING = "pending"
    DELIVERING = "delivering"
    HELD = "held"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUSED = "refused"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class DeliveryState(StrEnum):
    """State of a delivery in the control plane, as its delivery log shows it."""

    QUEUED = "queued"
    HELD = "held"
    DISPATCHED = "dispatched"
    ACCEPTED = "accepted"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUSED = "refused"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


_J, _D = JournalState, DeliveryState

JOURNAL_TRANSITIONS: Mapping[JournalState, frozenset[JournalState]] = {
    _J.PENDING: frozenset({_J.DELIVERING, _J.HELD, _J.REFUSED, _J.EXPIRED, _J.CANCELLED}),
    _J.DELIVERING: frozenset({_J.PENDING, _J.HELD, _J.SUCCEEDED, _J.FAILED, _J.REFUSED}),
    _J.HELD: frozenset({_J.PENDING, _J.DELIVERING, _J.REFUSED, _J.EXPIRED, _J.CANCELLED}),
    **{_J(final.value): frozenset() for final in FinalState},
    _J.CANCELLED: frozenset({_J.PENDING}),
}

_ENDS = frozenset(_D(final.value) for final in FinalState)

DELIVERY_TRANSITIONS: Mapping[DeliveryState, frozenset[DeliveryState]] = {
    _D.QUEUED: frozenset({_D.DISPATCHED, _D.HELD, _D.ACCEPTED}) | _ENDS,
    _D.HELD: frozenset({_D.QUEUED, _D.ACCEPTED}) | _ENDS,
    _D.DISPATCHED: frozenset({_D.QUEUED, _D.ACCEPTED, _D.CANCELLING}) | _ENDS,
    _D.ACCEPTED: frozenset({_D.QUEUED, _D.HELD, _D.CANCELLING}) | _ENDS,
    _D.CANCELLING: _ENDS,
    **{end: frozenset() for end in _ENDS},
}


def sources_of(target: DeliveryState) -> tuple[DeliveryState, ...]:
    """The states from which a delivery in the control plane may change to `target`, in a stable order."""
    return tuple(state for state in DeliveryState if target in DELIVERY_TRANSITIONS[state])
