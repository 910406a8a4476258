"""The two ends of a session as state machines without I/O: frames in, messages and frames out.

    greeting --welcome--> stating --stated--> stated --reconciled--> reconciled --ready--> ready
                                                                        ready --draining--> draining --> closed

`receive(frame)` gives the messages that the state allows, in order, and raises ProtocolViolation for
the others (the session is closed then, and so must be the connection, with the code it carries).
`say(message)` queues; `outgoing()` takes what is queued, as frames.
"""

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Generic, TypeVar

from pydantic import BaseModel

from presence.errors import CloseCode, ProtocolViolation
from presence.protocol import HOLDING_PAGE, VERSIONS
from presence.protocol.codec import Decoder, Unknown, UnreadableFire, encode, from_agent, from_control_plane
from presence.protocol.messages import (
    Accepted,
    AgentMessage,
    Attempted,
    Busy,
    Canary,
    CanaryEcho,
    Cancel,
    ControlPlaneMessage,
    Draining,
    Fire,
    GoAway,
    Held,
    Hello,
    Holding,
    NewKey,
    Paused,
    Ready,
    Reconciled,
    Release,
    Report,
    ReportAck,
    Stated,
    Welcome,
)


class SessionState(StrEnum):
    GREETING = "greeting"
    STATING = "stating"
    STATED = "stated"
    RECONCILED = "reconciled"
    READY = "ready"
    DRAINING = "draining"
    CLOSED = "closed"


_S = SessionState
_Allowed = Mapping[SessionState, tuple[type[BaseModel], ...]]

# What each side may say in each state. The other side checks the same table, so the two cannot drift.
AGENT_SAYS: _Allowed = {
    _S.GREETING: (Hello,),
    _S.STATING: (Holding, Stated, CanaryEcho, Paused),
    _S.STATED: (CanaryEcho, Paused),
    _S.RECONCILED: (Ready, CanaryEcho, Paused),
    _S.READY: (Accepted, Attempted, Busy, Report, Held, CanaryEcho, Paused, Draining),
    _S.DRAINING: (Accepted, Attempted, Busy, Report, Held, CanaryEcho, Paused),
    _S.CLOSED: (),
}
CONTROL_PLANE_SAYS: _Allowed = {
    _S.GREETING: (Welcome, GoAway),
    _S.STATING: (Cancel, Canary, NewKey, GoAway),
    _S.STATED: (Reconciled, Cancel, Canary, NewKey, GoAway),
    _S.RECONCILED: (Cancel, Canary, NewKey, GoAway),
    _S.READY: (Fire, Cancel, Release, Canary, NewKey, GoAway, ReportAck),
    _S.DRAINING: (Cancel, Release, Canary, NewKey, GoAway, ReportAck),
    _S.CLOSED: (),
}

M = TypeVar("M", bound=BaseModel)


class _Session(Generic[M]):
    """What both ends share: the state, the queue of outgoing messages, the check of incoming ones."""

    def __init__(self, decoder: Decoder[M]) -> None:
        self.state = SessionState.GREETING
        self._decoder = decoder
        self._queue: list[BaseModel] = []
        self._noted: set[str] = set()

    def outgoing(self) -> list[str]:
        """Takes what is to be sent, as frames. The caller sends all of it, in order, or drops the connection."""
        queue, self._queue = self._queue, []
        return list(encode(queue))

    @property
    def idle(self) -> bool:
        """Whether nothing is queued."""
        return not self._queue

    def close(self) -> None:
        """The connection is gone; nothing can be said or heard any more."""
        self.state = SessionState.CLOSED
        self._queue.clear()

    def _receive(self, frame: str | bytes) -> list[M | Unknown | UnreadableFire]:
        try:
            return [item for item in self._decoder.decode(frame) if self._is_heard(item)]
        except ProtocolViolation:
            self.close()
            raise

    def _is_heard(self, item: object) -> bool:
        """Runs the state machine for one incoming item; an unknown type is heard of once."""
        if isinstance(item, Unknown):
            new = item.type not in self._noted and len(self._noted) < 100
            self._noted.add(item.type) if new else None
            return new
        self._advance(item)
        return True

    def _advance(self, item: object) -> None:
        raise AssertionError("each end has its own")

    def _refuse(self, item: object) -> ProtocolViolation:
        kind = "fire" if isinstance(item, UnreadableFire) else getattr(item, "type", "message")
        return ProtocolViolation(CloseCode.PROTOCOL_ERROR, f"'{kind}' is not allowed while {self.state}")


class AgentSession(_Session[ControlPlaneMessage]):
    """The agent's end. Made for one connection; starts with Hello in its queue."""

    def __init__(self, hello: Hello) -> None:
        super().__init__(from_control_plane)
        self._credit = hello.credit
        self._versions = hello.versions
        self._unattempted: set[str] = set()
        self._queue.append(hello)

    def receive(self, frame: str | bytes) -> list[ControlPlaneMessage | Unknown | UnreadableFire]:
        return self._receive(frame)

    def hold(self, ids: Sequence[str], unattempted: Collection[str]) -> None:
        """States ids that are held, in pages, and which of them had no attempt; says that these were all."""
        for start in range(0, len(ids), HOLDING_PAGE):
            page = ids[start : start + HOLDING_PAGE]
            self.say(Holding(ids=tuple(page), unattempted=tuple([id_ for id_ in page if id_ in unattempted])))
        self.say(Stated())

    def say(self, message: AgentMessage) -> None:
        """Queues the message. Saying what the state does not allow is a defect of the caller: AssertionError."""
        assert isinstance(message, AGENT_SAYS[self.state]), f"{message.type} while {self.state}"
        assert not isinstance(message, Hello), "hello is said by the session itself"
        match message:
            case Busy(id=known) | Report(id=known) | Held(id=known):
                self._unattempted.discard(known)
            case Attempted(ids=ids):
                self._unattempted.difference_update(ids)
            case Holding(unattempted=ids):
                self._unattempted.update(ids)
            case Stated():
                self.state = SessionState.STATED
            case Ready():
                self.state = SessionState.READY
            case Draining():
                self.state = SessionState.DRAINING
        self._queue.append(message)

    def _advance(self, item: object) -> None:
        if isinstance(item, Fire | UnreadableFire):
            self._count_fire(item)
            return
        if not isinstance(item, CONTROL_PLANE_SAYS[self.state]):
            raise self._refuse(item)
        if isinstance(item, Welcome):
            if item.version not in self._versions:
                raise ProtocolViolation(CloseCode.PROTOCOL_ERROR, f"version {item.version} was not offered")
            self.state = SessionState.STATING
        elif isinstance(item, Reconciled):
            self.state = SessionState.RECONCILED

    def _count_fire(self, fire: Fire | UnreadableFire) -> None:
        # While draining a fire may already have been on its way; it is answered with busy.
        if self.state not in (SessionState.READY, SessionState.DRAINING):
            raise self._refuse(fire)
        if fire.id not in self._unattempted and len(self._unattempted) >= self._credit:
            raise ProtocolViolation(CloseCode.PROTOCOL_ERROR, f"more than {self._credit} fires without an attempt")
        self._unattempted.add(fire.id)


class ControlPlaneSession(_Session[AgentMessage]):
    """The control plane's end.

    `unanswered`: ids fired in this session, not accepted, busy or reported. `unattempted`: ids that the agent has or
    was fired and whose first attempt was not made, as far as it said: they use credit.
    """

    def __init__(self) -> None:
        super().__init__(from_agent)
        self.hello: Hello | None = None
        self.unanswered: set[str] = set()
        self.unattempted: set[str] = set()

    def receive(self, frame: str | bytes) -> list[AgentMessage | Unknown | UnreadableFire]:
        return self._receive(frame)

    @property
    def free_credit(self) -> int:
        """How many fires the agent would take now; zero unless the session is ready."""
        if self.state is not SessionState.READY or self.hello is None:
            return 0
        return max(0, self.hello.credit - len(self.unattempted))

    def say(self, message: ControlPlaneMessage) -> None:
        """Queues the message. Saying what the state does not allow is a defect of the caller: AssertionError."""
        assert isinstance(message, CONTROL_PLANE_SAYS[self.state]), f"{message.type} while {self.state}"
        if isinstance(message, Welcome):
            assert self.hello is not None, "welcome before hello"
            self.state = SessionState.STATING
        elif isinstance(message, Fire):
            assert self.free_credit > 0, "fire without credit"
            self.unanswered.add(message.id)
            self.unattempted.add(message.id)
        elif isinstance(message, Reconciled):
            self.state = SessionState.RECONCILED
        self._queue.append(message)

    def _advance(self, item: object) -> None:
        if not isinstance(item, AGENT_SAYS[self.state]):
            raise self._refuse(item)
        match item:
            case Hello():
                self._greet(item)
            case Ready():
                self.state = SessionState.READY
            case Draining():
                self.state = SessionState.DRAINING
            case Holding(unattempted=ids):
                self.unattempted.update(ids)
            case Stated():
                self.state = SessionState.STATED
            case Attempted(ids=ids):
                self.unattempted.difference_update(ids)
            case Accepted(id=answered):
                self.unanswered.discard(answered)
            case Busy(id=answered) | Report(id=answered) | Held(id=answered):
                self.unanswered.discard(answered)
                self.unattempted.discard(answered)

    def _greet(self, hello: Hello) -> None:
        if self.hello is not None:
            raise self._refuse(hello)
        if common_version(hello) is None:
            raise ProtocolViolation(CloseCode.VERSION_UNSUPPORTED, f"no common version; we speak {list(VERSIONS)}")
        self.hello = hello


def common_version(hello: Hello) -> int | None:
    """The highest version that both sides speak."""
    return max(set(hello.versions) & set(VERSIONS), default=None)
