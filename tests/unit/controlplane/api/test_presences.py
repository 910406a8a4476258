"""The status of a presence."""

import pytest

from presence.controlplane.api.presences import Status, status_of
from presence.controlplane.store.presences import Presence

NOW = 1_000_000


def presence(
    *,
    expires: int | None = NOW + 1,
    used: int | None = NOW - 1,
    connected: int | None = NOW - 1,
    canary: int | None = None,
) -> Presence:
    return Presence("id", "name", expires, used, "host", "linux", connected, canary)


@pytest.mark.parametrize(
    ("of", "status"),
    [
        (presence(canary=NOW - 45), Status.ACTIVE),
        (presence(canary=NOW - 46), Status.INACTIVE),
        (presence(), Status.INACTIVE),
        (presence(expires=NOW), Status.KEY_EXPIRED),
        (presence(expires=None, used=None, connected=None), Status.NEVER_USED),
        (presence(used=None, connected=None), Status.NEVER_USED),
        (presence(used=None), Status.KEY_NEVER_USED),
    ],
)
def test_status(of: Presence, status: Status) -> None:
    assert status_of(of, NOW, 45) is status
