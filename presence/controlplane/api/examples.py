"""Examples for the document: bodies written by hand, answers made from their schemas."""

from collections.abc import Mapping
from typing import Any, Final

ID: Final = "9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b"
_TIME: Final = "2026-01-31T12:00:00.000Z"
_LATER: Final = "2027-01-31T12:00:00.000Z"

BODIES: Final[dict[str, Any]] = {
    "ApiKey": {"KeyId": ID, "KeySecret": "the secret that was shown once"},
    "NewPresence": {"PresenceName": "office"},
    "UpdatePresence": {"PresenceName": "office 2"},
    "NewWebhook": {
        "PresenceId": ID,
        "Uri": "http://myservice.com/ScanEnded/{SubjectId}",
        "Event": "ScanExecutionCompleted",
        "Global": True,
    },
    "UpdateWebhook": {"Uri": "http://myservice.com/Ended/{SubjectId}"},
    "NewAssociation": {"Scope": "Application", "ScopeId": ID},
    "WebhookTest": {"SubjectId": ID},
    "Resolution": {"Action": "Fire"},
    "NewApplication": {"Name": "Shop", "AssetGroupId": ID},
    "ApplicationUpdate": {"CriticalIssues": 1, "RiskRating": "High"},
    "NewScan": {"AppId": ID, "Name": "nightly", "Technology": "DynamicAnalyzer"},
    "ExecutionUpdate": {"Status": "Ready", "Progress": 100, "NIssuesFound": 3},
    "NewAssetGroup": {"Name": "Payments", "Description": "What handles money"},
    "AssetGroupUpdate": {"Description": "What handles money"},
    "NewRole": {"Name": "Integrator", "Capabilities": {"CreateModifyWebhooks": True}},
    "RoleUpdate": {"Capabilities": {"CreateModifyWebhooks": False}},
    "UserUpdate": {"RoleId": ID, "AssetGroupIds": [ID]},
    "InviteUsers": {"Emails": ["ci@example.com"], "AssetGroupIds": [ID]},
    "NewEnrollment": {"Token": "the one-time token", "Nonce": "0123456789abcdef0123456789abcdef"},
}
"""A request body for each model; a test holds them to the models."""

_FIELDS: Final[Mapping[str, Any]] = {
    **dict.fromkeys(("AppName", "Name"), "Shop"),
    **dict.fromkeys(("AssetGroupId", "EventId", "InstanceId", "InvitedById"), ID),
    **dict.fromkeys(("CreatedBy", "InvitedBy", "AddedToAssetGroupBy"), "administrator"),
    **dict.fromkeys(("Email", "UserName"), "ci@example.com"),
    **dict.fromkeys(("DispatchedAt", "AcceptedAt", "SettledAt", "LastLogin"), _TIME),
    **dict.fromkeys(("Expire", "ExpiresAt", "KeyExpiresAt"), _LATER),
    "AssetGroupName": "Default",
    "AttemptCount": 1,
    "Capabilities": {"CreateModifyWebhooks": True, "AllAssetGroups": False},
    "Description": "What handles money",
    "Event": "ScanExecutionCompleted",
    "Global": True,
    "Host": "myservice.com",
    "HostName": "edge-1",
    "IdleTimeForSignout": 60,
    "Key": "the key of the presence",
    "KeySecret": "the secret that is shown once",
    "MaxAgeSeconds": 86_400,
    "Platform": "linux_x64",
    "PresenceName": "office",
    "Reason": "delivered",
    "RequestMethod": "GET",
    "RoleName": "Manager",
    "State": "succeeded",
    "TenantName": "acme",
    "Text": "attempt 1: status 204 after 12 ms",
    "Token": "the token",
    "Took": 12,
    "Uri": "http://myservice.com/ScanEnded/{SubjectId}",
    "WebServiceHost": "https://presence.example.com",
}
"""What says more than the first value of its type; null is what is nullable and not here."""


def example(schema: Mapping[str, Any], schemas: Mapping[str, Any], name: str = "") -> Any:
    """A value of the schema, the one of a field of that name. `schemas`: those that `$ref` names."""
    match schema:
        case {"examples": [first, *_]} | {"default": first} | {"const": first}:
            return first
        case {"$ref": str(reference)}:
            return example(schemas[reference.rpartition("/")[2]], schemas, name)
        case _ if name in _FIELDS and "properties" not in schema:
            return _FIELDS[name]
        case {"enum": [first, *_]}:
            return first
        case {"anyOf": [*options]}:
            return None if {"type": "null"} in options else example(options[0], schemas, name)
        case {"type": "object"}:
            return {field: example(inner, schemas, field) for field, inner in schema.get("properties", {}).items()}
        case {"type": "array"}:
            return [example(schema["items"], schemas)] if schema.get("items") else []
        case {"type": "string", "format": "date-time"}:
            return _TIME
        case {"type": "string"}:
            return ID if name.endswith("Id") or not name else f"the {name}"
        case {"type": "integer"}:
            return schema.get("minimum", 0)
        case _:
            return False
