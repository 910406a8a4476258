"""Templates of request bodies.

Only the exact placeholders count, any other brace is text, as in `{"patch_id": "{SubjectId}"}`. A value is inserted
as it is, and refused where it would mean more than text to a reader of the body's content type: it may not end a JSON
string, nor a form's field.
"""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NoReturn

from presence.domain.template import PLACEHOLDERS, UNRESERVED, TemplateError, value_of
from presence.domain.webhook import MAX_BODY_LENGTH, MAX_CONTENT_TYPE_LENGTH

_TOKEN = re.compile(r"\{(" + "|".join(PLACEHOLDERS) + r")\}")
_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_CONTENT_TYPE = re.compile(rf'({_NAME}/{_NAME})(?: *; *{_NAME}=(?:{_NAME}|"(?:[ !#-\[\]-~]|\\[ -~])*"))*\Z')
_FORM = "application/x-www-form-urlencoded"
_BREAKS_JSON_STRING = re.compile(r'["\\\x00-\x1f]')


def check_content_type(text: str) -> None:
    """Raises TemplateError unless the text is a media type of RFC 9110: type/subtype and parameters, in ASCII."""
    _media_type(text)


@lru_cache(maxsize=256)
def parse_body(text: str, content_type: str | None) -> None:
    """Raises TemplateError for a body that can never be sent: too long, or no JSON under a JSON content type."""
    if len(text) > MAX_BODY_LENGTH:
        raise TemplateError(f"the body has {len(text)} characters; at most {MAX_BODY_LENGTH} are allowed")
    lone = re.search("[\ud800-\udfff]", text)
    if lone:
        raise TemplateError(f"the body contains the lone surrogate U+{ord(lone[0]):04X} at position {lone.start() + 1}")
    media_type = _media_type(content_type)
    if text and _is_json(media_type):
        _check_json(text)


def expand_body(text: str, content_type: str | None, values: Mapping[str, str]) -> str:
    """The body with every placeholder replaced by its value, as it is.

    Raises TemplateError where `parse_body` does, and where a value is missing, cannot be a subject, or is more than
    text in that content type: it would end a JSON string or a form's field.
    """
    parse_body(text, content_type)
    media_type = _media_type(content_type)

    def insert(token: re.Match[str]) -> str:
        value = value_of(token[1], values)
        if _is_json(media_type) and _BREAKS_JSON_STRING.search(value):
            raise TemplateError(f"the value for {token[0]} contains a quote or a backslash, which would end its string")
        if media_type == _FORM and not UNRESERVED.match(value):
            raise TemplateError(f"the value for {token[0]} contains other characters than letters, digits and -._~")
        return value

    return _TOKEN.sub(insert, text)


def _media_type(content_type: str | None) -> str:
    """`type/subtype` in lower case; empty for None."""
    if content_type is None:
        return ""
    matched = _CONTENT_TYPE.match(content_type) if len(content_type) <= MAX_CONTENT_TYPE_LENGTH else None
    if matched is None:
        raise TemplateError(
            f"the content type is not a media type of at most {MAX_CONTENT_TYPE_LENGTH} ASCII characters;"
            " write for example application/json; charset=utf-8"
        )
    return matched[1].lower()


def _is_json(media_type: str) -> bool:
    return media_type == "application/json" or media_type.endswith("+json")


def _check_json(text: str) -> None:
    """With a word in each placeholder's place, which is JSON only inside of a string."""
    try:
        json.loads(
            _TOKEN.sub(lambda token: "x" * len(token[0]), text),
            parse_int=str,
            parse_float=str,
            parse_constant=_refuse_constant,
        )
    except json.JSONDecodeError as error:
        token = _TOKEN.match(text, error.pos)
        why = f"{token[0]} stands outside of a string; put it in quotes" if token else error.msg
        raise TemplateError(f"the body is not JSON at line {error.lineno}, column {error.colno}: {why}") from None
    except RecursionError:
        raise TemplateError("the body is JSON nested too deeply") from None


def _refuse_constant(name: str) -> NoReturn:
    raise TemplateError(f"the body is not JSON: {name} is none of its numbers")
