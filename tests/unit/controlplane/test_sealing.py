"""Secrets at rest: what opens what, and which key files are taken."""

import base64
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presence.controlplane.sealing import KEY_BYTES, Sealer, UnopenedError, make_keys, read_keys
from presence.errors import ConfigurationError

FILE = Path("encryption.keys")
OLD, NEW = b"o" * KEY_BYTES, b"n" * KEY_BYTES
PLACE = ("webhook", "organization", "id")
SEALER = Sealer({"new": NEW, "old": OLD}, FILE)


def line(key_id: str, key: bytes) -> str:
    return f"{key_id}:{base64.b64encode(key).decode()}\n"


def written(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    file = tmp_path / "encryption.keys"
    file.write_text(text)
    file.chmod(mode)
    return file


@given(st.text(st.characters(codec="utf-8"), max_size=100))
def test_what_is_sealed_opens_as_it_was(text: str) -> None:
    sealed = SEALER.seal(text, PLACE)
    assert SEALER.open(sealed, PLACE) == text
    assert sealed != SEALER.seal(text, PLACE)
    assert sealed.startswith("new:")


def test_it_does_not_show_what_it_holds() -> None:
    sealed = SEALER.seal("canary-secret", PLACE)
    assert "canary" not in sealed
    assert b"canary" not in base64.b64decode(sealed.partition(":")[2])
    assert repr(SEALER) == "Sealer(['new', 'old'])"


def test_every_key_opens_and_the_first_one_is_current() -> None:
    sealed = Sealer({"old": OLD}, FILE).seal("x", PLACE)
    assert SEALER.open(sealed, PLACE) == "x"
    assert not SEALER.is_current(sealed)
    assert SEALER.is_current(SEALER.seal("x", PLACE))


@pytest.mark.parametrize("place", [("webhook", "organization", "other"), ("webhook", "other", "id"), PLACE[:2], ()])
def test_it_opens_nowhere_else(place: tuple[str, ...]) -> None:
    with pytest.raises(UnopenedError, match="moved"):
        SEALER.open(SEALER.seal("x", PLACE), place)


def test_without_its_key_it_stays_shut_and_the_text_says_which_one() -> None:
    with pytest.raises(UnopenedError, match=r"the key 'old' is not in encryption\.keys"):
        Sealer({"new": NEW}, FILE).open(Sealer({"old": OLD}, FILE).seal("x", PLACE), PLACE)


@given(st.text(max_size=80) | st.binary(max_size=80).map(lambda raw: f"new:{base64.b64encode(raw).decode()}"))
def test_whatever_else_stands_there_is_not_opened(text: str) -> None:
    with pytest.raises(UnopenedError):
        SEALER.open(text, PLACE)


def test_any_change_of_a_byte_shuts_it() -> None:
    raw = base64.b64decode(SEALER.seal("secret", PLACE).partition(":")[2])
    for index in range(len(raw)):
        changed = raw[:index] + bytes([raw[index] ^ 1]) + raw[index + 1 :]
        with pytest.raises(UnopenedError):
            SEALER.open(f"new:{base64.b64encode(changed).decode()}", PLACE)


def test_a_file_is_read_with_its_comments(tmp_path: Path) -> None:
    file = written(tmp_path, f"# since May\n{line('new', NEW)}\n  {line('old', OLD)}")
    sealer = read_keys(file)
    assert sealer.seal("x", PLACE).startswith("new:")
    assert sealer.open(Sealer({"old": OLD}, FILE).seal("x", PLACE), PLACE) == "x"


def test_no_file_means_no_keys(tmp_path: Path) -> None:
    assert not read_keys(tmp_path / "none").is_ready


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no key"),
        ("# none\n", "holds no key"),
        ("SECRET\n", ":1: is not id:base64 of 32 bytes"),
        (line("a", NEW[:-1]), ":1: is not id:base64 of 32 bytes"),
        (f"a:{'=' * 44}\n", ":1: is not id:base64"),
        (line("a b", NEW), ":1: is not id:base64"),
        (line("a", NEW) + line("a", OLD), ":2: the id 'a' is given twice"),
        ("é:x\n", "not ASCII text"),
    ],
)
def test_a_wrong_file_is_refused_without_its_content(tmp_path: Path, text: str, says: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ConfigurationError) as refused:
        read_keys(file)
    assert says in str(refused.value)
    assert str(file) in str(refused.value)
    assert "SECRET" not in str(refused.value)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o602])
def test_a_file_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigurationError, match="chmod 600"):
        read_keys(written(tmp_path, line("a", NEW), mode))


def test_a_service_group_may_read_it(tmp_path: Path) -> None:
    assert read_keys(written(tmp_path, line("a", NEW), 0o640)).is_ready


def test_a_file_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "state" / "encryption.keys"
    make_keys(file)
    text = file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_keys(file).is_ready
    make_keys(file)
    assert file.read_text() == text
    assert os.listdir(file.parent) == [file.name]


def test_where_it_cannot_be_made_the_error_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        make_keys(tmp_path / "file" / "encryption.keys")
