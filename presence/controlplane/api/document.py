"""The OpenAPI document: what FastAPI makes of the resources, made true and furnished with examples."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI

from presence.controlplane.api import capabilities
from presence.controlplane.api.examples import BODIES, example
from presence.controlplane.api.paths import API
from presence.controlplane.api.problems import TOO_LONG
from presence.controlplane.services.refusal import Key

_JSON: Final = "application/json"

DESCRIPTION: Final = """\
The control plane of Presence: webhooks that agents inside a private network fire. The shape is that of AppScan on
Cloud's API v4.

Log in with `POST /api/v4/Account/ApiKeyLogin`, and send the `Token` as `Authorization: Bearer <Token>`. Names of fields
are PascalCase, and accepted in any case; so are paths under `/api/v4`. Bodies are JSON, which may be called
`application/json` or `text/json`. Times are ISO 8601 in UTC.

An error is `{Key, Message, FormatParams}`: `Key` is for programs, and `FormatParams` stand for {0}, {1}, ... in
`Message`. No error repeats what was sent. What you may not see is answered like what does not exist.

Lists are `{Items, Count}`, with `Count` where `$count=true` asks for it. In `$filter` there are `eq ne gt ge lt le`,
`in`, `and`, `or`, `not`, parentheses, `null`, `contains`, `startswith`, `endswith`, and `tolower` and `toupper` of
ASCII letters, with a field on the left and a literal of its kind on the right: 'text', a bare GUID, an integer, true,
false, or a date-time. Texts are compared with their case. Everything else is an `ODATA_QUERY_ERROR`.

Requests are limited, by default to 500 a minute for a user or, without a log-in, for an address; events, and updates of
scan executions, to 1,000 a second for an organization: 429 has `Retry-After`. A body has at most 1 MiB, and
arrives within 30 seconds, or the answer is a 400. A request is done with the rights that its user has when it is done.

""" + capabilities.listed()

_ERRORS: Final[dict[str, tuple[Key, str, list[str]]]] = {
    "400": (Key.INVALID_INPUT, "{0}: is required", ["PresenceName"]),
    "401": (Key.TOKEN_EXPIRED, "the bearer token has expired; log in again with ApiKeyLogin", []),
    "403": (Key.MISSING_CAPABILITIES, "this needs the capability {0}; ask an administrator", ["CreateModifyWebhooks"]),
    "404": (Key.RESOURCE_NOT_FOUND, "there is no such delivery", []),
    "409": (Key.DELIVERY_FINISHED, "the delivery has ended: it is {0}", ["succeeded"]),
    "413": (Key.INPUT_TOO_LONG, TOO_LONG, []),
    "429": (Key.TOO_MANY_REQUESTS, "too many requests; wait as long as Retry-After says", []),
    "503": (Key.GENERAL_ERROR, "the database cannot be used now; nothing was changed, try again", []),
}


class Documented(FastAPI):
    """The application, whose document says what it really answers."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            schemas = document["components"]["schemas"]
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            for name, body in BODIES.items():
                if name in schemas:
                    schemas[name].setdefault("examples", [body])
            for path, operations in document["paths"].items():
                for operation in operations.values():
                    _correct(operation, schemas)
                    if path.startswith(API):
                        operation["description"] += f"\n\n{capabilities.said(operation)}"
        return super().openapi()


def _correct(operation: dict[str, Any], schemas: Mapping[str, Any]) -> None:
    """No 422, as faults are a 400; every answer has an example."""
    responses = operation["responses"]
    responses.pop("422", None)
    for status, response in responses.items():
        content = response.get("content", {}).get(_JSON)
        if content and status < "300":
            content["example"] = example(content["schema"], schemas)
        elif content and content["schema"].get("$ref", "").endswith("/ErrorMessage"):
            key, message, params = _ERRORS[status]
            content["example"] = {"Key": key, "Message": message, "FormatParams": params}
