"""What agents' sessions tell, written down: all that is heard together in one transaction.

A `ReportAck` is returned only after the commit, so an agent forgets nothing that is not stored here.
"""

import json
from collections.abc import Collection, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from presence.clock import Clock
from presence.controlplane.access import Peer
from presence.controlplane.bus import Bus
from presence.controlplane.store import deliveries, presences, sweep
from presence.controlplane.store.deliveries import Settled
from presence.controlplane.store.engine import Database
from presence.domain.delivery import FinalState
from presence.logs import get_logger
from presence.protocol.messages import (
    Accepted,
    AgentMessage,
    AttemptRecord,
    Busy,
    CanaryEcho,
    Cancel,
    Draining,
    Hello,
    Holding,
    Paused,
    Ready,
    Report,
    ReportAck,
)

POISONED_AFTER = 2
"""Protocol closes that coincide with an unanswered delivery until it is set aside."""

_log = get_logger(__name__)


class Sessions:
    """`lease` in seconds."""

    def __init__(self, database: Database, clock: Clock, bus: Bus, lease: float) -> None:
        self._database = database
        self._clock = clock
        self._bus = bus
        self._lease = int(lease * 1000)

    async def recover(self) -> None:
        """At the start of the program: no session lives, so what was on its way is queued again."""
        async with self._database.write() as transaction:
            count = await sweep.requeue_all_dispatched(transaction)
        if count:
            _log.info("dispatched deliveries queued again after a restart", count=count)

    async def greet(self, peer: Peer, hello: Hello) -> bool:
        """Begins the instance's lease; False where the key was replaced since it was checked."""
        now = self._clock.wall()
        async with self._database.write() as transaction:
            if not await presences.use_key(transaction, peer.key_id, now):
                return False
            await presences.greet(transaction, peer.presence_id, hello, now, now + self._lease)
        return True

    async def record(
        self, peer: Peer, instance_id: str, messages: Sequence[AgentMessage], held: Collection[str]
    ) -> list[Cancel | ReportAck]:
        """Writes down what one session said, in order of meaning; gives what is to be answered.

        `held`: all ids that the session has stated, needed at its Ready.
        """
        messages = [message for message in messages if not isinstance(message, Paused | Draining)]
        answers: list[Cancel | ReportAck] = []
        if not messages:
            return answers
        stated = [id_ for message in messages if isinstance(message, Holding) for id_ in message.ids]
        accepted = [message.id for message in messages if isinstance(message, Accepted)]
        reports = [message for message in messages if isinstance(message, Report)]
        now = self._clock.wall()
        async with self._database.write() as transaction:
            if stated or accepted:
                await deliveries.accept(transaction, peer, instance_id, [*stated, *accepted], now)
                vain = await deliveries.held_in_vain(transaction, peer, instance_id, [*stated, *accepted])
                answers += [Cancel(id=id_) for id_ in vain]
            if any(isinstance(message, Ready) for message in messages):
                await self._reconcile(transaction, peer, instance_id, held)
            busy = [(message.id, now + message.retry_in) for message in messages if isinstance(message, Busy)]
            await deliveries.postpone(transaction, peer, instance_id, busy)
            answers += await self._settle(transaction, peer, instance_id, reports, now)
            if any(isinstance(message, CanaryEcho) for message in messages):
                await presences.renew_lease(transaction, peer.presence_id, instance_id, now, now + self._lease)
        return answers

    async def end(self, peer: Peer, instance_id: str, unanswered: Collection[str], *, violated: bool) -> None:
        """The session is over: its unanswered deliveries are queued again.

        `violated`: it ended by a protocol close, which is counted against them (`POISONED_AFTER`).
        """
        if not unanswered:
            return
        poison: list[str] = []
        async with self._database.write() as transaction:
            if violated:
                now = self._clock.wall()
                poison = await deliveries.blame(transaction, peer, unanswered, POISONED_AFTER, now)
            await deliveries.requeue_dispatched(transaction, peer, instance_id, unanswered)
        for id_ in poison:
            _log.error(
                "delivery set aside: sessions break while it is on its way",
                delivery=id_, presence=peer.presence_id, instance=instance_id, reason="poison",
            )  # fmt: skip
        self._bus.wake(peer.presence_id)

    async def _reconcile(
        self, transaction: AsyncConnection, peer: Peer, instance_id: str, held: Collection[str]
    ) -> None:
        """The agent has stated all that it holds; what we believed it had besides is queued again."""
        lost = await deliveries.accepted_by(transaction, peer, instance_id) - set(held)
        if lost:
            await deliveries.requeue_accepted(transaction, peer, instance_id, lost)
            _log.error(
                "the agent lost accepted deliveries (is its journal gone?); they are queued again",
                count=len(lost), presence=peer.presence_id, instance=instance_id,
            )  # fmt: skip
        await deliveries.requeue_dispatched(transaction, peer, instance_id)

    async def _settle(
        self, transaction: AsyncConnection, peer: Peer, instance_id: str, reports: Sequence[Report], now: int
    ) -> list[ReportAck]:
        if not reports:
            return []
        known = await deliveries.states(transaction, peer, {report.id for report in reports})
        settled = []
        for report in reports:
            if report.id not in known:
                _log.warning("report for an unknown delivery", delivery=report.id, presence=peer.presence_id)
            elif _is_telling(report, known[report.id][1], instance_id):
                settled.append(_settled(report, now))
            else:
                _log.info(
                    "report of an instance that does not own the delivery, not recorded",
                    delivery=report.id, state=report.state, presence=peer.presence_id, instance=instance_id,
                )  # fmt: skip
        await deliveries.settle(transaction, peer, instance_id, settled)
        return [ReportAck(id=report.id) for report in reports]


def _is_telling(report: Report, owner: str | None, instance_id: str) -> bool:
    """A success is true whoever says it: the request arrived. Any other end is the owner's alone to say.

    So a former owner cannot end what a new one still attempts. Nobody owns a queued delivery, so nobody
    can fail it: it is fired again, and whoever has it already then says again how it ended, as its owner.
    """
    return report.state is FinalState.SUCCEEDED or owner == instance_id


def _settled(report: Report, now: int) -> Settled:
    return Settled(
        id=report.id,
        state=report.state,
        reason=report.reason,
        attempts=report.attempts,
        attempt_log=json.dumps([_attempt(record, now) for record in report.log], separators=(",", ":")),
        settled_at=max(0, now - report.settled_ago),
    )


def _attempt(record: AttemptRecord, now: int) -> dict[str, object]:
    """As stored: absolute time in place of the age."""
    return {"at": max(0, now - record.ago), **record.model_dump(exclude={"ago"}, exclude_none=True)}
