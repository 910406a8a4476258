"""The container with everything in it, and what an operator does there: events, deliveries, settings."""

import json
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from presence import __version__
from presence.cli.demo_system import Api
from tests.boot.container import PATIENCE, Container, Failed, command, make_root, until

TREE = Path(__file__).parents[2]
ADDRESS, PORT = "10.9.8.7", 8080
"""Where the receiver is: a private address, so that the egress policy's default lets it pass."""
AGENT, CONTROL_PLANE, RECEIVER = "presence.service", "presence-control-plane.service", "receiver.service"
URL = "http://127.0.0.1:8480"
SETTINGS = "/etc/presence/agent.toml"
KEY = "/etc/presence/presence.key"
_REQUESTS = "/srv/requests"
_FINAL = {"succeeded", "failed", "refused", "expired", "cancelled"}
_RECEIVER_UNIT = f"""
[Service]
ExecStartPre=/usr/sbin/ip address replace {ADDRESS}/32 dev lo
ExecStart=/usr/bin/python3 /srv/receiver.py {ADDRESS} {PORT} {_REQUESTS}
[Install]
WantedBy=multi-user.target
"""


def prepare(directory: Path, package: Path | None) -> tuple[Path, list[Path]]:
    """The container's root, with wheels of the control plane in it, and two versions of the Debian package.

    `package`: one that was built before, in place of both.
    """
    root, wheels, newer = directory / "root", directory / "wheels", directory / "newer"
    with ThreadPoolExecutor() as pool:
        rooted = pool.submit(make_root, root)
        trees = [] if package else [TREE, _newer_tree(newer / "tree")]
        packaged = [pool.submit(build_package, tree, directory) for tree in trees]
        command("/usr/bin/python3", "-m", "venv", directory / "venv")
        wheel = [directory / "venv/bin/pip", "wheel", "--quiet", "--wheel-dir"]
        command(*wheel, wheels, f"{TREE}[control-plane,fast]")
        for tree in trees[1:]:
            command(*wheel, newer / "wheels", "--no-deps", tree)
        rooted.result()
        packages = [package] * 2 if package else [built.result() for built in packaged]
    for source in (*packages, wheels, TREE / "systemd", TREE / "config", TREE / "tests/boot/receiver.py"):
        command("cp", "-r", source, root / "srv")
    if not package:
        command("cp", "-r", newer / "wheels", root / "srv/newer")
    (root / "etc/systemd/system" / RECEIVER).write_text(_RECEIVER_UNIT)
    return root, [Path("/srv") / package.name for package in packages]


def _newer_tree(tree: Path) -> Path:
    """This tree as it may be one day: a later version, with one more line in the settings that it brings."""
    tree.mkdir(parents=True)
    for name in ("presence", "config", "systemd", "pyproject.toml", "README.md", "LICENSE"):
        command("cp", "-r", TREE / name, tree)
    _change(tree / "presence/__init__.py", f'__version__ = "{__version__}"', f'__version__ = "{__version__}.post1"')
    _change(tree / "config/agent.toml", "\n[retry]\n", "\n[retry]\n# A line that the version before did not have.\n")
    return tree


def _change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    if old not in text:
        raise Failed(f"{file} has no {old.strip()}")
    file.write_text(text.replace(old, new, 1))


def build_package(tree: Path, directory: Path) -> Path:
    return Path(command(tree / "systemd/debian/build", directory).strip())


class Site:
    """What runs in the container, and its API."""

    def __init__(self, container: Container, packages: Sequence[Path]) -> None:
        self.container = container
        self.packages = [str(package) for package in packages]
        self.api = Api(URL)
        self.presence = ""
        self._posted = 0
        self._credentials: dict[str, str] = {}

    def install_control_plane(self) -> None:
        """As the unit's head says, with the package index replaced by a directory."""
        run, home = self.container, "/opt/presence-control-plane"
        self._install(home, "presence[control-plane,fast]", "presence-control-plane", "control-plane.toml")
        as_service = ["systemd-run", "--pipe", "--wait", "--quiet"]
        for setting in (
            "User=presence-control-plane",
            "StateDirectory=presence-control-plane",
            "StateDirectoryMode=0700",
            "UMask=0077",
        ):
            as_service += ["-p", setting]
        init = [f"{home}/bin/presence", "control-plane", "init", "--organization", "Example", "--json"]
        self._credentials = json.loads(run(*as_service, *init).splitlines()[-1])
        run("systemctl", "enable", "--now", "--quiet", CONTROL_PLANE, RECEIVER)
        self.log_in()

    def install_agent(self) -> None:
        """With pip, as the unit's head says; for the presence that was enrolled."""
        self._install("/opt/presence", "presence[fast]", "presence", "agent.toml")
        self.set("[control_plane]", f'url = "{URL}"')
        key = self.container.path("/root/AppScanPresence.key")
        key.write_text(json.dumps(self.api.call("GET", f"Presences/{self.presence}/NewKey")))
        self.container("install", "-m", "0600", "/root/AppScanPresence.key", KEY)
        self.container("systemctl", "enable", "--now", "--quiet", AGENT)

    def _install(self, home: str, requirement: str, unit: str, settings: str) -> None:
        run, users = self.container, f"sysusers.d/{unit}.conf"
        run("python3", "-m", "venv", home)
        self.pip(home, requirement)
        run("install", "-D", "-m", "0644", f"/srv/systemd/{users}", f"/etc/{users}")
        run("systemd-sysusers")
        run("install", "-D", "-m", "0644", f"/srv/config/{settings}", f"/etc/presence/{settings}")
        run("install", "-m", "0644", f"/srv/systemd/{unit}.service", "/etc/systemd/system/")
        run("systemctl", "daemon-reload")

    def pip(self, home: str, requirement: str, newer: bool = False) -> None:
        """Installs it from a directory, or a later version over it."""
        options = ["--quiet", "--no-index", "--find-links=/srv/wheels"]
        if newer:
            options += ["--find-links=/srv/newer", "--upgrade"]
        self.container(f"{home}/bin/pip", "install", *options, requirement)

    def log_in(self) -> None:
        """Returns once the control plane answers."""
        until(self._answers, "the control plane's answer")
        self.api.login(self._credentials["KeyId"], self._credentials["KeySecret"])

    def enrol(self) -> None:
        """A presence, its key and a webhook to the receiver; the settings name the control plane."""
        self.set("[control_plane]", f'url = "{URL}"')
        self.presence = self.api.call("POST", "Presences", {"PresenceName": "container"})["Id"]
        token = self.container.path("/root/token")
        token.write_text(self.api.call("POST", f"Presences/{self.presence}/EnrollmentToken")["Token"])
        self.container("presence", "enroll", "--token-file", "/root/token")
        uri = f"http://{ADDRESS}:{PORT}/ScanEnded/{{SubjectId}}"
        webhook = {"PresenceId": self.presence, "Uri": uri, "Event": "ScanExecutionCompleted", "Global": True}
        self.api.call("POST", "Webhooks", webhook)

    def set(self, section: str, line: str) -> None:
        """Puts a line into a section of the agent's settings, as an administrator would with an editor."""
        settings = self.container.path(SETTINGS)
        text = settings.read_text()
        if f"\n{section}\n" not in text:
            raise Failed(f"{SETTINGS} has no {section}")
        settings.write_text(text.replace(f"\n{section}\n", f"\n{section}\n{line}\n", 1))

    def unset(self, line: str) -> None:
        settings = self.container.path(SETTINGS)
        settings.write_text(settings.read_text().replace(f"\n{line}\n", "\n", 1))

    def fire(self, count: int) -> dict[str, str]:
        """Posts that many events. The delivery's id by its subject."""
        made = {}
        for number in range(self._posted, self._posted + count):
            event = {"specversion": "1.0", "id": str(number), "source": "boot", "type": "ScanExecutionCompleted"}
            (delivery,) = self.api.call("POST", "Events", event | {"subject": f"s{number}"})["Deliveries"]
            made[f"s{number}"] = delivery
        self._posted += count
        return made

    def delivered(self, made: dict[str, str], patience: float = PATIENCE) -> int:
        """Returns when all of them were received and the delivery log says so: how many requests were repeats."""
        try:
            until(lambda: self._all_received(made), f"all {len(made)} deliveries received", patience)
        except Failed as failure:
            raise Failed(f"{failure}; the delivery log has {dict(self.count(made))}") from None
        self.ended(made, "succeeded", patience)
        return sum(self._received()[subject, delivery] - 1 for subject, delivery in made.items())

    def ended(self, made: dict[str, str], state: str, patience: float = PATIENCE) -> None:
        """Returns when the delivery log has all of them in that state. Failed if one ends otherwise."""

        def all_there() -> bool | None:
            found = self.deliveries(made)
            if wrong := [entry for entry in found if entry["State"] in _FINAL - {state}]:
                raise Failed(f"a delivery ended otherwise: {wrong[0]}")
            return True if all(entry["State"] == state for entry in found) else None

        until(all_there, f"{len(made)} deliveries {state}", patience)

    def deliveries(self, made: dict[str, str]) -> list[dict[str, Any]]:
        """Their entries in the delivery log."""
        wanted = set(made.values())
        items = self.api.call("GET", "Deliveries?$top=1000")["Items"]
        return [entry for entry in items if entry["Id"] in wanted]

    def count(self, made: dict[str, str]) -> Counter[str]:
        """How many of them are in which state."""
        return Counter(entry["State"] for entry in self.deliveries(made))

    def online(self, after: int = 0) -> None:
        """Returns when the agent has connected more than that many times since its unit was made."""
        until(lambda: True if self.connections() > after else None, "the agent's connection")

    def connections(self) -> int:
        return sum(line.get("event") == "link" and line.get("state") == "online" for line in self.lines())

    def lines(self) -> Iterator[dict[str, Any]]:
        """What the agent has logged since its unit was made."""
        for text in self.container.log_of(AGENT).splitlines():
            if text.startswith("{"):
                yield json.loads(text)

    def status(self) -> dict[str, Any]:
        """What the running agent says of itself."""
        shown: dict[str, Any] = json.loads(self.container("presence", "status", "--json"))
        return shown

    def http_status(self, path: str) -> int:
        """What the agent's own listener answers to a GET."""
        connection = HTTPConnection("127.0.0.1", 8481, timeout=PATIENCE)
        connection.request("GET", path)
        with closing(connection):
            return connection.getresponse().status

    def main_pid(self) -> str:
        return self.container.shown(AGENT, "MainPID")

    def is_active(self, unit: str = AGENT) -> bool | None:
        return True if self.container.shown(unit, "ActiveState") == "active" else None

    def _answers(self) -> bool | None:
        try:
            with socket.create_connection(("127.0.0.1", 8480), timeout=1):
                return True
        except OSError:
            return None

    def _received(self) -> Counter[tuple[str, str]]:
        file = self.container.path(_REQUESTS)
        lines = file.read_text().split("\n")[:-1] if file.exists() else []
        requests = (line.split() for line in lines)
        return Counter((path.removeprefix("/ScanEnded/"), delivery) for path, delivery in requests)

    def _all_received(self, made: dict[str, str]) -> bool | None:
        return True if self._received().keys() >= made.items() else None
