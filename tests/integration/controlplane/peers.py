"""Both kinds of clients: an agent that says what the test wants, and a caller of the REST API."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Self, TypeVar
from uuid import uuid4

import aiohttp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from presence.controlplane.app import InitResult, serving
from presence.controlplane.settings import ControlPlaneSettings
from presence.domain.delivery import FinalState
from presence.protocol import AGENT_PATH, SUBPROTOCOL
from presence.protocol.messages import (
    Accepted,
    AgentMessage,
    AttemptRecord,
    Canary,
    CanaryEcho,
    Fire,
    Held,
    Hello,
    Ready,
    Reconciled,
    Report,
    ReportAck,
    Welcome,
)
from presence.protocol.session import AgentSession

SECONDS = 10.0
M = TypeVar("M")


async def before_the_next_look() -> None:
    """For who asks until something is so: a user has 500 requests a minute."""
    await asyncio.sleep(0.05)


def agent_connection(url: str, key: str, *, subprotocol: str = SUBPROTOCOL) -> connect:
    return connect(
        url.replace("http", "ws", 1) + AGENT_PATH,
        additional_headers={"Authorization": f"Bearer {key}"},
        subprotocols=[subprotocol],
        compression=None,
        proxy=None,
    )


class Agent:
    """A connected agent; `async with Agent(...)` says Hello, states what it holds, and is ready when that is looked at.

    `before_ready` has what it was told until then.
    """

    def __init__(
        self, url: str, key: str, *, instance: str | None = None, credit: int = 64, held: Sequence[str] = (),
        unattempted: Sequence[str] = (), echoes: bool = True, run: str | None = None, host: str = "inside",
    ) -> None:  # fmt: skip
        self.instance = instance or str(uuid4())
        self._url, self._key, self._held, self._echoes = url, key, list(held), echoes
        self._unattempted = set(unattempted)
        hello = Hello(
            versions=(1,), instance=self.instance, epoch=1, run=run or str(uuid4()), credit=credit,
            agent_version="0.1.0", host=host, platform="linux_x64",
        )  # fmt: skip
        self.session = AgentSession(hello)
        self._received: list[Any] = []
        self._news = asyncio.Condition()
        self._reading: asyncio.Task[None] | None = None
        self._is_over = False
        self.before_ready: list[Any] = []
        self._socket: ClientConnection | None = None

    @property
    def socket(self) -> ClientConnection:
        assert self._socket is not None, "entered"
        return self._socket

    async def __aenter__(self) -> Self:
        self._socket = await agent_connection(self._url, self._key)
        self._reading = asyncio.create_task(self._read())
        try:
            await self._begin()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _begin(self) -> None:
        await self._flush()
        await self.expect(Welcome)
        self.session.hold(self._held, self._unattempted)
        await self._flush()
        await self.expect(Reconciled)
        self.before_ready = list(self._received)
        await self.say(Ready())

    async def __aexit__(self, *exc: object) -> None:
        assert self._reading is not None, "entered"
        await self.socket.close()
        with contextlib.suppress(ConnectionClosed, asyncio.CancelledError):
            await self._reading

    async def say(self, *messages: AgentMessage) -> None:
        for message in messages:
            self.session.say(message)
        await self._flush()

    async def expect(self, kind: type[M]) -> M:
        """The next message of that kind; others are kept for later."""
        async with asyncio.timeout(SECONDS), self._news:
            await self._news.wait_for(lambda: self.waiting(kind) or self._is_over)
        if not self.waiting(kind) and self._reading is not None:
            await self._reading  # raises why there will be none
        message = self.waiting(kind)[0]
        self._received.remove(message)
        return message

    async def fires(self, count: int) -> list[Fire]:
        return [await self.expect(Fire) for _ in range(count)]

    async def deliver(self, fire: Fire, state: FinalState = FinalState.SUCCEEDED) -> None:
        """Accepts, reports one attempt with 204 and waits for the acknowledgement."""
        log = (AttemptRecord(number=1, ago=20, took=7, status=204, address="10.0.0.7"),)
        await self.say(
            Accepted(id=fire.id),
            Report(id=fire.id, state=state, reason="delivered", attempts=1, settled_ago=5, log=log),
        )
        assert (await self.expect(ReportAck)).id == fire.id

    async def hold(self, fire: Fire, attempts: int = 1) -> None:
        """Says that a person must decide about it; returns when that is recorded."""
        log = tuple(
            AttemptRecord(number=number, ago=20, took=7, phase="first-byte", fault="reset", unknown=True)
            for number in range(1, attempts + 1)
        )
        await self.say(Held(id=fire.id, reason="unknown", attempts=attempts, log=log))
        await self.settled()

    async def over(self) -> None:
        """Waits for the end of the connection, whoever brings it about."""
        async with asyncio.timeout(SECONDS), self._news:
            await self._news.wait_for(lambda: self._is_over)

    async def closed(self) -> int:
        """Waits for the control plane to end the connection; its close code."""
        await self.over()
        assert self.socket.protocol.close_rcvd is not None, "no close frame"
        return self.socket.protocol.close_rcvd.code

    def waiting(self, kind: type[M]) -> list[M]:
        """What has been received of that kind and not been expected."""
        return [message for message in self._received if isinstance(message, kind)]

    async def settled(self) -> None:
        """Returns when the control plane has recorded what was said before, and said what came of it."""
        probe = str(uuid4())
        await self.say(Report(id=probe, state=FinalState.FAILED, reason="probe", attempts=0, settled_ago=0))
        while (await self.expect(ReportAck)).id != probe:
            pass

    async def _read(self) -> None:
        """Takes what comes in, and answers canaries, until the connection ends."""
        try:
            while True:
                messages = self.session.receive(await self.socket.recv())
                for message in messages:
                    if isinstance(message, Canary) and self._echoes:
                        await self.say(CanaryEcho(nonce=message.nonce))
                    else:
                        self._received.append(message)
                async with self._news:
                    self._news.notify_all()
        finally:
            self._is_over = True
            async with self._news:
                self._news.notify_all()

    async def _flush(self) -> None:
        for frame in self.session.outgoing():
            await self.socket.send(frame)


class Caller:
    """A logged-in client of the REST API."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self.http = http
        self.headers: dict[str, str] = {}

    async def log_in(self, key_id: str, key_secret: str) -> None:
        answer = await self.post("Account/ApiKeyLogin", {"KeyId": key_id, "KeySecret": key_secret})
        self.headers = {"Authorization": f"Bearer {answer['Token']}"}

    async def get(self, path: str, status: int = 200) -> Any:
        return await self.call("GET", path, status)

    async def post(self, path: str, body: object, status: int = 200) -> Any:
        return await self.call("POST", path, status, json=body)

    async def call(self, method: str, path: str, status: int, **request: Any) -> Any:
        request["headers"] = {**self.headers, **request.get("headers", {})}
        async with self.http.request(method, f"{self.url}/api/v4/{path}", **request) as answer:
            text = await answer.text()
            assert answer.status == status, f"{answer.status}: {text}"
            return await answer.json(content_type=None)

    async def presence(self, name: str = "office") -> tuple[str, str]:
        """A new presence: its id and key."""
        made = await self.post("Presences", {"PresenceName": name})
        return made["Id"], await self.new_key(made["Id"])

    async def new_key(self, presence_id: str) -> str:
        return str((await self.get(f"Presences/{presence_id}/NewKey"))["Key"])

    async def webhook(self, presence_id: str, **fields: object) -> dict[str, Any]:
        body = {
            "PresenceId": presence_id,
            "Uri": "http://myservice.com/ScanEnded/{SubjectId}",
            "Event": "ScanExecutionCompleted",
            "Global": True,
        }
        made: dict[str, Any] = await self.post("Webhooks", body | fields, status=201)
        return made

    async def event(
        self, subject: str = "9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b", status: int = 201, **more: object
    ) -> Any:
        return await self.post("Events", cloud_event(subject, **more), status)

    async def resolve(self, delivery_id: str, action: str, status: int = 200) -> Any:
        return await self.post(f"Deliveries/{delivery_id}/Resolve", {"Action": action}, status)

    async def resume(self, webhook_id: str, status: int = 200) -> Any:
        return await self.call("POST", f"Webhooks/{webhook_id}/Resume", status)

    async def deliveries(self) -> list[dict[str, Any]]:
        """Oldest first."""
        items: list[dict[str, Any]] = (await self.get("Deliveries?$top=5000"))["Items"]
        return items[::-1]

    async def delivery(self, delivery_id: str) -> dict[str, Any]:
        return next(item for item in await self.deliveries() if item["Id"] == delivery_id)

    async def until(self, delivery_id: str, state: str) -> dict[str, Any]:
        """The delivery once it is in that state."""
        async with asyncio.timeout(SECONDS):
            while (found := await self.delivery(delivery_id))["State"] != state:
                await before_the_next_look()
        return found


@contextlib.asynccontextmanager
async def logged_in(
    settings: ControlPlaneSettings, administrator: InitResult, http: aiohttp.ClientSession
) -> AsyncIterator[Caller]:
    """A control plane while entered; entered again, it is started again on the same database."""
    async with serving(settings) as url:
        caller = Caller(url, http)
        await caller.log_in(administrator.key_id, administrator.key_secret)
        yield caller


def environment(settings: ControlPlaneSettings) -> dict[str, str]:
    """The same database for the installed program, on any free port."""
    found = {
        "PRESENCE_CP_DATABASE__URL": settings.database.url,
        "PRESENCE_CP_SERVER__PORT": "0",
        "PRESENCE_CP_AUTH__ENCRYPTION_KEYS_FILE": str(settings.encryption_keys_file),
    }
    if settings.database.owner_url:
        found["PRESENCE_CP_DATABASE__OWNER_URL"] = settings.database.owner_url
    return found


def cloud_event(subject: str, **more: object) -> dict[str, object]:
    return {
        "specversion": "1.0", "id": str(uuid4()), "source": "/tests", "type": "ScanExecutionCompleted",
        "subject": subject,
    } | more  # fmt: skip
