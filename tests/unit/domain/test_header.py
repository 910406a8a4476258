"""Values of request headers: what is let through is one line that arrives as it was written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presence.domain.header import MAX_HEADER_VALUE, header_value_fault


@pytest.mark.parametrize("value", ["Bearer abc", "Basic dXNlcjpwYXNz", "a", "a b", "~" * MAX_HEADER_VALUE])
def test_a_line_of_printable_ascii_is_a_value(value: str) -> None:
    assert header_value_fault(value) is None


@pytest.mark.parametrize(
    "value",
    ["", " ", "a ", " a", "a\r\nX: y", "a\nb", "a\x00", "a\tb", "é", "\u2028", "\x7f", "a" * (MAX_HEADER_VALUE + 1)],
)
def test_everything_else_is_refused(value: str) -> None:
    assert header_value_fault(value) is not None


@given(st.text(min_size=1, max_size=60))
def test_what_is_let_through_cannot_end_the_header(value: str) -> None:
    fault = header_value_fault(value)
    if fault is None:
        assert set(value.encode("latin-1")) <= set(range(0x20, 0x7F))
    else:
        assert len(value) < 4 or value not in fault
