"""A stage's promise to be back."""

import pytest

from presence.agent.pulse import Pulse


def test_a_promise_is_kept_until_its_time_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("presence.agent.pulse.monotonic", lambda: now)
    pulse = Pulse("stage")
    now = 10_000.0
    assert pulse.overdue == 0  # nothing was promised
    pulse.promise(5)
    now += 5
    assert pulse.overdue == 0
    now += 2
    assert pulse.overdue == 2
    pulse.promise(5)
    assert pulse.overdue == 0
    now += 6
    pulse.rest()
    assert pulse.overdue == 0
