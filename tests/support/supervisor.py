"""systemd's end of the notification socket (sd_notify(3))."""

import asyncio
import socket
from pathlib import Path


class Supervisor:
    """`told` waits for what the agent says; `lines` is all that it has said, in order."""

    def __init__(self, path: Path) -> None:
        self.address = str(path / "notify")
        self.lines: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    async def told(self, line: str, times: int = 1) -> None:
        """Returns once the agent has said this line so often."""
        async with asyncio.timeout(20):
            while self.count(line) < times:
                self._take(await asyncio.get_running_loop().sock_recv(self._socket, 4096))

    def count(self, line: str) -> int:
        """How often it has been said until now."""
        while True:
            try:
                self._take(self._socket.recv(4096))
            except BlockingIOError:
                return self.lines.count(line)

    def has_been_told(self, line: str) -> bool:
        return self.count(line) > 0

    def _take(self, message: bytes) -> None:
        self.lines += message.decode().splitlines()
