"""Two hosts with one journal: an instance whose programs take turns.

A program that starts again has a new run, and the old one is never heard of again. One that comes back after
another had taken its place is alive, and so is the other: somebody copied a journal, or a machine with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

FORMER = 8
"""Runs of an instance that are remembered: it starts again seldom, and copies take turns within seconds."""
CONFLICT_LASTS = 3_600_000
"""Milliseconds after which a conflict that did not happen again is over."""


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of one instance, each with its host. `former`: those that another has taken the place of, oldest first.

    `conflict_at`: milliseconds since the Unix epoch, when two were last found to be alive.
    """

    run: str
    host: str
    former: Mapping[str, str] = field(default_factory=dict)
    conflict_at: int | None = None
    conflict_hosts: tuple[str, ...] = ()


def is_fresh(conflict_at: int | None, now: int) -> bool:
    """Whether a conflict was found within the last hour."""
    return conflict_at is not None and abs(now - conflict_at) < CONFLICT_LASTS


def follow(known: Runs | None, run: str, host: str, now: int) -> tuple[Runs, bool]:
    """The runs after one has said Hello, and whether that proves that two are alive."""
    if known is None:
        return Runs(run, host), False
    if run == known.run:
        return replace(known, host=host), False
    former = {**known.former, known.run: known.host}
    is_back = former.pop(run, None) is not None
    after = replace(known, run=run, host=host, former=dict(list(former.items())[-FORMER:]))
    if not is_back:
        return after, False
    hosts = {known.host, host} | (set(known.conflict_hosts) if is_fresh(known.conflict_at, now) else set())
    return replace(after, conflict_at=now, conflict_hosts=tuple(sorted(hosts))), True
