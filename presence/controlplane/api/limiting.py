"""Who may ask how often: what counts for whom."""

from ipaddress import IPv6Address, ip_address

from starlette.requests import Request

from presence.clock import Clock
from presence.controlplane.access import Capability, Principal
from presence.controlplane.limits import SlidingWindow
from presence.controlplane.services.refusal import Refusal
from presence.controlplane.settings import Limits

IPV6_PREFIX = 64
"""Bits of an IPv6 address that are one caller's: the rest it may choose."""


class Limiter:
    """Counts in this process; each method raises Refusal TOO_MANY_REQUESTS. By the monotonic clock."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._clock = clock
        self._users = SlidingWindow(limits.requests_per_minute, 60)
        self._strangers = SlidingWindow(limits.requests_per_minute, 60)
        self._logins = SlidingWindow(limits.logins_per_minute, 60)
        self._events = SlidingWindow(limits.events_per_second, 1)

    def user(self, principal: Principal) -> None:
        """Counts a request of a user."""
        self._count(self._users, principal.user_id)

    def stranger(self, request: Request) -> None:
        """Counts a request of somebody who is not logged in, or for what there is not."""
        self._count(self._strangers, address(request))

    def login(self, request: Request) -> None:
        """Counts an attempt to log in or to enrol."""
        self._count(self._logins, address(request))

    def producer(self, principal: Principal) -> None:
        """Counts an event, or an update of a scan execution, for the organization; for the user, who may do neither."""
        if principal.has(Capability.PUBLISH_EVENTS) or principal.has(Capability.UPDATE_SCAN_EXECUTIONS):
            self._count(self._events, principal.organization_id)
        else:
            self.user(principal)

    def more_events(self, principal: Principal, count: int) -> None:
        """Counts the events of a batch beside the one that was counted for the request."""
        if count > 0:
            self._count(self._events, principal.organization_id, count)

    def _count(self, window: SlidingWindow, caller: str, amount: int = 1) -> None:
        wait = window.admit(caller, self._clock.elapsed() / 1000, amount)
        if wait:
            raise Refusal.too_many("too many requests; wait as long as Retry-After says", wait)


def address(request: Request) -> str:
    """Who the client is by its address, as far as one can tell."""
    host = request.client.host if request.client is not None else ""
    try:
        found = ip_address(host)
    except ValueError:
        return host[:64]
    if isinstance(found, IPv6Address):
        found = found.ipv4_mapped or IPv6Address(int(found) >> IPV6_PREFIX << IPV6_PREFIX)
    return str(found)
