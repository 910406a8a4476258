"""A file is there while its name leads to what was opened."""

from pathlib import Path

from presence.agent.removal import Removal


def test_a_file_is_removed_when_its_name_leads_elsewhere_or_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "state" / "journal.db"
    path.parent.mkdir()
    path.write_text("one")
    removal = Removal(path)
    assert not removal.happened()
    path.write_text("more")
    assert not removal.happened()
    path.rename(tmp_path / "aside")
    assert removal.happened()
    path.write_text("one")
    assert removal.happened()
    (tmp_path / "aside").replace(path)
    assert not removal.happened()
    path.parent.rename(tmp_path / "moved")
    assert removal.happened()
    path.parent.write_text("no directory")
    assert removal.happened()


def test_what_cannot_be_asked_is_not_taken_for_removed(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.touch()
    removal = Removal(path)
    path.unlink()
    path.symlink_to(path)  # ELOOP
    assert not removal.happened()
