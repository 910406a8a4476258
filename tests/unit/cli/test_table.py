"""Plain text for a person."""

import pytest

from presence.cli.table import duration, parse_duration, table


def test_columns_are_aligned_and_lines_end_where_their_text_does() -> None:
    assert table(("ID", "STATE", "WHY"), [("1", "held", "unknown"), ("10000", "pending", "")]) == [
        "ID     STATE    WHY",
        "1      held     unknown",
        "10000  pending",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"), (0, "0.0 s"), (9.94, "9.9 s"), (10, "10 s"), (59.4, "59 s"), (60, "1 min"), (61, "1 min 1 s"),
        (3600, "1 h"), (7500, "2 h 5 min"), (7501, "2 h 5 min"), (86_400, "1 d"), (86_460, "1 d"), (93_600, "1 d 2 h"),
    ],
)  # fmt: skip
def test_a_duration_has_its_two_largest_units(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86_400), ("1h30m", 5400), ("0.5h", 1800)]
)
def test_a_duration_is_read_as_it_is_written(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "2 h", "2h!", "-1h", "2w", "1h 30m", "\u0661h"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write for example 90s, 15m, 2h"):
        parse_duration(text)
