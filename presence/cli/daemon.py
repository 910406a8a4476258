"""Asks the running daemon over its control socket. Imports little: a container's health check starts often."""

import http.client
import json
import socket
from pathlib import Path
from typing import Any

import click

from presence.agent.control_path import find_control_socket, reachable
from presence.errors import PresenceError

SECONDS = 20.0
"""The daemon's answer takes longer only if it hangs."""

CONFIG = click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The settings file that the agent runs with (default: /etc/presence/agent.toml).",
)
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")

Document = dict[str, Any]


class NoDaemon(PresenceError):
    """Nothing answers at the control socket."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(SECONDS)
        with reachable(self._path) as name:
            self.sock.connect(name)


def ask(config: Path | None, question: str, body: Document | None = None, *, post: bool = False) -> Document:
    """The daemon's answer. Raises NoDaemon, and PresenceError for what it refuses, in its own words.

    The answer of a health page is one whatever it says.
    """
    path = find_control_socket(config)
    connection = _Connection(path)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST" if post else "GET", question, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        document = json.loads(response.read())
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        raise NoDaemon(
            f"no agent is running here: nothing answers at {path}; start it with 'systemctl start presence' or"
            " 'presence run', or give the --config that it runs with"
        ) from None
    except PermissionError:
        raise PresenceError(f"{path}: permission denied; run this as root or as the agent's user") from None
    except TimeoutError:
        raise PresenceError(
            f"{path}: the agent does not answer within {SECONDS:g} s; look into its log, and restart it"
        ) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        what = getattr(error, "strerror", None) or "its answer is not the agent's"
        raise PresenceError(f"{path}: the agent cannot be asked: {what}; look into its log, and try again") from None
    finally:
        connection.close()
    if response.status >= 400 and "error" in document:
        raise PresenceError(str(document["error"]))
    return dict(document)
