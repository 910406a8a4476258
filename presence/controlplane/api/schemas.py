"""What all resources share: input and output models, errors, times."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_pascal

T = TypeVar("T")


class Input(BaseModel):
    """A request's body: names in PascalCase or any other case, unknown ones refused."""

    model_config = ConfigDict(
        alias_generator=to_pascal, extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _any_case(cls, body: object) -> object:
        if not isinstance(body, Mapping):
            return body
        names = {field.alias.lower(): field.alias for field in cls.model_fields.values() if field.alias}
        named = {names.get(str(name).lower(), str(name)): value for name, value in body.items()}
        if len(named) != len(body):
            raise ValueError("a field is given twice in different case")
        return named


class Output(BaseModel):
    """A response: built by field name, shown in PascalCase."""

    model_config = ConfigDict(alias_generator=to_pascal, populate_by_name=True, frozen=True)


class Listing(Output, Generic[T]):
    """A page of a list. `Count`: of the whole list, only with `$count=true`."""

    items: list[T]
    count: int | None = None


class ErrorMessage(Output):
    """`FormatParams` stand for {0}, {1}, ... in `Message`."""

    key: str
    message: str
    format_params: list[str]


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorMessage, "description": "Bad request"},
    401: {"model": ErrorMessage, "description": "Not logged in"},
    413: {"model": ErrorMessage, "description": "The body is larger than 1 MiB"},
    429: {
        "model": ErrorMessage,
        "description": "Too many requests: wait for Retry-After seconds",
        "headers": {"Retry-After": {"schema": {"type": "integer"}}},
    },
    503: {
        "model": ErrorMessage,
        "description": "The database cannot be used now: nothing was changed",
        "headers": {"Retry-After": {"schema": {"type": "integer"}}},
    },
}
"""What every resource may answer."""
FORBIDDEN: dict[int | str, dict[str, Any]] = {403: {"model": ErrorMessage, "description": "You may not do that"}}
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorMessage, "description": "There is no such thing"}}
CONFLICT: dict[int | str, dict[str, Any]] = {409: {"model": ErrorMessage, "description": "Its state does not allow it"}}


Guid = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


def timestamp(milliseconds: int) -> str:
    """ISO 8601 in UTC with milliseconds and Z."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def optional_timestamp(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else timestamp(milliseconds)
