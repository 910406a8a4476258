"""Where settings are written: the file, the names of the variables, systemd's credentials.

Imports little: commands that only ask start often. Nothing here shows a value.
"""

import os
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from presence.errors import ConfigurationError


def named_file(prefix: str, config: Path | None) -> Path | None:
    """The file that somebody asked for: the given one, else that of `<prefix>CONFIG`."""
    named = os.environ.get(f"{prefix}CONFIG")
    return config or (Path(named) if named else None)


def settings_file(prefix: str, config: Path | None, default: Path) -> Path | None:
    """The file that counts: the one asked for, else the default one where it exists."""
    return named_file(prefix, config) or (default if default.exists() else None)


def read(file: Path) -> dict[str, Any]:
    """What the file holds. Raises ConfigurationError."""
    try:
        return tomllib.loads(text_of(file))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: not TOML: {error}") from None


def text_of(file: Path) -> str:
    """Raises ConfigurationError where there is no such file or it cannot be read; UnicodeDecodeError."""
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(f"{file}: there is no such file; give an existing one with --config") from None
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from None


def credential(name: str) -> Path | None:
    """systemd's credential of that name (`LoadCredential=`), if there is one.

    Raises PermissionError in a process that is not the service's main one: ExecReload.
    """
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        return None
    file = Path(directory) / name
    try:
        file.stat()
    except FileNotFoundError:
        return None
    return file


def own_variables(prefix: str, foreign: tuple[str, ...]) -> list[str]:
    """The variables that claim to be settings of this program, however they are spelt."""
    ours = (name for name in sorted(os.environ) if name.upper().startswith(prefix))
    return [name for name in ours if not name.upper().startswith(foreign)]


def misnamed(prefix: str, foreign: tuple[str, ...], known: Collection[str], offered: Collection[str]) -> dict[str, str]:
    """The variables that set nothing, and the line that says so. `offered`: those of `known` that are proposed."""
    faults = {}
    for name in own_variables(prefix, foreign):
        if name in known or name == f"{prefix}CONFIG":
            continue
        if name.upper() in known or name.upper() == f"{prefix}CONFIG":
            faults[name] = f"{name}: variables are written in upper case; write {name.upper()}"
        else:
            faults[name] = f"{name}: no such setting{instead(name.upper(), sorted(offered), prefix)}"
    return faults


def instead(wrong: str, known: list[str], prefix: str = "") -> str:
    """What else may have been meant; all that there is where nothing is like it. All begin with the prefix."""
    from difflib import get_close_matches

    close = get_close_matches(wrong.removeprefix(prefix), [name.removeprefix(prefix) for name in known], n=1)
    return f"; did you mean {prefix}{close[0]}?" if close else f"; known are {', '.join(known)}"
