"""What the log says of the link, and what its status says."""

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from presence.agent import link_state
from presence.agent.ends import Cause, Failure, Retry
from presence.agent.link_state import Chronicle, LinkState
from presence.logs import get_logger
from tests.support.clock import ManualClock

MINUTE = 60_000
CUT = Failure(Cause.PEER, "the connection was cut")
OTHER = Failure(Cause.DNS, "the name does not resolve")
REVOKED = Failure(Cause.AUTH, "the key is refused", Retry.RARELY)
AT_ONCE = Failure(Cause.CLOCK, "the host was suspended", Retry.AT_ONCE)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What was logged above level debug."""
    with capture_logs() as captured:
        monkeypatch.setattr(link_state, "log", get_logger("link"))
        yield captured


def told(lines: list[Any]) -> list[Any]:
    return [line for line in lines if line["log_level"] != "debug"]


def test_each_change_of_state_is_one_line(lines: list[Any]) -> None:
    chronicle = Chronicle(ManualClock(), "wss://cloud.example.com")
    chronicle.connecting()
    chronicle.online()
    chronicle.offline(CUT, 0.51, stable=False)
    chronicle.connecting()
    chronicle.online()
    chronicle.draining()
    assert [(line["state"], line["log_level"]) for line in told(lines)] == [
        ("online", "info"),
        ("offline", "warning"),
        ("online", "info"),
        ("draining", "info"),
    ]
    assert {**told(lines)[1]} == {
        "event": "link",
        "state": "offline",
        "cause": "peer",
        "reason": "the connection was cut",
        "retry_in": 0.5,
        "log_level": "warning",
    }


def test_what_repeats_is_told_every_ten_minutes_with_its_count(lines: list[Any]) -> None:
    clock = ManualClock()
    chronicle = Chronicle(clock, "wss://cloud.example.com")
    for _ in range(21):
        chronicle.offline(CUT, 60.0, stable=False)
        chronicle.offline(OTHER, 60.0, stable=False)
        clock.pass_time(MINUTE)
    assert [(line["cause"], line.get("repeated")) for line in told(lines)] == [
        ("peer", None),
        ("dns", None),
        ("peer", 9),
        ("dns", 9),
        ("peer", 9),
        ("dns", 9),
    ]


def test_a_session_that_lasted_makes_the_next_failure_news(lines: list[Any]) -> None:
    chronicle = Chronicle(ManualClock(), "wss://cloud.example.com")
    for stable in (False, False, True):
        chronicle.offline(CUT, 1.0, stable)
    assert len(told(lines)) == 2


def test_sessions_that_flap_are_not_told_one_by_one(lines: list[Any]) -> None:
    chronicle = Chronicle(ManualClock(), "wss://cloud.example.com")
    for _ in range(10):
        chronicle.online()
        chronicle.offline(CUT, 1.0, stable=False)
    assert [line["state"] for line in told(lines)] == ["online", "offline", "online"]


def test_the_log_never_ends_with_offline_while_it_is_online(lines: list[Any]) -> None:
    """An outage with many tries, all alike; then it is there again."""
    chronicle = Chronicle(ManualClock(), "wss://cloud.example.com")
    chronicle.online()
    chronicle.offline(AT_ONCE, 0.0, stable=True)
    for _ in range(5):
        chronicle.connecting()
        chronicle.offline(OTHER, 1.0, stable=False)
    chronicle.connecting()
    chronicle.online()
    assert [line["state"] for line in told(lines)] == ["online", "offline", "offline", "online"]


def test_where_a_person_must_act_every_try_is_told_loudly(lines: list[Any]) -> None:
    chronicle = Chronicle(ManualClock(), "wss://cloud.example.com")
    for _ in range(3):
        chronicle.offline(REVOKED, 300.0, stable=False)
    assert [line["log_level"] for line in told(lines)] == ["error"] * 3


def test_what_is_meant_to_be_is_no_warning(lines: list[Any]) -> None:
    Chronicle(ManualClock(), "wss://cloud.example.com").offline(AT_ONCE, 0.0, stable=True)
    assert [line["log_level"] for line in told(lines)] == ["info"]


def test_the_memory_of_what_was_told_is_bounded(lines: list[Any]) -> None:
    chronicle = Chronicle(ManualClock(), "wss://cloud.example.com")
    for number in range(1000):
        chronicle.offline(Failure(Cause.TCP, str(number)), 1.0, stable=False)
    assert len(chronicle._told) <= link_state.REMEMBERED


def test_a_wrong_clock_is_told_in_each_session_and_when_it_is_right_again(lines: list[Any]) -> None:
    chronicle = Chronicle(ManualClock(), "wss://cloud.example.com")
    for offset in (0, 30_000, -30_001, 3_600_000, 10, 10):
        chronicle.met(offset)
    assert [(line["log_level"], line.get("clock")) for line in told(lines)] == [
        ("warning", "30 s ahead of the control plane's"),
        ("warning", "3600 s behind the control plane's"),
        ("info", None),
    ]
    assert chronicle.status().clock_offset == 10


def test_the_status_follows_each_change() -> None:
    clock = ManualClock()
    chronicle = Chronicle(clock, "wss://cloud.example.com")
    clock.pass_time(10)
    assert chronicle.status().lasts == 10
    chronicle.connecting()
    chronicle.connecting()
    assert (chronicle.status().state, chronicle.status().tries) == (LinkState.CONNECTING, 2)
    chronicle.online()
    chronicle.canary()
    clock.pass_time(500)
    status = chronicle.status()
    assert (status.state, status.lasts, status.tries, status.canary_ago) == (LinkState.ONLINE, 500, 0, 500)
    assert status.failure is None
    chronicle.offline(CUT, 1.0, stable=False)
    clock.pass_time(250)
    status = chronicle.status()
    assert status.canary_ago is None
    assert status.failure is not None
    assert (status.failure.cause, status.failure.ago) == (Cause.PEER, 250)
