"""What is counted: against a naive count, through commits and commits that are undone."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from presence.agent.tally import Full, Tally
from presence.domain.delivery import FinalState
from presence.domain.outcome import Reason

HOSTS = ["a:80", "b:80", "c:443"]
END = FinalState.FAILED, Reason.GONE


@given(st.lists(st.tuples(st.lists(st.tuples(st.sampled_from(HOSTS), st.booleans()), max_size=8), st.booleans())))
def test_it_follows_what_is_committed_and_forgets_what_is_undone(
    groups: list[tuple[list[tuple[str, bool]], bool]],
) -> None:
    tally, truth, rows, ended = Tally(10_000, 10_000), Counter[str](), 0, 0
    for changes, committed in groups:
        tally.begin()
        after, ends = truth.copy(), ended
        for host, begins in changes:
            if begins:
                after[host] += 1
                tally.began(host)
                tally.rows += 1
            elif after[host]:
                after[host] -= 1
                ends += 1
                tally.ended(host, *END)
        if committed:
            truth, rows, ended = after, tally.rows, ends
        else:
            tally.undo()
        assert [tally.of(host) for host in HOSTS] == [truth[host] for host in HOSTS]
        assert (tally.unsettled, tally.rows) == (truth.total(), rows)
        assert (tally.unreported, tally.ends[END], tally.ends.total()) == (ended, ended, ended)


def test_the_widest_reason_is_given() -> None:
    tally = Tally(max_deliveries=10, max_remembered=12)
    tally.began("a:80")
    assert tally.full("a:80") is None
    tally.began("a:80")
    assert (tally.full("a:80"), tally.full("b:80")) == (Full.HOST, None)
    tally.rows = 12
    assert (tally.full("a:80"), tally.full("b:80")) == (Full.MEMORY, Full.MEMORY)
    for host in "bcdefghi":
        tally.began(host)
    assert (tally.unsettled, tally.full("z")) == (10, Full.JOURNAL)


def test_a_journal_for_one_delivery_takes_it() -> None:
    assert Tally(1, 1).full("a:80") is None
