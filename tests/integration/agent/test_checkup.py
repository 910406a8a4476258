"""What doctor finds, against real servers, proxies, files and disks; a session of the agent is never begun."""

import asyncio
import json
import os
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import trustme

from presence.agent.checkup import checkup
from presence.agent.finding import Finding, Verdict
from presence.clock import Clock, SystemClock
from tests.support.clock import ManualClock
from tests.support.control_plane import ScriptedControlPlane
from tests.support.interception import InterceptingProxy
from tests.support.journal import opened
from tests.support.proxies import squid
from tests.support.target import Target
from tests.support.tls import authority_file, expired, not_yet_valid, server_context

HOUR = 3_600_000


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(organization_name="Corp Authority")


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PRESENCE_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


class Settings:
    """A settings file in a directory of its own, with a key beside it."""

    def __init__(self, directory: Path, url: str, key: str = "test-key-0123456789", **more: str) -> None:
        self.file = directory / "agent.toml"
        self.key = directory / "key"
        self.key.write_text(key)
        self.key.chmod(0o600)
        self.state = directory / "state"
        keys = {"url": url, "key_file": str(self.key), **more}
        lines = ["[control_plane]", *(f"{name} = {json.dumps(value)}" for name, value in keys.items())]
        self.file.write_text("\n".join([*lines, "[journal]", f'path = "{self.state}/journal.db"', ""]))

    def add(self, text: str) -> "Settings":
        with self.file.open("a") as opened:
            opened.write(text)
        return self


async def findings(settings: Settings, clock: Clock | None = None) -> dict[str, Finding]:
    return {finding.check: finding async for finding in checkup(settings.file, clock or SystemClock())}


def bad(found: Mapping[str, Finding]) -> dict[str, str]:
    """What is not ok, as text; each must have a remedy."""
    wrong = {check: finding for check, finding in found.items() if finding.verdict in ("failed", "warning")}
    assert all(finding.remedy for finding in wrong.values())
    return {check: f"{finding.verdict}: {finding.text}" for check, finding in wrong.items()}


async def test_nothing_is_wrong_and_no_session_begins(authority: trustme.CA, tmp_path: Path) -> None:
    async with ScriptedControlPlane(tls=server_context(authority.issue_cert("127.0.0.1"))) as cloud:
        settings = Settings(tmp_path, cloud.url, ca_file=authority_file(authority, tmp_path))
        found = await findings(settings)
        assert bad(found) == {}
        assert found["tls"].text.startswith("issued by 'Corp Authority', valid until ")
        assert "trusted for control_plane.ca_file alone" in found["tls"].text
        assert found["key"].text == f"the configured key ({settings.key}) is accepted"
        assert found["clock"].verdict == "ok"
        assert cloud.heard == []
        assert set(cloud.keys) == {cloud.key}
        assert not settings.state.exists()


async def test_a_revoked_key_is_named(tmp_path: Path) -> None:
    async with ScriptedControlPlane(key="another") as cloud:
        found = await findings(Settings(tmp_path, cloud.url))
        assert bad(found) == {"key": f"failed: the configured key ({tmp_path}/key): the key is refused (401)"}
        assert "presence enroll" in str(found["key"].remedy)
        assert found["upgrade"].verdict == "ok"
        assert found["clock"].verdict == "ok"


async def test_a_refused_key_beside_an_accepted_one_is_a_warning(tmp_path: Path) -> None:
    async with ScriptedControlPlane(key="rotated-key-0123") as cloud:
        settings = Settings(tmp_path, cloud.url)
        settings.state.mkdir()
        (settings.state / "presence.key").write_text(json.dumps({"Key": "rotated-key-0123", "ReplacesSha256": None}))
        (settings.state / "presence.key").chmod(0o600)
        found = await findings(settings)
        assert list(bad(found)) == ["key"]
        assert found["key"].verdict == "warning"
        assert "the stored key" in found["key"].text


async def test_a_missing_key_does_not_hide_the_way(tmp_path: Path) -> None:
    async with ScriptedControlPlane() as cloud:
        settings = Settings(tmp_path, cloud.url)
        settings.key.unlink()
        found = await findings(settings)
        assert set(bad(found)) == {"configuration", "secrets", "key"}
        assert found["tcp"].verdict == "ok"


async def test_a_wrong_proxy_is_named(tmp_path: Path, authority: trustme.CA) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        closed = listening.getsockname()[1]
    found = await findings(Settings(tmp_path, "wss://presence.example.com", proxy=f"http://127.0.0.1:{closed}"))
    assert bad(found) == {"proxy": f"failed: proxy 127.0.0.1:{closed}: connection refused"}
    assert found["tls"] == Finding("tls", Verdict.SKIPPED, "not reached")


async def test_a_proxy_that_wants_a_password_is_named(tmp_path: Path) -> None:
    async with squid() as proxy:
        found = await findings(Settings(tmp_path, "wss://localhost:1", proxy=f"http://{proxy.place}"))
    assert list(bad(found)) == ["proxy"]
    assert "it wants user and password (407)" in found["proxy"].text
    assert "proxy_credentials_file" in str(found["proxy"].remedy)


async def test_an_intercepting_proxy_is_named(tmp_path: Path, authority: trustme.CA) -> None:
    inspector = trustme.CA(organization_name="Corp Inspection")
    async with (
        ScriptedControlPlane(tls=server_context(authority.issue_cert("127.0.0.1"))) as cloud,
        InterceptingProxy(inspector) as proxy,
    ):
        settings = Settings(tmp_path, cloud.url, proxy=proxy.url)
        found = await findings(settings)
        assert bad(found) == {
            "tls": "failed: certificate of 127.0.0.1 issued by 'Corp Inspection' is not trusted:"
            " looks like TLS inspection"
        }
        assert found["tls"].remedy == "add its certificate with control_plane.ca_file"
        assert found["tcp"].text == f"a tunnel to 127.0.0.1:{cloud.port}"
        assert cloud.keys.count(cloud.key) == 0, "the key was shown to the one who intercepts"

        settings = Settings(tmp_path, cloud.url, proxy=proxy.url, ca_file=authority_file(inspector, tmp_path))
        found = await findings(settings)
        assert bad(found) == {}
        assert "a private authority, or TLS inspection" in found["tls"].text


@pytest.mark.parametrize(
    ("hours", "verdict", "words"),
    [
        (5, "failed", "5 h 0 min ahead of the control plane's clock"),
        (-50, "failed", "2 days 2 h behind the control plane's clock"),
        (-0.2, "warning", "12 min behind the control plane's clock"),
    ],
)
async def test_a_wrong_clock_is_measured(tmp_path: Path, hours: float, verdict: str, words: str) -> None:
    async with ScriptedControlPlane() as cloud:
        clock = ManualClock(wall=SystemClock().wall() + int(hours * HOUR))
        found = await findings(Settings(tmp_path, cloud.url), clock)
        assert bad(found) == {"clock": f"{verdict}: {words}"}
        assert "NTP" in str(found["clock"].remedy)


async def test_a_clock_that_makes_certificates_invalid_is_told_from_a_bad_certificate(
    tmp_path: Path, authority: trustme.CA
) -> None:
    trusted = authority_file(authority, tmp_path)
    async with ScriptedControlPlane(tls=server_context(not_yet_valid(authority, "127.0.0.1"))) as cloud:
        # As the host sees it whose clock is two days behind.
        clock = ManualClock(wall=SystemClock().wall() - 2 * 24 * HOUR)
        found = await findings(Settings(tmp_path, cloud.url, ca_file=trusted), clock)
        assert set(bad(found)) == {"tls", "clock"}
        assert "is not valid yet" in found["tls"].text
        assert "days" in found["clock"].text
        assert cloud.keys.count(cloud.key) == 0
    async with ScriptedControlPlane(tls=server_context(expired(authority, "127.0.0.1"))) as cloud:
        found = await findings(Settings(tmp_path, cloud.url, ca_file=trusted))
        assert set(bad(found)) == {"tls"}
        assert "has expired" in found["tls"].text
        assert found["clock"].verdict == "ok"


async def test_a_name_that_does_not_resolve_is_named(tmp_path: Path) -> None:
    found = await findings(Settings(tmp_path, "wss://no-such-host.invalid"))
    assert list(bad(found)) == ["dns"]
    assert found["dns"].text.startswith("no-such-host.invalid: the name does not resolve")
    assert found["key"].verdict == "skipped"


async def test_a_closed_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        closed = listening.getsockname()[1]
    found = await findings(Settings(tmp_path, f"ws://127.0.0.1:{closed}"))
    assert bad(found) == {"tcp": f"failed: 127.0.0.1:{closed}: connection refused"}


async def test_something_that_is_no_control_plane_is_named(tmp_path: Path) -> None:
    async with Target() as web:
        found = await findings(Settings(tmp_path, f"ws://127.0.0.1:{web.port}"))
    assert list(bad(found)) == ["upgrade"]


async def test_faults_of_the_settings_are_all_told(tmp_path: Path) -> None:
    settings = Settings(tmp_path, "wss://presence.example.com").add("[log]\nlevle = 1\n[retry]\ninitial = 0\n")
    found = [finding async for finding in checkup(settings.file, SystemClock())]
    assert [finding.text.split(": ")[1] for finding in found if finding.verdict == "failed"] == [
        "retry.initial",
        "log.levle",
    ]
    assert {finding.verdict for finding in found} == {"failed", "skipped"}


async def test_files_that_others_can_read_or_write_are_named(tmp_path: Path) -> None:
    async with ScriptedControlPlane() as cloud:
        settings = Settings(tmp_path, cloud.url)
        settings.key.chmod(0o644)
        settings.file.chmod(0o666)
        settings.state.mkdir(mode=0o700)
        settings.state.chmod(0o777)
        found = await findings(settings)
    assert bad(found) == {
        "secrets": f"warning: {settings.key}: others can read it (mode 0644)",
        "settings file": f"warning: {settings.file}: others can write it, and so what this agent may reach",
        "state directory": f"warning: {settings.state}: others can write there",
    }
    assert found["secrets"].remedy == f"run: chmod 600 {settings.key}"


async def test_a_journal_is_checked_and_stays_as_it_is(tmp_path: Path) -> None:
    async with ScriptedControlPlane() as cloud:
        settings = Settings(tmp_path, cloud.url)
        settings.state.mkdir(mode=0o700)
        async with opened(settings.state, ManualClock()):
            found = await findings(settings)
            assert found["journal"].text.endswith("in use by an agent, which checked it when it started")
        before = sorted(settings.state.iterdir())
        found = await findings(settings)
        assert "sound; 0 deliveries" in found["journal"].text
        assert sorted(settings.state.iterdir()) == before
        assert bad(found) == {}


async def test_a_damaged_journal_is_found(tmp_path: Path) -> None:
    async with ScriptedControlPlane() as cloud:
        settings = Settings(tmp_path, cloud.url)
        settings.state.mkdir(mode=0o700)
        async with opened(settings.state, ManualClock()):
            pass
        journal = settings.state / "journal.db"
        journal.write_bytes(journal.read_bytes()[:100] + b"\xff" * 8000)
        journal.chmod(0o600)
        found = await findings(settings)
        assert list(bad(found)) == ["journal"]
        assert "damaged" in found["journal"].text


async def test_targets_are_reached_without_a_request(tmp_path: Path, authority: trustme.CA) -> None:
    closed = socket.create_server(("127.0.0.1", 0))
    nothing = closed.getsockname()[1]
    closed.close()
    tls = server_context(authority.issue_cert("127.0.0.1"))
    async with ScriptedControlPlane() as cloud, Target() as plain, Target(tls=tls) as secure, Target(tls=tls) as other:
        hosts = {
            f"127.0.0.1:{plain.port}": "",
            f"https://127.0.0.1:{secure.port}": f'ca_file = "{authority_file(authority, tmp_path)}"\n',
            f"https://127.0.0.1:{other.port}": "",
            f"127.0.0.1:{nothing}": "",
            "no-such-host.invalid:80": "",
            "https://169.254.169.254": "",
            "*.corp": "",
        }
        settings = Settings(tmp_path, cloud.url)
        for host, more in hosts.items():
            settings.add(f'[[targets]]\nhost = "{host}"\n{more}')
        settings.add('[egress]\nallow = ["POST 127.0.0.1/hook"]\n')
        found = await findings(settings)
        assert bad(found) == {
            f"target https://127.0.0.1:{other.port}": "failed: tls: certificate untrusted",
            f"target 127.0.0.1:{nothing}": "failed: connect: connection refused",
            "target no-such-host.invalid:80": "failed: dns: name unknown",
            "target https://169.254.169.254": "failed: the egress policy refuses it: denied always",
        }
        assert found[f"target 127.0.0.1:{plain.port}"].text == "connected to 127.0.0.1"
        assert "its certificate is trusted by" in found[f"target https://127.0.0.1:{secure.port}"].text
        assert found["target 127.0.0.1"].text == "allowed; no port is written, so it was not connected to"
        assert found["targets"].verdict == "skipped"
        assert (plain.requests, secure.requests, other.requests) == ([], [], [])
        assert (plain.connections, secure.connections) == (1, 1)


DISKS = {
    "full": 'mount -t tmpfs -o size=64k disk "$0"; cat /dev/zero 2>/dev/null > "$0"/ballast; exec "$@"',
    "read-only": 'mount -t tmpfs -o ro disk "$0" && exec "$@"',
}


async def as_json(*command: str | Path) -> dict[str, dict[str, str]]:
    """The checks of a doctor in a process of its own, of which some must fail."""
    checking = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await checking.communicate()
    assert checking.returncode == 1
    return {check["check"]: check for check in json.loads(out)["checks"]}


@pytest.mark.parametrize(
    ("disk", "words"), [("full", "no space left on device"), ("read-only", "read-only file system")]
)
async def test_a_state_directory_that_takes_nothing_is_found(tmp_path: Path, disk: str, words: str) -> None:
    settings = Settings(tmp_path, "ws://127.0.0.1:1")
    settings.state.mkdir(mode=0o700)
    namespace = "unshare", "--map-root-user", "--mount", "sh", "-c", DISKS[disk], settings.state
    found = await as_json(*namespace, sys.executable, "-m", "presence", "doctor", "--json", "--config", settings.file)
    assert found["state directory"]["verdict"] == "failed"
    assert words in found["state directory"]["text"]


AS_ANOTHER = """
import os, sys
from presence.agent import checkup, listing
from presence.cli import config, doctor, main
os.setgroups([])
os.setuid(12345)
main(["doctor", "--json", "--config", sys.argv[1]])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_files_of_somebody_else_are_named() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        os.chmod(name, 0o755)
        settings = Settings(directory, "ws://127.0.0.1:1")
        settings.file.chmod(0o644)
        os.chown(settings.file, 4321, 4321)
        settings.state.mkdir(mode=0o755)
        found = await as_json(sys.executable, "-c", AS_ANOTHER, settings.file)
    assert found["configuration"]["text"].endswith("Permission denied")
    assert found["secrets"]["text"] == f"{settings.key}: not readable for 12345"
    assert found["settings file"]["text"] == f"{settings.file}: belongs to 4321, who can change it"
    assert "permission denied" in found["state directory"]["text"]
