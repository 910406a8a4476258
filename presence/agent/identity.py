"""What the link says of this agent, asks of its journal, and tells the other stages."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from presence import __version__
from presence.errors import JournalError
from presence.protocol import VERSIONS
from presence.protocol.messages import Hello, Paused

JOURNAL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Identity:
    """`run` names this run of the program, `credit` bounds the deliveries that it takes ahead of their first attempt.

    `held`: the ids of all that is accepted and not acknowledged as reported, and which of them had no attempt.
    `paused`: what each session is told of a local pause; None: there is none.
    """

    instance: str
    run: str
    credit: int
    next_epoch: Callable[[], Awaitable[int]]
    meet: Callable[[int], Awaitable[None]]
    held: Callable[[], Awaitable[tuple[list[str], set[str]]]]
    paused: Callable[[], Paused | None] = lambda: None

    async def hello(self) -> Hello:
        """The first message of a session, with a number of its own. Raises JournalError where there is none to have."""
        try:
            async with asyncio.timeout(JOURNAL_SECONDS):
                epoch = await self.next_epoch()
        except TimeoutError:
            raise JournalError("no session: the journal cannot be written") from None
        return Hello(
            versions=VERSIONS,
            instance=self.instance,
            epoch=epoch,
            run=self.run,
            credit=self.credit,
            agent_version=__version__,
            host=socket.gethostname()[:256],
            platform="linux_x64",
        )


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told of a session. `ready`: one has become ready.

    `reconciling`: True while the control plane looks at what is held, so that nothing of it may be attempted.
    `changed`: the link's state is another one.
    """

    ready: Callable[[], None]
    reconciling: Callable[[bool], None]
    changed: Callable[[], None] = lambda: None
