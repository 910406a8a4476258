"""Organizations, log-in, and who a bearer token is."""

from dataclasses import dataclass, field
from uuid import uuid4

from presence.clock import Clock
from presence.controlplane.access import ADMINISTRATOR, EVERY_ORGANIZATION, Principal
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.services.secret import fingerprint, matches, new_secret
from presence.controlplane.store import accounts
from presence.controlplane.store.engine import Database
from presence.errors import PresenceError
from presence.logs import get_logger

FIRST_USER = "administrator"

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NewOrganization:
    """Shown once: the secret is stored as a hash only."""

    organization_id: str
    key_id: str
    key_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token; `expires_at` in milliseconds since the epoch."""

    text: str = field(repr=False)
    expires_at: int


class Accounts:
    """`token_lifetime` in seconds."""

    def __init__(self, database: Database, clock: Clock, token_lifetime: int) -> None:
        self._database = database
        self._clock = clock
        self._token_lifetime = token_lifetime * 1000

    async def create_organization(self, name: str) -> NewOrganization:
        """An organization with an administrator and an API key. Raises PresenceError where the name is taken."""
        now, secret = self._clock.wall(), new_secret()
        organization_id, user_id, key_id = str(uuid4()), str(uuid4()), str(uuid4())
        async with self._database.write(EVERY_ORGANIZATION) as transaction:
            if await accounts.organization_named(transaction, name) is not None:
                raise PresenceError(f"the organization '{name}' exists already; choose another name")
            roles = await accounts.add_organization(transaction, organization_id, name, now)
            await accounts.add_user(transaction, organization_id, user_id, FIRST_USER, roles[ADMINISTRATOR], now)
            await accounts.add_api_key(transaction, organization_id, user_id, key_id, fingerprint(secret), now)
        return NewOrganization(organization_id, key_id, secret)

    async def log_in(self, key_id: str, key_secret: str) -> Token:
        """A new bearer token. Raises Refusal WRONG_CREDENTIALS without saying which half is wrong."""
        now, secret = self._clock.wall(), new_secret()
        token = Token(secret, now + self._token_lifetime)
        async with self._database.read(EVERY_ORGANIZATION) as transaction:
            found = await accounts.find_api_key(transaction, key_id)
        if found is None or not matches(key_secret, found.secret_hash):
            _log.warning("login refused", known=found is not None)
            raise Refusal(Key.WRONG_CREDENTIALS, "KeyId or KeySecret is wrong")
        async with self._database.write(EVERY_ORGANIZATION) as transaction:
            await accounts.add_token(transaction, found, fingerprint(secret), now, token.expires_at)
        return token

    async def authenticate(self, token: str) -> Principal:
        """Whose token that is. Raises Refusal USER_NOT_AUTHORIZED or TOKEN_EXPIRED."""
        async with self._database.read(EVERY_ORGANIZATION) as transaction:
            found = await accounts.find_token(transaction, fingerprint(token))
        if found is None:
            raise Refusal(Key.USER_NOT_AUTHORIZED, "the bearer token is unknown; log in with ApiKeyLogin")
        principal, expires_at = found
        if expires_at <= self._clock.wall():
            raise Refusal(Key.TOKEN_EXPIRED, "the bearer token has expired; log in again with ApiKeyLogin")
        return principal
