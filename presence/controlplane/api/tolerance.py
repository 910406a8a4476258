"""Bodies that clients send back as they were read: fields that nobody sets are accepted and not looked at."""

from collections.abc import Mapping
from typing import ClassVar, Final

from pydantic import AfterValidator, model_validator

from presence.controlplane.api.schemas import Input


class Tolerant(Input):
    """`IGNORED`: names in lower case of fields that are accepted in any case and dropped."""

    IGNORED: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _without_ignored(cls, body: object) -> object:
        if not isinstance(body, Mapping):
            return body
        return {name: value for name, value in body.items() if str(name).lower() not in cls.IGNORED}


def _printable(name: str) -> str:
    if not name.isprintable() or name != name.strip() or not name:
        raise ValueError("must have printable characters only, and no spaces at its ends")
    return name


Printable: Final = AfterValidator(_printable)
"""For names: what people can tell apart."""
