"""The status of a presence."""

import pytest

from presence.controlplane.api.presences import Status, status_of
from presence.controlplane.store.presences import Presence

NOW = 1_000_000


def presence(*, expires: int | None = NOW + 1, used: int | None = NOW - 1, connected: int | None = NOW - 1) -> Presence:
    return Presence("id", "name", expires, used, "host", "linux", connected, None, None, None)


@pytest.mark.parametrize(
    ("of", "canary_age", "status"),
    [
        (presence(), 45, Status.ACTIVE),
        (presence(), 46, Status.INACTIVE),
        (presence(), None, Status.INACTIVE),
        (presence(expires=NOW), 46, Status.KEY_EXPIRED),
        (presence(expires=None, used=None, connected=None), None, Status.NEVER_USED),
        (presence(used=None, connected=None), None, Status.NEVER_USED),
        (presence(used=None), None, Status.KEY_NEVER_USED),
        (presence(used=None), 10, Status.KEY_NEVER_USED),
        (presence(used=None, expires=NOW), 10, Status.KEY_EXPIRED),
    ],
)
def test_status(of: Presence, canary_age: int | None, status: Status) -> None:
    assert status_of(of, NOW, canary_age, 45) is status
