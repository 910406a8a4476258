"""A scripted control plane that enrols, over HTTP or HTTPS: it answers what the test says."""

import asyncio
import json
import ssl
from typing import Any

from tests.support.target import Target, head

KEY = "pk_0123456789_CANARY-KEY"
ENROLLED = {
    "PresenceId": "0d9a1f1e-7f0e-4a39-8a57-02a3a9f6a3c4",
    "PresenceName": "office",
    "Key": KEY,
    "ExpiresAt": "2027-11-24T00:00:00Z",
    "WebServiceHost": "https://presence.example.com",
}
REFUSED = {"Key": "WRONG_CREDENTIALS", "Message": "the token has expired", "FormatParams": []}


class EnrollingServer(Target):
    """`answers`: status and JSON of each in turn, the last one for ever; None hangs up instead."""

    def __init__(self, *answers: tuple[int, Any] | None, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(self._reply, tls=tls)
        self._answers = list(answers)

    def root(self) -> str:
        return self.url("")

    def asked(self) -> list[dict[str, Any]]:
        """The bodies of the requests."""
        return [json.loads(request.partition(b"\r\n\r\n")[2]) for request in self.requests]

    def lines(self) -> list[str]:
        return [head(request)[0] for request in self.requests]

    async def _reply(self, _request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer is None:
            writer.close()
            return
        status, said = answer
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
