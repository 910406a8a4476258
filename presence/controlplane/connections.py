"""Which agents are connected to this process, what they can take, and what is to be said to them.

The gateway drives a connection's websocket; dispatch and the services only queue messages or ask for
its end. Nothing here waits or touches the network. What agents cannot take now (`Connection.rest`,
`Connection.pause`, `Connections.close_host`) is known in this process only: after a restart they say it again.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import NamedTuple

from presence.controlplane.access import Peer
from presence.errors import CloseCode
from presence.protocol.messages import Accepted, AgentMessage, Busy, Cancel, ControlPlaneMessage, Fire, Release, Report
from presence.protocol.session import CONTROL_PLANE_SAYS, ControlPlaneSession, SessionState

SHORTEST_REST, LONGEST_REST = 0.1, 3600.0
"""Seconds: an agent that is busy is asked again, but not at once and not never."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a connection ends. `ours`: we send the close frame; else the code is the one that was received."""

    code: int
    reason: str
    ours: bool

    @property
    def is_violation(self) -> bool:
        """Whether one side found that the other broke the protocol."""
        return self.code in (CloseCode.PROTOCOL_ERROR, CloseCode.INVALID_PAYLOAD, CloseCode.TOO_BIG)


class Pause(NamedTuple):
    """Local maintenance of an agent: it is given no fires. `seconds`: for so long; None: until further notice."""

    seconds: float | None


class Connection:
    """One websocket of an authenticated agent."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.session = ControlPlaneSession()
        self.inbox: list[AgentMessage] = []
        """Heard, and waiting to be recorded."""
        self.recording: list[AgentMessage] = []
        """Taken from the inbox; whether the database has them is not known yet."""
        self.holding: set[str] = set()
        """What it has to do: the deliveries that it stated or was fired, and has not finished."""
        self.reconciled = False
        """The database agrees with what the agent said it holds, and it is ready: from then on it is given fires."""
        self.starved = False
        """There may be work that it could not be given: wake dispatch when it has credit again."""
        self.ending: Ending | None = None
        self.heard = asyncio.Event()
        """Set when there is something to record or the connection shall end."""
        self.spoken = asyncio.Event()
        """Set when there is something to send or the connection shall end."""
        self.ended = asyncio.Event()
        """Set when the session's unanswered fires are queued again."""
        self._suspect: str | None = None
        self._resting_until = 0.0
        self._paused_until = 0.0
        self._hosts: dict[str, str] = {}

    @property
    def instance_id(self) -> str:
        """The agent's instance; only after its Hello."""
        assert self.session.hello is not None, "no Hello yet"
        return self.session.hello.instance

    @property
    def free_credit(self) -> int:
        """How many fires it may be given now."""
        if not self.reconciled or self.ending is not None or self._suspect in self.session.unanswered:
            return 0
        return 0 if monotonic() < max(self._resting_until, self._paused_until) else self.session.free_credit

    @property
    def paused(self) -> Pause | None:
        """The agent's pause, as far as it said; None: there is none."""
        left = self._paused_until - monotonic()
        return None if left <= 0 else Pause(None if left == inf else left)

    @property
    def in_flight(self) -> int:
        """How many deliveries it was given and has not finished."""
        return len(self.holding)

    @property
    def under_way(self) -> set[str]:
        """The fires whose answer is not recorded: not heard, or heard and not in the database yet."""
        heard = (*self.inbox, *self.recording)
        return self.session.unanswered | {item.id for item in heard if isinstance(item, Accepted | Busy | Report)}

    def credit_used(self) -> Counter[str]:
        """How much of its credit each target host uses."""
        self._hosts = {id_: self._hosts.get(id_, "") for id_ in self.session.unattempted}
        return Counter(self._hosts.values())

    def locate(self, hosts: Mapping[str, str]) -> None:
        """Tells to which target hosts deliveries go."""
        self._hosts.update(hosts)

    def say(self, message: ControlPlaneMessage) -> None:
        """Queues a message; after the end it is dropped, as the agent would never see it."""
        if self.session.state is not SessionState.CLOSED:
            self.session.say(message)
            self.spoken.set()

    def may_hear(self, message: type[ControlPlaneMessage]) -> bool:
        """Whether the session has come as far as that."""
        return issubclass(message, CONTROL_PLANE_SAYS[self.session.state])

    def fire(self, fire: Fire, host: str, *, alone: bool = False) -> bool:
        """Queues a fire, unless the agent takes none any more. `alone`: no other until it is answered."""
        if self.free_credit < 1:
            return False
        self._suspect = fire.id if alone else self._suspect
        self._hosts[fire.id] = host
        self.holding.add(fire.id)
        self.say(fire)
        return True

    def rest(self, seconds: float) -> None:
        """The agent takes no fires for so long, within bounds."""
        self._resting_until = max(self._resting_until, monotonic() + _bounded(seconds))

    def pause(self, remaining: int | None) -> None:
        """The agent said `Paused`. Whatever was left over for it is looked at again when that is over."""
        self._paused_until = inf if remaining is None else monotonic() + remaining / 1000
        self.starved = True

    def end(self, code: int, reason: str, *, ours: bool = True) -> None:
        """Asks for the end, after what is queued was sent. The first reason counts."""
        if self.ending is None:
            self.ending = Ending(code, reason, ours)
        self.heard.set()
        self.spoken.set()


def _bounded(seconds: float) -> float:
    return min(max(seconds, SHORTEST_REST), LONGEST_REST)


class Connections:
    """The live connections of this process. Of one instance only the newest is kept."""

    def __init__(self) -> None:
        self._open: dict[str, set[Connection]] = {}
        self._newest: dict[tuple[str, str], Connection] = {}
        self._closed_hosts: dict[str, dict[str, float]] = {}
        self.draining = False

    @contextmanager
    def opened(self, connection: Connection) -> Iterator[None]:
        """Counts it as open while entered: it can be ended from elsewhere."""
        presence_id = connection.peer.presence_id
        self._open.setdefault(presence_id, set()).add(connection)
        try:
            yield
        finally:
            self._open[presence_id].discard(connection)
            if not self._open[presence_id]:
                del self._open[presence_id]
            if connection.session.hello is not None:
                key = (presence_id, connection.instance_id)
                if self._newest.get(key) is connection:
                    del self._newest[key]

    def supersede(self, connection: Connection) -> Connection | None:
        """Makes it the one connection of its instance; the older one, if any, is ended and returned."""
        key = (connection.peer.presence_id, connection.instance_id)
        older = self._newest.get(key)
        self._newest[key] = connection
        if older is not None:
            older.end(CloseCode.SUPERSEDED, "a newer session of this instance took over")
        return older

    def ready(self, presence_id: str) -> list[Connection]:
        """Those that take fires now, the one with the fewest in flight first."""
        candidates = [connection for connection in self._open.get(presence_id, ()) if connection.free_credit > 0]
        return sorted(candidates, key=lambda connection: connection.in_flight)

    def starve(self, presence_id: str) -> None:
        """Says that work of a presence was left over for want of credit."""
        for connection in self._open.get(presence_id, ()):
            connection.starved = True

    def instances(self, presence_id: str) -> set[str]:
        """The instances of a presence that are connected and reconciled."""
        return {
            connection.instance_id
            for connection in self._open.get(presence_id, ())
            if connection.reconciled and connection.ending is None
        }

    def under_way(self, presence_id: str) -> set[str]:
        """The fires to a presence whose answer is not recorded, in whatever session."""
        return {id_ for connection in self._open.get(presence_id, ()) for id_ in connection.under_way}

    def newest(self, presence_id: str) -> list[Connection]:
        """The one connection of each instance of a presence that has said Hello and is not about to end."""
        return [
            connection
            for connection in self._open.get(presence_id, ())
            if connection.ending is None and self._is_newest(connection)
        ]

    def of(self, presence_id: str) -> Collection[Connection]:
        """All connections of a presence, whatever became of them."""
        return self._open.get(presence_id, ())

    def hears(self, presence_id: str, instance_id: str, message: type[Cancel | Release]) -> bool:
        """Whether that instance could be told such a thing now."""
        connection = self._newest.get((presence_id, instance_id))
        return connection is not None and connection.ending is None and connection.may_hear(message)

    def tell(self, presence_id: str, instance_id: str, message: Cancel | Release) -> None:
        """Says it to that instance, if it is connected here. One that is not states later what it holds."""
        if self.hears(presence_id, instance_id, type(message)):
            self._newest[presence_id, instance_id].say(message)

    def paused(self, presence_id: str) -> Pause | None:
        """The pause of a presence all of whose connected agents are paused, until the first of them goes on."""
        pauses = [connection.paused for connection in self.newest(presence_id)]
        lengths = [inf if pause.seconds is None else pause.seconds for pause in pauses if pause is not None]
        if not lengths or len(lengths) < len(pauses):
            return None
        soonest = min(lengths)
        return Pause(None if soonest == inf else soonest)

    def close_host(self, presence_id: str, host: str, seconds: float) -> None:
        """The presence's agents take no fires to that host for so long, within bounds."""
        self._closed_hosts.setdefault(presence_id, {})[host] = monotonic() + _bounded(seconds)

    def closed_hosts(self, presence_id: str) -> Collection[str]:
        """The hosts that the presence's agents take no fires to now."""
        now = monotonic()
        closed = {host: until for host, until in self._closed_hosts.pop(presence_id, {}).items() if until > now}
        if closed:
            self._closed_hosts[presence_id] = closed
        return closed

    def presences(self) -> set[str]:
        """The presences with an open connection."""
        return set(self._open)

    def all(self) -> list[Connection]:
        return [connection for group in self._open.values() for connection in group]

    def end_presence(self, presence_id: str, code: CloseCode, reason: str) -> None:
        """Ends all connections of a presence."""
        for connection in self._open.get(presence_id, ()):
            connection.end(code, reason)

    def _is_newest(self, connection: Connection) -> bool:
        hello = connection.session.hello
        return hello is not None and self._newest.get((connection.peer.presence_id, hello.instance)) is connection
