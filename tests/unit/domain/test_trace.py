"""Names of places in traces (W3C Trace Context, section 3.2)."""

import pytest

from presence.domain.trace import TRACEPARENT_LENGTH, parse_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize("flags", ["00", "01", "ff"])
def test_a_traceparent_stays_as_it_is(flags: str) -> None:
    text = f"00-{TRACE}-{SPAN}-{flags}"
    assert len(text) == TRACEPARENT_LENGTH
    assert parse_traceparent(text) == text


@pytest.mark.parametrize(
    "text",
    [
        None, "", "00", TRACE, f"00-{TRACE}-{SPAN}", f"00-{TRACE}-{SPAN}-0", f"00-{TRACE}-{SPAN}-01-more",
        f"01-{TRACE}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01\n", f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-\u0661\u0661",
    ],
)  # fmt: skip
def test_what_is_none_begins_no_trace_of_others(text: str | None) -> None:
    assert parse_traceparent(text) is None
