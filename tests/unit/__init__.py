"""Unit tests; they mirror presence/ one to one."""

import os
import tempfile
from pathlib import Path

from hypothesis.configuration import set_hypothesis_home_dir

# pyproject.toml replaces pytest's `norecursedirs`, and hypothesis warns (an error here) of a `.hypothesis`
# in the checkout that is not in it. Elsewhere, it also leaves the checkout as it was.
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / f"presence-hypothesis-{os.getuid()}")
