"""One spelling of a UUID."""

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presence.domain.ids import UUID_PATTERN, is_uuid

ID = "9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b"


@pytest.mark.parametrize("text", [ID, "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"])
def test_accepted_spelling(text: str) -> None:
    assert is_uuid(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ID.upper(),
        ID.replace("-", ""),
        f"{{{ID}}}",
        f"urn:uuid:{ID}",
        f"{ID}\n",
        f" {ID}",
        f"{ID} ",
        ID[:-1],
        f"{ID}0",
        ID.replace("9", "g", 1),
        ID.replace("9", "٩", 1),
        ID.replace("-", "_"),
        ID.replace("-", "\u2013"),
    ],
)
def test_other_spellings_are_refused(text: str) -> None:
    assert not is_uuid(text)


@given(st.uuids())
def test_every_uuid_as_python_writes_it(value: uuid.UUID) -> None:
    assert is_uuid(str(value))


@given(st.from_regex(re.compile(UUID_PATTERN), fullmatch=True) | st.text(max_size=40))
def test_what_is_accepted_is_read_back_as_the_same_text(text: str) -> None:
    if is_uuid(text):
        assert str(uuid.UUID(text)) == text
