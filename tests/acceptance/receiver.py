"""The separate service of the description: it hears of an event's subject, logs in and asks for the rest."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from tests.integration.controlplane.peers import Caller
from tests.support.target import head

ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"


@dataclass
class Receiver:
    """`answer` is for a `Target`; `found` gets what was found for each request, by the resources' names."""

    caller: Caller
    key_id: str
    key_secret: str
    found: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)

    async def answer(self, request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """202 at once, then the work: so those services do that exist."""
        writer.write(ACCEPTED)
        _, kind, subject = head(request)[0].split(" ")[1].split("/")
        await self.caller.log_in(self.key_id, self.key_secret)
        look_up = self._scan_ended if kind == "ScanEnded" else self._updated
        await self.found.put(await look_up(subject))
        await self.caller.get("Account/Logout")

    async def _scan_ended(self, execution_id: str) -> dict[str, Any]:
        execution = await self.caller.get(f"Scans/Execution/{execution_id}")
        (scan,) = (await self.caller.get(f"Scans?$filter=Id eq {execution['ScanId']}"))["Items"]
        return {"execution": execution, "scan": scan} | await self._updated(scan["AppId"])

    async def _updated(self, application_id: str) -> dict[str, Any]:
        (application,) = (await self.caller.get(f"Apps?$filter=Id eq {application_id}"))["Items"]
        return {"application": application}
