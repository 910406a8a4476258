"""What `presence demo` starts: the real programs as processes on loopback, a receiver, and a client of the API."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from presence.errors import PresenceError

PATIENCE = 30.0
"""Seconds that any one step of the demo may take."""

Entry = dict[str, Any]


class Program:
    """`python -m presence ...` as a process; its log lines are read as they come. `with`."""

    def __init__(self, *arguments: str, env: dict[str, str]) -> None:
        self._arguments = arguments
        self._env = env
        self._lines: list[Entry] = []
        self._news = threading.Condition()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "presence", *self._arguments],
            env=self._env,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for text in self._process.stderr:
            try:
                entry = json.loads(text)
            except ValueError:
                entry = {"event": text.strip()}
            with self._news:
                self._lines.append(entry)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def wait_for(self, event: str, **fields: str) -> Entry:
        """The first log line of that event with those fields; PresenceError with the log's end if it does not come."""

        def found() -> Entry | None:
            wanted = {"event": event, **fields}.items()
            return next((line for line in self._lines if wanted <= line.items()), None)

        with self._news:
            self._news.wait_for(lambda: found() or not self._reader.is_alive(), timeout=PATIENCE)
            line = found()
            if line is None:
                log = "\n".join(json.dumps(entry, default=str) for entry in self._lines[-5:])
                raise PresenceError(
                    f"'presence {' '.join(self._arguments)}' did not come to '{event}'; its log:\n{log}"
                )
            return line


class Receiver:
    """A service inside the network: takes one request, keeps its bytes, answers 204. `with`."""

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._arrived = threading.Event()
        self.request = b""
        self.at = 0.0
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def wait(self) -> bytes:
        """The request as it came; PresenceError if none does."""
        if not self._arrived.wait(PATIENCE):
            raise PresenceError(f"no request reached the receiver within {PATIENCE:g} s")
        return self.request

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                while self._answer(connection):
                    pass

    def _answer(self, connection: socket.socket) -> bool:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            chunk = connection.recv(65_536)
            if not chunk:
                return False
            request += chunk
        self.at = time.time()
        self.request = request
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        self._arrived.set()
        return True


class Api:
    """A client of the REST API, as small as a user's script would be."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._token = ""

    def login(self, key_id: str, key_secret: str) -> None:
        self._token = self.call("POST", "Account/ApiKeyLogin", {"KeyId": key_id, "KeySecret": key_secret})["Token"]

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The answer's JSON; PresenceError where the status is not 2xx."""
        request = urllib.request.Request(  # noqa: S310 - our own http URL
            f"{self.url}/api/v4/{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"},
        )
        # Without a proxy from the environment: everything here is on loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=PATIENCE) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                raise PresenceError(f"{method} {path}: {error.code} {error.read().decode()}") from None
        except OSError as error:
            raise PresenceError(f"{method} {path}: {error}") from None


def clean_environment(directory: Path, **settings: str) -> dict[str, str]:
    """The environment for a program of the demo: no setting of the user's own, its state in the directory."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PRESENCE_")}
    return {**inherited, "STATE_DIRECTORY": str(directory), **settings}


def until(condition: Callable[[], Entry | None], what: str) -> Entry:
    """The condition's value once there is one, asked for a few times a second."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        value = condition()
        if value is not None:
            return value
        time.sleep(0.02)
    raise PresenceError(f"{what} did not come within {PATIENCE:g} s")
