"""Presences and their keys."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from presence.clock import Clock
from presence.controlplane.access import EVERY_ORGANIZATION, Peer, Principal
from presence.controlplane.connections import Connections, Pause
from presence.controlplane.leases import Leases
from presence.controlplane.runs import is_fresh
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.services.rotations import Rotations, make_key, require_presence
from presence.controlplane.services.secret import fingerprint, matches
from presence.controlplane.store import presences
from presence.controlplane.store.engine import Database
from presence.controlplane.store.presences import Presence
from presence.errors import CloseCode
from presence.logs import get_logger

_KEY = re.compile(r"pk_([0-9a-f-]{36})_([A-Za-z0-9_-]{20,100})\Z")
_DAY = 86_400_000
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
        self._key_lifetime = key_lifetime * _DAY
        self.rotations = Rotations(database, clock, connections, leases, self._key_lifetime)

    async def create(self, principal: Principal, name: str) -> Presence:
        """A presence without a key. Raises Refusal where the name is taken in the organization."""
        presence_id = str(uuid4())
        async with self._database.write(principal.organization_id) as transaction:
            if await presences.is_named(transaction, principal.organization_id, name):
                raise Refusal(Key.PRESENCE_NAME_EXISTS, "a presence of that name exists already; choose another name")
            await presences.add(transaction, principal.organization_id, presence_id, name, self._clock.wall())
            found = await presences.find(transaction, principal.organization_id, [presence_id])
        return found[presence_id]

    async def page(self, principal: Principal, top: int, skip: int) -> list[Presence]:
        async with self._database.read(principal.organization_id) as transaction:
            return await presences.page(transaction, principal.organization_id, top, skip)

    async def count(self, principal: Principal) -> int:
        async with self._database.read(principal.organization_id) as transaction:
            return await presences.count(transaction, principal.organization_id)

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

    async def new_key(self, principal: Principal, presence_id: str) -> PresenceKey:
        """Replaces the key: every old one is void at once, and sessions that it opened are ended.

        Raises Refusal for an unknown presence.
        """
        now = self._clock.wall()
        key_id, text = make_key()
        key = PresenceKey(text, now + self._key_lifetime)
        async with self.rotations.alone():
            async with self._database.write(principal.organization_id) as transaction:
                await require_presence(transaction, principal, presence_id)
                await presences.replace_key(
                    transaction,
                    principal.organization_id,
                    presence_id,
                    key_id,
                    fingerprint(key.text),
                    now,
                    key.expires_at,
                )
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
