"""The system's resolver, made to know names that it does not know, or to be silent about some."""

import asyncio
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest


def name_hosts(monkeypatch: pytest.MonkeyPatch, names: Mapping[str, tuple[str, ...]]) -> Callable[[], list[str]]:
    """Makes the system's resolver know these names; returns what tells the names that it was asked for."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def look_up(host: Any, *arguments: Any, **named: Any) -> Any:
        asked.append(host)
        if host not in names:
            return real(host, *arguments, **named)
        return [entry for address in names[host] for entry in real(address, *arguments, **named)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return lambda: list(asked)


class HangingNames:
    """A name server that answers for `hanging.corp` only when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.answer = threading.Event()
        self.began = threading.Semaphore(0)
        real = socket.getaddrinfo

        def look_up(host: str, *arguments: Any, **named: Any) -> Any:
            self.asked.append(host)
            self.began.release()
            if host.endswith("hanging.corp"):
                assert self.answer.wait(30)
            if host == "unknown.corp":
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return real("127.0.0.1", *arguments, **named)

        monkeypatch.setattr(socket, "getaddrinfo", look_up)

    async def is_asked(self) -> None:
        await asyncio.to_thread(self.began.acquire)
