"""The vocabulary and limits that the API promises."""

from presence.domain.webhook import DEFAULT_MAX_AGE_SECONDS, MAX_URI_LENGTH, Method


def test_limits_and_methods() -> None:
    assert MAX_URI_LENGTH == 2048
    assert DEFAULT_MAX_AGE_SECONDS == 24 * 60 * 60
    assert [method.value for method in Method] == ["GET", "POST", "PUT"]
