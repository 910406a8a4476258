"""Loads settings: a TOML file, overridden by environment variables. Both programs use it.

Every fault becomes one ConfigurationError whose lines say where (file and line, or variable), which key,
and what is wrong. Values are never printed: one of them may be a secret.
"""

import json
import os
import re
import tomllib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from presence.errors import ConfigurationError

S = TypeVar("S", bound=BaseSettings)

_PLAIN = re.compile(r"[\w!#$%&'*+.^`|~-]*")


class _Place(NamedTuple):
    """Where a fault is: the keys that lead there, the table that holds the last named one, and that one's field."""

    keys: tuple[str | int, ...]
    table: type[BaseModel]
    field: FieldInfo | None


class Section(BaseModel):
    """One table of the settings file: frozen, and an unknown key is an error."""

    model_config = {"frozen": True, "extra": "forbid", "hide_input_in_errors": True, "allow_inf_nan": False}


def load(model: type[S], *, prefix: str, config: Path | None, default: Path, foreign: tuple[str, ...] = ()) -> S:
    """The settings from `config`, else `<prefix>CONFIG`, else the default file if it exists, and the environment.

    `foreign` are prefixes of variables that belong to another program. Raises ConfigurationError.
    """
    named = config or (Path(os.environ[f"{prefix}CONFIG"]) if os.environ.get(f"{prefix}CONFIG") else None)
    file = named or (default if default.exists() else None)
    table = _read(file) if file else {}
    _refuse_unknown_variables(model, prefix, foreign)

    class Loaded(model):  # type: ignore[valid-type,misc]
        model_config = SettingsConfigDict(
            env_prefix=prefix, env_nested_delimiter="__", frozen=True, extra="forbid", hide_input_in_errors=True
        )

        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], **sources: PydanticBaseSettingsSource
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            # `init_settings` carries the file's table; the environment precedes it, key by key.
            return sources["env_settings"], sources["init_settings"]

    try:
        settings = Loaded(**table)
    except ValidationError as error:
        lines = [_explain(fault, model, file, prefix) for fault in error.errors(include_input=False, include_url=False)]
        raise ConfigurationError("\n".join(lines)) from None
    except SettingsError:
        raise ConfigurationError(_explain_json(model, prefix)) from None
    assert isinstance(settings, model)
    return settings


def variables(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, bool]]:
    """The names of all environment variables that set something, and whether each takes JSON."""
    for name, field in model.model_fields.items():
        section = _table(field.annotation)
        if section is not None:
            yield f"{prefix}{name}".upper(), True
            yield from variables(section, f"{prefix}{name}__".upper())
        else:
            yield f"{prefix}{name}".upper(), _item(field.annotation) is not None


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"{file}: there is no such file; give an existing one with --config") from None
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: not TOML: {error}") from None


def _refuse_unknown_variables(model: type[BaseModel], prefix: str, foreign: tuple[str, ...]) -> None:
    known = {f"{prefix}CONFIG", *(name for name, _ in variables(model, prefix))}
    for name in sorted(os.environ):
        if name.startswith(prefix) and not name.startswith(foreign or ("\0",)) and name.upper() not in known:
            sections = {
                f"{prefix}{key}".upper() for key, field in model.model_fields.items() if _table(field.annotation)
            }
            raise ConfigurationError(f"{name}: no such setting; known are {', '.join(sorted(known - sections))}")


def _explain(fault: ErrorDetails, model: type[BaseModel], file: Path | None, prefix: str) -> str:
    """One line: where, which key, what is wrong, what is right."""
    place = _locate(fault["loc"], model)
    where = _variable(place.keys, prefix) or (f"{file}:{_line_of(file, place.keys)}" if file else "settings")
    what = fault["msg"].removeprefix("Value error, ")
    match fault["type"]:
        case "extra_forbidden":
            return f"{where}: {_name(place.keys)}: no such setting; known are {', '.join(place.table.model_fields)}"
        case "missing":
            what = "is missing"
        case "tuple_type" if place.field is not None and _table(_item(place.field.annotation)) is not None:
            what = f"not a list of tables; begin each of them with [[{place.keys[-1]}]]"
        case "tuple_type":
            what = 'not a list; write it as ["first", "second"]'
        case "too_short":
            what = "the list is empty; give at least one"
        case "dict_type" | "model_type":
            what = "not a table; write it as { key = value }"
    return f"{where}: {_name(place.keys)}: {what}{_example(place)}"


def _locate(location: Sequence[str | int], model: type[BaseModel]) -> _Place:
    """The place of a fault, without the steps that exist only in the validation (branches of a union, `[key]`)."""
    keys: list[str | int] = []
    table: type[BaseModel] = model
    field: FieldInfo | None = None
    annotation: object = model
    for step in location:
        if (inner := _table(annotation)) is not None:
            table, field = inner, inner.model_fields.get(str(step))
            annotation = field.annotation if field else None
        elif (item := _item(annotation)) is not None:
            annotation = item
        else:
            break
        keys.append(step)
    return _Place(tuple(keys), table, field)


def _table(annotation: object) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _item(annotation: object) -> object:
    """The type of what a list or a dictionary of that type holds; None for anything else."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (tuple, list):
        return arguments[0]
    return arguments[1] if origin is dict else None


def _name(keys: Sequence[str | int]) -> str:
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


def _variable(keys: Sequence[str | int], prefix: str) -> str | None:
    """The variable that sets the key, or those that set something in its section, where there are any."""
    names = [str(key) for key in keys[:2]]
    for length in range(len(names), 0, -1):
        name = (prefix + "__".join(names[:length])).upper()
        if name in os.environ:
            return name
    section = f"{prefix}{names[0]}__".upper()
    return ", ".join(sorted(name for name in os.environ if name.startswith(section))) if len(names) == 1 else None


def _example(place: _Place) -> str:
    """A right value: the field's example, else its default."""
    if place.field is None or _table(place.field.annotation) is not None:
        return ""
    key = next(str(key) for key in reversed(place.keys) if str(key) in place.table.model_fields)
    value = place.field.examples[0] if place.field.examples else place.field.default
    if isinstance(value, bool):
        return f"; for example {key} = {str(value).lower()}"
    return f"; for example {key} = {json.dumps(value)}" if isinstance(value, str | int | float) else ""


def _line_of(file: Path, keys: Sequence[str | int]) -> int:
    """The line where the statement begins that sets the key, else that of its table, else 1.

    TOML itself is asked how far the file leads with so many lines, so that no way to write a key is misread.
    """
    lines = file.read_text(encoding="utf-8").split("\n")
    wanted = _depth(tomllib.loads("\n".join(lines)), keys)

    def leads_there(count: int) -> bool:
        for whole in range(count, len(lines)):  # to the end of the statement
            with suppress(tomllib.TOMLDecodeError):
                return _depth(tomllib.loads("\n".join(lines[:whole])), keys) >= wanted
        return True

    return bisect_left(range(1, len(lines)), True, key=leads_there) + 1


def _depth(tables: Any, keys: Sequence[str | int]) -> int:
    """How many of the keys lead somewhere."""
    for depth, key in enumerate(keys):
        try:
            tables = tables[key]
        except (LookupError, TypeError):
            return depth
    return len(keys)


def _explain_json(model: type[BaseModel], prefix: str) -> str:
    for name, takes_json in variables(model, prefix):
        if takes_json and name in os.environ:
            try:
                json.loads(os.environ[name])
            except ValueError:
                field = model.model_fields.get(name.removeprefix(prefix).lower())
                if field is not None and _table(_item(field.annotation)) is not None:
                    return f'{name}: not JSON; write a list of tables as [{{"key": "value"}}]'
                return f'{name}: not JSON; write a list as ["first", "second"], or set single keys'
    return f'one of the variables {prefix}... is not JSON; write a list as ["first", "second"]'
