"""Presences and their keys."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.clock import Clock
from presence.controlplane.access import EVERY_ORGANIZATION, Capability, Peer, Principal
from presence.controlplane.connections import Connections, Pause
from presence.controlplane.leases import Leases
from presence.controlplane.odata import ListQuery
from presence.controlplane.runs import is_fresh
from presence.controlplane.services.acting import require, writing
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.services.rotations import Rotations, make_key, require_presence
from presence.controlplane.services.secret import fingerprint, matches
from presence.controlplane.store import audits, cancellation, presences, webhooks
from presence.controlplane.store.audits import Activity, Entity
from presence.controlplane.store.engine import Database
from presence.controlplane.store.presences import Presence
from presence.errors import CloseCode
from presence.logs import get_logger

_KEY = re.compile(r"pk_([0-9a-f-]{36})_([A-Za-z0-9_-]{20,100})\Z")
_DAY = 86_400_000
MAX_NAMED: Final = 20
"""Webhooks that a refusal names."""
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PresenceKey:
    """Shown once. `expires_at` in milliseconds since the epoch."""

    text: str = field(repr=False)
    expires_at: int


class Presences:
    """`key_lifetime` in days."""

    def __init__(
        self, database: Database, clock: Clock, connections: Connections, leases: Leases, key_lifetime: int
    ) -> None:
        self._database = database
        self._clock = clock
        self._connections = connections
        self._leases = leases
        self.key_lifetime = key_lifetime * _DAY
        """Milliseconds."""
        self.rotations = Rotations(database, clock, connections, leases, self.key_lifetime)

    async def create(self, principal: Principal, name: str) -> Presence:
        """A presence without a key. Raises Refusal MISSING_CAPABILITIES, or PRESENCE_NAME_EXISTS."""
        presence_id, now = str(uuid4()), self._clock.wall()
        with _unique_names():
            async with writing(self._database, principal) as (transaction, principal):
                require(principal, Capability.MANAGE_PRESENCES)
                await presences.add(transaction, principal.organization_id, presence_id, name, now)
                await audits.record(
                    transaction, principal, now, Activity.CREATE, Entity.PRESENCE, presence_id,
                    after={"PresenceName": name},
                )  # fmt: skip
                found = await presences.find(transaction, principal.organization_id, [presence_id])
        _log.info("presence created", presence=presence_id, user=principal.user_id)
        return found[presence_id]

    async def page(self, principal: Principal, query: ListQuery) -> tuple[list[Presence], int | None]:
        """Those of the organization: any of its users may see them."""
        async with self._database.read(principal.organization_id) as transaction:
            return await presences.page(transaction, principal.organization_id, query)

    async def rename(self, principal: Principal, presence_id: str, name: str) -> None:
        """Raises Refusal INVALID_PRESENCE, MISSING_CAPABILITIES or PRESENCE_NAME_EXISTS."""
        now = self._clock.wall()
        with _unique_names():
            async with writing(self._database, principal) as (transaction, principal):
                known = await _name_to_change(transaction, principal, presence_id)
                if name == known:
                    return
                await presences.rename(transaction, principal.organization_id, presence_id, name)
                await audits.record(
                    transaction, principal, now, Activity.MODIFY, Entity.PRESENCE, presence_id,
                    before={"PresenceName": known}, after={"PresenceName": name},
                )  # fmt: skip
        _log.info("presence renamed", presence=presence_id, user=principal.user_id)

    async def delete(self, principal: Principal, presence_id: str) -> None:
        """Its keys are void and its agents are disconnected at once; what is unfinished of it is cancelled.

        Raises Refusal INVALID_PRESENCE, MISSING_CAPABILITIES, or PRESENCE_IN_USE while webhooks name it.
        """
        now = self._clock.wall()
        async with self.rotations.alone():
            async with writing(self._database, principal) as (transaction, principal):
                name = await _name_to_change(transaction, principal, presence_id)
                await _require_unused(transaction, principal, presence_id)
                await presences.remove(transaction, principal.organization_id, presence_id)
                await cancellation.end_of_presence(transaction, principal.organization_id, presence_id, now)
                await audits.record(
                    transaction, principal, now, Activity.DELETE, Entity.PRESENCE, presence_id,
                    before={"PresenceName": name},
                )  # fmt: skip
            self.rotations.forget(presence_id)
        self._connections.end_presence(presence_id, CloseCode.KEY_REVOKED, "the presence was deleted")
        _log.info("presence deleted", presence=presence_id, user=principal.user_id)

    def canary_age(self, presence: Presence) -> int | None:
        """Milliseconds since one of its agents answered a canary, however the wall clock jumps meanwhile."""
        age = self._leases.echo_age(presence.id)
        if age is not None:
            return int(age * 1000)
        if presence.last_canary_at is None:
            return None
        # None since the start of this process: what was before is known by the wall clock only.
        return max(int(self._leases.uptime * 1000), self._clock.wall() - presence.last_canary_at)

    def paused(self, presence: Presence) -> Pause | None:
        """Its agents' local maintenance, as they told this process; None: one of them works, or none is connected."""
        return self._connections.paused(presence.id)

    def conflict_hosts(self, presence: Presence) -> Sequence[str]:
        """The hosts that lately took turns with copies of one journal."""
        if presence.conflict_hosts is None or not is_fresh(presence.conflict_at, self._clock.wall()):
            return ()
        hosts: list[str] = json.loads(presence.conflict_hosts)
        return hosts

    async def require_keys(self, principal: Principal, presence_id: str) -> None:
        """Raises Refusal INVALID_PRESENCE or MISSING_CAPABILITIES where `new_key` would."""
        async with self._database.read(principal.organization_id) as transaction:
            found = await presences.find(transaction, principal.organization_id, [presence_id])
        if not found:
            raise Refusal(Key.INVALID_PRESENCE, "there is no such presence")
        require(principal, Capability.MANAGE_PRESENCE_KEYS)

    async def new_key(self, principal: Principal, presence_id: str) -> PresenceKey:
        """Replaces the key: every old one is void at once, and sessions that it opened are ended.

        Raises Refusal INVALID_PRESENCE or MISSING_CAPABILITIES.
        """
        now = self._clock.wall()
        key_id, text = make_key()
        key = PresenceKey(text, now + self.key_lifetime)
        organization_id = principal.organization_id
        async with self.rotations.alone():
            async with writing(self._database, principal) as (transaction, principal):
                await require_presence(transaction, principal, presence_id)
                require(principal, Capability.MANAGE_PRESENCE_KEYS)
                await presences.retire_keys(transaction, organization_id, presence_id, kept=())
                await presences.add_key(
                    transaction, organization_id, presence_id, key_id, fingerprint(key.text), now, key.expires_at
                )
                await audits.record(
                    transaction, principal, now, Activity.NEW_KEY, Entity.PRESENCE, presence_id,
                    after={"KeyId": key_id, "By": "NewKey"},
                )  # fmt: skip
            self.rotations.forget(presence_id)
        self._connections.end_presence(presence_id, CloseCode.KEY_REVOKED, "the presence key was replaced")
        _log.info("presence key replaced", presence=presence_id, user=principal.user_id)
        return key

    async def authenticate(self, key: str) -> Peer:
        """Whose presence key that is. Raises Refusal WRONG_CREDENTIALS."""
        shape = _KEY.match(key)
        if shape is not None:
            async with self._database.read(EVERY_ORGANIZATION) as transaction:
                found = await presences.find_key(transaction, shape[1])
            if found is not None and matches(key, found[1]):
                if found[0].key_expires_at <= self._clock.wall():
                    raise Refusal(Key.WRONG_CREDENTIALS, "the presence key has expired; make a new one with NewKey")
                return found[0]
        raise Refusal(Key.WRONG_CREDENTIALS, "the presence key is not valid (any more); make a new one with NewKey")


async def _name_to_change(transaction: AsyncConnection, principal: Principal, presence_id: str) -> str:
    name = await presences.name_to_change(transaction, principal.organization_id, presence_id)
    if name is None:
        raise Refusal(Key.INVALID_PRESENCE, "there is no such presence")
    require(principal, Capability.MANAGE_PRESENCES)
    return name


async def _require_unused(transaction: AsyncConnection, principal: Principal, presence_id: str) -> None:
    """Names the webhooks that the principal may see, as far as they fit, and counts the others."""
    seen, count = await webhooks.of_presence(transaction, principal, presence_id, MAX_NAMED)
    if count:
        named = ", ".join(f"{{{number}}}" for number in range(1, len(seen) + 1))
        others = count - len(seen)
        parts = [*([f"the webhooks {named}"] if seen else []), *([f"{others} others"] if others else [])]
        raise Refusal(
            Key.PRESENCE_IN_USE,
            f"{{0}} webhooks use the presence: {' and '.join(parts)}; delete them or give them another presence",
            str(count),
            *seen,
        )


@contextmanager
def _unique_names() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise Refusal(Key.PRESENCE_NAME_EXISTS, "a presence of that name exists already; choose another name") from None
