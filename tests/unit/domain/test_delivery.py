"""The states of a delivery: every pair of both tables against the picture, written down once more here."""

from itertools import product

import pytest

from presence.domain.delivery import (
    DELIVERY_TRANSITIONS,
    JOURNAL_TRANSITIONS,
    DeliveryState,
    FinalState,
    JournalState,
    sources_of,
)

FINAL = {"succeeded", "failed", "refused", "expired", "cancelled"}

# from: to, as the module's pictures say. Names, not enum members: they are also in SQL and on the wire.
JOURNAL_PICTURE = {
    "pending": {"delivering", "held", "refused", "expired", "cancelled"},
    "delivering": {"succeeded", "failed", "refused", "pending", "held"},
    "held": {"pending", "delivering", "refused", "expired", "cancelled"},
    # fired again: another instance had it meanwhile
    "cancelled": {"pending"},
}
DELIVERY_PICTURE = {
    # `accepted` without `dispatched`: its session was lost, and `holding` or a late `accepted` tells it
    "queued": {"dispatched", "held", "accepted", *FINAL},
    # `accepted`: a person decided, and the instance that asked still has it
    "held": {"queued", "accepted", *FINAL},
    "dispatched": {"queued", "accepted", "cancelling", *FINAL},
    "accepted": {"queued", "held", "cancelling", *FINAL},
    "cancelling": FINAL,
}


@pytest.mark.parametrize(("source", "target"), list(product(JournalState, repeat=2)))
def test_journal_pair(source: JournalState, target: JournalState) -> None:
    allowed = target.value in JOURNAL_PICTURE.get(source.value, set())
    assert (target in JOURNAL_TRANSITIONS[source]) is allowed


@pytest.mark.parametrize(("source", "target"), list(product(DeliveryState, repeat=2)))
def test_control_plane_pair(source: DeliveryState, target: DeliveryState) -> None:
    allowed = target.value in DELIVERY_PICTURE.get(source.value, set())
    assert (target in DELIVERY_TRANSITIONS[source]) is allowed


def test_names_of_the_states() -> None:
    assert {state.value for state in FinalState} == FINAL
    assert {state.value for state in JournalState} == set(JOURNAL_PICTURE) | FINAL
    assert {state.value for state in DeliveryState} == set(DELIVERY_PICTURE) | FINAL


@pytest.mark.parametrize("final", FinalState)
def test_final_states_have_no_way_out(final: FinalState) -> None:
    if final is not FinalState.CANCELLED:
        assert not JOURNAL_TRANSITIONS[JournalState(final.value)]
    assert not DELIVERY_TRANSITIONS[DeliveryState(final.value)]


def test_every_state_that_is_not_final_reaches_every_end() -> None:
    def reachable(table: dict[str, set[str]], start: str) -> set[str]:
        found: set[str] = set()
        todo = {start}
        while todo:
            state = todo.pop()
            new = table.get(state, set()) - found
            found |= new
            todo |= new
        return found

    journal = {source.value: {target.value for target in targets} for source, targets in JOURNAL_TRANSITIONS.items()}
    delivery = {source.value: {target.value for target in targets} for source, targets in DELIVERY_TRANSITIONS.items()}
    assert all(reachable(journal, state) >= FINAL for state in JOURNAL_PICTURE)
    assert all(reachable(delivery, state) >= FINAL for state in DELIVERY_PICTURE)


@pytest.mark.parametrize("target", DeliveryState)
def test_sources_of_is_the_table_read_backwards_in_a_stable_order(target: DeliveryState) -> None:
    sources = sources_of(target)
    assert {source.value for source in sources} == {
        source for source, targets in DELIVERY_PICTURE.items() if target.value in targets
    }
    assert list(sources) == [state for state in DeliveryState if state in sources]


@pytest.mark.parametrize("final", FinalState)
def test_a_report_ends_a_delivery_from_any_state_that_is_not_final(final: FinalState) -> None:
    assert {source.value for source in sources_of(DeliveryState(final.value))} == set(DELIVERY_PICTURE)
