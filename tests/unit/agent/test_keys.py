"""Which key is shown, and how a new one is kept: on real files."""

import json
import os
import stat
from pathlib import Path

import pytest

from presence.agent.keys import Keys
from presence.agent.settings import ControlPlane
from presence.errors import ConfigurationError

OLD, NEW = "old-key-0123456789", "new-key-0123456789"


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    return tmp_path / "presence.key"


def keys(stored: Path, configured: str = OLD) -> Keys:
    return Keys(ControlPlane.model_validate({"url": "wss://cloud.example.com", "key": configured}), stored)


def test_without_a_stored_key_it_is_the_configured_one(stored: Path) -> None:
    assert keys(stored).current().value == OLD


def test_a_stored_key_precedes(stored: Path) -> None:
    keys(stored).store(NEW)
    assert keys(stored).current().value == NEW
    keys(stored).store("newer-key-0123456789")
    assert keys(stored).current().value == "newer-key-0123456789"


def test_a_configured_key_that_changed_since_precedes(stored: Path) -> None:
    keys(stored).store(NEW)
    assert keys(stored, "third-key-0123456789").current().value == "third-key-0123456789"


def test_the_other_one_is_tried_when_one_is_refused(stored: Path) -> None:
    chosen = keys(stored)
    chosen.store(NEW)
    other = chosen.refuse(chosen.current())
    assert other is not None
    assert other.value == chosen.current().value == OLD
    assert chosen.refuse(other) is None
    assert chosen.current().value == NEW


def test_a_key_that_was_refused_is_not_taken_again(stored: Path) -> None:
    chosen = keys(stored)
    assert chosen.takes(NEW)
    chosen.store(NEW)
    chosen.refuse(chosen.current())
    assert not chosen.takes(NEW)


def test_there_is_no_other_one_when_both_are_the_same(stored: Path) -> None:
    chosen = keys(stored)
    chosen.store(OLD)
    assert chosen.refuse(chosen.current()) is None


def test_a_stored_key_is_enough_where_the_configured_one_cannot_be_read(stored: Path, tmp_path: Path) -> None:
    file = tmp_path / "configured.key"
    file.write_text(OLD)
    settings = ControlPlane.model_validate({"url": "wss://cloud.example.com", "key_file": file})
    Keys(settings, stored).store(NEW)
    file.unlink()
    assert Keys(settings, stored).current().value == NEW
    stored.unlink()
    with pytest.raises(ConfigurationError, match="the presence key cannot be read"):
        Keys(settings, stored).current()


def test_the_file_is_complete_private_and_alone(stored: Path) -> None:
    old_mask = os.umask(0)
    try:
        stored.with_name("presence.key.new").write_text("left by a crash")
        keys(stored).store(NEW)
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE(stored.stat().st_mode) == 0o600
    assert os.listdir(stored.parent) == ["presence.key"]
    kept = json.loads(stored.read_text())
    assert kept["Key"] == NEW
    assert OLD not in stored.read_text()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '"text"', '{"Key": 7, "ReplacesSha256": null}', '{"Key": "x"}', "\x00", '{"Key": ""}']
)
def test_a_damaged_file_counts_as_none(text: str, stored: Path) -> None:
    stored.write_text(text)
    assert keys(stored).current().value == OLD


def test_a_directory_that_is_missing_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        keys(tmp_path / "missing" / "presence.key").store(NEW)


def test_no_repr_shows_a_key(stored: Path) -> None:
    chosen = keys(stored)
    chosen.store(NEW)
    assert NEW not in repr(chosen.current())
    assert chosen.current().origin == f"the stored key ({stored})"
