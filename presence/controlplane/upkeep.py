"""What an operator does with the database beside serving it: keys that are missing, secrets sealed anew."""

import asyncio

from presence.controlplane.sealing import make_keys, read_keys
from presence.controlplane.services.secrets_at_rest import Resealed, SecretsAtRest
from presence.controlplane.settings import ControlPlaneSettings
from presence.controlplane.store.engine import Database, open_database


async def ensure_keys(settings: ControlPlaneSettings, database: Database) -> None:
    """Makes the encryption keys' file if there is none and there is nothing that it would have to open.

    Raises ConfigurationError.
    """
    file = settings.encryption_keys_file
    await SecretsAtRest(database, read_keys(file)).check()
    make_keys(file)


def run_reseal(settings: ControlPlaneSettings) -> Resealed:
    """Seals every secret with the first of the encryption keys, also while the database is served. Raises
    PresenceError."""

    async def reseal() -> Resealed:
        async with open_database(settings.database) as database:
            return await SecretsAtRest(database, read_keys(settings.encryption_keys_file)).reseal()

    return asyncio.run(reseal())
