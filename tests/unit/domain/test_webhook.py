"""The vocabulary and limits that the API promises."""

from presence.domain.webhook import (
    DEFAULT_MAX_AGE_SECONDS,
    MAX_AUTHORIZATION_LENGTH,
    MAX_BODY_LENGTH,
    MAX_CONTENT_TYPE_LENGTH,
    MAX_URI_LENGTH,
    Method,
    OnUnknown,
)


def test_limits_are_those_of_the_api_that_clients_know() -> None:
    assert MAX_URI_LENGTH == 2048
    assert MAX_BODY_LENGTH == 8192
    assert MAX_CONTENT_TYPE_LENGTH == 256
    assert MAX_AUTHORIZATION_LENGTH == 4096


def test_an_event_is_worth_firing_for_a_day_by_default() -> None:
    assert DEFAULT_MAX_AGE_SECONDS == 24 * 60 * 60


def test_methods_and_what_follows_an_unknown_outcome() -> None:
    assert [method.value for method in Method] == ["GET", "POST", "PUT"]
    assert [choice.value for choice in OnUnknown] == ["fire", "hold"]
