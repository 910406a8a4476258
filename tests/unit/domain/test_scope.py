"""Which webhooks an event concerns, by the sentences of the description."""

import pytest

from presence.domain.events import EventType
from presence.domain.scope import Place, Reach, allows_application, fires

SCAN, APPLICATION = EventType.SCAN_EXECUTION_COMPLETED, EventType.APPLICATION_UPDATED
SHOP = Place("shop", "web")
BANK = Place("bank", "money")
NOWHERE = None


@pytest.mark.parametrize(
    ("says", "reach", "places"),
    [
        ("Global in the organization", Reach(SCAN, True), {SHOP, BANK, NOWHERE}),
        ("Global in an asset group", Reach(SCAN, True, "web"), {SHOP}),
        ("not Global, without associations", Reach(SCAN, False), set()),
        ("not Global, without associations, of a group", Reach(SCAN, False, "web"), set()),
        ("an application", Reach(SCAN, False, None, frozenset({"shop"})), {SHOP}),
        ("two applications", Reach(SCAN, False, None, frozenset({"shop", "bank"})), {SHOP, BANK}),
        ("an application, in its group", Reach(SCAN, False, "web", frozenset({"shop"})), {SHOP}),
        ("an application that has left the webhook's group", Reach(SCAN, False, "web", frozenset({"bank"})), set()),
        ("an asset group", Reach(SCAN, False, None, frozenset(), frozenset({"money"})), {BANK}),
        ("both", Reach(SCAN, False, None, frozenset({"shop"}), frozenset({"money"})), {SHOP, BANK}),
        ("an asset group, of one of a group", Reach(SCAN, False, "web", frozenset(), frozenset({"web"})), set()),
        ("another event", Reach(APPLICATION, True), set()),
    ],
)  # fmt: skip
def test_a_webhook_fires_where_it_reaches(says: str, reach: Reach, places: set[Place | None]) -> None:
    assert {place for place in (SHOP, BANK, NOWHERE) if fires(reach, SCAN, place)} == places, says


def test_associations_of_a_global_webhook_count_for_nothing() -> None:
    assert fires(Reach(SCAN, True, "web", frozenset({"bank"})), SCAN, SHOP)
    assert not fires(Reach(SCAN, True, "web", frozenset({"bank"})), SCAN, BANK)


@pytest.mark.parametrize(
    ("webhook", "application", "allowed"), [(None, "web", True), ("web", "web", True), ("web", "money", False)]
)
def test_a_webhook_of_a_group_is_associated_with_applications_of_that(
    webhook: str | None, application: str, allowed: bool
) -> None:
    assert allows_application(webhook, application) is allowed
