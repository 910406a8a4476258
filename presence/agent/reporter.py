"""The stage that tells how deliveries ended: settled -> Report -> acknowledged -> marked in the journal."""

import asyncio
from contextlib import suppress

from pydantic import ValidationError

from presence.agent.entries import LogEntry, Settled, Waiting
from presence.agent.journal import Journal
from presence.agent.link import Link
from presence.agent.pulse import REST, Pulse
from presence.logs import get_logger
from presence.protocol import HOLDING_PAGE
from presence.protocol.messages import Attempted, AttemptRecord, Held, Report

log = get_logger(__name__)

WINDOW = 500
"""Reports that wait for their acknowledgement at the most."""
TURN_SECONDS = 30.0
"""Within so many what has ended is said, or marked, unless the disk takes nothing."""


class Reporter:
    """Reports what the journal holds as ended, anew in every session, until it is acknowledged."""

    def __init__(self, link: Link, journal: Journal) -> None:
        self._link = link
        self._journal = journal
        self._session = 0
        self._order = 0
        self._held_order = 0
        self._waiting: set[str] = set()
        self._acknowledged = asyncio.Event()
        self.pulses = Pulse("reporter"), Pulse("reporter-mark")

    async def run(self) -> None:
        async with asyncio.TaskGroup() as directions:
            directions.create_task(self._report_all(), name="reporter-report")
            directions.create_task(self._mark_all(), name="reporter-mark")

    async def finish(self) -> None:
        """Returns when everything that has ended is reported and acknowledged; waits while the link is down."""
        while await self._journal.unreported(0, 1):
            self._acknowledged.clear()
            await self._acknowledged.wait()

    async def _report_all(self) -> None:
        while True:
            self.pulses[0].promise(REST + TURN_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(REST):
                    await self._journal.settled.wait()
            if not self._journal.settled.is_set():
                continue
            self._journal.settled.clear()
            if self._link.sessions != self._session:
                self._session, self._order, self._held_order = self._link.sessions, 0, 0
                self._waiting.clear()
            if self._link.is_ready:
                self._say_attempted()
                await self._report_held()
                await self._report_some()

    def _say_attempted(self) -> None:
        """Says what uses no credit any more, with one message for all; a session that is lost states it anew."""
        attempted, self._journal.attempted = self._journal.attempted, []
        for start in range(0, len(attempted), HOLDING_PAGE):
            self._link.say(Attempted(ids=tuple(attempted[start : start + HOLDING_PAGE])), self._session)

    async def _report_held(self) -> None:
        """Says what waits for a person and was not said in this session."""
        session = self._session
        while held := await self._journal.waiting(self._held_order, WINDOW):
            for waiting in held:
                if not self._link.say(self._as_held(waiting), session):
                    return
                log.warning("held", delivery=waiting.id, reason=waiting.reason, attempts=waiting.attempts)
            self._held_order = held[-1].order

    async def _report_some(self) -> None:
        """Reports what has ended since the last look, as far as the window allows."""
        session = self._session
        while (room := WINDOW - len(self._waiting)) > 0:
            ended = await self._journal.unreported(self._order, room)
            for settled in ended:
                if not self._link.say(self._as_report(settled), session):
                    return  # the next session starts from the beginning
                self._waiting.add(settled.id)
                self._order = settled.order
            if len(ended) < room:
                return

    async def _mark_all(self) -> None:
        while True:
            self.pulses[1].promise(REST + TURN_SECONDS)
            acknowledged = await self._link.acknowledged.take(WINDOW, REST)
            if not acknowledged:
                continue
            await self._journal.mark_reported(acknowledged)
            was_full = len(self._waiting) >= WINDOW
            self._waiting.difference_update(acknowledged)
            self._acknowledged.set()
            if was_full:
                self._journal.settled.set()
            for delivery in acknowledged:
                log.debug("reported", delivery=delivery)

    def _as_held(self, waiting: Waiting) -> Held:
        now = self._journal.now()
        return Held(
            id=waiting.id,
            reason=waiting.reason,
            attempts=waiting.attempts,
            log=tuple([_record(entry, now) for entry in waiting.log]),
        )

    def _as_report(self, settled: Settled) -> Report:
        now = self._journal.now()
        return Report(
            id=settled.id,
            state=settled.state,
            reason=settled.reason,
            attempts=settled.attempts,
            settled_ago=max(0, now - settled.settled_at),
            log=tuple([_record(entry, now) for entry in settled.log]),
        )


def _record(entry: LogEntry, now: int) -> AttemptRecord:
    entry["ago"] = max(0, now - entry["at"])
    try:
        return AttemptRecord.model_validate(entry)
    except ValidationError as error:
        # A report without its details is better than none, now and after every restart.
        log.error("attempt not reported in full", fields=[str(fault["loc"]) for fault in error.errors()])
        return AttemptRecord(number=entry["number"], ago=entry["ago"], took=entry["took"])
