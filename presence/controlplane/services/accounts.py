"""Organizations, log-in, API keys, and who a bearer token is."""

from dataclasses import dataclass, field
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from presence.clock import Clock
from presence.controlplane.access import ADMINISTRATOR, EVERY_ORGANIZATION, Principal
from presence.controlplane.services.acting import changing_rights, writing
from presence.controlplane.services.failures import Failures
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.services.secret import fingerprint, matches, new_secret
from presence.controlplane.store import accounts, audits, users
from presence.controlplane.store.audits import Activity, Change, Entity
from presence.controlplane.store.engine import Database
from presence.controlplane.store.users import NewUser, User
from presence.errors import PresenceError
from presence.logs import get_logger

FIRST_USER = "administrator"
KEY_FAILURES = 10
FAILURE_SECONDS = 60
"""After so many failed log-ins with a key id within these seconds the next one is refused unseen."""
_NO_SECRET = fingerprint("")
"""Compared with where the key is unknown, so that both cases do the same."""

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


@dataclass(frozen=True, slots=True)
class NewKey:
    """A user's API key, shown once. `created_at` in milliseconds since the epoch."""

    key_id: str
    key_secret: str = field(repr=False)
    created_at: int


@dataclass(frozen=True, slots=True)
class Tenant:
    """The organization as one of its users sees it. `token_lifetime` in seconds."""

    organization_id: str
    name: str
    user: User
    token_lifetime: int


class Accounts:
    """`token_lifetime` in seconds."""

    def __init__(self, database: Database, clock: Clock, token_lifetime: int) -> None:
        self._database = database
        self._clock = clock
        self._token_lifetime = token_lifetime
        self._failures = Failures(KEY_FAILURES, FAILURE_SECONDS)

    async def create_organization(self, name: str) -> NewOrganization:
        """An organization with an administrator and an API key. Raises PresenceError where the name is taken."""
        now, secret = self._clock.wall(), new_secret()
        organization_id, user_id, key_id = str(uuid4()), str(uuid4()), str(uuid4())
        async with self._database.write(EVERY_ORGANIZATION) as transaction:
            if await accounts.organization_named(transaction, name) is not None:
                raise PresenceError(f"the organization '{name}' exists already; choose another name")
            roles = await accounts.add_organization(transaction, organization_id, name, now)
            first = NewUser(user_id, FIRST_USER, email=None, role_id=roles[ADMINISTRATOR], invited_by=None)
            await users.add(transaction, organization_id, [first], now)
            await accounts.add_api_key(transaction, organization_id, user_id, key_id, fingerprint(secret), now)
            await _audit_beginning(transaction, organization_id, name, first, now)
        return NewOrganization(organization_id, key_id, secret)

    async def log_in(self, key_id: str, key_secret: str) -> Token:
        """A new bearer token. Raises Refusal WRONG_CREDENTIALS without saying which half is wrong, and
        TOO_MANY_REQUESTS after many failures with that key id, whatever the secret and whether it exists or not."""
        wait = self._failures.wait(key_id, self._clock.elapsed() / 1000)
        if wait:
            raise Refusal.too_many("too many log-ins with this KeyId failed; wait, and check its KeySecret", wait)
        now, secret = self._clock.wall(), new_secret()
        token = Token(secret, now + self._token_lifetime * 1000)
        async with self._database.read(EVERY_ORGANIZATION) as transaction:
            found = await accounts.find_api_key(transaction, key_id)
        is_right = matches(key_secret, found.secret_hash if found else _NO_SECRET)
        if found is None or not is_right:
            self._failures.note(key_id, self._clock.elapsed() / 1000)
            _log.warning("login refused", known=found is not None)
            raise _wrong_credentials()
        async with self._database.write(EVERY_ORGANIZATION) as transaction:
            if not await accounts.keep_api_key(transaction, key_id):
                raise _wrong_credentials()
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

    async def log_out(self, principal: Principal) -> None:
        """Revokes the principal's token at once."""
        async with writing(self._database, principal) as (transaction, principal):
            await accounts.revoke_token(transaction, principal.organization_id, principal.token_hash)

    async def tenant(self, principal: Principal) -> Tenant:
        """The principal's organization, and itself."""
        async with self._database.read(principal.organization_id) as transaction:
            name = await accounts.organization_name(transaction, principal.organization_id)
            user = await users.find(transaction, principal, principal.user_id)
        if user is None:
            raise Refusal(Key.USER_NOT_AUTHORIZED, "the user does not exist any more")
        return Tenant(principal.organization_id, name, user, self._token_lifetime)

    async def replace_key(self, principal: Principal) -> NewKey:
        """The principal's new API key. The old one is void at once, and so are all of the user's tokens but the
        principal's: whoever got hold of the old key is out."""
        now, secret, key_id = self._clock.wall(), new_secret(), str(uuid4())
        organization_id, user_id = principal.organization_id, principal.user_id
        async with changing_rights(self._database, principal) as (transaction, me):
            # The key first: a log-in with the old one that is under way ends before its token is looked for.
            await accounts.add_api_key(transaction, organization_id, user_id, key_id, fingerprint(secret), now)
            await accounts.revoke_other_tokens(transaction, organization_id, user_id, me.token_hash)
            await audits.record(transaction, me, now, Activity.NEW_KEY, Entity.USER, user_id, after={"KeyId": key_id})
        _log.info("API key replaced", user=user_id)
        return NewKey(key_id, secret, now)


async def _audit_beginning(
    transaction: AsyncConnection, organization_id: str, name: str, first: NewUser, now: int
) -> None:
    organization = Change(organization_id, after={"Name": name})
    user = Change(
        first.id,
        after={
            "UserName": first.user_name,
            "RoleId": first.role_id,
            "RoleName": ADMINISTRATOR,
            "AssetGroupIds": [],
        },
    )
    for entity, change in ((Entity.ORGANIZATION, organization), (Entity.USER, user)):
        await audits.record_unattended(transaction, organization_id, now, Activity.CREATE, entity, [change])


def _wrong_credentials() -> Refusal:
    return Refusal(Key.WRONG_CREDENTIALS, "KeyId or KeySecret is wrong")
