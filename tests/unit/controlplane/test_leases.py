"""Leases by a clock that is set by hand."""

from presence.controlplane.leases import Leases


class Seconds:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_lease_ends_a_period_after_it_was_renewed() -> None:
    seconds = Seconds()
    leases = Leases(60, seconds)
    leases.begin("p", "i")
    seconds.now += 60
    assert not leases.has_ended("p", "i")
    leases.renew("p", "i")
    seconds.now += 60
    assert not leases.has_ended("p", "i")
    seconds.now += 1
    assert leases.has_ended("p", "i")
    leases.begin("p", "i")
    assert not leases.has_ended("p", "i")


def test_an_instance_that_is_not_known_has_a_lease_from_the_start() -> None:
    seconds = Seconds()
    leases = Leases(60, seconds)
    seconds.now += 60
    assert not leases.has_ended("p", "i")
    seconds.now += 1
    assert leases.has_ended("p", "i")
    leases.renew("p", "other")
    assert leases.has_ended("p", "i")
    assert leases.has_ended("elsewhere", "other")


def test_the_living_are_those_that_were_heard_of() -> None:
    seconds = Seconds()
    leases = Leases(60, seconds)
    leases.begin("p", "gone")
    seconds.now += 30
    leases.begin("p", "here")
    assert leases.living("p") == {"gone", "here"}
    seconds.now += 31
    assert leases.living("p") == {"here"}
    assert leases.living("elsewhere") == set()


def test_the_age_of_an_echo_is_that_of_the_latest_of_any_instance() -> None:
    seconds = Seconds()
    leases = Leases(60, seconds)
    leases.begin("p", "i")
    assert leases.echo_age("p") is None
    leases.renew("p", "i")
    seconds.now += 5
    leases.renew("p", "j")
    seconds.now += 7
    assert leases.echo_age("p") == 7
    assert leases.uptime == 12
