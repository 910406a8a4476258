"""Run by test_canaries.py in a network where every address is this host's own, with a name of SCENES.

Whatever the agent connects to, somebody listens: the target at ADDRESS, a canary everywhere else. The findings go
to standard output as JSON.
"""

import asyncio
import json
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any, Self

from presence.domain.delivery import FinalState
from presence.protocol.messages import Fire, Report
from tests.acceptance.hostile_names import ALIASES, LOCATIONS, NAMES, WILD, controls, shots
from tests.acceptance.hostile_uris import GOOD_NAME, Shot
from tests.support.control_plane import ScriptedControlPlane, fire
from tests.support.dns import Hosts, NameServer
from tests.support.namespace import ADDRESS
from tests.support.processes import Program, agent_env
from tests.support.system import run
from tests.support.target import Target, head

NAME_SERVERS = ("127.0.0.53", "127.0.0.54")
SILENT = ("127.0.0.55", 5353)
"""A name server of `silent.test`, which never answers."""
PORTS = (80, 443, 8080)
PROBED = (
    *("169.254.169.254", "100.100.100.200", "192.0.0.192", "169.254.170.2", "168.63.129.16", "127.0.0.1", "0.0.0.0"),
    *("fd00:ec2::254", "fd20:ce::254", "::1", "::", "::ffff:169.254.169.254", "::169.254.169.254"),
    *("::ffff:0:169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1"),
    *("2001:0:a9fe:a9fe::1", "5f00::1", "8.8.8.8"),
)
"""Addresses at which canaries are shown to listen before they are relied upon."""
_LOCAL = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where a connection to the unspecified address goes."""

MODES: dict[str, dict[str, str]] = {
    "private": {"PRESENCE_EGRESS__ALLOW": "[]"},
    "deny": {
        "PRESENCE_EGRESS__DEFAULT": "deny",
        "PRESENCE_EGRESS__ALLOW": json.dumps([ADDRESS, GOOD_NAME, "*.evil.test", "localhost"]),
    },
    "observe": {
        "PRESENCE_EGRESS__DEFAULT": "deny",
        "PRESENCE_EGRESS__MODE": "observe",
        "PRESENCE_EGRESS__ALLOW": "[]",
    },
    "wide": {"PRESENCE_EGRESS__ALLOW": '["0.0.0.0/0", "::/0", "*.evil.test"]'},
}
QUICK = {
    "PRESENCE_RETRY__MAX_ATTEMPTS": "1",
    "PRESENCE_DELIVERY__CONNECT_TIMEOUT": "2",
    "PRESENCE_DELIVERY__ATTEMPT_TIMEOUT": "5",
    "PRESENCE_LOG__LEVEL": "error",
}

Findings = dict[str, Any]


class Canaries:
    """Listeners on every address of this network, on PORTS and one of chance; `accepted` counts their connections."""

    def __init__(self) -> None:
        self.accepted: Counter[tuple[str, int]] = Counter()
        self.ports: list[int] = []
        self._heard = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._servers = [await asyncio.start_server(self._accept, sock=_everywhere(port)) for port in (*PORTS, 0)]
        self.ports = [server.sockets[0].getsockname()[1] for server in self._servers]
        return self

    async def __aexit__(self, *exc: object) -> None:
        for server in self._servers:
            server.close()
            await server.wait_closed()

    async def _accept(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address, port = writer.get_extra_info("sockname")[:2]
        writer.transport.abort()
        async with self._heard:
            self.accepted[_plain(address), port] += 1
            self._heard.notify_all()

    async def probe(self, addresses: Sequence[str]) -> int:
        """Connects to each address at each port and returns how many were counted: all, or it fails. Forgets them."""
        probes = [(address, port) for address in addresses for port in self.ports]
        for address, port in probes:
            _reader, writer = await asyncio.open_connection(address, port)
            writer.transport.abort()
        expected = Counter((_plain(_LOCAL.get(address, address)), port) for address, port in probes)
        async with asyncio.timeout(10), self._heard:
            await self._heard.wait_for(lambda: self.accepted >= expected)
        self.accepted -= expected
        return len(probes)

    async def strays(self) -> dict[str, int]:
        """What they accepted, by address and port. A last probe comes after all that waits to be accepted."""
        await self.probe(["127.0.0.99"])
        return {f"{address} port {port}": count for (address, port), count in self.accepted.items()}


def _plain(address: str) -> str:
    """One spelling for each address; a mapped one is what it maps, for so the wildcard listener shows IPv4."""
    found = ip_address(address.partition("%")[0])
    return str((found.ipv4_mapped if isinstance(found, IPv6Address) else None) or found)


def _everywhere(port: int) -> socket.socket:
    """A listener on the wildcard address of both families, which a more specific one on the same port precedes."""
    listener = socket.socket(socket.AF_INET6)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("::", port))
    return listener


class Scene:
    """Target, canaries, name servers, control plane and one agent."""

    def __init__(
        self, target: Target, canaries: Canaries, servers: list[NameServer], cloud: ScriptedControlPlane
    ) -> None:
        self.target, self.canaries, self.servers, self.cloud = target, canaries, servers, cloud

    async def deliver(self, fires: Sequence[Fire]) -> dict[str, Report]:
        """Fires all as fast as the agent's credit allows; their reports by id, as far as they came in time."""
        await self.cloud.ready()
        left = list(fires)
        while left:
            room = await self.cloud.until(lambda: self.cloud.session and self.cloud.session.free_credit)
            await self.cloud.fire_all(left[:room])
            del left[:room]
        wanted = {message.id for message in fires}
        with suppress(TimeoutError):
            await self.cloud.until(lambda: wanted <= self.cloud.reports.keys(), timeout=60)
        return {delivery: self.cloud.reports[delivery][-1] for delivery in wanted & self.cloud.reports.keys()}

    def lines(self) -> dict[str, list[str]]:
        """The request lines that the target got, by delivery."""
        found: dict[str, list[str]] = {}
        for request in self.target.requests:
            line, headers = head(request)
            found.setdefault(headers["webhook-id"], []).append(line)
        return found


@asynccontextmanager
async def scene(hosts: Sequence[Hosts] = (NAMES, NAMES), **settings: str) -> AsyncIterator[Scene]:
    aliases = [f"--cname={alias},{name}" for alias, name in ALIASES.items()]
    options = (*aliases, f"--address=/{WILD}/169.254.169.254", "--server=/silent.test/{}#{}".format(*SILENT))
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        known = [{GOOD_NAME: (ADDRESS,), **names} for names in hosts]
        first, second = (
            NameServer(address, directory, names, options) for address, names in zip(NAME_SERVERS, known, strict=True)
        )
        async with (
            first,
            second,
            Target(answer, ADDRESS, 80, reuse_port=True) as target,
            Canaries() as canaries,
            ScriptedControlPlane() as cloud,
            Program("run", env=agent_env(cloud.url, cloud.key, directory, **QUICK | settings)),
        ):
            yield Scene(target, canaries, [first, second], cloud)


async def answer(request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """204; on `/redirect/CODE/NUMBER` that redirect; on `/close` it closes, so that the next one looks the name up."""
    words = request.split(b" ", 2)[1].decode().split("/")
    match words:
        case ["", "redirect", code, number]:
            location = LOCATIONS[int(number)].encode()
            writer.write(b"HTTP/1.1 %b X\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % (code.encode(), location))
        case ["", "close", *_]:
            writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            writer.close()
        case _:
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")


async def hostile(mode: str) -> Findings:
    """Every hostile shot once, a control between each few of them, against an agent of that mode."""
    async with scene(**MODES[mode]) as here:
        proven = await here.canaries.probe(PROBED)
        legitimate = controls(300)
        mixed = _spread(shots(), legitimate)
        fires = [fire(shot.uri, subject_id=shot.subject_id) for shot in mixed]
        reports = await here.deliver(fires)
        lines = here.lines()
        untruthful = [
            {"uri": shot.uri, "subject": shot.subject_id, "lines": lines.get(message.id), "report": _told(report)}
            for shot, message in zip(mixed, fires, strict=True)
            if not _is_truthful(shot, report := reports.get(message.id), lines.get(message.id, []))
        ]
        refused = sum(report.state is FinalState.REFUSED for report in reports.values())
        return {
            "proven": proven,
            "fired": len(fires),
            "controls": len(legitimate),
            "refused": refused,
            "observed": sum(bool(report.log and report.log[-1].observed) for report in reports.values()),
            "reported": len(reports),
            "strays": await here.canaries.strays(),
            "untruthful": len(untruthful),
            "examples": untruthful[:40],
        }


def _spread(hostile: list[Shot], legitimate: list[Shot]) -> list[Shot]:
    """The legitimate ones in between, evenly."""
    each = len(hostile) // len(legitimate) + 1
    return [shot for at, control in enumerate(legitimate) for shot in (*hostile[at * each : (at + 1) * each], control)]


def _is_truthful(shot: Shot, report: Report | None, lines: list[str]) -> bool:
    """Whether the report gives a reason that may be true, and the target got exactly what the report says."""
    if report is None or report.reason not in shot.reasons or not report.log:
        return False
    last = report.log[-1]
    expected = [f"GET {shot.target} HTTP/1.1"]
    match report.state:
        case FinalState.SUCCEEDED:
            return lines == expected and last.status == 204
        case FinalState.FAILED if report.reason == "status_final":
            return lines == expected and last.status is not None and 300 <= last.status <= 399
        case FinalState.FAILED:
            return not lines and (last.phase, last.fault) == ("dns", "name_unknown")
        case FinalState.REFUSED:
            return not lines and (last.phase, last.reason, last.status) == ("policy", report.reason, None)
        case _:
            return False


def _told(report: Report | None) -> Findings | None:
    return report and report.model_dump(mode="json", exclude_none=True, exclude={"id", "type"})


async def rebinding() -> Findings:
    """Each look-up is answered by one of two name servers, by chance: one says ADDRESS, the other a canary."""
    evil = {"rebind4.test": ("169.254.169.254",), "rebind6.test": ("::1",), "local.test": ("127.0.0.1",)}
    async with scene((dict.fromkeys(evil, (ADDRESS,)), evil), **MODES["private"]) as here:
        naive = await _naive_client(here.canaries)
        fires = [fire(f"http://{name}/close/{{SubjectId}}") for _ in range(300) for name in evil]
        reports = await here.deliver(fires)
        return {"naive": naive, **_tally(fires, reports), "strays": await here.canaries.strays()}


async def _naive_client(canaries: Canaries) -> int:
    """A client that looks a name up to check it, and once more to connect: how often it went to a canary."""
    loop = asyncio.get_running_loop()
    for _ in range(200):
        checked = await loop.getaddrinfo("rebind4.test", 80, type=socket.SOCK_STREAM)
        if checked[0][4][0] == ADDRESS:
            _reader, writer = await asyncio.open_connection("rebind4.test", 80)
            writer.transport.abort()
    found = canaries.accepted.total()
    canaries.accepted.clear()
    return found


async def moving() -> Findings:
    """A name moves between ADDRESS and canaries as fast as its name server can read the change."""
    good, evil = {"moving.test": (ADDRESS,)}, {"moving.test": ("169.254.169.254", "fd00:ec2::254")}
    async with scene((good, good), **MODES["private"]) as here:
        fires = [fire(f"http://moving.test/close/{number}/{{SubjectId}}") for number in range(1000)]
        delivering = asyncio.create_task(here.deliver(fires))
        moves = 0
        while not delivering.done():
            names = (evil, good)[moves % 2]
            await asyncio.gather(*(server.change({GOOD_NAME: (ADDRESS,), **names}) for server in here.servers))
            moves += 1
        return {"moves": moves, **_tally(fires, await delivering), "strays": await here.canaries.strays()}


def _tally(fires: list[Fire], reports: dict[str, Report]) -> Findings:
    """How many of each end there were."""
    ends = Counter(f"{report.state}: {report.reason}" for report in reports.values())
    return {"fired": len(fires), "ends": dict(ends)}


async def moved_between_attempts() -> Findings:
    """The name is good for the first attempt, which fails, and a canary's for the second one."""
    retry = {"PRESENCE_RETRY__MAX_ATTEMPTS": "5", "PRESENCE_RETRY__INITIAL": "0.05", "PRESENCE_RETRY__MAXIMUM": "0.1"}
    good, evil = {"moved.test": (ADDRESS,)}, {"moved.test": ("169.254.169.254",)}
    async with scene((good, good), **MODES["private"] | retry) as here:

        async def answer_and_move(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.gather(*(server.change(evil) for server in here.servers))
            writer.write(b"HTTP/1.1 503 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            writer.close()

        here.target.answer = answer_and_move
        (report,) = (await here.deliver([fire("http://moved.test/")])).values()
        return {"report": _told(report), "strays": await here.canaries.strays()}


async def name_servers() -> Findings:
    """Names that do not exist, and a name server that never answers."""
    limit = {"PRESENCE_DELIVERY__DNS_TIMEOUT": "0.5"}
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(SILENT)
    async with scene(**MODES["private"] | limit) as here:
        fires = [fire("http://no-such-name.test/"), fire("http://x.silent.test/"), fire(f"http://{GOOD_NAME}/")]
        reports = await here.deliver(fires)
        silent.close()
        return {"reports": [_told(reports[message.id]) for message in fires], "strays": await here.canaries.strays()}


async def silent_names() -> Findings:
    """Many names whose name server never answers, and beside them one that is known."""
    async with scene(**MODES["private"]) as here:
        silent = [fire(f"http://x{number}.silent.test/") for number in range(48)]
        await here.cloud.fire_all(silent)
        await here.cloud.accepted(*(message.id for message in silent))
        reports = await here.deliver([fire(f"http://{GOOD_NAME}/close/{number}") for number in range(10)])
        return {"reports": [_told(report) for report in reports.values()]}


async def permitted() -> Findings:
    """A rule that opens a canary's address: the canary counts what goes there, and nothing else is opened."""
    async with scene(PRESENCE_EGRESS__ALLOW='["127.0.0.1:8080"]') as here:
        opened = [fire("http://127.0.0.1:8080/") for _ in range(3)]
        closed = [fire(uri) for uri in ("http://127.0.0.1/", "http://127.0.0.2:8080/", "http://169.254.169.254:8080/")]
        reports = await here.deliver(opened)
        await here.deliver(closed)
        return {**_tally(opened, reports), "strays": await here.canaries.strays()}


async def one_shot() -> Findings:
    """`presence test-fire` and its dry run, which are the same code in another program."""
    async with scene(**MODES["private"]) as here:
        some = [shot for shot in shots()[::400] if "\0" not in shot.uri + shot.subject_id]
        limit = asyncio.Semaphore(4)

        async def tried(shot: Shot, *more: str) -> Findings:
            command = ("test-fire", "--json", "--subject-id", shot.subject_id, *more, "--", shot.uri)
            async with limit:
                code, out, err = await run(*command, env={**QUICK, **MODES["private"]})
            return {"uri": shot.uri, "code": code, "out": json.loads(out) if out else None, "err": err}

        every = await asyncio.gather(*(tried(shot, *more) for shot in some for more in ((), ("--dry-run",))))
        return {"tried": every, "strays": await here.canaries.strays(), "requests": len(here.target.requests)}


SCENES: dict[str, Callable[..., Coroutine[Any, Any, Findings]]] = {
    scene.__name__: scene
    for scene in (hostile, rebinding, moving, moved_between_attempts, name_servers, silent_names, permitted, one_shot)
}


def main() -> None:
    name, *arguments = sys.argv[1:]
    print(json.dumps(asyncio.run(SCENES[name](*arguments))))


if __name__ == "__main__":
    main()
