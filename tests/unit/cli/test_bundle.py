"""The bundle holds what came last, though the journal can only be listed from its beginning."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from presence.cli.bundle import DELIVERIES, latest


@given(st.sets(st.integers(1, 5000), max_size=600) | st.sets(st.integers(1, 2**40), max_size=5))
def test_the_latest_are_found(numbers: set[int]) -> None:
    asked = []

    def listed(after: int, most: int) -> list[dict[str, Any]]:
        asked.append(after)
        return [{"seq": number} for number in sorted(numbers) if number > after][:most]

    newest = max(numbers, default=0)
    expected = [number for number in sorted(numbers) if number > newest - DELIVERIES]
    assert [entry["seq"] for entry in latest(listed)] == expected
    assert len(asked) < 100
