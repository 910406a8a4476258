"""Files that settings name: how a change of one is seen. What is read from them: `test_targets`, `test_trust`."""

import os
from itertools import pairwise
from pathlib import Path

import pytest

from presence.agent.files import NamedFiles, signatures
from presence.errors import ConfigurationError


def test_each_way_to_change_a_file_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "file"
    seen = [signatures([file])]
    file.write_text("made")
    seen.append(signatures([file]))
    os.utime(file, (1, 1))
    seen.append(signatures([file]))
    other = tmp_path / "other"
    other.write_text("replaced")
    os.utime(other, (1, 1))
    other.replace(file)
    seen.append(signatures([file]))
    file.unlink()
    seen.append(signatures([file]))
    assert all(before != after for before, after in pairwise(seen))
    assert seen[0] == seen[-1]


@pytest.mark.parametrize("content", ["", "user", ":password", "user:pass\nword", "user:\x07"])
def test_credentials_that_are_none_are_refused_and_not_shown(content: str, tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        NamedFiles("control_plane").credentials("proxy_credentials_file", file)
    expected = "write one line, user:password, into the file"
    assert str(caught.value) == f"control_plane.proxy_credentials_file: {file}: {expected}"
