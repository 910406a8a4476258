"""What agents' sessions tell, written down: all that is heard together in one transaction.

A `ReportAck` is returned only after the commit, so an agent forgets nothing that is not stored here.

What an agent holds for a person's decision (`Held`) stays its own, whatever its lease: it asks again after every
Ready, and is answered by `Release` once somebody decided, or by `Cancel`.
"""

import json
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from presence.clock import Clock
from presence.controlplane.access import Peer
from presence.controlplane.bus import Bus
from presence.controlplane.store import deliveries, holds, presences, sweep, webhooks
from presence.controlplane.store.deliveries import Settled, Standing
from presence.controlplane.store.engine import Database
from presence.controlplane.store.holds import Waiting
from presence.domain.delivery import DeliveryState, FinalState, sources_of
from presence.domain.outcome import Reason
from presence.logs import get_logger
from presence.protocol.messages import (
    Accepted,
    AgentMessage,
    AttemptRecord,
    Busy,
    CanaryEcho,
    Cancel,
    Draining,
    Held,
    Hello,
    Holding,
    Paused,
    Ready,
    Release,
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
        self, peer: Peer, instance_id: str, messages: Sequence[AgentMessage], stated: Collection[str]
    ) -> list[Cancel | Release | ReportAck]:
        """Writes down what one session said, in order of meaning; gives what is to be answered.

        `stated`: all ids that the session has stated, needed at its Ready.
        """
        messages = [message for message in messages if not isinstance(message, Paused | Draining)]
        answers: list[Cancel | Release | ReportAck] = []
        if not messages:
            return answers
        accepted = [message.id for message in messages if isinstance(message, Accepted)]
        accepted += [id_ for message in messages if isinstance(message, Holding) for id_ in message.ids]
        held = [message for message in messages if isinstance(message, Held)]
        reports = [message for message in messages if isinstance(message, Report)]
        now = self._clock.wall()
        async with self._database.write() as transaction:
            if accepted or held:
                await deliveries.accept(transaction, peer, instance_id, accepted, now)
                had = {*accepted, *(message.id for message in held)}
                vain = await deliveries.had_in_vain(transaction, peer, instance_id, had)
                answers += [Cancel(id=id_) for id_ in vain]
            if any(isinstance(message, Ready) for message in messages):
                await self._reconcile(transaction, peer, instance_id, stated)
            answers += await self._hold(transaction, peer, instance_id, held, now)
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
        self, transaction: AsyncConnection, peer: Peer, instance_id: str, stated: Collection[str]
    ) -> None:
        """The agent has stated all that it has; what we believed it had besides is queued again.

        What waits for a person's decision goes on waiting: nobody knows whether it took effect.
        """
        lost = await deliveries.had_by(transaction, peer, instance_id) - set(stated)
        if lost:
            await deliveries.requeue_accepted(transaction, peer, instance_id, lost)
            await holds.disown(transaction, peer, instance_id, lost)
            _log.error(
                "the agent lost accepted deliveries (is its journal gone?); they are queued again, if not held",
                count=len(lost), presence=peer.presence_id, instance=instance_id,
            )  # fmt: skip
        await deliveries.requeue_dispatched(transaction, peer, instance_id)

    async def _settle(
        self, transaction: AsyncConnection, peer: Peer, instance_id: str, reports: Sequence[Report], now: int
    ) -> list[ReportAck]:
        if not reports:
            return []
        known = await deliveries.standings(transaction, peer, {report.id for report in reports})
        settled = []
        for report in reports:
            if report.id not in known:
                _log.warning("report for an unknown delivery", delivery=report.id, presence=peer.presence_id)
            elif _is_telling(report, known[report.id].instance_id, instance_id):
                settled.append(_settled(report, now))
            else:
                _log.info(
                    "report of an instance that does not own the delivery, not recorded",
                    delivery=report.id, state=report.state, presence=peer.presence_id, instance=instance_id,
                )  # fmt: skip
        await deliveries.settle(transaction, peer, instance_id, settled)
        await self._pause(transaction, peer, {known[row.id].webhook_id for row in settled if _is_gone(row, known)}, now)
        return [ReportAck(id=report.id) for report in reports]

    async def _pause(self, transaction: AsyncConnection, peer: Peer, webhook_ids: Collection[str], now: int) -> None:
        """Their targets are gone for good: nothing is fired at them until somebody resumes them."""
        if not webhook_ids:
            return
        for webhook_id in await webhooks.pause(transaction, peer.organization_id, webhook_ids, Reason.GONE, now):
            count = await holds.hold_queued(transaction, peer, [webhook_id])
            _log.warning(
                "webhook paused, its target answered 410: change or resume it",
                webhook=webhook_id, presence=peer.presence_id, reason=Reason.GONE.value, held=count,
            )  # fmt: skip

    async def _hold(
        self, transaction: AsyncConnection, peer: Peer, instance_id: str, held: Sequence[Held], now: int
    ) -> list[Release]:
        """Asks a person about what the instance owns; gives the answers that are known already."""
        if not held:
            return []
        known = await deliveries.standings(transaction, peer, {message.id for message in held})
        mine = [message for message in held if message.id in known and known[message.id].instance_id == instance_id]
        answers = [
            Release(id=message.id, attempts=message.attempts) for message in mine if _is_released(message, known)
        ]
        waiting = [message for message in mine if not _is_released(message, known)]
        await holds.hold(transaction, peer, instance_id, [_waiting(message, now) for message in waiting])
        for message in waiting:
            if known[message.id].state is DeliveryState.ACCEPTED:
                _log.warning(
                    "delivery held until somebody resolves it",
                    delivery=message.id, reason=message.reason, attempts=message.attempts,
                    presence=peer.presence_id, instance=instance_id,
                )  # fmt: skip
        return answers


def _is_telling(report: Report, owner: str | None, instance_id: str) -> bool:
    """A success is true whoever says it: the request arrived. Any other end is the owner's alone to say.

    So a former owner cannot end what a new one still attempts. Nobody owns a queued delivery, so nobody
    can fail it: it is fired again, and whoever has it already then says again how it ended, as its owner.
    """
    return report.state is FinalState.SUCCEEDED or owner == instance_id


def _is_gone(settled: Settled, known: Mapping[str, Standing]) -> bool:
    """Whether the delivery ended now, because its target is gone."""
    is_new = known[settled.id].state in sources_of(DeliveryState.FAILED)
    return is_new and settled.state is FinalState.FAILED and settled.reason == Reason.GONE


def _is_released(held: Held, known: Mapping[str, Standing]) -> bool:
    """Whether a person has said already to go on after these attempts."""
    standing = known[held.id]
    return standing.state is DeliveryState.ACCEPTED and standing.released_attempts == held.attempts


def _waiting(held: Held, now: int) -> Waiting:
    return Waiting(held.id, held.reason, held.attempts, _attempt_log(held.log, now))


def _settled(report: Report, now: int) -> Settled:
    return Settled(
        id=report.id,
        state=report.state,
        reason=report.reason,
        attempts=report.attempts,
        attempt_log=_attempt_log(report.log, now),
        settled_at=max(0, now - report.settled_ago),
    )


def _attempt_log(log: Sequence[AttemptRecord], now: int) -> str:
    """As stored: absolute times in place of the ages."""
    attempts = [
        {"at": max(0, now - record.ago), **record.model_dump(exclude={"ago"}, exclude_none=True)} for record in log
    ]
    return json.dumps(attempts, separators=(",", ":"))
