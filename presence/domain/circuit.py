"""The circuit of a host: after failures in a row nothing is sent to it until a probe gets an answer.

::

    closed --5 failures in a row--> open --its time has come: one attempt, the probe--> half_open
       ^                            |  ^                                                   |
       +--an answer, to whatever----+  +--------------the probe failed, or said nothing----+
       +--------------------------------------------------an answer------------------------+

A failure is an attempt to which the host gave no status line. An answer in any state closes the circuit: attempts
that began before it opened may still end. Their failures are not counted any more.

A circuit opens for a random time between the half and the whole of a bound that starts at 10 seconds and doubles with
each failed probe up to 5 minutes: at least 5 seconds, and agents that lost the same host do not probe it in step.
A circuit holds deliveries; it never ends one.
"""

from dataclasses import dataclass
from enum import StrEnum


class CircuitState(StrEnum):
    """Whether attempts may start."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


FAILURES = 5
"""Failures in a row that open a circuit."""
FIRST_BOUND = 10_000
LAST_BOUND = 300_000
"""Bounds of the time that a circuit is open, in milliseconds."""


@dataclass(frozen=True, slots=True)
class Circuit:
    """`failures` in a row while closed; `bound` of the time it is open; `probe_at`: when the probe may start."""

    state: CircuitState = CircuitState.CLOSED
    failures: int = 0
    bound: int = 0
    probe_at: int = 0

    def started(self) -> "Circuit":
        """After an attempt has started. An open circuit's is the probe; the caller starts none before `probe_at`."""
        match self.state:
            case CircuitState.CLOSED:
                return self
            case CircuitState.OPEN:
                return Circuit(CircuitState.HALF_OPEN, 0, self.bound, self.probe_at)
            case CircuitState.HALF_OPEN:
                raise ValueError("a circuit that is half open has its probe")

    def ended(self, reached: bool | None, now: int, jitter: float) -> "Circuit":
        """After an attempt has ended; `reached` is whether the host answered, None: it was not asked.

        While half open the caller lets only the probe end. `jitter` is a random number in [0, 1).
        """
        if reached:
            return CLOSED
        match self.state:
            case CircuitState.CLOSED if reached is None:
                return self
            case CircuitState.CLOSED if self.failures + 1 < FAILURES:
                return Circuit(failures=self.failures + 1)
            case CircuitState.CLOSED:
                return _open(FIRST_BOUND, now, jitter)
            case CircuitState.OPEN:
                return self
            case CircuitState.HALF_OPEN if reached is None:
                return Circuit(CircuitState.OPEN, 0, self.bound, now)
            case CircuitState.HALF_OPEN:
                return _open(min(2 * self.bound, LAST_BOUND), now, jitter)


CLOSED = Circuit()
"""The circuit of a host of which nothing bad is known."""


def _open(bound: int, now: int, jitter: float) -> Circuit:
    return Circuit(CircuitState.OPEN, 0, bound, now + int(bound * (1 + jitter) / 2))
