"""The line where a setting stands, however TOML is written, and its name without what may be a value."""

import tomllib
from pathlib import Path

import pytest

from presence.setting_places import depth, line_of, name_of

FILE = """\
top = 1
[section]
"quoted" = 2
list = [
  1,
  2,
]
inline = { key = { deep = 1 } }

[[tables]]
name = "first"
[[tables]]
name = '''
second'''
last = 1
"""


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (("top",), 1),
        (("section",), 2),
        (("section", "quoted"), 3),
        (("section", "list"), 4),
        (("section", "list", 1), 4),
        (("section", "inline", "key", "deep"), 8),
        (("section", "absent"), 2),
        (("tables", 0, "name"), 11),
        (("tables", 1, "name"), 13),
        (("tables", 1, "last"), 15),
        (("absent",), 1),
    ],
)
def test_the_line_of_a_key(keys: tuple[str | int, ...], line: int, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(FILE)
    assert line_of(file, keys) == line


def test_how_far_keys_lead() -> None:
    tables = tomllib.loads(FILE)
    assert depth(tables, ("tables", 1, "name")) == 3
    assert depth(tables, ("tables", 2, "name")) == 1
    assert depth(tables, ("top", "further")) == 1


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        (("egress", "allow", 1), "egress.allow[1]"),
        (("targets", 0, "headers", "X-One"), "targets[0].headers.X-One"),
        (("targets", 0, "headers", "X One=SECRET"), "targets[0].headers.X..."),
        (("targets", 0, "headers", " SECRET"), "targets[0].headers...."),
    ],
)
def test_a_name_shows_nothing_that_cannot_be_a_key(keys: tuple[str | int, ...], name: str) -> None:
    assert name_of(keys) == name
