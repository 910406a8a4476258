"""The OpenAPI document: what FastAPI makes of the resources, made true."""

from collections.abc import Iterator
from typing import Any, Final

from fastapi import FastAPI

from presence.controlplane.api.problems import TOO_LONG
from presence.controlplane.services.refusal import Key

_JSON: Final = "application/json"
_ID: Final = "9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b"

DESCRIPTION: Final = """\
The control plane of Presence: webhooks that agents inside a private network fire. The shape is that of AppScan on
Cloud's API v4.

Log in with `POST /api/v4/Account/ApiKeyLogin`, and send the `Token` as `Authorization: Bearer <Token>`. Names of fields
are PascalCase, and accepted in any case; so are paths under `/api/v4`. Times are ISO 8601 in UTC.

An error is `{Key, Message, FormatParams}`: `Key` is for programs, and `FormatParams` stand for {0}, {1}, ... in
`Message`. No error repeats what was sent. What you may not see is answered like what does not exist.

Lists are `{Items, Count}`, with `Count` where `$count=true` asks for it. In `$filter` there are `eq ne gt ge lt le`,
`in`, `and`, `or`, `not`, parentheses, `null`, `contains`, `startswith`, `endswith`, and `tolower` and `toupper` of
ASCII letters, with a field on the left and a literal of its kind on the right: 'text', a bare GUID, an integer, true,
false, or a date-time. Texts are compared with their case. Everything else is an `ODATA_QUERY_ERROR`.

Requests are limited, by default to 500 a minute for a user: 429 has `Retry-After`. A body arrives within 30 seconds, or
the answer is a 400. A request is done with the rights that its user has when it is done.
"""

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

EXAMPLES: Final[dict[str, Any]] = {
    "ApiKey": {"KeyId": _ID, "KeySecret": "the secret that was shown once"},
    "NewPresence": {"PresenceName": "office"},
    "UpdatePresence": {"PresenceName": "office 2"},
    "NewWebhook": {
        "PresenceId": _ID,
        "Uri": "http://myservice.com/ScanEnded/{SubjectId}",
        "Event": "ScanExecutionCompleted",
        "Global": True,
    },
    "UpdateWebhook": {"Uri": "http://myservice.com/Ended/{SubjectId}"},
    "NewAssociation": {"Scope": "Application", "ScopeId": _ID},
    "WebhookTest": {"SubjectId": _ID},
    "Resolution": {"Action": "Fire"},
    "NewApplication": {"Name": "Shop", "AssetGroupId": _ID},
    "ApplicationUpdate": {"CriticalIssues": 1, "RiskRating": "High"},
    "NewScan": {"AppId": _ID, "Name": "nightly", "Technology": "DynamicAnalyzer"},
    "ExecutionUpdate": {"Status": "Ready", "Progress": 100, "NIssuesFound": 3},
    "NewAssetGroup": {"Name": "Payments", "Description": "What handles money"},
    "AssetGroupUpdate": {"Description": "What handles money"},
    "NewRole": {"Name": "Integrator", "Capabilities": {"CreateModifyWebhooks": True}},
    "RoleUpdate": {"Capabilities": {"CreateModifyWebhooks": False}},
    "UserUpdate": {"RoleId": _ID, "AssetGroupIds": [_ID]},
    "InviteUsers": {"Emails": ["ci@example.com"], "AssetGroupIds": [_ID]},
    "NewEnrollment": {"Token": "the one-time token", "Nonce": "0123456789abcdef0123456789abcdef"},
}
"""A request body for each model; a test holds them to the models."""


class Documented(FastAPI):
    """The application, whose document says what it really answers."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            for operation in _operations(document):
                _correct(operation)
            schemas = document["components"]["schemas"]
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            for name, example in EXAMPLES.items():
                if name in schemas:
                    schemas[name].setdefault("examples", [example])
        return super().openapi()


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from path.values()


def _correct(operation: dict[str, Any]) -> None:
    """No 422, as faults are a 400; errors have examples."""
    responses = operation["responses"]
    responses.pop("422", None)
    for status, (key, message, params) in _ERRORS.items():
        content = responses.get(status, {}).get("content", {}).get(_JSON)
        if content is not None and content["schema"].get("$ref", "").endswith("/ErrorMessage"):
            content["example"] = {"Key": key, "Message": message, "FormatParams": params}
