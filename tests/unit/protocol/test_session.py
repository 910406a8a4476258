"""Both ends of a session: every message in every state, credit, versions, unknown types, the end."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from presence.errors import CloseCode, ProtocolViolation
from presence.protocol import HOLDING_PAGE, MAX_FRAME_BYTES, VERSIONS
from presence.protocol.codec import Unknown, UnreadableFire, encode
from presence.protocol.messages import (
    Accepted,
    Attempted,
    Busy,
    Canary,
    CanaryEcho,
    Draining,
    Fire,
    Holding,
    Ready,
    Reconciled,
    ReportAck,
    Stated,
    Welcome,
)
from presence.protocol.session import (
    AGENT_SAYS,
    CONTROL_PLANE_SAYS,
    AgentSession,
    ControlPlaneSession,
    SessionState,
    common_version,
)
from tests.unit.protocol.examples import (
    AGENT_EXAMPLES,
    CONTROL_PLANE_EXAMPLES,
    ID,
    fire,
    held,
    hello,
    make_id,
    report,
    welcome,
)

S = SessionState
# What gives the credit of a fire back; of these the last two follow an Accepted.
ENDS: list[Callable[[str], Any]] = [
    lambda delivery: Busy(id=delivery, reason="journal_full", retry_in=0),
    lambda delivery: report(delivery),
    lambda delivery: held(delivery),
    lambda delivery: Attempted(ids=(delivery,)),
]
ANSWERS: list[Callable[[str], Any]] = [lambda delivery: Accepted(id=delivery), *ENDS[:3]]

# What the specification allows, written down once more: state -> what the agent may say, what it may hear.
AGENT_MAY_SAY = {
    S.GREETING: {"hello"},
    S.STATING: {"holding", "stated", "canary_echo", "paused"},
    S.STATED: {"canary_echo", "paused"},
    S.RECONCILED: {"ready", "canary_echo", "paused"},
    S.READY: {"accepted", "attempted", "busy", "report", "held", "canary_echo", "paused", "draining"},
    S.DRAINING: {"accepted", "attempted", "busy", "report", "held", "canary_echo", "paused"},
    S.CLOSED: set(),
}
CONTROL_PLANE_MAY_SAY = {
    S.GREETING: {"welcome", "go_away"},
    S.STATING: {"cancel", "canary", "new_key", "go_away"},
    S.STATED: {"reconciled", "cancel", "canary", "new_key", "go_away"},
    S.RECONCILED: {"cancel", "canary", "new_key", "go_away"},
    S.READY: {"fire", "cancel", "release", "canary", "new_key", "go_away", "report_ack"},
    S.DRAINING: {"cancel", "release", "canary", "new_key", "go_away", "report_ack"},
    S.CLOSED: set(),
}
# A fire may already have been on its way when the agent began to drain.
AGENT_MAY_HEAR = {**CONTROL_PLANE_MAY_SAY, S.DRAINING: CONTROL_PLANE_MAY_SAY[S.DRAINING] | {"fire"}}


def frame(*messages: BaseModel) -> str:
    (only,) = encode(messages)
    return only


# The regular way, and what brings a session on from one state to the next.
WAY = [S.GREETING, S.STATING, S.STATED, S.RECONCILED, S.READY, S.DRAINING]
SAID_BY_AGENT: dict[str, SessionState] = {"stated": S.STATED, "ready": S.READY, "draining": S.DRAINING}
SAID_BY_CONTROL_PLANE: dict[str, SessionState] = {"welcome": S.STATING, "reconciled": S.RECONCILED}


def agent_in(state: SessionState, credit: int = 8) -> AgentSession:
    """An agent's end that came to the state the regular way; nothing is left in its queue."""
    session = AgentSession(hello(credit))
    steps = [
        lambda: session.receive(frame(welcome())),
        lambda: session.say(Stated()),
        lambda: session.receive(frame(Reconciled())),
        lambda: session.say(Ready()),
        lambda: session.say(Draining()),
    ]
    if state is S.CLOSED:
        session.close()
    else:
        for step in steps[: WAY.index(state)]:
            step()
    session.outgoing()
    assert session.state is state
    return session


def control_plane_in(state: SessionState, credit: int = 8) -> ControlPlaneSession:
    """A control plane's end that came to the state the regular way, greeted if that is possible."""
    session = ControlPlaneSession()
    steps = [
        lambda: (session.receive(frame(hello(credit))), session.say(welcome())),
        lambda: session.receive(frame(Stated())),
        lambda: session.say(Reconciled()),
        lambda: session.receive(frame(Ready())),
        lambda: session.receive(frame(Draining())),
    ]
    if state is S.CLOSED:
        session.close()
    else:
        for step in steps[: WAY.index(state)]:
            step()
    session.outgoing()
    assert session.state is state
    return session


def violation(receive: Callable[[str], object], text: str) -> ProtocolViolation:
    with pytest.raises(ProtocolViolation) as raised:
        receive(text)
    return raised.value


def states_and(kinds: Iterable[str]) -> list[Any]:
    return [pytest.param(state, kind, id=f"{state}-{kind}") for state in S for kind in kinds]


def test_tables_are_those_of_the_specification() -> None:
    def names(table: Any) -> dict[SessionState, set[str]]:
        return {state: {model.model_fields["type"].default for model in models} for state, models in table.items()}

    assert names(AGENT_SAYS) == AGENT_MAY_SAY
    assert names(CONTROL_PLANE_SAYS) == CONTROL_PLANE_MAY_SAY


# Every message in every state, from both ends


@pytest.mark.parametrize(
    ("state", "kind"),
    [pair for pair in states_and(AGENT_EXAMPLES) if pair.id != "greeting-hello"],
)
def test_agent_says(state: SessionState, kind: str) -> None:
    session, message = agent_in(state), AGENT_EXAMPLES[kind]
    if kind in AGENT_MAY_SAY[state]:
        session.say(message)
        assert session.outgoing() == [frame(message)]
        assert session.state is SAID_BY_AGENT.get(kind, state)
    else:
        with pytest.raises(AssertionError, match=f"{kind} while {state}"):
            session.say(message)
        assert session.outgoing() == []
        assert session.state is state


@pytest.mark.parametrize(("state", "kind"), states_and(CONTROL_PLANE_EXAMPLES))
def test_agent_hears(state: SessionState, kind: str) -> None:
    session, message = agent_in(state), CONTROL_PLANE_EXAMPLES[kind]
    if kind in AGENT_MAY_HEAR[state]:
        assert session.receive(frame(message)) == [message]
        assert session.state is SAID_BY_CONTROL_PLANE.get(kind, state)
    else:
        raised = violation(session.receive, frame(message))
        assert raised.close_code is CloseCode.PROTOCOL_ERROR
        assert raised.reason == f"'{kind}' is not allowed while {state}"
        assert session.state is S.CLOSED


@pytest.mark.parametrize(("state", "kind"), states_and(CONTROL_PLANE_EXAMPLES))
def test_control_plane_says(state: SessionState, kind: str) -> None:
    session, message = control_plane_in(state), CONTROL_PLANE_EXAMPLES[kind]
    if state is S.GREETING:
        session.receive(frame(hello()))
    if kind in CONTROL_PLANE_MAY_SAY[state]:
        session.say(message)
        assert session.outgoing() == [frame(message)]
        assert session.state is SAID_BY_CONTROL_PLANE.get(kind, state)
    else:
        with pytest.raises(AssertionError, match=f"{kind} while {state}"):
            session.say(message)
        assert session.outgoing() == []
        assert session.state is state


@pytest.mark.parametrize(("state", "kind"), states_and(AGENT_EXAMPLES))
def test_control_plane_hears(state: SessionState, kind: str) -> None:
    session, message = control_plane_in(state), AGENT_EXAMPLES[kind]
    if kind in AGENT_MAY_SAY[state]:
        assert session.receive(frame(message)) == [message]
        assert session.state is SAID_BY_AGENT.get(kind, state)
    else:
        raised = violation(session.receive, frame(message))
        assert raised.close_code is CloseCode.PROTOCOL_ERROR
        assert raised.reason == f"'{kind}' is not allowed while {state}"
        assert session.state is S.CLOSED


@pytest.mark.parametrize("state", [state for state in S if state not in (S.READY, S.DRAINING)])
def test_unreadable_fire_is_bound_to_the_same_states(state: SessionState) -> None:
    raised = violation(agent_in(state).receive, json.dumps({"type": "fire", "id": ID}))
    assert (raised.close_code, raised.reason) == (CloseCode.PROTOCOL_ERROR, f"'fire' is not allowed while {state}")


@pytest.mark.parametrize("state", [S.READY, S.DRAINING])
def test_unreadable_fire_is_heard_where_a_fire_is(state: SessionState) -> None:
    (unreadable,) = agent_in(state).receive(json.dumps({"type": "fire", "id": ID}))
    assert isinstance(unreadable, UnreadableFire)


# Greeting


def test_agent_begins_with_hello() -> None:
    assert AgentSession(hello()).outgoing() == [frame(hello())]


def test_control_plane_waits_for_hello() -> None:
    session = ControlPlaneSession()
    assert session.outgoing() == []
    with pytest.raises(AssertionError, match="welcome before hello"):
        session.say(welcome())


def test_second_hello_is_a_violation() -> None:
    session = ControlPlaneSession()
    session.receive(frame(hello()))
    assert session.hello == hello()
    raised = violation(session.receive, frame(hello(epoch=2)))
    assert (raised.close_code, session.state) == (CloseCode.PROTOCOL_ERROR, S.CLOSED)


def test_agent_may_not_run_ahead_of_welcome() -> None:
    session = ControlPlaneSession()
    raised = violation(session.receive, frame(hello(), Holding(ids=()), Ready()))
    assert raised.reason == "'holding' is not allowed while greeting"


def test_agent_says_hello_by_itself_only() -> None:
    with pytest.raises(AssertionError):
        AgentSession(hello()).say(hello(epoch=2))


# Versions


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [((1,), 1), ((1, 2), 1), ((3, 1, 2), 1), ((1, 1), 1), ((0,), None), ((2,), None), ((2, 3), None)],
)
def test_common_version(offered: tuple[int, ...], chosen: int | None) -> None:
    assert VERSIONS == (1,)
    assert common_version(hello(versions=offered)) == chosen


@pytest.mark.parametrize("offered", [(0,), (2,), (2, 3)])
def test_no_common_version_closes_with_4426(offered: tuple[int, ...]) -> None:
    session = ControlPlaneSession()
    raised = violation(session.receive, frame(hello(versions=offered)))
    assert raised.close_code == 4426
    assert "we speak [1]" in raised.reason
    assert session.state is S.CLOSED
    assert session.hello is None


def test_reason_of_4426_fits_a_close_frame() -> None:
    raised = violation(ControlPlaneSession().receive, frame(hello(versions=(2**31 - 1,) * 16)))
    assert len(raised.reason) <= 123


@pytest.mark.parametrize(("offered", "chosen"), [((1,), 2), ((1,), 0), ((2, 3), 1)])
def test_version_that_was_not_offered_is_a_violation(offered: tuple[int, ...], chosen: int) -> None:
    session = AgentSession(hello(versions=offered))
    answer = Welcome(version=chosen, canary_every=1, lease=1, server_time=1)
    assert violation(session.receive, frame(answer)).close_code is CloseCode.PROTOCOL_ERROR
    assert session.state is S.CLOSED


# Credit


@pytest.mark.parametrize("end", ENDS)
def test_what_gives_the_credit_back_does_so_on_both_sides(end: Callable[[str], Any]) -> None:
    agent, control_plane = agent_in(S.READY, credit=1), control_plane_in(S.READY, credit=1)
    for number in range(3):
        assert control_plane.free_credit == 1
        control_plane.say(fire(make_id(number)))
        assert control_plane.free_credit == 0
        assert control_plane.unattempted == {make_id(number)}
        (sent,) = control_plane.outgoing()
        assert len(agent.receive(sent)) == 1
        agent.say(end(make_id(number)))
        (answered,) = agent.outgoing()
        control_plane.receive(answered)
        assert control_plane.unattempted == set()


def test_accepted_alone_gives_no_credit_back() -> None:
    agent, control_plane = agent_in(S.READY, credit=1), control_plane_in(S.READY, credit=1)
    control_plane.say(fire())
    agent.receive(frame(fire()))
    agent.say(Accepted(id=ID))
    control_plane.receive(frame(Accepted(id=ID)))
    assert (control_plane.unanswered, control_plane.unattempted) == (set(), {ID})
    assert control_plane.free_credit == 0
    violation(agent.receive, frame(fire(make_id(1))))


def test_what_is_stated_as_unattempted_uses_credit_on_both_sides() -> None:
    agent, control_plane = agent_in(S.STATING, credit=2), control_plane_in(S.STATING, credit=2)
    agent.hold([make_id(number) for number in range(5)], {make_id(3)})
    for sent in agent.outgoing():
        control_plane.receive(sent)
    control_plane.say(Reconciled())
    agent.receive(frame(Reconciled()))
    agent.say(Ready())
    control_plane.receive(frame(Ready()))
    assert (control_plane.unattempted, control_plane.free_credit) == ({make_id(3)}, 1)
    agent.receive(frame(fire(make_id(9))))
    violation(agent.receive, frame(fire(make_id(10))))


def test_an_agent_may_state_more_than_its_credit() -> None:
    control_plane = control_plane_in(S.STATING, credit=2)
    stated = tuple(make_id(number) for number in range(5))
    control_plane.receive(frame(Holding(ids=stated, unattempted=stated), Stated()))
    control_plane.say(Reconciled())
    control_plane.receive(frame(Ready()))
    assert control_plane.free_credit == 0
    control_plane.receive(frame(Attempted(ids=stated[:4])))
    assert control_plane.free_credit == 1


@given(st.lists(st.tuples(st.sampled_from(range(6)), st.integers(0, 9)), max_size=60), st.integers(1, 4))
def test_the_agent_never_finds_more_fires_than_the_control_plane_counts(steps: list[Any], credit: int) -> None:
    """However the answers mix and however late they come, what the one may say the other takes."""
    agent, control_plane = agent_in(S.READY, credit), control_plane_in(S.READY, credit)
    to_agent: list[str] = []
    to_control_plane: list[str] = []
    fired: list[str] = []
    for place, (step, number) in enumerate(steps):
        if step == 0 and control_plane.free_credit > 0:
            control_plane.say(fire(make_id(place)))
            to_agent += control_plane.outgoing()
        elif step == 1 and to_agent:
            fired += [message.id for message in agent.receive(to_agent.pop(0)) if isinstance(message, Fire)]
        elif step == 2 and to_control_plane:
            control_plane.receive(to_control_plane.pop(0))
        elif step > 2 and fired:
            agent.say([lambda id_: Accepted(id=id_), *ENDS][number % 5](fired[number % len(fired)]))
            to_control_plane += agent.outgoing()


def test_control_plane_may_not_say_a_fire_beyond_the_credit() -> None:
    session = control_plane_in(S.READY, credit=2)
    session.say(fire(make_id(1)))
    session.say(fire(make_id(2)))
    with pytest.raises(AssertionError, match="without credit"):
        session.say(fire(make_id(3)))
    assert session.unanswered == {make_id(1), make_id(2)}


@pytest.mark.parametrize("last", [frame(fire(make_id(3))), json.dumps({"type": "fire", "id": make_id(3)})])
def test_fire_beyond_the_credit_is_a_violation(last: str) -> None:
    session = agent_in(S.READY, credit=2)
    session.receive(frame(fire(make_id(1)), fire(make_id(2))))
    raised = violation(session.receive, last)
    assert (raised.close_code, raised.reason) == (CloseCode.PROTOCOL_ERROR, "more than 2 fires without an attempt")


def test_unreadable_fire_takes_credit_until_its_report() -> None:
    session = agent_in(S.READY, credit=1)
    session.receive(json.dumps({"type": "fire", "id": ID}))
    session.say(report(ID))
    assert session.receive(frame(fire(make_id(1)))) == [fire(make_id(1))]


def test_repeated_fire_takes_no_further_credit() -> None:
    session = agent_in(S.READY, credit=1)
    session.receive(frame(fire()))
    assert session.receive(frame(fire())) == [fire()]


@pytest.mark.parametrize("end", ENDS)
def test_what_is_said_of_another_delivery_gives_no_credit(end: Callable[[str], Any]) -> None:
    control_plane, agent = control_plane_in(S.READY, credit=1), agent_in(S.READY, credit=1)
    control_plane.say(fire(make_id(1)))
    control_plane.receive(frame(end(make_id(2))))
    assert control_plane.free_credit == 0
    agent.receive(frame(fire(make_id(1))))
    agent.say(end(make_id(2)))
    violation(agent.receive, frame(fire(make_id(4))))


@pytest.mark.parametrize("state", [state for state in S if state is not S.READY])
def test_no_credit_unless_ready(state: SessionState) -> None:
    assert control_plane_in(state).free_credit == 0


def test_credit_is_the_agents() -> None:
    assert control_plane_in(S.READY, credit=10_000).free_credit == 10_000


@pytest.mark.parametrize("answer", ANSWERS)
def test_fire_on_its_way_is_answered_while_draining(answer: Callable[[str], Any]) -> None:
    agent, control_plane = agent_in(S.READY, credit=1), control_plane_in(S.READY, credit=1)
    control_plane.say(fire())
    (sent,) = control_plane.outgoing()
    agent.say(Draining())
    agent.receive(sent)
    agent.say(answer(ID))
    (answered,) = agent.outgoing()
    assert control_plane.receive(answered)[0] == Draining()
    assert control_plane.unanswered == set()
    assert control_plane.free_credit == 0
    with pytest.raises(AssertionError, match="fire while draining"):
        control_plane.say(fire(make_id(1)))


# Holding


@pytest.mark.parametrize(
    ("count", "pages"),
    [(0, []), (1, [1]), (HOLDING_PAGE, [1000]), (HOLDING_PAGE + 1, [1000, 1]), (3_500, [1000, 1000, 1000, 500])],
)
def test_holding_is_paged_and_complete(count: int, pages: list[int]) -> None:
    agent, control_plane = agent_in(S.STATING), control_plane_in(S.STATING)
    ids = [make_id(number) for number in range(count)]
    unattempted = set(ids[::3])
    agent.hold(ids, unattempted)
    frames = agent.outgoing()
    assert all(len(sent.encode()) <= MAX_FRAME_BYTES for sent in frames)
    heard = [message for sent in frames for message in control_plane.receive(sent)]
    assert heard.pop() == Stated()
    assert control_plane.unattempted == unattempted
    stated = [message.ids for message in heard if isinstance(message, Holding)]
    assert [len(page) for page in stated] == pages
    assert [held for page in stated for held in page] == ids


# Unknown types


@pytest.mark.parametrize("session", [agent_in(S.STATING), control_plane_in(S.STATING)], ids=["agent", "control plane"])
def test_unknown_type_is_noted_once(session: AgentSession | ControlPlaneSession) -> None:
    assert session.receive('{"type":"later"}') == [Unknown("later")]
    assert session.receive('{"type":"later","more":1}') == []
    assert session.receive('[{"type":"later"},{"type":"other"},{"type":"other"}]') == [Unknown("other")]
    assert session.state is S.STATING


def test_unknown_type_is_noted_anew_in_the_next_session() -> None:
    for _ in range(2):
        assert agent_in(S.READY).receive('{"type":"later"}') == [Unknown("later")]


def test_notes_of_unknown_types_are_bounded() -> None:
    session = agent_in(S.READY)
    heard = [session.receive(json.dumps({"type": f"later-{number}"})) for number in range(1_000)]
    assert sum(map(len, heard)) == 100
    assert session.receive(frame(Canary(nonce="n"))) == [Canary(nonce="n")]


@pytest.mark.parametrize("state", [state for state in S if state is not S.CLOSED])
def test_unknown_type_is_ignored_in_any_state(state: SessionState) -> None:
    for session in (agent_in(state), control_plane_in(state)):
        assert session.receive('{"type":"later"}') == [Unknown("later")]
        assert session.state is state


# The end


@pytest.mark.parametrize("state", S)
def test_close_ends_it_in_any_state(state: SessionState) -> None:
    for session in (agent_in(state), control_plane_in(state)):
        session.close()
        session.close()
        assert session.state is S.CLOSED
        assert session.outgoing() == []


def test_what_was_queued_is_gone_with_the_connection() -> None:
    agent = agent_in(S.READY)
    agent.say(Accepted(id=ID))
    agent.close()
    assert agent.outgoing() == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("not JSON", CloseCode.INVALID_PAYLOAD),
        ('{"type":"report_ack"}', CloseCode.INVALID_PAYLOAD),
        (" " * (MAX_FRAME_BYTES + 1), CloseCode.TOO_BIG),
        (frame(welcome()), CloseCode.PROTOCOL_ERROR),
    ],
)
def test_violation_closes_the_session(text: str, code: CloseCode) -> None:
    session = agent_in(S.READY)
    session.say(Accepted(id=ID))
    assert violation(session.receive, text).close_code is code
    assert session.state is S.CLOSED
    assert session.outgoing() == []
    assert violation(session.receive, frame(ReportAck(id=ID))).close_code is CloseCode.PROTOCOL_ERROR


def test_binary_frame_closes_the_session() -> None:
    session = control_plane_in(S.READY)
    with pytest.raises(ProtocolViolation) as raised:
        session.receive(b"{}")
    assert (raised.value.close_code, session.state) == (CloseCode.PROTOCOL_ERROR, S.CLOSED)


def test_outgoing_takes_what_is_queued_once_and_in_order() -> None:
    agent = agent_in(S.READY)
    agent.say(Accepted(id=make_id(1)))
    agent.say(Busy(id=make_id(2), reason="paused", retry_in=5))
    agent.say(report(make_id(1)))
    (batch,) = agent.outgoing()
    assert [body["type"] for body in json.loads(batch)] == ["accepted", "busy", "report"]
    assert agent.outgoing() == []


def test_a_batch_may_cross_states() -> None:
    session = control_plane_in(S.STATING)
    stating = [Holding(ids=(ID,)), Stated(), CanaryEcho(nonce="n")]
    assert session.receive(frame(*stating)) == stating
    assert session.state is S.STATED
    session = control_plane_in(S.RECONCILED)
    ready = [Ready(), report(ID), Draining()]
    assert session.receive(frame(*ready)) == ready
    assert session.state is S.DRAINING


def test_an_agent_may_not_be_ready_before_what_it_stated_was_looked_at() -> None:
    raised = violation(control_plane_in(S.STATING).receive, frame(Stated(), Ready()))
    assert raised.reason == "'ready' is not allowed while stated"
