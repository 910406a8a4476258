"""Loads settings: a TOML file, overridden by environment variables. Both programs use it.

All faults together become one ConfigurationError. Each of its lines says where (file and line, or variable), which
key, what is wrong, and an example of what is right. Values are never printed: one of them may be a secret.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from presence.errors import ConfigurationError
from presence.setting_places import (
    Keys,
    Place,
    depth,
    item_of,
    line_of,
    locate,
    name_of,
    table_of,
    variable_of,
    variables,
    variables_of_section,
)
from presence.setting_sources import instead, misnamed, read, settings_file

S = TypeVar("S", bound=BaseSettings)

MASK = "**********"
DEFAULT = "default"
_OF_KEY = "of_key"
_USERINFO = re.compile(r"(?<=://)[^/@]*(?=@)")


class Section(BaseModel):
    """One table of the settings file: frozen, and an unknown key is an error."""

    model_config = {"frozen": True, "extra": "forbid", "hide_input_in_errors": True, "allow_inf_nan": False}


def fault_of(key: str, text: str) -> PydanticCustomError:
    """What a section's own validator raises: the line that explains it is that of the key."""
    return PydanticCustomError(_OF_KEY, "{text}", {"key": key, "text": text})


class Setting(NamedTuple):
    """One effective setting: a JSON value with its secrets masked, and where it comes from."""

    key: str
    value: Any
    source: str


def load(model: type[S], *, prefix: str, config: Path | None, default: Path, foreign: tuple[str, ...] = ()) -> S:
    """The settings from `config`, else `<prefix>CONFIG`, else the default file if it exists, and the environment.

    `foreign` are prefixes of variables that belong to another program. Raises ConfigurationError.
    """
    file = settings_file(prefix, config, default)
    unusable = _unusable_variables(model, prefix, foreign)
    faults = list(unusable.values())
    table: dict[str, Any] = {}
    try:
        table = read(file) if file else {}
    except ConfigurationError as error:
        faults.append(str(error))
        file = None
    try:
        settings = _validated(model, prefix, table, unusable)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        faults += [_explain(fault, model, file, prefix) for fault in found]
    if faults:
        raise ConfigurationError("\n".join(faults))
    return settings


def effective(settings: BaseSettings, *, prefix: str, config: Path | None, default: Path) -> Iterator[Setting]:
    """What `load` gave, key by key in the order of the model, and the source of each."""
    file = settings_file(prefix, config, default)
    table = read(file) if file else {}
    for section, value in settings.model_dump(mode="json").items():
        rows: Iterable[tuple[Keys, Any]]
        if isinstance(value, dict):
            rows = [((section, key), single) for key, single in value.items()]
        else:
            rows = [((section, at, key), single) for at, item in enumerate(value) for key, single in item.items()]
        for keys, single in rows:
            yield Setting(name_of(keys), _masked(single), source_of(keys, table, file, prefix))


def source_of(keys: Keys, table: dict[str, Any], file: Path | None, prefix: str) -> str:
    """The variable, or file and line, that sets the key; else `DEFAULT`. `table`: what the file holds."""
    single = (prefix + "__".join(map(str, keys[:2]))).upper()
    whole = f"{prefix}{keys[0]}".upper()
    for name in (single, whole):
        if name in os.environ and (name == single or depth(json.loads(os.environ[name]), keys[1:]) == len(keys) - 1):
            return name
    return f"{file}:{line_of(file, keys)}" if file and depth(table, keys) == len(keys) else DEFAULT


def _masked(value: Any) -> Any:
    """What a URL has as user, password or query is a secret wherever it stands."""
    match value:
        case str() if "://" in value:
            address, mark, _ = value.partition("?")
            return _USERINFO.sub(MASK, address) + (f"{mark}{MASK}" if mark else "")
        case list():
            return [_masked(item) for item in value]
        case _:
            return value


def _validated(model: type[S], prefix: str, table: dict[str, Any], unusable: Iterable[str]) -> S:
    """The settings of the file's table and the usable variables. Raises ValidationError."""
    ignored = {name.lower() for name in unusable}

    class Loaded(model):  # type: ignore[valid-type,misc]
        model_config = SettingsConfigDict(
            env_prefix=prefix, env_nested_delimiter="__", frozen=True, extra="forbid", hide_input_in_errors=True
        )

        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], **sources: PydanticBaseSettingsSource
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            # `init_settings` carries the file's table; the environment precedes it, key by key.
            environment = sources["env_settings"]
            assert isinstance(environment, EnvSettingsSource)
            environment.env_vars = {
                name: value for name, value in environment.env_vars.items() if name.lower() not in ignored
            }
            return environment, sources["init_settings"]

    settings = Loaded(**table)
    assert isinstance(settings, model)
    return settings


def _unusable_variables(model: type[BaseModel], prefix: str, foreign: tuple[str, ...]) -> dict[str, str]:
    """The variables that set nothing, or are not the JSON that they must be, and the line that says so."""
    takes_json = dict(variables(model, prefix))
    faults = misnamed(prefix, foreign, takes_json, _single_variables(model, prefix))
    for name, is_json in takes_json.items():
        if is_json and name in os.environ and not _is_json(os.environ[name]):
            faults[name] = _explain_json(name, model, prefix)
    return dict(sorted(faults.items()))


def _single_variables(model: type[BaseModel], prefix: str) -> list[str]:
    """All but those of whole sections, in order."""
    sections = {f"{prefix}{key}".upper() for key, field in model.model_fields.items() if table_of(field.annotation)}
    return sorted({f"{prefix}CONFIG", *(name for name, _ in variables(model, prefix))} - sections)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _explain_json(name: str, model: type[BaseModel], prefix: str) -> str:
    field = model.model_fields.get(name.removeprefix(prefix).lower())
    if field is not None and table_of(item_of(field.annotation)) is not None:
        return f'{name}: not JSON; write a list of tables as [{{"key": "value"}}]'
    return f'{name}: not JSON; write a list as ["first", "second"], or set single keys'


def _explain(fault: ErrorDetails, model: type[BaseModel], file: Path | None, prefix: str) -> str:
    """One line: where, which key, what is wrong, what is right."""
    inner = (fault["ctx"]["key"],) if fault["type"] == _OF_KEY else ()
    place = locate((*fault["loc"], *inner), model)
    where = variable_of(place.keys, prefix)
    if where is None and len(place.keys) == 1:
        where = variables_of_section(str(place.keys[0]), prefix)
    where = where or (f"{file}:{line_of(file, place.keys)}" if file else "settings")
    what = fault["msg"].removeprefix("Value error, ")
    match fault["type"]:
        case "extra_forbidden":
            wrong, known = str(place.keys[-1]), list(place.table.model_fields)
            return f"{where}: {name_of(place.keys)}: no such setting{instead(wrong, known)}"
        case "missing":
            what = "is missing"
        case "tuple_type" if place.field is not None and table_of(item_of(place.field.annotation)) is not None:
            what = f"not a list of tables; begin each of them with [[{place.keys[-1]}]]"
        case "tuple_type":
            what = 'not a list; write it as ["first", "second"]'
        case "too_short":
            what = "the list is empty; give at least one"
        case "dict_type" | "model_type":
            what = "not a table; write it as { key = value }"
    return f"{where}: {name_of(place.keys)}: {what}{_example(place)}"


def _example(place: Place) -> str:
    """A right value: the field's example, else its default."""
    if place.field is None or table_of(place.field.annotation) is not None:
        return ""
    key = next(str(key) for key in reversed(place.keys) if str(key) in place.table.model_fields)
    value = place.field.examples[0] if place.field.examples else place.field.default
    if isinstance(value, bool):
        return f"; for example {key} = {str(value).lower()}"
    return f"; for example {key} = {json.dumps(value)}" if isinstance(value, str | int | float) else ""
