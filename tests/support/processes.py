"""The installed programs as processes, and what they log."""

import asyncio
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

Line = dict[str, Any]


class Program:
    """`async with Program("run", env=...) as agent`: `python -m presence run`, its log lines as they come.

    `before`: a command that ends by executing the one given to it; `module`: another one that is run as presence
    would be.
    """

    def __init__(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        module: str = "presence",
        before: Sequence[str] = (),
    ) -> None:
        self._command = [*before, sys.executable, "-m", module, *arguments]
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("PRESENCE_")}
        self.env |= {"PRESENCE_LOG__FORMAT": "json", "PRESENCE_CP_LOG__FORMAT": "json", **(env or {})}
        self.lines: list[Line] = []
        self._logged = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command, env=self.env, stderr=asyncio.subprocess.PIPE
        )
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reading

    @property
    def pid(self) -> int:
        return self._process.pid

    def limit_files(self, largest: int = resource.RLIM_INFINITY) -> None:
        """Bytes: a write beyond them fails, as on a full disk. Without a number the disk has space again."""
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))

    @property
    def ended(self) -> bool:
        return self._process.returncode is not None

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for text in self._process.stderr:
            try:
                line = json.loads(text)
            except ValueError:
                line = {"event": text.decode().rstrip()}
            async with self._logged:
                self.lines.append(line)
                self._logged.notify_all()
        async with self._logged:
            self._logged.notify_all()

    async def logged(self, condition: Callable[[Line], Any], timeout: float = 20.0) -> Line:
        """The first line for which the condition holds. Fails with the whole log if the time or the program ends."""

        def found() -> Line | None:
            return next((line for line in self.lines if condition(line)), None)

        try:
            async with asyncio.timeout(timeout), self._logged:
                await self._logged.wait_for(lambda: found() or self._reading.done())
        except TimeoutError:
            pass
        line = found()
        assert line is not None, f"not logged; the log is:\n{self.text()}"
        return line

    async def said(self, event: str, **fields: Any) -> Line:
        """The first line of that event with those fields."""
        return await self.logged(
            lambda line: line.get("event") == event and all(line.get(name) == value for name, value in fields.items())
        )

    def text(self) -> str:
        return "\n".join(map(str, self.lines))

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def kill(self) -> None:
        """SIGKILL, unless it has ended by itself: nothing is tidied up."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def stop(self, timeout: float = 20.0) -> int:
        """SIGTERM; the exit code."""
        self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(timeout):
            return await self._process.wait()

    async def exited(self, timeout: float = 20.0) -> int:
        async with asyncio.timeout(timeout):
            return await self._process.wait()


def agent_env(url: str, key: str, directory: Path, **settings: str) -> dict[str, str]:
    """The agent's environment for tests on loopback, with short waits."""
    return {
        "PRESENCE_CONTROL_PLANE__URL": url,
        "PRESENCE_CONTROL_PLANE__KEY": key,
        "PRESENCE_JOURNAL__PATH": str(directory / "journal.db"),
        "PRESENCE_HEALTH__LISTEN": "[]",
        "PRESENCE_CONTROL__SOCKET": str(directory / "control.sock"),
        "PRESENCE_EGRESS__ALLOW": '["127.0.0.0/8"]',
        "PRESENCE_RETRY__INITIAL": "0.05",
        "PRESENCE_RETRY__MAXIMUM": "0.2",
        "PRESENCE_LOG__LEVEL": "debug",
        **settings,
    }
