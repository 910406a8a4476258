"""A link in the test's own process, whose failures can be waited for."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from presence.agent.conversation import Heard, Patience
from presence.agent.ends import Failure
from presence.agent.identity import Identity, Listener
from presence.agent.keys import Keys
from presence.agent.link import Link
from presence.agent.settings import ControlPlane
from presence.clock import Clock, SystemClock
from presence.protocol.messages import Reconciled
from tests.support.control_plane import ScriptedControlPlane

NOWHERE = Path("/nonexistent/presence.key")


class Memory:
    """What the link asks of a journal."""

    def __init__(self, held: list[str] | None = None, unattempted: set[str] | None = None) -> None:
        self.epoch = 0
        self.server_times: list[int] = []
        self.ids = held or []
        self.unattempted = unattempted or set()

    async def next_epoch(self) -> int:
        self.epoch += 1
        return self.epoch

    async def meet(self, server_time: int) -> None:
        self.server_times.append(server_time)

    async def held(self) -> tuple[list[str], set[str]]:
        return self.ids, self.unattempted


class Observed(Link):
    """Its failures can be waited for. It pauses no longer than a moment unless `pauses`.

    `agrees`: says Ready as soon as it hears Reconciled, as an intake does that has committed what came before.
    """

    def __init__(
        self,
        url: str,
        key: str,
        memory: Memory | None = None,
        *,
        stored: Path = NOWHERE,
        clock: Clock | None = None,
        patience: Patience = Patience(),  # noqa: B008 - frozen
        pauses: bool = False,
        agrees: bool = True,
        **settings: object,
    ) -> None:
        values = {"url": url, "allow_plaintext": True} | ({} if "key_file" in settings else {"key": key}) | settings
        control_plane = ControlPlane.model_validate(values)
        self.memory = memory = memory or Memory()
        identity = Identity(str(uuid.uuid4()), str(uuid.uuid4()), 10, memory.next_epoch, memory.meet, memory.held)
        self.went_ready = asyncio.Event()
        self.reconciling: list[bool] = []
        super().__init__(
            control_plane,
            identity,
            Keys(control_plane, stored),
            clock or SystemClock(),
            Listener(self.went_ready.set, self.reconciling.append),
            patience,
        )
        self.failed: asyncio.Queue[Failure] = asyncio.Queue()
        self.waits: list[float] = []
        self._pauses = pauses
        self._agrees = agrees

    async def _take(self, message: Heard) -> None:
        if isinstance(message, Reconciled) and self._agrees:
            self.agreed(self.sessions)
        else:
            await super()._take(message)

    async def _pause(self, wait: float, failure: Failure) -> None:
        self.waits.append(wait)
        self.failed.put_nowait(failure)
        if self._pauses:
            await super()._pause(wait, failure)
        else:
            await asyncio.sleep(0)


@asynccontextmanager
async def running(link: Observed) -> AsyncIterator[Observed]:
    """Ends the link with the block; what it raised by then is raised here."""
    task = asyncio.create_task(link.run())
    try:
        yield link
    finally:
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        if not isinstance(ended, asyncio.CancelledError):
            raise AssertionError("the link ended by itself") from ended


@asynccontextmanager
async def connected(cloud: ScriptedControlPlane, held: list[str] | None = None) -> AsyncIterator[Observed]:
    """A link that is ready."""
    async with running(Observed(cloud.url, cloud.key, Memory(held))) as link:
        await cloud.ready()
        yield link
