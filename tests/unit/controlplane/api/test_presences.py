"""The status of a presence."""

import pytest

from presence.controlplane.api.presences import PresenceStatus, status_of
from presence.controlplane.store.presences import Presence

NOW = 1_000_000


def presence(*, expires: int | None = NOW + 1, used: int | None = NOW - 1, connected: int | None = NOW - 1) -> Presence:
    return Presence("id", "name", expires, used, "host", "linux", connected, None, None, None)


@pytest.mark.parametrize(
    ("of", "canary_age", "status"),
    [
        (presence(), 45, PresenceStatus.ACTIVE),
        (presence(), 46, PresenceStatus.INACTIVE),
        (presence(), None, PresenceStatus.INACTIVE),
        (presence(expires=NOW), 46, PresenceStatus.KEY_EXPIRED),
        (presence(expires=None, used=None, connected=None), None, PresenceStatus.NEVER_USED),
        (presence(used=None, connected=None), None, PresenceStatus.NEVER_USED),
        (presence(used=None), None, PresenceStatus.KEY_NEVER_USED),
        (presence(used=None), 10, PresenceStatus.KEY_NEVER_USED),
        (presence(used=None, expires=NOW), 10, PresenceStatus.KEY_EXPIRED),
    ],
)
def test_status(of: Presence, canary_age: int | None, status: PresenceStatus) -> None:
    assert status_of(of, NOW, canary_age, 45) is status
