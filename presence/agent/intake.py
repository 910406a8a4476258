"""The stage that takes commands: command -> journal -> answer. Nothing is answered before its commit."""

from presence.agent.journal import Journal
from presence.agent.link import Command, Link
from presence.domain.delivery import FinalState
from presence.domain.outcome import Reason
from presence.errors import JournalError
from presence.logs import get_logger
from presence.protocol.codec import UnreadableFire
from presence.protocol.messages import Accepted, Busy, Canary, CanaryEcho, Cancel, Fire, Report

log = get_logger(__name__)

BATCH = 500
FULL_RETRY, FAILED_RETRY = 30_000, 60_000
"""Milliseconds after which the control plane may offer again what was not taken."""


class Intake:
    """Takes what is in the link's inbox, in batches that share one commit."""

    def __init__(self, link: Link, journal: Journal, deadline: int) -> None:
        self._link = link
        self._journal = journal
        self._deadline = deadline
        self._draining = False

    def drain(self) -> None:
        """Takes no more fires: they are answered Busy, so that another instance or a later start gets them."""
        self._draining = True

    async def run(self) -> None:
        while True:
            batch = await self._link.inbox.take(BATCH)
            await self._take(batch, self._link.sessions)

    async def _take(self, batch: list[Command], session: int) -> None:
        fires = [command for command in batch if isinstance(command, Fire)]
        if self._draining:
            self._put_off(fires, session, "draining", 0)
            fires = []
        try:
            kept = await self._journal.accept(fires, self._deadline)
        except JournalError as error:
            log.error("fires not taken", count=len(fires), reason=str(error))
            self._put_off(fires, session, "journal_failed", FAILED_RETRY)
            return
        for fire, is_kept in zip(fires, kept, strict=True):
            if is_kept:
                self._link.say(Accepted(id=fire.id), session)
                log.debug("accepted", delivery=fire.id, webhook=fire.webhook_id, type=fire.event)
            else:
                self._put_off([fire], session, "journal_full", FULL_RETRY)
        for command in batch:
            await self._answer(command, session)

    async def _answer(self, command: Command, session: int) -> None:
        match command:
            case Canary(nonce=nonce):
                self._link.say(CanaryEcho(nonce=nonce), session)
            case Cancel(id=delivery):
                await self._journal.cancel(delivery)
            case UnreadableFire(id=delivery, fault=fault):
                log.error("fire refused: its content is unreadable", delivery=delivery, fields=fault)
                reason = Reason.CONTENT_INVALID.value
                self._link.say(
                    Report(id=delivery, state=FinalState.REFUSED, reason=reason, attempts=0, settled_ago=0), session
                )

    def _put_off(self, fires: list[Fire], session: int, reason: str, retry_in: int) -> None:
        for fire in fires:
            log.warning("busy", delivery=fire.id, reason=reason)
            self._link.say(Busy.model_validate({"id": fire.id, "reason": reason, "retry_in": retry_in}), session)
