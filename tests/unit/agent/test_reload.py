"""Which settings can change while the agent runs."""

from collections.abc import Iterator

import pytest

from presence.agent.reload import changes, in_force, needs_restart
from presence.agent.settings import AgentSettings

LIVE = {
    "egress.default", "egress.mode", "egress.allow", "egress.deny", "egress.methods", "egress.dangerously_lift",
    "delivery.per_host", "delivery.rate", "delivery.dns_timeout", "delivery.connect_timeout", "delivery.tls_timeout",
    "delivery.first_byte_timeout", "delivery.attempt_timeout", "delivery.grace", "delivery.drain_rate",
    "retry.max_attempts", "retry.initial", "retry.maximum", "retry.deadline", "journal.retention", "log.level",
    "targets",
}  # fmt: skip


def keys() -> Iterator[str]:
    for section, field in AgentSettings.model_fields.items():
        if section == "targets":
            yield section
        else:
            yield from (f"{section}.{key}" for key in type(field.default).model_fields)


def test_every_setting_is_either_live_or_needs_a_restart() -> None:
    assert {key for key in keys() if not needs_restart(key)} == LIVE


def test_no_change_is_none() -> None:
    assert list(changes(AgentSettings(), AgentSettings())) == []


@pytest.mark.parametrize(
    ("values", "changed"),
    [
        ({"egress": {"allow": ["10.0.0.1"]}}, ["egress.allow"]),
        ({"control_plane": {"key": "s" * 20}, "log": {"level": "debug", "format": "json"}},
         ["control_plane.key", "log.level", "log.format"]),
        ({"targets": [{"host": "a.corp", "headers": {"X": "secret"}}]}, ["targets"]),
    ],
)  # fmt: skip
def test_what_differs_is_named(values: dict[str, object], changed: list[str]) -> None:
    assert list(changes(AgentSettings(), AgentSettings.model_validate(values))) == changed


def test_what_needs_a_restart_keeps_its_old_value() -> None:
    values = {
        "delivery": {"max_in_flight": 7, "rate": 5.0},
        "log": {"level": "debug", "format": "json"},
        "health": {"listen": []},
    }
    new = AgentSettings.model_validate(values)
    found = in_force(AgentSettings(), new)
    assert (found.delivery.max_in_flight, found.delivery.rate) == (64, 5.0)
    assert (found.log.level, found.log.format) == ("debug", "auto")
    assert found.health.listen == ("127.0.0.1:8481",)
    # Asked again, it still needs a restart.
    assert set(changes(found, new)) == {"delivery.max_in_flight", "log.format", "health.listen"}
