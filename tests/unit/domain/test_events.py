"""Event types with their aliases, and the rule for a subject."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presence.domain.events import EventType, parse_event_type, subject_fault


@pytest.mark.parametrize(
    ("text", "event"),
    [
        ("ScanExecutionCompleted", EventType.SCAN_EXECUTION_COMPLETED),
        ("ApplicationUpdated", EventType.APPLICATION_UPDATED),
        ("ApplicationCountersChanged", EventType.APPLICATION_UPDATED),
        ("NewPatchRequest", EventType.NEW_PATCH_REQUEST),
        ("scanexecutioncompleted", None),
        ("ScanExecutionCompleted ", None),
        ("SCAN_EXECUTION_COMPLETED", None),
        ("", None),
    ],
)
def test_event_types_and_aliases(text: str, event: EventType | None) -> None:
    assert parse_event_type(text) is event


@given(st.text())
def test_any_text_is_an_event_type_or_none(text: str) -> None:
    event = parse_event_type(text)
    assert event is None or text in (event.value, "ApplicationCountersChanged")


@pytest.mark.parametrize(
    "subject",
    [
        "9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b",
        "x",
        " ",
        "...",
        "./",
        "a/../b",
        "%2e%2e",
        "{SubjectId}",
        "日本",
        "😀",
        "\u00a0",
        "x" * 256,
        "😀" * 256,
    ],
)
def test_usable_subjects(subject: str) -> None:
    assert subject_fault(subject) is None


@pytest.mark.parametrize(
    ("subject", "says"),
    [
        ("", "empty"),
        (".", "'.' would change the path"),
        ("..", "'..' would change the path"),
        ("x" * 257, "longer than 256 characters"),
        ("\x00", "U+0000"),
        ("a\tb", "U+0009"),
        ("a\nb", "U+000A"),
        ("\x1f", "U+001F"),
        ("\x7f", "U+007F"),
        ("\x80", "U+0080"),
        ("\x9f", "U+009F"),
        ("a\ud800", "U+D800"),
        ("\udfff", "U+DFFF"),
    ],
)
def test_unusable_subjects_say_why(subject: str, says: str) -> None:
    assert says in (subject_fault(subject) or "")


@given(st.text(st.characters(), max_size=300) | st.text(st.sampled_from("./\x00\ud800a"), max_size=4))
def test_usable_subject_can_always_be_encoded(subject: str) -> None:
    if subject_fault(subject) is None:
        assert subject.encode()
        assert not any(character < " " for character in subject)


def test_fault_never_repeats_the_unusable_character() -> None:
    fault = subject_fault("a\x1b[31mred") or ""
    assert fault.isprintable()
