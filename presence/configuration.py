"""Loads settings: a TOML file, overridden by environment variables. Both programs use it.

Every fault becomes one ConfigurationError whose lines say where (file and line, or variable), which key,
and what is wrong. Values are never printed: one of them may be a secret.
"""

import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from presence.errors import ConfigurationError

S = TypeVar("S", bound=BaseSettings)


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
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield f"{prefix}{name}".upper(), True
            yield from variables(section, f"{prefix}{name}__".upper())
        else:
            yield f"{prefix}{name}".upper(), get_origin(section) in (tuple, list, dict)


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
            settable = ", ".join(sorted(variable for variable in known if "__" in variable))
            raise ConfigurationError(f"{name}: no such setting; known are {settable}")


def _explain(fault: ErrorDetails, model: type[BaseModel], file: Path | None, prefix: str) -> str:
    """One line: where, which key, what is wrong, what is right."""
    path = [str(part) for part in fault["loc"]][:2]
    where = _variable(path, prefix) or (f"{file}:{_line_of(file, path)}" if file else "settings")
    if fault["type"] == "extra_forbidden":
        known = ", ".join(_section(model, path[0]).model_fields if len(path) > 1 else model.model_fields)
        return f"{where}: {'.'.join(path)}: no such setting; known are {known}"
    return f"{where}: {'.'.join(path)}: {fault['msg'].removeprefix('Value error, ')}{_example(model, path)}"


def _variable(path: list[str], prefix: str) -> str | None:
    """The variable that sets the key, or those that set something in its section, where there are any."""
    for length in range(len(path), 0, -1):
        name = (prefix + "__".join(path[:length])).upper()
        if name in os.environ:
            return name
    section = f"{prefix}{path[0]}__".upper()
    return ", ".join(sorted(name for name in os.environ if name.startswith(section))) if len(path) == 1 else None


def _section(model: type[BaseModel], name: str) -> type[BaseModel]:
    found = model.model_fields[name].annotation if name in model.model_fields else None
    return found if isinstance(found, type) and issubclass(found, BaseModel) else model


def _example(model: type[BaseModel], path: list[str]) -> str:
    """A right value: the field's example, else its default."""
    field = _section(model, path[0]).model_fields.get(path[1]) if len(path) > 1 else None
    if field is None:
        return ""
    value = field.examples[0] if field.examples else field.default
    if isinstance(value, bool):
        return f"; for example {path[1]} = {str(value).lower()}"
    return f"; for example {path[1]} = {json.dumps(value)}" if isinstance(value, str | int | float) else ""


def _line_of(file: Path, path: list[str]) -> int:
    """The line that sets the key, else that of its section, else 1."""
    section, found = "", 1
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        text = line.strip()
        if text.startswith("["):
            section = text.strip("[] \"'")
            found = number if section == path[0] else found
        elif section == path[0] and len(path) > 1 and text.partition("=")[0].strip(" \"'") == path[1]:
            return number
    return found


def _explain_json(model: type[BaseModel], prefix: str) -> str:
    for name, takes_json in variables(model, prefix):
        if takes_json and name in os.environ:
            try:
                json.loads(os.environ[name])
            except ValueError:
                return f'{name}: not JSON; write a list as ["first", "second"], or set single keys'
    return f'one of the variables {prefix}... is not JSON; write a list as ["first", "second"]'
