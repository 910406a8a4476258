"""Which agents are connected to this process, and what is to be said to them.

The gateway drives a connection's websocket; dispatch and the services only queue messages or ask for
its end. Nothing here waits or touches the network.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from presence.controlplane.access import Peer
from presence.errors import CloseCode
from presence.protocol.messages import Accepted, AgentMessage, Busy, Cancel, ControlPlaneMessage, Fire, Release, Report
from presence.protocol.session import CONTROL_PLANE_SAYS, ControlPlaneSession, SessionState


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


class Connection:
    """One websocket of an authenticated agent."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.session = ControlPlaneSession()
        self.inbox: list[AgentMessage] = []
        """Heard, and waiting to be recorded."""
        self.recording: list[AgentMessage] = []
        """Taken from the inbox; whether the database has them is not known yet."""
        self.stated: set[str] = set()
        """What it has in its journal, as it said before its Ready."""
        self.reconciled = False
        """The database agrees with what the agent said it holds: from then on it is given fires."""
        self.starved = False
        """There may be work that it could not be given: wake dispatch when it has credit again."""
        self.ending: Ending | None = None
        self.spoken = asyncio.Event()
        """Set when there is something to send or the connection shall end."""
        self.ended = asyncio.Event()
        """Set when the session's unanswered fires are queued again."""
        self._suspect: str | None = None

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
        return self.session.free_credit

    @property
    def under_way(self) -> set[str]:
        """The fires whose answer is not recorded: not heard, or heard and not in the database yet."""
        heard = (*self.inbox, *self.recording)
        return self.session.unanswered | {item.id for item in heard if isinstance(item, Accepted | Busy | Report)}

    def say(self, message: ControlPlaneMessage) -> None:
        """Queues a message; after the end it is dropped, as the agent would never see it."""
        if self.session.state is not SessionState.CLOSED:
            self.session.say(message)
            self.spoken.set()

    def may_hear(self, message: ControlPlaneMessage) -> bool:
        """Whether the session has come as far as that."""
        return isinstance(message, CONTROL_PLANE_SAYS[self.session.state])

    def fire(self, fire: Fire, *, alone: bool = False) -> bool:
        """Queues a fire, unless the agent takes none any more. `alone`: no other until it is answered."""
        if self.free_credit < 1:
            return False
        self._suspect = fire.id if alone else self._suspect
        self.say(fire)
        return True

    def end(self, code: int, reason: str, *, ours: bool = True) -> None:
        """Asks for the end, after what is queued was sent. The first reason counts."""
        if self.ending is None:
            self.ending = Ending(code, reason, ours)
        self.spoken.set()


class Connections:
    """The live connections of this process. Of one instance only the newest is kept."""

    def __init__(self) -> None:
        self._open: dict[str, set[Connection]] = {}
        self._newest: dict[tuple[str, str], Connection] = {}
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
        """Those that take fires now, the one with the fewest unanswered first."""
        candidates = [connection for connection in self._open.get(presence_id, ()) if connection.free_credit > 0]
        return sorted(candidates, key=lambda connection: len(connection.session.unanswered))

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

    def tell(self, presence_id: str, instance_id: str, message: Cancel | Release) -> None:
        """Says it to that instance, if it is connected here. One that is not states later what it holds."""
        connection = self._newest.get((presence_id, instance_id))
        if connection is not None and connection.may_hear(message):
            connection.say(message)

    def presences(self) -> set[str]:
        """The presences with an open connection."""
        return set(self._open)

    def all(self) -> list[Connection]:
        return [connection for group in self._open.values() for connection in group]

    def end_presence(self, presence_id: str, code: CloseCode, reason: str) -> None:
        """Ends all connections of a presence."""
        for connection in self._open.get(presence_id, ()):
            connection.end(code, reason)
