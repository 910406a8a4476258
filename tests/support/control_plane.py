"""A scripted control plane: a real websocket server that speaks the protocol and does what the test says."""

import asyncio
import ssl
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Self, TypeVar

import websockets.asyncio.server as ws
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from presence.protocol import MAX_FRAME_BYTES, SUBPROTOCOL
from presence.protocol.codec import encode
from presence.protocol.messages import (
    Accepted,
    Canary,
    Cancel,
    Fire,
    Ready,
    Reconciled,
    Report,
    ReportAck,
    Stated,
    Welcome,
)
from presence.protocol.session import ControlPlaneSession

T = TypeVar("T")
DAY = 86_400_000


class ScriptedControlPlane:
    """Greets agents, acknowledges reports (while `acknowledges`), and records everything they say."""

    def __init__(self, key: str = "test-key-0123456789", tls: ssl.SSLContext | None = None) -> None:
        self.key = key
        self.acknowledges = True
        self.reconciles = True
        self.server_time: Callable[[], int] = lambda: time.time_ns() // 1_000_000
        self.not_yours: list[str] = []
        """What it cancels before it says Reconciled."""
        self.keys: list[str] = []
        """The keys that were shown, right or wrong."""
        self.canary_every = 15_000
        self.refuse: Callable[[], Response | None] = lambda: None
        self.heard: list[Any] = []
        self.reports: dict[str, list[Report]] = defaultdict(list)
        self.connections = 0
        self.session: ControlPlaneSession | None = None
        self.connection: ws.ServerConnection | None = None
        self._tls = tls
        self._port = 0
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listens, on the same port as before if it was stopped."""
        self._server = await ws.serve(
            self._serve,
            "127.0.0.1",
            self._port,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            process_request=self._admit,
            compression=None,
            max_size=MAX_FRAME_BYTES,
            close_timeout=1,
            ssl=self._tls,
        )
        self._port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"{'ws' if self._tls is None else 'wss'}://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        return self._port

    async def _admit(self, connection: ws.ServerConnection, request: Request) -> Response | None:
        self.connections += 1
        async with self._changed:
            self._changed.notify_all()
        refused = self.refuse()
        if refused is not None:
            return refused
        self.keys.append(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if request.headers.get("Authorization") != f"Bearer {self.key}":
            return connection.respond(401, '{"Key": "WRONG_CREDENTIALS"}')
        return None

    async def _serve(self, connection: ws.ServerConnection) -> None:
        session = ControlPlaneSession()
        try:
            async for frame in connection:
                for message in session.receive(frame):
                    self._hear(session, connection, message)
                await self._flush(session, connection)
                async with self._changed:
                    self._changed.notify_all()
        except ConnectionClosed:
            pass
        finally:
            if self.session is session:
                self.session = None

    def _hear(self, session: ControlPlaneSession, connection: ws.ServerConnection, message: Any) -> None:
        self.heard.append(message)
        match message:
            case Stated() if self.reconciles:
                for delivery in self.not_yours:
                    session.say(Cancel(id=delivery))
                session.say(Reconciled())
            case Ready():
                self.session, self.connection = session, connection
            case Report(id=delivery):
                self.reports[delivery].append(message)
                if self.acknowledges:
                    session.say(ReportAck(id=delivery))
            case _ if session.hello is message:
                session.say(
                    Welcome(version=1, canary_every=self.canary_every, lease=60_000, server_time=self.server_time())
                )

    async def _flush(self, session: ControlPlaneSession, connection: ws.ServerConnection) -> None:
        for frame in session.outgoing():
            await connection.send(frame)

    async def until(self, condition: Callable[[], T], timeout: float = 20.0) -> T:
        """The condition's value once it is true; looked at after each connection and each frame."""
        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(condition)
        return condition()

    async def ready(self) -> None:
        await self.until(lambda: self.session is not None)

    async def fire(self, uri: str, count: int = 1, **fields: Any) -> list[str]:
        """Fires deliveries of that URI; their ids."""
        return await self.fire_all([fire(uri, **fields) for _ in range(count)])

    async def fire_all(self, fires: list[Fire]) -> list[str]:
        """Fires these, in one frame if they fit; their ids."""
        await self.ready()
        assert self.session is not None
        assert self.connection is not None
        for message in fires:
            self.session.say(message)
        await self._flush(self.session, self.connection)
        return [message.id for message in fires]

    async def say(self, message: Any) -> None:
        await self.ready()
        assert self.session is not None
        assert self.connection is not None
        self.session.say(message)
        await self._flush(self.session, self.connection)

    async def send_raw(self, *frames: str) -> None:
        """Sends what no session would say."""
        await self.ready()
        assert self.connection is not None
        for frame in frames:
            await self.connection.send(frame)

    async def send_again(self, message: Fire) -> None:
        await self.send_raw(*encode([message]))

    async def canary(self, nonce: str) -> None:
        await self.say(Canary(nonce=nonce))

    async def accepted(self, *deliveries: str) -> None:
        wanted = set(deliveries)
        await self.until(lambda: wanted <= {said.id for said in self.heard if isinstance(said, Accepted)})

    async def reported(self, *deliveries: str) -> list[Report]:
        await self.until(lambda: all(delivery in self.reports for delivery in deliveries))
        return [self.reports[delivery][-1] for delivery in deliveries]


def fire(uri: str, **fields: Any) -> Fire:
    """A fire of that URI with the example's event and subject."""
    values: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "webhook_id": str(uuid.uuid4()),
        "event": "ScanExecutionCompleted",
        "subject_id": "9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b",
        "uri": uri,
        "max_age": DAY,
    }
    return Fire.model_validate(values | fields)
