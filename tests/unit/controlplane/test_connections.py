"""What is known of the connected agents."""

from uuid import uuid4

import pytest

from presence.controlplane.access import Peer
from presence.controlplane.connections import LONGEST_REST, SHORTEST_REST, Connection, Connections, Pause
from presence.errors import CloseCode
from presence.protocol.codec import encode, from_control_plane
from presence.protocol.messages import (
    Accepted,
    AgentMessage,
    Attempted,
    Cancel,
    Draining,
    Fire,
    Hello,
    Ready,
    Reconciled,
    Release,
    Stated,
    Welcome,
)

PEER = Peer("organization", "presence", "key", 0)


def greeted(instance: str, credit: int = 2) -> Connection:
    """A connection whose agent has been welcomed."""
    connection = Connection(PEER)
    hello = Hello(versions=(1,), instance=instance, epoch=1, run=str(uuid4()), credit=credit, agent_version="1")
    hear(connection, hello)
    connection.say(Welcome(version=1, canary_every=1, lease=1, server_time=1))
    return connection


def make_ready(connection: Connection) -> None:
    hear(connection, Stated())
    connection.say(Reconciled())
    hear(connection, Ready())
    connection.reconciled = True


def connected(instance: str, credit: int = 2) -> Connection:
    connection = greeted(instance, credit)
    make_ready(connection)
    return connection


def hear(connection: Connection, message: AgentMessage) -> None:
    for frame in encode([message]):
        connection.session.receive(frame)


def fire() -> Fire:
    return Fire(id=str(uuid4()), webhook_id=str(uuid4()), event="E", subject_id="s", uri="http://x/", max_age=1)


def test_only_open_reconciled_connections_with_credit_are_ready() -> None:
    connections = Connections()
    connection = connected(str(uuid4()))
    assert connections.ready("presence") == []
    with connections.opened(connection):
        assert connections.ready("presence") == [connection]
        connection.reconciled = False
        assert connections.ready("presence") == []
        connection.reconciled = True
        assert connection.fire(fire(), "x:80")
        assert connection.fire(fire(), "x:80")
        assert not connection.fire(fire(), "x:80")
        assert connections.ready("presence") == []
    assert connections.presences() == set()


def test_a_draining_or_ending_connection_takes_no_fire() -> None:
    draining, ending = connected(str(uuid4())), connected(str(uuid4()))
    hear(draining, Draining())
    ending.end(CloseCode.NORMAL, "done")
    assert not draining.fire(fire(), "x:80")
    assert not ending.fire(fire(), "x:80")


def test_nothing_else_beside_a_suspect_until_it_is_answered() -> None:
    connection, suspect = connected(str(uuid4())), fire()
    assert connection.fire(suspect, "x:80", alone=True)
    assert not connection.fire(fire(), "x:80")
    hear(connection, Accepted(id=suspect.id))
    assert connection.fire(fire(), "x:80")


def test_one_that_rests_is_not_ready_until_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    connections, connection = Connections(), connected(str(uuid4()))
    now = 1000.0
    monkeypatch.setattr("presence.controlplane.connections.monotonic", lambda: now)
    with connections.opened(connection):
        for asked, given in ((5, 5), (0, SHORTEST_REST), (10**9, LONGEST_REST)):
            connection.rest(asked)
            connection.rest(0)
            now += given - 0.01
            assert connections.ready("presence") == []
            assert not connection.fire(fire(), "x:80")
            now += 0.02
            assert connections.ready("presence") == [connection]


def test_a_host_is_closed_for_one_presence_and_for_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    connections, now = Connections(), 1000.0
    monkeypatch.setattr("presence.controlplane.connections.monotonic", lambda: now)
    connections.close_host("presence", "x:80", 5)
    connections.close_host("presence", "y:80", 0)
    assert set(connections.closed_hosts("presence")) == {"x:80", "y:80"}
    assert not connections.closed_hosts("elsewhere")
    now += 1
    assert set(connections.closed_hosts("presence")) == {"x:80"}
    now += 4
    assert not connections.closed_hosts("presence")


def test_the_fewest_in_flight_come_first() -> None:
    connections, few, many = Connections(), connected(str(uuid4())), connected(str(uuid4()))
    many.holding = {"a", "b"}
    few.holding = {"a"}
    with connections.opened(many), connections.opened(few):
        assert connections.ready("presence") == [few, many]


def test_the_credit_is_counted_by_host_as_long_as_it_is_used() -> None:
    connection, known = connected(str(uuid4()), credit=9), str(uuid4())
    fires = [fire() for _ in range(3)]
    for number, message in enumerate(fires):
        assert connection.fire(message, f"host-{number % 2}")
    assert connection.credit_used() == {"host-0": 2, "host-1": 1}
    hear(connection, Attempted(ids=(fires[0].id, fires[1].id)))
    assert connection.credit_used() == {"host-0": 1}
    connection.session.unattempted.add(known)
    connection.locate({known: "host-7"})
    assert connection.credit_used() == {"host-0": 1, "host-7": 1}


def test_the_newest_of_each_instance_are_those_that_will_stay() -> None:
    connections, instance = Connections(), str(uuid4())
    older, newer, silent = connected(instance), greeted(instance), Connection(PEER)
    with connections.opened(older), connections.opened(newer), connections.opened(silent):
        connections.supersede(older)
        assert connections.newest("presence") == [older]
        connections.supersede(newer)
        assert connections.newest("presence") == [newer]
        assert set(connections.of("presence")) == {older, newer, silent}
        newer.end(CloseCode.NORMAL, "done")
        assert connections.newest("presence") == []


def test_the_newest_connection_of_an_instance_wins() -> None:
    connections, instance = Connections(), str(uuid4())
    older, newer = connected(instance), connected(instance)
    with connections.opened(newer):
        with connections.opened(older):
            assert connections.supersede(older) is None
            assert connections.supersede(newer) is older
            assert older.ending is not None
            assert older.ending.code == CloseCode.SUPERSEDED
        assert connections.supersede(newer) is newer, "the end of the older one leaves the newer one in place"


def said(connection: Connection) -> list[object]:
    return [message for frame in connection.session.outgoing() for message in from_control_plane.decode(frame)]


def test_an_instance_is_told_what_its_session_may_hear() -> None:
    connections, instance, delivery = Connections(), str(uuid4()), str(uuid4())
    release, cancel = Release(id=delivery, attempts=1), Cancel(id=delivery)
    connection = greeted(instance)
    with connections.opened(connection):
        connections.supersede(connection)
        said(connection)
        for message in (cancel, release):
            connections.tell("presence", instance, message)
        assert said(connection) == [cancel], "it has not stated all that it has"
        assert not connections.hears("presence", instance, Release)
        make_ready(connection)
        said(connection)
        for heard in (None, Draining()):
            if heard is not None:
                hear(connection, heard)
            assert connections.hears("presence", instance, Release)
            connections.tell("presence", instance, release)
            connections.tell("presence", str(uuid4()), release)
            connections.tell("elsewhere", instance, release)
            assert said(connection) == [release]
        connection.end(CloseCode.NORMAL, "done")
        assert not connections.hears("presence", instance, Release)
    connections.tell("presence", instance, release)
    assert said(connection) == []


def test_the_first_reason_to_end_counts() -> None:
    connection = connected(str(uuid4()))
    connection.end(CloseCode.KEY_REVOKED, "first")
    connection.end(CloseCode.NORMAL, "second")
    assert connection.ending is not None
    assert connection.ending.reason == "first"
    connection.session.close()
    connection.say(fire())
    assert connection.session.outgoing() == []


def test_a_paused_agent_is_given_nothing_until_its_pause_ends() -> None:
    connection = connected(str(uuid4()))
    assert connection.paused is None
    connection.starved = False
    connection.pause(None)
    assert connection.paused == Pause(None)
    assert connection.free_credit == 0
    assert not connection.fire(fire(), "x:80")
    connection.pause(3_600_000)
    assert connection.paused is not None
    assert connection.paused.seconds == pytest.approx(3600, abs=5)
    connection.pause(0)
    assert connection.paused is None
    assert connection.free_credit == 2
    assert connection.starved


def test_a_presence_is_paused_when_all_of_its_agents_are_until_the_first_goes_on() -> None:
    connections, first, second = Connections(), connected(str(uuid4())), connected(str(uuid4()))
    assert connections.paused("presence") is None
    with connections.opened(first), connections.opened(second):
        for connection in (first, second):
            connections.supersede(connection)
        first.pause(None)
        assert connections.paused("presence") is None
        assert connections.ready("presence") == [second]
        second.pause(None)
        assert connections.paused("presence") == Pause(None)
        assert connections.ready("presence") == []
        second.pause(60_000)
        pause = connections.paused("presence")
        assert pause is not None
        assert pause.seconds == pytest.approx(60, abs=5)
        first.pause(0)
        assert connections.paused("presence") is None
