"""What agents' sessions tell, written down: all that is heard together in one transaction.

A `ReportAck` is returned only after the commit, so an agent forgets nothing that is not stored here. `Reconciled`
is returned after the cancels for all that is no longer the instance's own.

What an agent holds for a person's decision (`Held`) stays its own, whatever its lease: it asks again after every
Ready, and is answered by `Release` once somebody decided, or by `Cancel`.
"""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from presence.clock import Clock
from presence.controlplane.access import EVERY_ORGANIZATION, Peer
from presence.controlplane.bus import Bus
from presence.controlplane.connections import Connection, Connections
from presence.controlplane.leases import Leases
from presence.controlplane.metrics import Metrics
from presence.controlplane.runs import follow
from presence.controlplane.services import reports
from presence.controlplane.services.reports import attempt_log
from presence.controlplane.store import cancellation, deliveries, holds, presences, sweep
from presence.controlplane.store.deliveries import Standing
from presence.controlplane.store.engine import Database
from presence.controlplane.store.holds import Waiting
from presence.domain.delivery import DeliveryState
from presence.logs import get_logger
from presence.protocol.messages import (
    Accepted,
    AgentMessage,
    Attempted,
    Busy,
    CanaryEcho,
    Cancel,
    Draining,
    Held,
    Hello,
    Holding,
    Paused,
    Ready,
    Reconciled,
    Release,
    Report,
    ReportAck,
    Stated,
)

_NOT_RECORDED = (Paused, Draining, Attempted, Holding, Ready)
POISONED_AFTER = 2
"""Protocol closes that coincide with an unanswered delivery until it is set aside."""
Answer = Cancel | Reconciled | Release | ReportAck

_log = get_logger(__name__)


class Sessions:
    def __init__(
        self, database: Database, clock: Clock, bus: Bus, connections: Connections, leases: Leases, metrics: Metrics
    ) -> None:
        self._database = database
        self._clock = clock
        self._bus = bus
        self._connections = connections
        self._leases = leases
        self._metrics = metrics

    async def recover(self) -> None:
        """At the start of the program: no session lives, so what was on its way is queued again."""
        async with self._database.write(EVERY_ORGANIZATION) as transaction:
            count = await sweep.requeue_all_dispatched(transaction)
        if count:
            _log.info("dispatched deliveries queued again after a restart", count=count)

    async def greet(self, peer: Peer, hello: Hello) -> bool:
        """Begins the instance's lease; False where the key was replaced since it was checked."""
        now = self._clock.wall()
        async with self._database.write(peer.organization_id) as transaction:
            if not await presences.use_key(transaction, peer, now):
                return False
            known = await presences.runs(transaction, peer, hello.instance)
            runs, is_conflict = follow(known, hello.run, hello.host, now)
            await presences.greet(transaction, peer, hello, runs, now)
        self._leases.begin(peer.presence_id, hello.instance)
        if is_conflict:
            _log.error(
                "instance conflict: two agents run with copies of one journal and take turns; stop one of them,"
                " remove its journal, and start it again",
                presence=peer.presence_id, instance=hello.instance, hosts=list(runs.conflict_hosts),
            )  # fmt: skip
        return True

    async def record(self, connection: Connection, messages: Sequence[AgentMessage]) -> list[Answer]:
        """Writes down what one session said, in order of meaning; gives what is to be answered."""
        peer, instance_id = connection.peer, connection.instance_id
        said = [message for message in messages if not isinstance(message, _NOT_RECORDED)]
        answers: list[Answer] = []
        if not said:
            return answers
        accepted = {message.id for message in said if isinstance(message, Accepted)}
        held = [message for message in said if isinstance(message, Held)]
        ended = [message for message in said if isinstance(message, Report)]
        busy = [message for message in said if isinstance(message, Busy)]
        now = self._clock.wall()
        async with self._database.write(peer.organization_id) as transaction:
            if any(isinstance(message, Stated) for message in said):
                answers += await self._reconcile(transaction, connection, now)
            if accepted or held:
                await deliveries.accept(transaction, peer, instance_id, accepted, now)
                had = accepted | {message.id for message in held}
                answers += await _cancels(transaction, peer, instance_id, had)
            answers += await self._hold(transaction, peer, instance_id, held, now)
            await deliveries.requeue_dispatched(transaction, peer, instance_id, [message.id for message in busy])
            await cancellation.confirm(transaction, peer, instance_id, [message.id for message in busy], now)
            full = [message.id for message in busy if message.reason == "host_full"]
            hosts = await deliveries.hosts_of(transaction, peer, full)
            in_vain = await reports.settle(transaction, peer, instance_id, ended, now)
            if any(isinstance(message, CanaryEcho) for message in said):
                await presences.note_canary(transaction, peer, instance_id, now)
        if any(isinstance(message, CanaryEcho) for message in said):
            self._leases.renew(peer.presence_id, instance_id)
        self._count(accepted, held, ended)
        for done in in_vain:
            self._connections.tell(peer.presence_id, done.instance_id, Cancel(id=done.delivery_id))
        self._spare(connection, busy, hosts)
        for finished in (held, ended, busy):
            connection.holding.difference_update(message.id for message in finished)
        return answers + [ReportAck(id=report.id) for report in ended]

    async def end(self, peer: Peer, instance_id: str, unanswered: Collection[str], *, violated: bool) -> None:
        """The session is over: its unanswered deliveries are queued again.

        `violated`: it ended by a protocol close, which is counted against them (`POISONED_AFTER`).
        """
        if not unanswered:
            return
        poison: list[str] = []
        async with self._database.write(peer.organization_id) as transaction:
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

    async def _reconcile(self, transaction: AsyncConnection, connection: Connection, now: int) -> list[Answer]:
        """The agent has stated all that it has. What we believed it had besides is queued again.

        What waits for a person's decision goes on waiting: nobody knows whether it took effect.
        """
        peer, instance_id = connection.peer, connection.instance_id
        owned = await deliveries.had_by(transaction, peer, instance_id)
        lost, other = owned - connection.holding, connection.holding - owned
        if lost:
            await deliveries.requeue_accepted(transaction, peer, instance_id, lost)
            await holds.disown(transaction, peer, instance_id, lost)
            _log.error(
                "the agent lost accepted deliveries (is its journal gone?); they are queued again, if not held",
                count=len(lost), presence=peer.presence_id, instance=instance_id,
            )  # fmt: skip
        cancelling = await cancellation.awaited(transaction, peer, instance_id)
        await cancellation.confirm(transaction, peer, instance_id, cancelling - connection.holding, now)
        await deliveries.accept(transaction, peer, instance_id, other, now)
        await deliveries.requeue_dispatched(transaction, peer, instance_id)
        cancels = await _cancels(transaction, peer, instance_id, other)
        connection.holding.difference_update(cancel.id for cancel in cancels)
        connection.locate(await deliveries.hosts_of(transaction, peer, connection.session.unattempted))
        return [*cancels, Reconciled()]

    def _count(self, accepted: Collection[str], held: Sequence[Held], ended: Sequence[Report]) -> None:
        """As agents said it: what is said twice counts twice."""
        for state, count in ((DeliveryState.ACCEPTED, len(accepted)), (DeliveryState.HELD, len(held))):
            self._metrics.changed(state, count)
        for report in ended:
            self._metrics.changed(report.state)

    def _spare(self, connection: Connection, busy: Sequence[Busy], hosts: Mapping[str, str]) -> None:
        """What the agent did not take goes to another, or to it when it may take it."""
        presence_id = connection.peer.presence_id
        for message in busy:
            if message.reason != "host_full":
                connection.rest(message.retry_in / 1000)
            elif message.id in hosts:
                self._connections.close_host(presence_id, hosts[message.id], message.retry_in / 1000)
        if busy:
            self._bus.wake(presence_id)

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
        await holds.say_release(transaction, peer, [release.id for release in answers])
        await holds.hold(transaction, peer, instance_id, [_waiting(message, known, now) for message in waiting])
        for message in waiting:
            if known[message.id].state is DeliveryState.ACCEPTED:
                _log.warning(
                    "delivery held until somebody resolves it",
                    delivery=message.id, reason=message.reason, attempts=message.attempts,
                    presence=peer.presence_id, instance=instance_id,
                )  # fmt: skip
        return answers


async def _cancels(transaction: AsyncConnection, peer: Peer, instance_id: str, ids: Collection[str]) -> list[Cancel]:
    """For what the instance has although it is no longer its own."""
    return [Cancel(id=id_) for id_ in await deliveries.had_in_vain(transaction, peer, instance_id, ids)]


def _is_released(held: Held, known: Mapping[str, Standing]) -> bool:
    """Whether a person has said already to go on after these attempts."""
    standing = known[held.id]
    return standing.state is DeliveryState.ACCEPTED and standing.released_attempts == held.attempts


def _waiting(held: Held, known: Mapping[str, Standing], now: int) -> Waiting:
    return Waiting(held.id, held.reason, held.attempts, attempt_log(held.log, known[held.id].created_at, now))
