"""Who can cause a request, as far as that is decided without a database."""

import pytest

from presence.controlplane.access import Capability, Principal
from presence.controlplane.services.reach import (
    EVERY_GROUP,
    Way,
    causes_of,
    groups_of,
    never_fires,
    parse_target,
    ways_of,
)
from presence.controlplane.store.associations import Association, Scope
from presence.controlplane.store.reach import Aim, Origin, Person
from presence.domain.events import EventType

C = Capability
APPLICATION = Origin(Association(Scope.APPLICATION, "a"), "shop", "north")
GROUP = Origin(Association(Scope.ASSET_GROUP, "south"), "south", "south")


def aim(
    group: str | None = None, *origins: Origin, is_global: bool = False, points_there: bool = True,
    has_deliveries: bool = False, event: EventType = EventType.SCAN_EXECUTION_COMPLETED,
) -> Aim:  # fmt: skip
    return Aim(
        "w", "http://x/", "GET", event.value, is_global, group, group, "p", "office", is_paused=False,
        points_there=points_there, has_deliveries=has_deliveries, origins=origins,
    )  # fmt: skip


def somebody(*capabilities: Capability, groups: tuple[str, ...] = ()) -> Principal:
    return Principal("u", "u", "o", "r", frozenset(capabilities), frozenset(groups))


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("MyService.com", ("myservice.com", None)),
        ("myservice.com:8080", ("myservice.com", 8080)),
        ("10.1.2.3", ("10.1.2.3", None)),
        ("10.1.2.3:80", ("10.1.2.3", 80)),
        ("fd00::1", ("fd00::1", None)),
        ("[FD00:0::1]:443", ("fd00::1", 443)),
        ("[fd00::1]", ("fd00::1", None)),
        ("bücher.example", ("xn--bcher-kva.example", None)),
    ],
)
def test_a_target(text: str, target: tuple[str, int | None]) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":80",
        "x:",
        "x:0",
        "x:65536",
        "x:y",
        "http://x",
        "x/y",
        "[fd00::1",
        "[fd00::1]80",
        "[x]",
        "::1::",
        "a b",
        "1",
    ],
)
def test_no_target(text: str) -> None:
    with pytest.raises(ValueError):
        parse_target(text)


def test_where_events_come_from() -> None:
    assert groups_of(aim(is_global=True)) is EVERY_GROUP
    assert groups_of(aim("north", is_global=True)) == {"north"}
    assert groups_of(aim(None, APPLICATION, GROUP)) == {"north", "south"}
    assert groups_of(aim("north")) == frozenset()
    assert [never_fires(one) for one in (aim(), aim("north"), aim(is_global=True), aim(None, GROUP))] == [
        True, True, False, False,
    ]  # fmt: skip


def test_the_webhook_s_own_right() -> None:
    editor = somebody(C.CREATE_MODIFY_WEBHOOKS, groups=("north",))
    everywhere = somebody(C.CREATE_MODIFY_WEBHOOKS, C.ALL_ASSET_GROUPS)
    assert ways_of(aim("north"), editor) == (Way.CHANGE,)
    assert ways_of(aim("south"), editor) == ways_of(aim(), editor) == ()
    assert ways_of(aim("south"), everywhere) == ways_of(aim(), everywhere) == (Way.CHANGE,)
    assert ways_of(aim("north", has_deliveries=True), editor) == (Way.CHANGE, Way.REDELIVER)
    assert ways_of(aim("north", points_there=False, has_deliveries=True), editor) == (Way.REDELIVER,)


def test_events_that_it_matches() -> None:
    producer = somebody(C.PUBLISH_EVENTS, groups=("north",))
    assert ways_of(aim("north", is_global=True), producer) == (Way.EVENT,)
    assert ways_of(aim("south", is_global=True), producer) == ()
    assert ways_of(aim(None, GROUP), producer) == ()
    assert ways_of(aim(None, GROUP, APPLICATION), producer) == (Way.EVENT,)
    assert ways_of(aim("north"), producer) == (), "it never fires"
    assert ways_of(aim(None, is_global=True, points_there=False, has_deliveries=True), producer) == ()


def test_an_event_of_no_application_takes_access_to_no_group() -> None:
    nowhere = (C.PUBLISH_EVENTS, C.UPDATE_SCAN_EXECUTIONS)
    assert ways_of(aim(is_global=True), somebody(*nowhere)) == (Way.EVENT,)
    assert ways_of(aim(is_global=True), somebody(*nowhere, groups=("any",))) == (Way.EVENT, Way.EXECUTION)


@pytest.mark.parametrize(
    ("event", "ways"),
    [
        (EventType.SCAN_EXECUTION_COMPLETED, (Way.EXECUTION,)),
        (EventType.APPLICATION_UPDATED, (Way.APPLICATION,)),
        (EventType.NEW_PATCH_REQUEST, ()),
    ],
)
def test_what_the_control_plane_makes_events_of(event: EventType, ways: tuple[Way, ...]) -> None:
    worker = somebody(C.UPDATE_SCAN_EXECUTIONS, C.MANAGE_APPLICATIONS, groups=("north",))
    assert ways_of(aim("north", is_global=True, event=event), worker) == ways
    assert ways_of(aim("south", is_global=True, event=event), worker) == ()


def test_who_has_no_way_is_not_named() -> None:
    editor, viewer = (Person(one, "r") for one in (somebody(C.CREATE_MODIFY_WEBHOOKS, groups=("north",)), somebody()))
    assert [cause.person for cause in causes_of(aim("north"), [viewer, editor])] == [editor]
