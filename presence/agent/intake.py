"""The stage that takes commands: command -> journal -> answer. Nothing is answered before its commit."""

from collections import Counter
from itertools import groupby
from typing import Any

from presence.agent.journal import Journal
from presence.agent.link import Command, Link
from presence.agent.outage import Unwritable
from presence.agent.pulse import REST, Pulse
from presence.agent.tally import Full
from presence.domain.delivery import FinalState
from presence.domain.outcome import Reason
from presence.logs import get_logger
from presence.protocol.codec import UnreadableFire
from presence.protocol.messages import Accepted, Busy, Canary, CanaryEcho, Cancel, Fire, Reconciled, Release, Report

log = get_logger(__name__)

BATCH = 500
BATCH_SECONDS = 30.0
"""Within so many a batch is taken, unless the disk takes nothing."""
DRAINING_RETRY, FULL_RETRY, FAILED_RETRY, MEMORY_RETRY = 5_000, 30_000, 60_000, 300_000
"""Milliseconds after which the control plane may offer again what was not taken."""


class Intake:
    """Takes what is in the link's inbox, in batches that share one commit."""

    def __init__(self, link: Link, journal: Journal, deadline: int) -> None:
        self._link = link
        self._journal = journal
        self.deadline = deadline
        """The local limit of a delivery's age, in milliseconds."""
        self.busy: Counter[str] = Counter()
        """Fires that were put off, by the reason."""
        self.unreadable = 0
        """Fires that were refused because their content cannot be read: the journal knows nothing of them."""
        self._draining = False
        self.pulse = Pulse("intake")

    def drain(self) -> None:
        """Takes no more fires: they are answered Busy, so that another instance or a later start gets them."""
        self._draining = True

    async def run(self) -> None:
        while True:
            self.pulse.promise(REST + BATCH_SECONDS)
            batch = await self._link.inbox.take(BATCH, REST)
            await self._take(batch, self._link.sessions)

    async def _take(self, batch: list[Command], session: int) -> None:
        """Takes the commands in their order: a fire after a cancel of the same delivery revives it."""
        for kind, run in groupby(batch, key=type):
            commands: list[Any] = list(run)
            if kind is Fire:
                await self._accept(commands, session)
            elif kind is Cancel:
                await self._journal.cancel([cancel.id for cancel in commands])
            elif kind is Release:
                for release in commands:
                    await self._journal.release(release.id, release.attempts)
            elif kind is Canary:
                await self._echo(commands, session)
            elif kind is Reconciled:
                self._link.agreed(session)
            else:
                self._refuse(commands, session)

    async def _accept(self, fires: list[Fire], session: int) -> None:
        if self._draining:
            self._put_off(fires, session, "draining", DRAINING_RETRY)
            return
        try:
            answers = await self._journal.accept(fires, self.deadline)
        except Unwritable:
            self._put_off(fires, session, "journal_failed", FAILED_RETRY)
            return
        for fire, full in zip(fires, answers, strict=True):
            if full is None:
                self._link.say(Accepted(id=fire.id), session)
                log.debug("accepted", delivery=fire.id, webhook=fire.webhook_id, type=fire.event)
        for full in Full:
            retry_in = MEMORY_RETRY if full is Full.MEMORY else FULL_RETRY
            refused = [fire for fire, answer in zip(fires, answers, strict=True) if answer is full]
            self._put_off(refused, session, full, retry_in)

    async def _echo(self, canaries: list[Canary], session: int) -> None:
        """Answers only once the journal has shown that it can be written: that is what `online` means."""
        try:
            await self._journal.accept([], self.deadline)
        except Unwritable:
            log.debug("canary not answered")
            return
        for canary in canaries:
            self._link.say(CanaryEcho(nonce=canary.nonce), session)

    def _refuse(self, fires: list[UnreadableFire], session: int) -> None:
        for fire in fires:
            log.error("fire refused: its content is unreadable", delivery=fire.id, fields=fire.fault)
            reason = Reason.CONTENT_INVALID.value
            report = Report(id=fire.id, state=FinalState.REFUSED, reason=reason, attempts=0, settled_ago=0)
            self._link.say(report, session)
        self.unreadable += len(fires)

    def _put_off(self, fires: list[Fire], session: int, reason: str, retry_in: int) -> None:
        """Answers Busy; one line in the log for all. What is wrong with the journal says a line of its own."""
        if fires:
            line = log.debug if reason == "journal_failed" else log.warning
            line("busy", reason=reason, deliveries=len(fires), retry_in_ms=retry_in)
            self.busy[reason] += len(fires)
        for fire in fires:
            self._link.say(Busy.model_validate({"id": fire.id, "reason": reason, "retry_in": retry_in}), session)
