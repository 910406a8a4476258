"""Leases: until when an instance owns what it accepted. Measured by a clock that never jumps, in this process.

What was before the process is not known: an instance that has not been heard of has a lease from its start.
"""

from collections.abc import Callable
from time import monotonic


class Leases:
    """`period` in seconds; `now` gives seconds that only this process counts."""

    def __init__(self, period: float, now: Callable[[], float] = monotonic) -> None:
        self._period = period
        self._now = now
        self._began = now()
        self._renewed: dict[str, dict[str, float]] = {}
        self._echoed: dict[str, float] = {}

    def begin(self, presence_id: str, instance_id: str) -> None:
        """A session of the instance begins."""
        self._renewed.setdefault(presence_id, {})[instance_id] = self._now()

    def renew(self, presence_id: str, instance_id: str) -> None:
        """The instance answered a canary."""
        self.begin(presence_id, instance_id)
        self._echoed[presence_id] = self._now()

    def has_ended(self, presence_id: str, instance_id: str) -> bool:
        renewed = self._renewed.get(presence_id, {}).get(instance_id, self._began)
        return self._now() - renewed > self._period

    def living(self, presence_id: str) -> set[str]:
        """The instances of a presence that were heard of since the start and whose lease has not ended."""
        known = self._renewed.get(presence_id, {})
        return {instance_id for instance_id in known if not self.has_ended(presence_id, instance_id)}

    def echo_age(self, presence_id: str) -> float | None:
        """Seconds since an instance of the presence answered a canary; None where none has since the start."""
        echoed = self._echoed.get(presence_id)
        return None if echoed is None else self._now() - echoed

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return self._now() - self._began
