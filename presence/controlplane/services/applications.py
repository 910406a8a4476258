"""Applications. A change of an application's counters or status is an event, in the transaction that makes it."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from uuid import uuid4

from pydantic.alias_generators import to_pascal
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from presence.clock import Clock
from presence.controlplane.access import Capability, Principal
from presence.controlplane.odata import ListQuery
from presence.controlplane.services.acting import require, writing
from presence.controlplane.services.events import APPLICATIONS, Announcer, Taken, bring_about
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.store import applications
from presence.controlplane.store.applications import Application, Dissociated, Figure
from presence.controlplane.store.audits import Activity, Change, Entity, changed, record, record_all
from presence.controlplane.store.engine import Database
from presence.domain.events import EventType, Happening
from presence.domain.scope import Place


@dataclass(frozen=True, slots=True)
class Given:
    """What is said about an application; None, or not there: nothing. `figures` by columns, `attributes` by the API's
    names."""

    name: str | None = None
    asset_group_id: str | None = None
    business_impact: str | None = None
    figures: Mapping[str, Figure] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)

    def own(self) -> dict[str, object]:
        """The columns that it sets, without those that have rules of their own."""
        texts = {"name": self.name, "business_impact": self.business_impact}
        return {name: text for name, text in texts.items() if text is not None} | dict(self.figures)


class Applications:
    def __init__(self, database: Database, clock: Clock, announcer: Announcer) -> None:
        self._database = database
        self._clock = clock
        self._announcer = announcer

    async def page(self, principal: Principal, query: ListQuery) -> tuple[list[Application], int | None]:
        """Those that the principal may see, by name."""
        async with self._database.read(principal.organization_id) as transaction:
            return await applications.page(transaction, principal, query)

    async def create(self, principal: Principal, name: str, asset_group_id: str, given: Given) -> Application:
        """Raises Refusal MISSING_CAPABILITIES, ASSETGROUP_NO_ACCESS, APPLICATION_NAME_EXISTS."""
        now, application_id = self._clock.wall(), str(uuid4())
        values = given.own() | {
            "id": application_id,
            "name": name,
            "asset_group_id": asset_group_id,
            "attributes": json.dumps(dict(given.attributes)),
            "created_by": principal.user_name,
            "created_at": now,
            "updated_at": now,
            "grouped_by": principal.user_name,
            "grouped_at": now,
        }
        async with writing(self._database, principal) as (transaction, principal):
            require(principal, Capability.MANAGE_APPLICATIONS)
            await _require_group(transaction, principal, asset_group_id)
            if not await applications.add(transaction, principal.organization_id, values):
                raise _name_exists()
            made = await applications.find(transaction, principal, application_id)
            assert made is not None, "it was made in the same transaction"
            await record(
                transaction, principal, now, Activity.CREATE, Entity.APPLICATION, application_id,
                after=shown(made), asset_group_id=asset_group_id,
            )  # fmt: skip
        return made

    async def change(self, principal: Principal, application_id: str, given: Given) -> Application:
        """Sets what is given, and moves it where another asset group is given.

        Where that changes a counter or a status, it is an ApplicationUpdated. Raises Refusal APPLICATION_NO_ACCESS,
        MISSING_CAPABILITIES, ASSETGROUP_NO_ACCESS, APPLICATION_NAME_EXISTS.
        """
        now = self._clock.wall()
        taken: list[Taken] = []
        async with writing(self._database, principal) as (transaction, principal):
            before = await _require_application(transaction, principal, application_id)
            if given.asset_group_id is not None and given.asset_group_id != before.asset_group_id:
                await _move(transaction, principal, now, before, given.asset_group_id)
            after = await _set(transaction, principal, now, before, given)
            if after.figures != before.figures:
                happening = Happening(
                    APPLICATIONS + application_id, str(uuid4()), EventType.APPLICATION_UPDATED, application_id
                )
                where = Place(application_id, after.asset_group_id)
                taken = await bring_about(transaction, principal, happening, where, now, self._announcer)
        self._announcer.announce(taken)
        return after

    async def delete(self, principal: Principal, application_id: str) -> None:
        """With its scans and associations; events and deliveries stay. Raises Refusal APPLICATION_NO_ACCESS,
        MISSING_CAPABILITIES."""
        now = self._clock.wall()
        async with writing(self._database, principal) as (transaction, principal):
            gone = await _require_application(transaction, principal, application_id)
            released = await applications.associated(transaction, principal.organization_id, application_id)
            await applications.remove(transaction, principal.organization_id, application_id)
            await audit_released(transaction, principal, now, released)
            await record(
                transaction, principal, now, Activity.DELETE, Entity.APPLICATION, application_id,
                before=shown(gone), asset_group_id=gone.asset_group_id,
            )  # fmt: skip


def shown(application: Application) -> dict[str, object]:
    """What of it is audited, by the API's names."""
    return {
        "Name": application.name,
        "AssetGroupId": application.asset_group_id,
        "BusinessImpact": application.business_impact,
        **{to_pascal(name): value for name, value in application.figures.items()},
        **application.attributes,
    }


async def audit_moves(
    transaction: AsyncConnection, principal: Principal, now: int, moved: Collection[str], source_id: str, target_id: str
) -> None:
    """Notes that these applications have left one asset group for another one. Both groups' members shall see it."""
    before, after = {"AssetGroupId": source_id}, {"AssetGroupId": target_id}
    changes = [Change(id_, before, after, seen_in) for seen_in in (source_id, target_id) for id_ in moved]
    await record_all(transaction, principal, now, Activity.MOVE, Entity.APPLICATION, changes)


async def audit_released(
    transaction: AsyncConnection, principal: Principal, now: int, released: Iterable[Dissociated]
) -> None:
    """Notes what webhooks are not associated with any more."""
    changes = [
        Change(
            one.webhook_id,
            before={"Scope": "Application", "ScopeId": one.application_id},
            asset_group_id=one.webhook_group_id,
        )
        for one in released
    ]
    await record_all(transaction, principal, now, Activity.DISASSOCIATE, Entity.WEBHOOK, changes)


async def _move(
    transaction: AsyncConnection, principal: Principal, now: int, moved: Application, asset_group_id: str
) -> None:
    await _require_group(transaction, principal, asset_group_id)
    values = {"asset_group_id": asset_group_id, "grouped_by": principal.user_name, "grouped_at": now, "updated_at": now}
    await applications.change(transaction, principal.organization_id, moved.id, values)
    released = await applications.dissociate(transaction, principal.organization_id, asset_group_id, moved.id)
    await audit_released(transaction, principal, now, released)
    await audit_moves(transaction, principal, now, [moved.id], moved.asset_group_id, asset_group_id)


async def _set(
    transaction: AsyncConnection, principal: Principal, now: int, before: Application, given: Given
) -> Application:
    values = _differing(before, given)
    if values:
        try:
            await applications.change(transaction, principal.organization_id, before.id, values | {"updated_at": now})
        except IntegrityError:
            raise _name_exists() from None
    after = await applications.find(transaction, principal, before.id)
    assert after is not None, "it was found in the same transaction"
    old, new = changed(shown(before) | {"AssetGroupId": after.asset_group_id}, shown(after))
    if new:
        await record(
            transaction, principal, now, Activity.MODIFY, Entity.APPLICATION, before.id,
            before=old, after=new, asset_group_id=after.asset_group_id,
        )  # fmt: skip
    return after


def _differing(before: Application, given: Given) -> dict[str, object]:
    """The columns whose values would change."""
    now = {"name": before.name, "business_impact": before.business_impact, **before.figures}
    values = {name: value for name, value in given.own().items() if now[name] != value}
    attributes = {**before.attributes, **given.attributes}
    return values if attributes == before.attributes else values | {"attributes": json.dumps(attributes)}


async def _require_application(transaction: AsyncConnection, principal: Principal, application_id: str) -> Application:
    """The application, to be changed. Raises Refusal APPLICATION_NO_ACCESS or MISSING_CAPABILITIES."""
    found = await applications.find(transaction, principal, application_id, locked=True)
    if found is None:
        raise Refusal(Key.APPLICATION_NO_ACCESS, "there is no such application")
    require(principal, Capability.MANAGE_APPLICATIONS)
    return found


async def _require_group(transaction: AsyncConnection, principal: Principal, asset_group_id: str) -> None:
    """Raises Refusal ASSETGROUP_NO_ACCESS; otherwise nobody deletes the group until the transaction ends."""
    if not await applications.has_group(transaction, principal, asset_group_id):
        raise Refusal(Key.ASSETGROUP_NO_ACCESS, "{0}: there is no such asset group", "AssetGroupId")


def _name_exists() -> Refusal:
    return Refusal(
        Key.APPLICATION_NAME_EXISTS, "{0}: an application of that name exists already; choose another one", "Name"
    )
