"""Enrolment: a token that a person makes, and carries to an agent's host, trades once for a key of the presence.

The key's secret is derived from the token and a nonce of the agent's, so that an agent which lost the answer gets the
same one again, while nothing here could tell it. Enrolling makes no other key void, so that each of several agents of
a presence can enrol: `NewKey` and `RotateKey` end the older ones.
"""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from presence.clock import Clock
from presence.controlplane.access import EVERY_ORGANIZATION, Capability, Principal
from presence.controlplane.services.acting import require, writing
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.services.rotations import Rotations, require_presence
from presence.controlplane.services.secret import fingerprint, matches, new_secret
from presence.controlplane.store import audits, enrollments, presences
from presence.controlplane.store.audits import Activity, Change, Entity
from presence.controlplane.store.engine import Database
from presence.controlplane.store.enrollments import Enrollment
from presence.logs import get_logger

TOKEN_LIFETIME: Final = 3_600_000
"""Milliseconds: from the person's desk to the agent's host."""
_TOKEN = re.compile(r"pe_[A-Za-z0-9_-]{43}\Z")
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class EnrollmentToken:
    """Shown once. `expires_at` in milliseconds since the epoch."""

    text: str = field(repr=False)
    expires_at: int


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The presence that an agent is now, and its key. `expires_at` in milliseconds since the epoch."""

    presence_id: str
    presence_name: str
    key: str = field(repr=False)
    expires_at: int


class Enrollments:
    """`key_lifetime` in milliseconds."""

    def __init__(self, database: Database, clock: Clock, rotations: Rotations, key_lifetime: int) -> None:
        self._database = database
        self._clock = clock
        self._rotations = rotations
        self._key_lifetime = key_lifetime

    async def make_token(self, principal: Principal, presence_id: str) -> EnrollmentToken:
        """A token for one agent; others stay valid. Raises Refusal INVALID_PRESENCE or MISSING_CAPABILITIES."""
        now = self._clock.wall()
        token = EnrollmentToken(f"pe_{new_secret()}", now + TOKEN_LIFETIME)
        async with writing(self._database, principal) as (transaction, principal):
            await require_presence(transaction, principal, presence_id)
            require(principal, Capability.MANAGE_PRESENCE_KEYS)
            await enrollments.add(
                transaction, principal.organization_id, presence_id, fingerprint(token.text), now, token.expires_at
            )
            await audits.record(transaction, principal, now, Activity.NEW_TOKEN, Entity.PRESENCE, presence_id)
        _log.info("enrolment token made", presence=presence_id, user=principal.user_id)
        return token

    async def enroll(self, token: str, nonce: str) -> Enrolled:
        """Trades the token for a key; with the same nonce again, for the same key.

        Raises Refusal INVALID_ENROLLMENT, alike for tokens that are unknown, have expired or were used.
        """
        if not _TOKEN.match(token):
            raise _refused()
        now, token_hash = self._clock.wall(), fingerprint(token)
        async with self._database.read(EVERY_ORGANIZATION) as transaction:
            known = await enrollments.find(transaction, token_hash, now)
        if known is None:
            raise _refused()
        async with self._rotations.alone(), self._database.write(known.organization_id) as transaction:
            found = await enrollments.find(transaction, token_hash, now, to_trade=True)
            if found is None:
                raise _refused()
            if found.key_id is None:
                enrolled = await self._trade(transaction, found, token, nonce, now)
            else:
                enrolled = await _repeat(transaction, found, found.key_id, token, nonce)
        _log.info("agent enrolled", presence=enrolled.presence_id, repeated=found.key_id is not None)
        return enrolled

    async def _trade(
        self, transaction: AsyncConnection, found: Enrollment, token: str, nonce: str, now: int
    ) -> Enrolled:
        key_id = str(uuid4())
        made = Enrolled(found.presence_id, found.presence_name, _key(key_id, token, nonce), now + self._key_lifetime)
        await presences.add_key(
            transaction, found.organization_id, found.presence_id, key_id, fingerprint(made.key), now, made.expires_at
        )
        await enrollments.trade(transaction, found.organization_id, fingerprint(token), fingerprint(nonce), key_id)
        change = Change(found.presence_id, after={"KeyId": key_id})
        await audits.record_unattended(
            transaction, found.organization_id, now, Activity.ENROLL, Entity.PRESENCE, [change]
        )
        self._rotations.spare(found.presence_id, key_id)
        return made


async def _repeat(transaction: AsyncConnection, found: Enrollment, key_id: str, token: str, nonce: str) -> Enrolled:
    expires_at = await presences.expiry_of_key(transaction, found.organization_id, key_id)
    if expires_at is None or found.nonce_hash is None or not matches(nonce, found.nonce_hash):
        raise _refused()
    return Enrolled(found.presence_id, found.presence_name, _key(key_id, token, nonce), expires_at)


def _key(key_id: str, token: str, nonce: str) -> str:
    secret = hmac.digest(token.encode(), f"presence key {key_id} {nonce}".encode(), hashlib.sha256)
    return f"pk_{key_id}_{base64.urlsafe_b64encode(secret).decode().rstrip('=')}"


def _refused() -> Refusal:
    return Refusal(
        Key.INVALID_ENROLLMENT,
        "the enrolment token is unknown, has expired or was used; make a new one with"
        " POST /api/v4/Presences/<id>/EnrollmentToken",
    )
