"""The circuit of a host: every pair of states against the picture, and how long it stays open."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presence.domain.circuit import CLOSED, FAILURES, FIRST_BOUND, LAST_BOUND, Circuit, CircuitState

# from: to, as the module's picture says.
PICTURE = {
    "closed": {"open"},
    "open": {"half_open", "closed"},
    "half_open": {"open", "closed"},
}
BOUNDS = (FIRST_BOUND, 20_000, 160_000, LAST_BOUND)
CIRCUITS = [
    *(Circuit(CircuitState.CLOSED, failures) for failures in range(FAILURES)),
    *(Circuit(CircuitState.OPEN, 0, bound, 1_000_000) for bound in BOUNDS),
    *(Circuit(CircuitState.HALF_OPEN, 0, bound, 1_000_000) for bound in BOUNDS),
]
jitters = st.floats(0, 1, exclude_max=True)


def opened(bound: int = FIRST_BOUND, probe_at: int = 1_000_000) -> Circuit:
    return Circuit(CircuitState.OPEN, 0, bound, probe_at)


def followers(circuit: Circuit) -> set[CircuitState]:
    """The other states that anything that can happen leads to."""
    found = {circuit.ended(reached, 2_000_000, 0.5).state for reached in (True, False, None)}
    if circuit.state is not CircuitState.HALF_OPEN:
        found.add(circuit.started().state)
    return found - {circuit.state}


@pytest.mark.parametrize(("source", "target"), list(product(CircuitState, repeat=2)))
def test_pair(source: CircuitState, target: CircuitState) -> None:
    reached = set().union(*(followers(circuit) for circuit in CIRCUITS if circuit.state is source))
    assert (target in reached) is (target.value in PICTURE[source.value])


def test_failures_in_a_row_open_it() -> None:
    circuit = CLOSED
    for failures in range(1, FAILURES):
        circuit = circuit.ended(False, 1_000, 0.0)
        assert circuit == Circuit(CircuitState.CLOSED, failures)
    assert circuit.ended(False, 1_000, 0.0) == opened(FIRST_BOUND, 6_000)


@pytest.mark.parametrize("circuit", CIRCUITS)
def test_an_answer_closes_it_in_every_state_and_forgets_the_failures(circuit: Circuit) -> None:
    assert circuit.ended(True, 2_000_000, 0.5) is CLOSED


def test_an_answer_between_failures_keeps_it_closed() -> None:
    circuit = CLOSED
    for reached in [*[False] * (FAILURES - 1), True] * 10:
        circuit = circuit.ended(reached, 0, 0.0)
        assert circuit.state is CircuitState.CLOSED


@pytest.mark.parametrize("circuit", [c for c in CIRCUITS if c.state is not CircuitState.HALF_OPEN])
def test_an_attempt_that_did_not_ask_the_host_changes_nothing(circuit: Circuit) -> None:
    assert circuit.ended(None, 2_000_000, 0.5) is circuit


def test_a_probe_that_did_not_ask_the_host_is_made_again_at_once() -> None:
    assert opened(40_000).started().ended(None, 2_000_000, 0.5) == opened(40_000, 2_000_000)


def test_failures_of_attempts_that_began_before_do_not_prolong_it() -> None:
    assert opened().ended(False, 2_000_000, 0.9) == opened()


def test_a_closed_circuit_does_not_count_starts() -> None:
    for circuit in CIRCUITS[:FAILURES]:
        assert circuit.started() is circuit


def test_there_is_one_probe() -> None:
    probed = opened(20_000).started()
    assert probed == Circuit(CircuitState.HALF_OPEN, 0, 20_000, 1_000_000)
    with pytest.raises(ValueError, match="has its probe"):
        probed.started()


def test_each_failed_probe_doubles_the_bound_up_to_the_last() -> None:
    circuit, bounds = opened(), []
    for _ in range(8):
        circuit = circuit.started().ended(False, 0, 0.0)
        bounds.append(circuit.bound)
        assert circuit.probe_at == circuit.bound // 2
    assert bounds == [20_000, 40_000, 80_000, 160_000, 300_000, 300_000, 300_000, 300_000]


@given(jitters, st.integers(0, 2**53), st.sampled_from(BOUNDS))
def test_it_is_open_for_five_seconds_to_five_minutes(jitter: float, now: int, bound: int) -> None:
    first = Circuit(CircuitState.CLOSED, FAILURES - 1).ended(False, now, jitter)
    assert 5_000 <= first.probe_at - now <= 10_000
    later = opened(bound).started().ended(False, now, jitter)
    assert 5_000 <= later.bound / 2 <= later.probe_at - now <= later.bound <= 300_000


@given(st.lists(st.tuples(st.sampled_from([True, False, None]), jitters)))
def test_it_is_open_exactly_after_failures_in_a_row_that_no_answer_followed(
    ends: list[tuple[bool | None, float]],
) -> None:
    circuit, row = CLOSED, 0
    for now, (reached, jitter) in enumerate(ends):
        circuit = circuit.started().ended(reached, now, jitter)
        row = 0 if reached else row + (reached is False)
        assert (circuit.state is CircuitState.OPEN) is (row >= FAILURES)
