"""The secrets in the database: whether they can be opened at the start, and sealing them anew with another key."""

from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from presence.clock import Clock
from presence.controlplane.access import EVERY_ORGANIZATION
from presence.controlplane.sealing import Sealer, UnopenedError, key_of, place_of
from presence.controlplane.store import webhooks
from presence.controlplane.store.audits import Activity, Change, Entity, record_unattended
from presence.controlplane.store.engine import Database
from presence.controlplane.store.webhooks import Sealed
from presence.errors import ConfigurationError
from presence.logs import get_logger

_log = get_logger(__name__)


class Resealed(NamedTuple):
    """How many secrets there are, how many were sealed anew, and the webhooks whose secret cannot be opened."""

    total: int
    changed: int
    unopened: list[str]


class SecretsAtRest:
    def __init__(self, database: Database, clock: Clock, sealer: Sealer) -> None:
        self._database = database
        self._clock = clock
        self._sealer = sealer

    async def check(self) -> None:
        """Says in the log which secrets cannot be opened. Raises ConfigurationError where there are secrets and no keys
        at all."""
        async with self._database.read(EVERY_ORGANIZATION) as transaction:
            found = await webhooks.sealed(transaction)
        if found and not self._sealer.is_ready:
            raise ConfigurationError(
                f"{self._sealer.file}: there is no such file, but the database holds {len(found)} secrets that its keys"
                " sealed; put it back, or name it as [auth] encryption_keys_file"
            )
        for sealed in found:
            self._open(sealed)

    async def reseal(self) -> Resealed:
        """Seals all secrets with the first key; those that it has sealed already stay. Raises ConfigurationError."""
        await self.check()
        changed, unopened = 0, []
        async with self._database.write(EVERY_ORGANIZATION) as transaction:
            found = await webhooks.sealed(transaction)
            for sealed in found:
                secret = self._open(sealed)
                if secret is None:
                    unopened.append(sealed.webhook_id)
                elif not self._sealer.is_current(sealed.authorization):
                    place = place_of(sealed.organization_id, sealed.webhook_id)
                    changed += await self._reseal(transaction, sealed, self._sealer.seal(secret, place))
        return Resealed(len(found), changed, unopened)

    async def _reseal(self, transaction: AsyncConnection, old: Sealed, authorization: str) -> bool:
        """Whether that was done: the secret may have been changed meanwhile."""
        if not await webhooks.reseal(transaction, old, authorization):
            return False
        before, after = ({"EncryptionKey": key_of(text)} for text in (old.authorization, authorization))
        change = Change(old.webhook_id, before, after, old.asset_group_id)
        await record_unattended(
            transaction, old.organization_id, self._clock.wall(), Activity.RESEAL, Entity.WEBHOOK, [change]
        )
        return True

    def _open(self, sealed: Sealed) -> str | None:
        try:
            return self._sealer.open(sealed.authorization, place_of(sealed.organization_id, sealed.webhook_id))
        except UnopenedError as error:
            _log.error("a webhook's AuthorizationHeader cannot be opened", webhook=sealed.webhook_id, error=str(error))
            return None
