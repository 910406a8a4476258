"""`presence demo`: the whole system on this machine, shown step by step."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from presence.cli.demo_system import Api, Program, Receiver, clean_environment, until
from presence.errors import ExitCode, PresenceError

SUBJECT = "9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b"
EVENT = "ScanExecutionCompleted"
FINAL = {"succeeded", "failed", "refused", "expired", "cancelled"}


@dataclass(frozen=True, slots=True)
class System:
    """The running parts."""

    api: Api
    receiver: Receiver
    credentials: dict[str, str]
    presence_id: str
    key_file: Path


@dataclass(frozen=True, slots=True)
class Story:
    """What happened. `timeline`: milliseconds since the event was posted, and what was so then."""

    webhook: str
    delivery: dict[str, Any]
    timeline: list[tuple[float, str, str]]
    request: bytes

    @property
    def delivered(self) -> bool:
        expected = f"GET /ScanEnded/{SUBJECT} HTTP/1.1\r\n".encode()
        return self.request.startswith(expected) and self.delivery["State"] == "succeeded"


@click.command("demo")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
@click.option("--keep", is_flag=True, help="Leave it running until Ctrl-C; print addresses and keys.")
def command(as_json: bool, keep: bool) -> int:
    """Run control plane, agent and a receiver on loopback, and show how an event becomes a request.

    Exit code 0 only if the request arrived and the delivery log says so. Leaves nothing behind.

    \b
    Example:
      presence demo --json
    """
    if any(find_spec(module) is None for module in ("fastapi", "sqlalchemy", "uvicorn", "aiosqlite", "alembic")):
        raise PresenceError("the demo needs the control plane; run: pip install '.[control-plane]'")
    # SIGTERM ends the demo like Ctrl-C: what it started is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    say: Callable[[str], None] = (lambda _text: None) if as_json else click.echo
    with TemporaryDirectory(prefix="presence-demo-") as directory, _system(Path(directory), say) as system:
        story = _tell(system)
        kept = _kept(system) if keep else {}
        click.echo(json.dumps(_as_document(story) | kept)) if as_json else _narrate(story, kept)
        if keep:
            _wait_for_interrupt()
    return ExitCode.SUCCESS if story.delivered else ExitCode.FAILED


@contextmanager
def _system(directory: Path, say: Callable[[str], None]) -> Iterator[System]:
    say("Presence demo: an event outside becomes a request inside the network\n")
    with ExitStack() as running:
        env = clean_environment(directory, PRESENCE_CP_SERVER__PORT="0", PRESENCE_CP_LOG__FORMAT="json")
        credentials = _initialise(env)
        control_plane = running.enter_context(Program("control-plane", "serve", env=env))
        api = Api(control_plane.wait_for("listening")["url"])
        api.login(credentials["KeyId"], credentials["KeySecret"])
        say(f"  control plane   {api.url}")
        presence_id = api.call("POST", "Presences", {"PresenceName": "demo"})["Id"]
        key_file = directory / "AppScanPresence.key"
        key_file.touch(mode=0o600)
        key_file.write_text(json.dumps(api.call("GET", f"Presences/{presence_id}/NewKey")))
        agent = running.enter_context(Program("run", env=_agent_environment(directory, api.url, key_file)))
        agent.wait_for("link", state="online")
        say(f"  agent           presence {presence_id}, connected")
        receiver = running.enter_context(Receiver())
        say(f"  receiver        {receiver.url}")
        yield System(api, receiver, credentials, presence_id, key_file)


def _initialise(env: dict[str, str]) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "presence", "control-plane", "init", "--organization", "Demo", "--json"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise PresenceError(f"'presence control-plane init' failed: {done.stderr.strip()}")
    return dict(json.loads(done.stdout))


def _agent_environment(directory: Path, url: str, key_file: Path) -> dict[str, str]:
    return clean_environment(
        directory,
        PRESENCE_CONTROL_PLANE__URL=url,
        PRESENCE_CONTROL_PLANE__KEY_FILE=str(key_file),
        PRESENCE_EGRESS__ALLOW='["127.0.0.1"]',
        PRESENCE_HEALTH__LISTEN="[]",
        PRESENCE_CONTROL__SOCKET=str(directory / "control.sock"),
        PRESENCE_LOG__FORMAT="json",
    )


def _tell(system: System) -> Story:
    """Creates the webhook, posts the event, and waits for the request and the log."""
    webhook = f"{system.receiver.url}/ScanEnded/{{SubjectId}}"
    new = {"PresenceId": system.presence_id, "Uri": webhook, "Event": EVENT, "Global": True}
    system.api.call("POST", "Webhooks", new)
    event = {"specversion": "1.0", "id": "1", "source": "presence-demo", "type": EVENT, "subject": SUBJECT}
    posted = time.time()
    system.api.call("POST", "Events", event)
    stored = time.time()
    request = system.receiver.wait()

    def ended() -> dict[str, Any] | None:
        items = system.api.call("GET", "Deliveries?$top=1")["Items"]
        return items[0] if items and items[0]["State"] in FINAL else None

    delivery = until(ended, "the end of the delivery in the delivery log")
    marks = [
        (posted, "event", f'"scan execution complete", subject {SUBJECT}'),
        (stored, "201", "control plane: event stored, one delivery queued"),
        (_seconds(delivery["DispatchedAt"]), "dispatched", "control plane: fire sent over the agent's websocket"),
        (_seconds(delivery["AcceptedAt"]), "accepted", "agent: in its journal, so control plane may rely on it"),
        (system.receiver.at, "request", "receiver: got the GET"),
        (_seconds(delivery["SettledAt"]), delivery["State"], f"delivery log: {_attempts(delivery)}"),
    ]
    timeline = sorted((max(0.0, (at - posted) * 1000), what, text) for at, what, text in marks)
    return Story(webhook, delivery, timeline, request)


def _narrate(story: Story, kept: dict[str, Any]) -> None:
    click.echo(f"  webhook         {story.webhook}  on {EVENT}\n")
    for at, what, text in story.timeline:
        click.echo(f"  {at:>8.1f} ms  {what:<11} {text}")
    click.echo("\nThe request as the receiver got it:\n")
    for line in story.request.decode("ascii", "replace").split("\r\n")[:-2]:
        click.echo(f"  {line}")
    verdict = "delivered" if story.delivered else "NOT delivered"
    click.echo(f"\n{verdict}: the delivery log says '{story.delivery['State']}' ({story.delivery['Id']})")
    for name, value in kept.items():
        click.echo(f"  {name:<16}{value}")


def _as_document(story: Story) -> dict[str, Any]:
    return {
        "delivered": story.delivered,
        "subject": SUBJECT,
        "webhook": story.webhook,
        "timeline": [{"ms": round(at, 1), "what": what, "text": text} for at, what, text in story.timeline],
        "request": story.request.decode("ascii", "replace"),
        "delivery": story.delivery,
    }


def _kept(system: System) -> dict[str, Any]:
    return {
        "control_plane": system.api.url,
        "receiver": system.receiver.url,
        "key_id": system.credentials["KeyId"],
        "key_secret": system.credentials["KeySecret"],
        "presence_id": system.presence_id,
        "key_file": str(system.key_file),
        "pid": os.getpid(),
    }


def _wait_for_interrupt() -> None:
    try:
        click.echo("running until Ctrl-C", err=True)
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return


def _attempts(delivery: dict[str, Any]) -> str:
    last = delivery["Attempts"][-1] if delivery["Attempts"] else {}
    count = delivery["AttemptCount"]
    return f"status {last.get('Status')} after {count} attempt{'s' if count != 1 else ''}"


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
