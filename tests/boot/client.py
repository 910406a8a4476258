"""A client of the REST API for a shell script: `tests/image` uses it. `ADMINISTRATOR` is the file that `init` printed.

python -m tests.boot.client key ADMINISTRATOR URI                a presence and a webhook; prints its key
python -m tests.boot.client token ADMINISTRATOR URI              a presence and a webhook; prints what enrols an agent
python -m tests.boot.client fire ADMINISTRATOR COUNT             posts events; prints their deliveries' ids
python -m tests.boot.client delivered ADMINISTRATOR < IDS        returns when all of them have succeeded
"""

import json
import sys
import time
from pathlib import Path
from uuid import uuid4

from presence.cli.demo_system import Api

URL = "http://127.0.0.1:8480"
PATIENCE = 90.0
"""Seconds: longer than the half minute after which what was answered busy comes again."""


def key(api: Api, uri: str) -> None:
    print(json.dumps(api.call("GET", f"Presences/{_presence(api, uri)}/NewKey")))


def token(api: Api, uri: str) -> None:
    print(api.call("POST", f"Presences/{_presence(api, uri)}/EnrollmentToken")["Token"])


def _presence(api: Api, uri: str) -> str:
    presence = api.call("POST", "Presences", {"PresenceName": "image"})["Id"]
    webhook = {"PresenceId": presence, "Uri": uri, "Event": "ScanExecutionCompleted", "Global": True}
    api.call("POST", "Webhooks", webhook)
    return str(presence)


def fire(api: Api, count: str) -> None:
    for _ in range(int(count)):
        event = {"specversion": "1.0", "id": str(uuid4()), "source": "image", "type": "ScanExecutionCompleted"}
        print(*api.call("POST", "Events", event | {"subject": "s"})["Deliveries"])


def delivered(api: Api) -> None:
    wanted = set(sys.stdin.read().split())
    deadline = time.monotonic() + PATIENCE
    while True:
        entries = api.call("GET", "Deliveries?$top=1000")["Items"]
        left = {entry["Id"]: entry["State"] for entry in entries if entry["Id"] in wanted}
        left = {delivery: state for delivery, state in left.items() if state != "succeeded"}
        if not left and wanted <= {entry["Id"] for entry in entries}:
            return
        if time.monotonic() > deadline:
            sys.exit(f"not delivered after {PATIENCE:g} s: {left}")
        time.sleep(0.2)


def main(command: str, administrator: str, *arguments: str) -> None:
    api = Api(URL)
    credentials = json.loads(Path(administrator).read_text())
    api.login(credentials["KeyId"], credentials["KeySecret"])
    {"key": key, "token": token, "fire": fire, "delivered": delivered}[command](api, *arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
