"""What is known of the connected agents."""

from uuid import uuid4

from presence.controlplane.access import Peer
from presence.controlplane.connections import Connection, Connections
from presence.errors import CloseCode
from presence.protocol.codec import encode, from_control_plane
from presence.protocol.messages import Accepted, AgentMessage, Cancel, Draining, Fire, Hello, Ready, Release, Welcome

PEER = Peer("organization", "presence", "key", 0)


def connected(connections: Connections, instance: str, credit: int = 2) -> Connection:
    connection = Connection(PEER)
    hear(connection, Hello(versions=(1,), instance=instance, epoch=1, credit=credit, agent_version="1"))
    connection.say(Welcome(version=1, canary_every=1, lease=1, server_time=1))
    hear(connection, Ready())
    connection.reconciled = True
    return connection


def hear(connection: Connection, message: AgentMessage) -> None:
    for frame in encode([message]):
        connection.session.receive(frame)


def fire() -> Fire:
    return Fire(id=str(uuid4()), webhook_id=str(uuid4()), event="E", subject_id="s", uri="http://x/", max_age=1)


def test_only_open_reconciled_connections_with_credit_are_ready() -> None:
    connections = Connections()
    connection = connected(connections, str(uuid4()))
    assert connections.ready("presence") == []
    with connections.opened(connection):
        assert connections.ready("presence") == [connection]
        connection.reconciled = False
        assert connections.ready("presence") == []
        connection.reconciled = True
        assert connection.fire(fire())
        assert connection.fire(fire())
        assert not connection.fire(fire())
        assert connections.ready("presence") == []
    assert connections.presences() == set()


def test_a_draining_or_ending_connection_takes_no_fire() -> None:
    draining, ending = connected(Connections(), str(uuid4())), connected(Connections(), str(uuid4()))
    hear(draining, Draining())
    ending.end(CloseCode.NORMAL, "done")
    assert not draining.fire(fire())
    assert not ending.fire(fire())


def test_nothing_else_beside_a_suspect_until_it_is_answered() -> None:
    connection, suspect = connected(Connections(), str(uuid4())), fire()
    assert connection.fire(suspect, alone=True)
    assert not connection.fire(fire())
    hear(connection, Accepted(id=suspect.id))
    assert connection.fire(fire())


def test_the_newest_connection_of_an_instance_wins() -> None:
    connections, instance = Connections(), str(uuid4())
    older, newer = connected(connections, instance), connected(connections, instance)
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
    connection = Connection(PEER)
    hear(connection, Hello(versions=(1,), instance=instance, epoch=1, credit=1, agent_version="1"))
    with connections.opened(connection):
        connections.supersede(connection)
        for message in (cancel, release):
            connections.tell("presence", instance, message)
        assert said(connection) == [], "it has not been welcomed"
        connection.say(Welcome(version=1, canary_every=1, lease=1, server_time=1))
        said(connection)
        for message in (cancel, release):
            connections.tell("presence", instance, message)
        assert said(connection) == [cancel], "it has not stated all that it has"
        for heard in (Ready(), Draining()):
            hear(connection, heard)
            connections.tell("presence", instance, release)
            connections.tell("presence", str(uuid4()), release)
            connections.tell("elsewhere", instance, release)
            assert said(connection) == [release]
    connections.tell("presence", instance, release)
    assert said(connection) == []


def test_the_first_reason_to_end_counts() -> None:
    connection = connected(Connections(), str(uuid4()))
    connection.end(CloseCode.KEY_REVOKED, "first")
    connection.end(CloseCode.NORMAL, "second")
    assert connection.ending is not None
    assert connection.ending.reason == "first"
    connection.session.close()
    connection.say(fire())
    assert connection.session.outgoing() == []
