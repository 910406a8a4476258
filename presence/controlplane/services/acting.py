"""What users change, they change with the rights that they have in the transaction, whenever their request began."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection

from presence.controlplane.access import Capability, Principal
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.store import accounts
from presence.controlplane.store.engine import Database


@asynccontextmanager
async def writing(database: Database, principal: Principal) -> AsyncIterator[tuple[AsyncConnection, Principal]]:
    """A write transaction on behalf of the principal, and the principal as it stands in it.

    Whoever was logged out or deleted since is refused: raises Refusal USER_NOT_AUTHORIZED.
    """
    async with database.write(principal.organization_id) as transaction:
        yield transaction, await _as_it_stands(transaction, principal)


@asynccontextmanager
async def changing_rights(database: Database, principal: Principal) -> AsyncIterator[tuple[AsyncConnection, Principal]]:
    """The same, and until its end it is the only transaction of the organization that changes rights."""
    async with database.write(principal.organization_id) as transaction:
        await accounts.await_turn(transaction, principal.organization_id)
        yield transaction, await _as_it_stands(transaction, principal)


def require(principal: Principal, capability: Capability) -> None:
    """Raises Refusal MISSING_CAPABILITIES."""
    if not principal.has(capability):
        raise Refusal.missing(capability)


async def _as_it_stands(transaction: AsyncConnection, principal: Principal) -> Principal:
    found = await accounts.find_acting(transaction, principal)
    if found is None:
        raise Refusal(Key.USER_NOT_AUTHORIZED, "the bearer token is void by now; log in again with ApiKeyLogin")
    return found
