"""Whether the journal's files are still where the next start looks for them.

A file that was removed, or replaced by another one, lives on while this process has it open, and goes with the process.
So the agent then takes nothing more, as what it takes would be lost without a word; but it finishes and reports what it
holds. It does not end by itself, for the same reason: a restart loses least when it holds nothing any more.
"""

import os
from pathlib import Path

from presence.logs import get_logger

log = get_logger(__name__)

REMEDY = "restart the agent, best once 'presence deliveries list' shows no delivery any more"


class Removal:
    """Of the journal at `path`, which is open and was written to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        files = path, path.with_name(f"{path.name}-wal")
        self._opened = {file: file.stat() for file in files if file.exists()}
        self._told = False

    def happened(self) -> bool:
        """One line in the log when it is found to have happened, and one if the files are there again."""
        missing = [str(file) for file, opened in self._opened.items() if not _is_there(file, opened)]
        if missing and not self._told:
            log.error(
                "journal", state="removed", file=", ".join(missing), remedy=REMEDY,
                effect="what is held is finished, nothing is taken",
            )  # fmt: skip
        elif self._told and not missing:
            log.warning("journal", state="there again", file=str(self._path))
        self._told = bool(missing)
        return self._told


def _is_there(file: Path, opened: os.stat_result) -> bool:
    """Whether the name still leads to the opened file, as far as can be told."""
    try:
        return os.path.samestat(file.stat(), opened)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # a disk that cannot be asked is no removal: the next commit tells
