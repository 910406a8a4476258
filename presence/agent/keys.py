"""Which presence key the agent shows: the one that the control plane gave over the link, or the configured one.

The stored key precedes, unless the configured one was replaced since: then a person has decided. Whichever precedes,
the other one is tried as soon as it is refused. Keys appear in no error, no log line and no repr.
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from presence.agent.settings import ControlPlane
from presence.errors import ConfigurationError

STORED = "presence.key"
"""Name of the stored key's file, beside the journal."""


@dataclass(frozen=True, slots=True)
class Key:
    """A presence key; `origin` says where it comes from."""

    value: str = field(repr=False)
    origin: str


class Keys:
    """The keys of one agent, read afresh each time. `stored`: the file for the key that came over the link."""

    def __init__(self, settings: ControlPlane, stored: Path) -> None:
        self._settings = settings
        self._stored = stored
        self._refused: set[str] = set()

    def current(self) -> Key:
        """The key to show now. Raises ConfigurationError if there is none that can be read.

        Once all are refused they are tried again from the first on: a key can be enabled again.
        """
        keys = self._all()
        left = [key for key in keys if _digest(key.value) not in self._refused]
        if not left:
            self._refused.clear()
        return (left or keys)[0]

    def refuse(self, key: Key) -> Key | None:
        """The control plane refused it; the one to be tried at once, if there is another."""
        self._refused.add(_digest(key.value))
        return next((other for other in self._all() if _digest(other.value) not in self._refused), None)

    def takes(self, value: str) -> bool:
        """Whether the key can be shown at all, and was not refused before."""
        return _is_usable(value) and _digest(value) not in self._refused

    def store(self, value: str) -> None:
        """Keeps a key that replaces the configured one: on the disk when this returns. Raises OSError."""
        replaced = self._configured()
        text = json.dumps({"Key": value, "ReplacesSha256": _digest(replaced.value) if replaced else None})
        draft = self._stored.with_name(f"{self._stored.name}.new")
        with suppress(FileNotFoundError):
            draft.unlink()
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as opened:
            opened.write(f"{text}\n")
            opened.flush()
            os.fsync(descriptor)
        draft.replace(self._stored)
        directory = os.open(self._stored.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _all(self) -> list[Key]:
        """Stored and configured key, the one that precedes first; at least one."""
        configured, found = self._configured(), self._read()
        if found is None:
            return [configured or Key(self._settings.read_key(), "")]
        stored, replaces = found
        if configured is None or configured.value == stored.value:
            return [stored]
        return [stored, configured] if replaces == _digest(configured.value) else [configured, stored]

    def _configured(self) -> Key | None:
        try:
            value = self._settings.read_key()
        except ConfigurationError:
            return None
        file = self._settings.credential_file()
        return Key(value, f"the configured key ({file})" if file else "the configured key")

    def _read(self) -> tuple[Key, str | None] | None:
        """The stored key and the digest of the one that it replaced; a damaged file counts as none."""
        try:
            kept = json.loads(self._stored.read_text(encoding="utf-8"))
            value, replaces = kept["Key"], kept["ReplacesSha256"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not isinstance(value, str) or not _is_usable(value):
            return None
        return Key(value, f"the stored key ({self._stored})"), replaces


def _is_usable(value: str) -> bool:
    """Whether a header can carry it."""
    return bool(value) and value.isascii() and value.isprintable()


def _digest(value: str) -> str:
    return sha256(value.encode()).hexdigest()
