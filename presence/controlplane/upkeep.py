"""What an operator does with the database beside serving it: missing keys, secrets sealed anew, effective access."""

import asyncio
from typing import Any

from presence.clock import SystemClock
from presence.controlplane.api.reach import model_of
from presence.controlplane.sealing import make_keys, read_keys
from presence.controlplane.services.reach import EffectiveAccess, OrganizationAccess
from presence.controlplane.services.secrets_at_rest import Resealed, SecretsAtRest
from presence.controlplane.settings import ControlPlaneSettings
from presence.controlplane.store.engine import Database, open_database
from presence.errors import PresenceError


async def ensure_keys(settings: ControlPlaneSettings, database: Database) -> None:
    """Makes the encryption keys' file if there is none and there is nothing that it would have to open.

    Raises ConfigurationError.
    """
    file = settings.encryption_keys_file
    await SecretsAtRest(database, SystemClock(), read_keys(file)).check()
    make_keys(file)


def run_reseal(settings: ControlPlaneSettings) -> Resealed:
    """Seals every secret with the first of the encryption keys, also while the database is served. Raises
    PresenceError."""

    async def reseal() -> Resealed:
        async with open_database(settings.database) as database:
            return await SecretsAtRest(database, SystemClock(), read_keys(settings.encryption_keys_file)).reseal()

    return asyncio.run(reseal())


def run_reach(settings: ControlPlaneSettings, host: str) -> list[dict[str, Any]]:
    """Who can cause a request to the host, as JSON values: one for each organization. Raises PresenceError."""

    async def find() -> list[OrganizationAccess]:
        async with open_database(settings.database) as database:
            return await EffectiveAccess(database).everywhere(host)

    try:
        found = asyncio.run(find())
    except ValueError:
        raise PresenceError(
            "HOST is not a host, or a host and a port: myservice.com, 10.1.2.3:8080, [fd00::1]"
        ) from None
    return [
        {
            "OrganizationId": one.organization_id,
            "OrganizationName": one.organization_name,
            "Items": [model_of(access).model_dump(mode="json", by_alias=True) for access in one.access],
        }
        for one in found
    ]
