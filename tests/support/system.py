"""The whole system as processes: control plane, agent, and a client of the REST API."""

import asyncio
import json
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.processes import Program, agent_env

FINAL = {"succeeded", "failed", "refused", "expired", "cancelled"}
SUBJECT = "9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b"


class Api:
    """A client of the REST API; every call must succeed, or the test fails with the answer."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self.url = url

    async def call(self, method: str, path: str, body: object = None) -> Any:
        async with self._http.request(method, f"{self.url}/api/v4/{path}", json=body) as response:
            text = await response.text()
            assert 200 <= response.status <= 299, f"{method} {path}: {response.status} {text}"
            return json.loads(text)

    async def answer(self, method: str, path: str, body: object = None) -> str:
        """The text of whatever is answered."""
        async with self._http.request(method, f"{self.url}/api/v4/{path}", json=body) as response:
            return await response.text()

    async def login(self, credentials: dict[str, str]) -> None:
        body = {"KeyId": credentials["KeyId"], "KeySecret": credentials["KeySecret"]}
        token = (await self.call("POST", "Account/ApiKeyLogin", body))["Token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    async def webhook(self, presence_id: str, uri: str) -> str:
        new = {"PresenceId": presence_id, "Uri": uri, "Event": "ScanExecutionCompleted", "Global": True}
        return str((await self.call("POST", "Webhooks", new))["Id"])

    async def event(self, subject: str = SUBJECT, number: str = "1") -> list[str]:
        event = {"specversion": "1.0", "id": number, "source": "test", "type": "ScanExecutionCompleted"}
        return list((await self.call("POST", "Events", event | {"subject": subject}))["Deliveries"])

    async def delivery(self, delivery_id: str) -> dict[str, Any]:
        items = (await self.call("GET", "Deliveries?$top=1000"))["Items"]
        return next(dict(item) for item in items if item["Id"] == delivery_id)

    async def ended(self, delivery_id: str, timeout: float = 30.0) -> dict[str, Any]:
        """The delivery's entry in the delivery log once it is final. The log has no event to wait for: it is asked."""
        async with asyncio.timeout(timeout):
            while (found := await self.delivery(delivery_id))["State"] not in FINAL:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return found


@dataclass
class Cloud:
    """A control plane that can be killed and started again on the same port with the same database."""

    program: Program
    api: Api
    env: dict[str, str]
    presence_id: str
    key: str

    async def kill_and_restart(self) -> None:
        await self.program.kill()
        await self.start_again()

    async def stop_and_restart(self) -> int:
        """SIGTERM, and a new one once it has ended; its exit code."""
        code = await self.program.stop()
        await self.start_again()
        return code

    async def start_again(self) -> None:
        """After it has ended."""
        await self.program.__aexit__()
        self.program = Program("control-plane", "serve", env=self.env)
        await self.program.__aenter__()
        await self.program.said("listening")

    def agent_env(self, directory: Path, **settings: str) -> dict[str, str]:
        return agent_env(self.api.url, self.key, directory, **settings)


@asynccontextmanager
async def control_plane(
    directory: Path, *, authorities: ssl.SSLContext | None = None, **settings: str
) -> AsyncIterator[Cloud]:
    """A control plane with an organization, a presence and its key; the API's client, which believes these
    authorities, is logged in.
    """
    database = f"sqlite:///{directory / 'control-plane.db'}"
    env = {"PRESENCE_CP_SERVER__PORT": "0", "PRESENCE_CP_DATABASE__URL": database, **settings}
    credentials = json.loads(await output("control-plane", "init", "--organization", "Test", "--json", env=env))
    program = Program("control-plane", "serve", env=env)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=authorities or True)) as http:
        await program.__aenter__()
        cloud = None
        try:
            url = (await program.said("listening"))["url"]
            env["PRESENCE_CP_SERVER__PORT"] = url.rpartition(":")[2]
            api = Api(http, url)
            await api.login(credentials)
            presence_id = (await api.call("POST", "Presences", {"PresenceName": "test"}))["Id"]
            key = (await api.call("GET", f"Presences/{presence_id}/NewKey"))["Key"]
            cloud = Cloud(program, api, env, presence_id, key)
            yield cloud
        finally:
            await (cloud.program if cloud else program).__aexit__()


async def run(*arguments: str, env: dict[str, str] | None = None, stdin: str = "") -> tuple[int, str, str]:
    """Runs `presence` with these arguments to its end: exit code, standard output, standard error."""
    program = Program(*arguments, env=env)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "presence",
        *arguments,
        env=program.env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def output(*arguments: str, env: dict[str, str] | None = None) -> str:
    code, out, err = await run(*arguments, env=env)
    assert code == 0, err
    return out
