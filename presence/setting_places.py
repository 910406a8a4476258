"""Where a setting stands: its key, the file and line, or the environment variable. Nothing here shows a value."""

import os
import re
import tomllib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_PLAIN = re.compile(r"[\w!#$%&'*+.^`|~-]*")

Keys = Sequence[str | int]


class Place(NamedTuple):
    """The keys that lead to a setting, the table that holds the last named one, and that one's field."""

    keys: tuple[str | int, ...]
    table: type[BaseModel]
    field: FieldInfo | None


def locate(location: Keys, model: type[BaseModel]) -> Place:
    """The place of a fault, without the steps that exist only in the validation (branches of a union, `[key]`)."""
    keys: list[str | int] = []
    table: type[BaseModel] = model
    field: FieldInfo | None = None
    annotation: object = model
    for step in location:
        if (inner := table_of(annotation)) is not None:
            table, field = inner, inner.model_fields.get(str(step))
            annotation = field.annotation if field else None
        elif (item := item_of(annotation)) is not None:
            annotation = item
        else:
            break
        keys.append(step)
    return Place(tuple(keys), table, field)


def table_of(annotation: object) -> type[BaseModel] | None:
    """The model of a table of that type; None for anything else."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def item_of(annotation: object) -> object:
    """The type of what a list or a dictionary of that type holds; None for anything else."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (tuple, list):
        return arguments[0]
    return arguments[1] if origin is dict else None


def variables(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, bool]]:
    """The names of all environment variables that set something, and whether each takes JSON."""
    for name, field in model.model_fields.items():
        section = table_of(field.annotation)
        if section is not None:
            yield f"{prefix}{name}".upper(), True
            yield from variables(section, f"{prefix}{name}__".upper())
        else:
            yield f"{prefix}{name}".upper(), item_of(field.annotation) is not None


def name_of(keys: Keys) -> str:
    """`section.key`, `tables[1].key`. What cannot be a key is cut off: it may be a value in the wrong place."""
    name = ""
    for key in keys:
        match key:
            case int():
                name += f"[{key}]"
            case str():
                plain = _PLAIN.match(key)
                shown = plain[0] if plain else ""
                name += f".{shown}" if shown == key else f".{shown}..."
    return name.removeprefix(".")


def variable_of(keys: Keys, prefix: str) -> str | None:
    """The variable that is set for the key, or for its whole section."""
    names = [str(key) for key in keys[:2]]
    for length in range(len(names), 0, -1):
        name = (prefix + "__".join(names[:length])).upper()
        if name in os.environ:
            return name
    return None


def variables_of_section(section: str, prefix: str) -> str | None:
    """All variables that are set for keys of the section."""
    beginning = f"{prefix}{section}__".upper()
    return ", ".join(sorted(name for name in os.environ if name.startswith(beginning))) or None


def line_of(file: Path, keys: Keys) -> int:
    """The line where the statement begins that sets the key, else that of its table, else 1.

    TOML itself is asked how far the file leads with so many lines, so that no way to write a key is misread.
    """
    lines = file.read_text(encoding="utf-8").split("\n")
    wanted = depth(tomllib.loads("\n".join(lines)), keys)

    def leads_there(count: int) -> bool:
        for whole in range(count, len(lines)):  # to the end of the statement
            with suppress(tomllib.TOMLDecodeError):
                return depth(tomllib.loads("\n".join(lines[:whole])), keys) >= wanted
        return True

    return bisect_left(range(1, len(lines)), True, key=leads_there) + 1


def depth(tables: Any, keys: Keys) -> int:
    """How many of the keys lead somewhere."""
    for at, key in enumerate(keys):
        try:
            tables = tables[key]
        except (LookupError, TypeError):
            return at
    return len(keys)
