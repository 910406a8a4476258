"""A presence's key is exchanged while its agents work: no session is lost that need not be.

Agents are told the new key over the link, store it, and come back with it. The old keys are void once nobody is
left who does not have the new one. Until then the new key's text is in this process's memory, and nowhere else here:
if the control plane restarts meanwhile, both keys stay valid, until the next rotation is done or they expire. So
they do while an agent stays away whose lease had not ended or that was told the new key; a rotation that is begun
anew once its lease has ended does not wait for it, and it needs a key file then.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from presence.clock import Clock
from presence.controlplane.access import Capability, Principal
from presence.controlplane.connections import Connection, Connections
from presence.controlplane.leases import Leases
from presence.controlplane.services.acting import require, writing
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.services.secret import fingerprint, new_secret
from presence.controlplane.store import audits, presences
from presence.controlplane.store.audits import Activity, Entity
from presence.controlplane.store.engine import Database
from presence.errors import DatabaseError
from presence.logs import get_logger
from presence.protocol.messages import NewKey

WAIT_SECONDS = 5.0
"""For how long the answer waits for agents to come back: in good health they all do meanwhile."""

_log = get_logger(__name__)


class Progress(StrEnum):
    PENDING = "Pending"
    DONE = "Done"


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a rotation has come. `pending`: instances that have yet to come back with the new key."""

    progress: Progress
    pending: Sequence[str]


@dataclass(slots=True)
class _Rotation:
    """The text is forgotten as soon as nobody needs to be told. `taken`: some instance has come back with the key.
    `spared`: keys that are newer."""

    organization_id: str
    key_id: str
    text: str | None = field(repr=False)
    away: set[str]
    taken: bool = False
    spared: set[str] = field(default_factory=set)
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Rotations:
    """`key_lifetime` in milliseconds."""

    def __init__(
        self, database: Database, clock: Clock, connections: Connections, leases: Leases, key_lifetime: int
    ) -> None:
        self._database = database
        self._clock = clock
        self._connections = connections
        self._leases = leases
        self._key_lifetime = key_lifetime
        self._rotations: dict[str, _Rotation] = {}
        self._changing = asyncio.Lock()

    def alone(self) -> AbstractAsyncContextManager[None]:
        """Entered by whoever changes which keys are valid."""
        return self._changing

    async def rotate(self, principal: Principal, presence_id: str) -> Standing:
        """Begins a rotation, in place of a pending one, and waits a little for its end.

        Raises Refusal INVALID_PRESENCE, MISSING_CAPABILITIES or PRESENCE_NOT_CONNECTED.
        """
        now = self._clock.wall()
        key_id, text = make_key()
        async with self._changing:
            async with writing(self._database, principal) as (transaction, principal):
                await require_presence(transaction, principal, presence_id)
                require(principal, Capability.MANAGE_PRESENCE_KEYS)
                if not self._connections.newest(presence_id):
                    raise Refusal(
                        Key.PRESENCE_NOT_CONNECTED,
                        "no agent of the presence is connected that could be told the new key; start one, or make a"
                        " key file with GET /api/v4/Presences/{0}/NewKey",
                        presence_id,
                    )
                await presences.add_key(
                    transaction,
                    principal.organization_id,
                    presence_id,
                    key_id,
                    fingerprint(text),
                    now,
                    now + self._key_lifetime,
                )
                await audits.record(
                    transaction, principal, now, Activity.NEW_KEY, Entity.PRESENCE, presence_id,
                    after={"KeyId": key_id, "By": "RotateKey"},
                )  # fmt: skip
            rotation = self._rotations[presence_id] = _Rotation(
                principal.organization_id, key_id, text, self._leases.living(presence_id)
            )
            for connection in self._connections.newest(presence_id):
                self._tell(rotation, connection)
        _log.info("presence key rotates", presence=presence_id, user=principal.user_id, instances=len(rotation.away))
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await rotation.done.wait()
        except TimeoutError:
            _log.warning("presence key still rotates", presence=presence_id, instances=sorted(rotation.away))
        return _standing(rotation)

    def standing(self, presence_id: str) -> Standing | None:
        """How far the latest rotation since the start of the program has come."""
        rotation = self._rotations.get(presence_id)
        return None if rotation is None else _standing(rotation)

    def forget(self, presence_id: str) -> None:
        """The pending rotation, if any, is over: all keys were replaced."""
        self._rotations.pop(presence_id, None)

    def spare(self, presence_id: str, key_id: str) -> None:
        """A key was added meanwhile, which a pending rotation leaves valid."""
        if presence_id in self._rotations:
            self._rotations[presence_id].spared.add(key_id)

    async def greeted(self, connection: Connection) -> None:
        """An instance has begun a session: it has the new key, or is told it. Raises DatabaseError."""
        presence_id = connection.peer.presence_id
        rotation = self._rotations.get(presence_id)
        if rotation is None or rotation.text is None:
            return
        if connection.peer.key_id != rotation.key_id:
            self._tell(rotation, connection)
            return
        rotation.taken = True
        rotation.away.discard(connection.instance_id)
        await self._finish(presence_id)

    async def left(self, presence_id: str) -> None:
        """A connection of the presence has ended, perhaps the last one with an old key."""
        try:
            await self._finish(presence_id)
        except DatabaseError as error:
            _log.error("old presence keys stay valid for now", presence=presence_id, error=str(error))

    def _tell(self, rotation: _Rotation, connection: Connection) -> None:
        if rotation.text is not None and connection.may_hear(NewKey):
            rotation.away.add(connection.instance_id)
            connection.say(NewKey(key=rotation.text))

    async def _finish(self, presence_id: str) -> None:
        """Makes the old keys void, once nobody is left who uses one or was not heard of with the new one."""
        async with self._changing:
            rotation = self._rotations.get(presence_id)
            if rotation is None or rotation.text is None or rotation.away or not rotation.taken:
                return
            if any(connection.peer.key_id != rotation.key_id for connection in self._connections.of(presence_id)):
                return
            kept = {rotation.key_id, *rotation.spared}
            async with self._database.write(rotation.organization_id) as transaction:
                await presences.retire_keys(transaction, rotation.organization_id, presence_id, kept)
            rotation.text = None
            rotation.done.set()
        _log.info("presence key rotated, the old one is void", presence=presence_id)


def make_key() -> tuple[str, str]:
    """A new presence key: its id and its text, which is a secret."""
    key_id = str(uuid4())
    return key_id, f"pk_{key_id}_{new_secret()}"


async def require_presence(transaction: AsyncConnection, principal: Principal, presence_id: str) -> None:
    """Raises Refusal INVALID_PRESENCE where the organization has no such presence."""
    if not await presences.is_there(transaction, principal.organization_id, presence_id):
        raise Refusal(Key.INVALID_PRESENCE, "there is no such presence")


def _standing(rotation: _Rotation) -> Standing:
    return Standing(Progress.PENDING if rotation.text is not None else Progress.DONE, sorted(rotation.away))
