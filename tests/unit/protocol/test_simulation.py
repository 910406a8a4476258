"""Both ends of the protocol against each other in memory, while everything goes wrong.

A model control plane (its table survives a crash) and a model agent (its journal survives one) do what
the protocol's guarantees ask of them, over a wire that loses what is on its way when it is cut. A
schedule of steps says who does what next. Afterwards the disturbance ends, a clean connection is made,
and everything must have arrived, once and once more for each attempt that failed or that somebody
decided, and be known to have.

Steps that tamper with frames (repeat, reorder, cut a frame, foreign types aside) may end a session by
ProtocolViolation; nothing else may.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from presence.domain.delivery import DELIVERY_TRANSITIONS, DeliveryState, FinalState, sources_of
from presence.errors import ProtocolViolation
from presence.protocol.codec import Unknown, UnreadableFire, from_control_plane
from presence.protocol.messages import (
    Accepted,
    Attempted,
    Busy,
    Draining,
    Fire,
    Held,
    Hello,
    Holding,
    Ready,
    Reconciled,
    Release,
    Report,
    ReportAck,
    Stated,
    Welcome,
)
from presence.protocol.session import AgentSession, ControlPlaneSession, SessionState
from tests.unit.protocol.examples import fire, held, hello, make_id, report, welcome

CREDIT = 3
D, S = DeliveryState, SessionState
FINAL = {D(state.value) for state in FinalState}
FROM_THE_FUTURE = '{"type":"from_the_future","id":[]}'


@dataclass
class Wire:
    """One connection: frames on their way in each direction, in order, until it is cut."""

    to_agent: list[str] = field(default_factory=list)
    to_control_plane: list[str] = field(default_factory=list)
    is_up: bool = True
    was_tampered_with: bool = False
    heard_ready: bool = False
    heard_draining: bool = False

    def cut(self) -> None:
        self.is_up = False
        self.to_agent.clear()
        self.to_control_plane.clear()


class ControlPlane:
    """`table`, `asked` and `decided` are durable; everything else is gone with a crash.

    `asked`: the attempts after which a person is asked; `decided`: those after which one said to go on.
    """

    def __init__(self) -> None:
        self.table: dict[str, DeliveryState] = {}
        self.asked: dict[str, int] = {}
        self.decided: dict[str, list[int]] = {}
        self.unreadable: set[str] = set()
        self.session: ControlPlaneSession | None = None
        self.wire: Wire | None = None

    def queue(self, delivery: str, is_readable: bool) -> None:
        self.table[delivery] = D.QUEUED
        if not is_readable:
            self.unreadable.add(delivery)

    def take(self, wire: Wire) -> None:
        """A new connection supersedes the one that is thought to be up."""
        self.lose()
        self.session, self.wire = ControlPlaneSession(), wire

    def lose(self) -> None:
        """The session has ended, however: what was dispatched in it and not accepted is queued again."""
        if self.session is not None:
            self.session.close()
        self.session = self.wire = None
        for delivery, state in self.table.items():
            if state is D.DISPATCHED:
                self.change(delivery, D.QUEUED)

    def change(self, delivery: str, target: DeliveryState) -> None:
        assert target in DELIVERY_TRANSITIONS[self.table[delivery]]
        self.table[delivery] = target

    def dispatch(self) -> None:
        queued = [delivery for delivery, state in self.table.items() if state is D.QUEUED]
        while queued and self.session is not None and self.session.free_credit > 0:
            delivery = queued.pop(0)
            message = fire(delivery)
            if delivery in self.unreadable:  # as a newer control plane might say it
                message = message.model_copy(update={"uri": "x" * 3_000})
            assert self.wire is not None
            assert not self.wire.heard_draining, "a fire after draining"
            self.session.say(message)
            self.change(delivery, D.DISPATCHED)

    def resolve(self, pick: int) -> None:
        """A person decides that one of those that are held is attempted again."""
        waiting = [delivery for delivery, state in self.table.items() if state is D.HELD]
        if waiting:
            delivery = waiting[pick % len(waiting)]
            self.change(delivery, D.ACCEPTED)
            self.decided.setdefault(delivery, []).append(self.asked[delivery])
            if self.session is not None and self.session.state in (S.READY, S.DRAINING):
                self.session.say(Release(id=delivery, attempts=self.asked[delivery]))

    def send(self) -> None:
        if self.session is None or self.wire is None:
            return
        for frame in self.session.outgoing():
            if any(isinstance(item, Fire | UnreadableFire) for item in from_control_plane.decode(frame)):
                assert self.wire.heard_ready, "a fire before ready"
            if self.wire.is_up:
                self.wire.to_agent.append(frame)

    def hear(self, frame: str) -> None:
        assert self.session is not None
        assert self.wire is not None
        for message in self.session.receive(frame):
            match message:
                case Hello():
                    self.session.say(welcome())
                case Holding(ids=ids):
                    self._accepted(ids)
                case Stated():
                    self.session.say(Reconciled())
                case Accepted(id=delivery):
                    self._accepted([delivery])
                case Busy(id=delivery) if self.table[delivery] is D.DISPATCHED:
                    self.change(delivery, D.QUEUED)
                case Held(id=delivery, attempts=attempts):
                    self._held(delivery, attempts)
                case Report(id=delivery, state=state):
                    if self.table[delivery] in sources_of(D(state.value)):
                        self.change(delivery, D(state.value))
                    self.session.say(ReportAck(id=delivery))
                case Ready():
                    self.wire.heard_ready = True
                case Draining():
                    self.wire.heard_draining = True

    def _accepted(self, ids: Iterable[str]) -> None:
        for delivery in ids:
            if self.table[delivery] in (D.QUEUED, D.DISPATCHED):
                self.change(delivery, D.ACCEPTED)

    def _held(self, delivery: str, attempts: int) -> None:
        """Asks a person, unless one has answered already and the agent does not know yet."""
        assert self.session is not None
        if attempts in self.decided.get(delivery, []):
            self.session.say(Release(id=delivery, attempts=attempts))
        elif self.table[delivery] is D.ACCEPTED:
            self.change(delivery, D.HELD)
            self.asked[delivery] = attempts


@dataclass
class Entry:
    """A delivery in the agent's journal; remembered after its report is acknowledged, to know repeats."""

    state: FinalState | None = None
    is_acknowledged: bool = False
    is_held: bool = False
    attempts: int = 0


class Agent:
    """`journal` is durable; everything else is gone with a crash. `requests` is what the target saw."""

    def __init__(self) -> None:
        self.journal: dict[str, Entry] = {}
        self.requests: Counter[str] = Counter()
        self.epoch = 0
        self.is_full = False
        self.session: AgentSession | None = None
        self.wire: Wire | None = None
        self._inbox: list[Fire | UnreadableFire] = []
        self.retries: Counter[str] = Counter()
        self._told: set[str] = set()
        """What this session knows of: reported, asked about, or attempted without an end."""

    @property
    def unanswered(self) -> set[str]:
        return {command.id for command in self._inbox}

    def connect(self, wire: Wire) -> None:
        self.epoch += 1
        self.session, self.wire = AgentSession(hello(CREDIT, epoch=self.epoch)), wire

    def lose(self) -> None:
        if self.session is not None:
            self.session.close()
        self.session = self.wire = None
        # Not in the journal, not answered: it is sent again. Kept, its answer would go to a later session.
        self._inbox.clear()
        self._told.clear()

    def hear(self, frame: str) -> None:
        assert self.session is not None
        unknown = 0
        for message in self.session.receive(frame):
            match message:
                case Welcome():
                    held = [delivery for delivery, entry in self.journal.items() if not entry.is_acknowledged]
                    self.session.hold(held, {delivery for delivery in held if not self.journal[delivery].attempts})
                case Reconciled():
                    self.session.say(Ready())
                case Fire() | UnreadableFire():
                    self._inbox.append(message)
                case ReportAck(id=delivery):
                    self.journal[delivery].is_acknowledged = True
                case Release(id=delivery, attempts=attempts):
                    entry = self.journal[delivery]
                    # A repeat answers a question that is not asked any more.
                    entry.is_held = entry.is_held and entry.attempts != attempts
                case Unknown():
                    unknown += 1
        assert unknown <= 1

    def commit(self) -> None:
        """Journals what came in, then answers it."""
        if self.session is None or self.session.state not in (S.READY, S.DRAINING):
            return
        while self._inbox:
            command = self._inbox.pop(0)
            if command.id in self.journal:
                self.session.say(Accepted(id=command.id))
                self._told.discard(command.id)  # it uses credit until the rest is said once more
            elif self.is_full or self.session.state is S.DRAINING:
                reason = "journal_full" if self.is_full else "draining"
                self.session.say(Busy.model_validate({"id": command.id, "reason": reason, "retry_in": 0}))
            elif isinstance(command, UnreadableFire):
                self.journal[command.id] = Entry(FinalState.REFUSED)
                self._report(command.id)
            else:
                self.journal[command.id] = Entry()
                self.session.say(Accepted(id=command.id))

    def deliver(self, pick: int) -> None:
        """One request; now and then it fails and is repeated, or nobody knows what came of it."""
        waiting = [delivery for delivery, entry in self.journal.items() if entry.state is None and not entry.is_held]
        if waiting:
            delivery = waiting[pick % len(waiting)]
            entry = self.journal[delivery]
            self.requests[delivery] += 1
            entry.attempts += 1
            if pick % 5 == 1:
                entry.is_held = True
                self._told.discard(delivery)
            elif pick % 5 == 2:
                self.retries[delivery] += 1
            else:
                entry.state = FinalState.SUCCEEDED
                self._told.discard(delivery)

    def report(self) -> None:
        if self.session is None or self.session.state not in (S.READY, S.DRAINING):
            return
        for delivery, entry in self.journal.items():
            if delivery in self._told or entry.is_acknowledged:
                continue
            if entry.state is not None:
                self._report(delivery)
            elif entry.is_held:
                self.session.say(held(delivery, entry.attempts))
                self._told.add(delivery)
            elif entry.attempts:
                self.session.say(Attempted(ids=(delivery,)))
                self._told.add(delivery)

    def drain(self) -> None:
        if self.session is not None and self.session.state is S.READY:
            self.session.say(Draining())

    def send(self) -> None:
        if self.session is not None and self.wire is not None:
            frames = self.session.outgoing()
            if self.wire.is_up:
                self.wire.to_control_plane.extend(frames)

    def _report(self, delivery: str) -> None:
        state = self.journal[delivery].state
        assert self.session is not None
        assert state is not None
        self.session.say(report(delivery, state))
        self._told.add(delivery)


class World:
    """What can happen. `pick` chooses among what a step may act upon."""

    def __init__(self) -> None:
        self.control_plane = ControlPlane()
        self.agent = Agent()
        self.wire = Wire(is_up=False)
        self.violations: Counter[str] = Counter()

    # regular steps

    def event(self, pick: int) -> None:
        self.control_plane.queue(make_id(len(self.control_plane.table)), is_readable=pick % 8 > 0)

    def connect(self, pick: int) -> None:
        """The agent dials once it knows that it has no connection; the control plane may think otherwise."""
        if self.agent.wire is None:
            self.wire = Wire()
            self.agent.connect(self.wire)
            self.control_plane.take(self.wire)

    def agent_sends(self, pick: int) -> None:
        self.agent.send()

    def control_plane_sends(self, pick: int) -> None:
        self.control_plane.send()

    def agent_hears(self, pick: int) -> None:
        if self.wire.to_agent and self.agent.wire is self.wire:
            self._hear(self.agent.hear, self.wire.to_agent.pop(0))

    def control_plane_hears(self, pick: int) -> None:
        if self.wire.to_control_plane and self.control_plane.wire is self.wire:
            self._hear(self.control_plane.hear, self.wire.to_control_plane.pop(0))

    def exchange(self, pick: int) -> None:
        """Each side says and hears everything once: without it few schedules come further than a greeting."""
        self.agent_sends(pick)
        while self.wire.to_control_plane and self.control_plane.wire is self.wire:
            self.control_plane_hears(pick)
        self.control_plane_sends(pick)
        while self.wire.to_agent and self.agent.wire is self.wire:
            self.agent_hears(pick)

    def _hear(self, hear: Callable[[str], None], frame: str) -> None:
        try:
            hear(frame)
        except ProtocolViolation as violation:
            if not self.wire.was_tampered_with:
                raise
            self.violations[violation.reason] += 1
            self.wire.cut()

    def dispatch(self, pick: int) -> None:
        self.control_plane.dispatch()

    def commit(self, pick: int) -> None:
        self.agent.commit()

    def deliver(self, pick: int) -> None:
        self.agent.deliver(pick)

    def resolve(self, pick: int) -> None:
        self.control_plane.resolve(pick)

    def report(self, pick: int) -> None:
        self.agent.report()

    def agent_notices_cut(self, pick: int) -> None:
        if not self.wire.is_up:
            self.agent.lose()

    def control_plane_notices_cut(self, pick: int) -> None:
        if not self.wire.is_up:
            self.control_plane.lose()

    # disturbances

    def cut(self, pick: int) -> None:
        self.wire.cut()

    def agent_crashes(self, pick: int) -> None:
        self.agent.lose()
        self.wire.cut()

    def control_plane_crashes(self, pick: int) -> None:
        self.control_plane.lose()
        self.wire.cut()

    def journal_fills_or_empties(self, pick: int) -> None:
        self.agent.is_full = not self.agent.is_full

    def drain(self, pick: int) -> None:
        self.agent.drain()

    def foreign_type(self, pick: int) -> None:
        if self.wire.is_up:
            (self.wire.to_agent if pick % 2 else self.wire.to_control_plane).append(FROM_THE_FUTURE)

    # tampering

    def _a_direction(self, pick: int) -> list[str]:
        return self.wire.to_agent if pick % 2 else self.wire.to_control_plane

    def repeat_frame(self, pick: int) -> None:
        if frames := self._a_direction(pick):
            self.wire.was_tampered_with = True
            position = pick // 2 % len(frames)
            frames.insert(position, frames[position])

    def swap_frames(self, pick: int) -> None:
        if len(frames := self._a_direction(pick)) > 1:
            self.wire.was_tampered_with = True
            position = pick // 2 % (len(frames) - 1)
            frames[position : position + 2] = frames[position + 1], frames[position]

    def cut_frame(self, pick: int) -> None:
        if frames := self._a_direction(pick):
            self.wire.was_tampered_with = True
            position = pick // 2 % len(frames)
            frames[position] = frames[position][: pick % max(1, len(frames[position]))]

    # the end of the disturbance

    def recover(self) -> None:
        """A clean connection, and rounds of regular steps until nothing is left to do."""
        self.agent.is_full = False
        self.wire.cut()
        self.agent.lose()
        self.connect(0)
        rounds = [*REGULAR, *["agent_hears", "control_plane_hears"] * 8]
        rounds.remove("event")
        for _ in range(10 + 4 * len(self.control_plane.table)):
            for step in rounds:
                getattr(self, step)(0)
        assert not self.wire.to_agent
        assert not self.wire.to_control_plane

    def allowed(self, delivery: str) -> int:
        """How many requests there may be: one, and another for each that failed or that a person asked for."""
        return 1 + self.agent.retries[delivery] + len(self.control_plane.decided.get(delivery, []))

    def check_always(self) -> None:
        """What must be true at any moment."""
        table, journal = self.control_plane.table, self.agent.journal
        for delivery, state in table.items():
            # The control plane believes only what is in the journal, and knows no end before it came.
            assert delivery in journal or state in (D.QUEUED, D.DISPATCHED)
            # A person is asked about what did happen, and asked once.
            assert state is not D.HELD or self.control_plane.asked[delivery] <= journal[delivery].attempts
            assert state not in FINAL or journal[delivery].state == state.value
        assert all(table[delivery] in FINAL for delivery, entry in journal.items() if entry.is_acknowledged)
        assert all(len(set(answers)) == len(answers) for answers in self.control_plane.decided.values())
        assert all(count <= self.allowed(delivery) for delivery, count in self.agent.requests.items())
        assert len(self.agent.unanswered) <= CREDIT

    def check(self) -> None:
        """What must be true when all is quiet."""
        table, journal, unreadable = self.control_plane.table, self.agent.journal, self.control_plane.unreadable
        assert table == {delivery: D.REFUSED if delivery in unreadable else D.SUCCEEDED for delivery in table}
        assert self.agent.requests == {delivery: self.allowed(delivery) for delivery in table.keys() - unreadable}
        assert journal.keys() == table.keys()
        assert all(entry.is_acknowledged for entry in journal.values())
        assert self.wire.is_up
        assert self.agent.session is not None
        assert self.control_plane.session is not None
        assert self.agent.session.state is self.control_plane.session.state is S.READY
        assert self.control_plane.session.free_credit == CREDIT


REGULAR = [
    *("event", "dispatch", "control_plane_sends", "agent_hears", "commit", "deliver", "report", "agent_sends"),
    *("control_plane_hears", "exchange", "resolve", "connect", "agent_notices_cut", "control_plane_notices_cut"),
]
DISTURBANCES = [
    *("cut", "agent_crashes", "control_plane_crashes", "journal_fills_or_empties", "drain", "foreign_type"),
]
TAMPERING = ["repeat_frame", "swap_frames", "cut_frame"]


def schedules(steps: list[str]) -> st.SearchStrategy[list[tuple[str, int]]]:
    return st.lists(st.tuples(st.sampled_from(steps), st.integers(0, 1_000)), min_size=40, max_size=200)


def play(schedule: Iterable[tuple[str, int]]) -> World:
    world = World()
    for step, pick in schedule:
        getattr(world, step)(pick)
        world.check_always()
    world.recover()
    world.check()
    return world


def random_schedule(seed: int, weighted: list[tuple[list[str], int]], length: int) -> Iterable[tuple[str, int]]:
    source = random.Random(seed)
    steps = [step for group, weight in weighted for step in group * weight]
    for _ in range(length):
        yield source.choice(steps), source.randrange(1_000)


@given(schedules(REGULAR * 3 + DISTURBANCES))
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_cuts_and_crashes_lose_nothing_and_break_no_rule(schedule: list[tuple[str, int]]) -> None:
    assert not play(schedule).violations


@given(schedules(REGULAR * 3 + DISTURBANCES + TAMPERING))
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_tampered_frames_lose_nothing(schedule: list[tuple[str, int]]) -> None:
    play(schedule)


@pytest.mark.parametrize("seed", range(10))
def test_long_runs_of_cuts_and_crashes(seed: int) -> None:
    world = play(random_schedule(seed, [(REGULAR, 30), (DISTURBANCES, 1)], 4_000))
    assert not world.violations
    assert world.agent.epoch > 10
    assert world.control_plane.decided


@pytest.mark.parametrize("seed", range(10))
def test_long_runs_with_tampering(seed: int) -> None:
    world = play(random_schedule(seed, [(REGULAR, 10), (DISTURBANCES, 1), (TAMPERING, 5)], 2_000))
    assert world.violations


def test_undisturbed_run_needs_one_session() -> None:
    world = play(random_schedule(1, [(REGULAR, 1)], 3_000))
    assert world.agent.epoch == 2  # the other is the clean one at the end
