"""The service's unit as systemd reads it, and the agent's side of systemd's notification protocol."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from presence.agent.settings import CREDENTIAL, Delivery
from presence.controlplane.settings import DATABASE_PASSWORD, ENCRYPTION_KEYS
from presence.errors import ExitCode
from tests.support.control_plane import ScriptedControlPlane
from tests.support.processes import Program, agent_env
from tests.support.supervisor import Supervisor
from tests.support.system import control_plane, run
from tests.support.tracing import stopped, threads

SYSTEMD = Path(__file__).parents[2] / "systemd"
AGENT, CONTROL_PLANE = SYSTEMD / "presence.service", SYSTEMD / "presence-control-plane.service"
UNITS = (AGENT, CONTROL_PLANE)
EXPOSURE = 15
"""Tenths: `systemd-analyze security` calls anything below 5.0 good; a container reaches about 1.0."""

of_both = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def values(unit: Path, key: str) -> list[str]:
    """What the unit sets this key to, line by line."""
    return [line.removeprefix(f"{key}=") for line in unit.read_text().splitlines() if line.startswith(f"{key}=")]


def program(unit: Path) -> str:
    (start,) = values(unit, "ExecStart")
    return start.split()[0]


@of_both
def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path, unit: Path) -> None:
    """In a root of its own, where the program is installed as the unit's head says. A warning is a fault, too."""
    shutil.copytree("/usr/lib/systemd/system", tmp_path / "usr/lib/systemd/system", symlinks=True)
    for executable in (program(unit), "/bin/kill"):
        there = tmp_path / executable.lstrip("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        there.touch(mode=0o755)
    installed = tmp_path / "etc/systemd/system" / unit.name
    installed.parent.mkdir(parents=True)
    shutil.copy(unit, installed)
    verified = analyze("verify", f"--root={tmp_path}", unit.name)
    assert (verified.stdout, verified.returncode) == ("", 0)


@of_both
def test_the_unit_exposes_little(unit: Path) -> None:
    rated = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", unit)
    assert rated.returncode == 0, rated.stdout


@of_both
def test_the_unit_knows_the_exit_code_that_a_restart_does_not_mend(unit: Path) -> None:
    assert values(unit, "RestartPreventExitStatus") == [str(ExitCode.CONFIGURATION.value)]
    assert values(unit, "Restart") == ["always"]
    assert values(unit, "StartLimitIntervalSec") == ["0"]


def test_the_unit_leaves_the_agent_its_grace_period() -> None:
    (stop,) = values(AGENT, "TimeoutStopSec")
    assert Delivery().grace < float(stop.removesuffix("s")) <= Delivery().grace + 15


@of_both
def test_the_unit_waits_for_the_programs_word_and_watches_its_progress(unit: Path) -> None:
    assert (values(unit, "Type"), values(unit, "NotifyAccess")) == (["notify"], ["main"])
    assert values(unit, "WatchdogSec") == ["60s"]


def test_the_unit_names_the_credentials_that_the_control_plane_looks_for() -> None:
    offered = re.findall(r"^#   LoadCredential=([^:\n]+):/etc/presence/(.+)$", CONTROL_PLANE.read_text(), re.MULTILINE)
    assert offered == [(name, name) for name in (ENCRYPTION_KEYS, DATABASE_PASSWORD)]


def test_the_unit_brings_the_key_under_the_name_that_the_agent_looks_for() -> None:
    (key,) = values(AGENT, "AssertPathExists")
    assert values(AGENT, "LoadCredential") == [f"{CREDENTIAL}:{key}"]


@of_both
def test_the_units_user_is_made_by_the_file_beside_it(unit: Path) -> None:
    (user,) = values(unit, "User")
    entries = (SYSTEMD / "sysusers.d" / f"{unit.stem}.conf").read_text().splitlines()
    (made,) = (entry.split()[:3] for entry in entries if not entry.startswith("#"))
    assert made == ["u", user, "-"]


@of_both
def test_the_head_of_the_unit_installs_what_the_unit_starts(unit: Path) -> None:
    """Its paths are this tree's and the unit's own. `python -m tests.boot` follows it for real."""
    head = unit.read_text().partition("[Unit]")[0]
    for name in re.findall(r"(?<= )(?:config|systemd)/[\w./-]+", head):
        assert (SYSTEMD.parent / name).exists(), name
    assert f"python3 -m venv {Path(program(unit)).parents[1]} " in head


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    # Not below tmp_path: a socket's path may have 107 characters at most.
    with tempfile.TemporaryDirectory() as directory:
        supervisor = Supervisor(Path(directory))
        yield supervisor
        supervisor.close()


@pytest.mark.parametrize("reachable", [True, False], ids=["control plane up", "control plane down"])
async def test_the_supervisor_is_told_of_the_start_and_the_end(
    tmp_path: Path, supervisor: Supervisor, reachable: bool
) -> None:
    async with ScriptedControlPlane() as cloud:
        if not reachable:
            await cloud.stop()
        env = agent_env(cloud.url, cloud.key, tmp_path, NOTIFY_SOCKET=supervisor.address)
        async with Program("run", env=env) as agent:
            await supervisor.told("READY=1")
            if reachable:
                await cloud.ready()
            else:
                await agent.said("link", state="offline", cause="tcp")
            assert not supervisor.has_been_told("STOPPING=1")
            assert await agent.stop() == 0
            await supervisor.told("STOPPING=1")


async def test_the_control_plane_tells_its_start_its_progress_and_its_end(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    watched = {"NOTIFY_SOCKET": supervisor.address, "WATCHDOG_USEC": "400000"}
    async with control_plane(tmp_path, **watched) as cloud:
        await supervisor.told("READY=1")
        await supervisor.told(f"STATUS=listening at {cloud.api.url}")
        await supervisor.told("WATCHDOG=1", times=3)
        assert not supervisor.has_been_told("STOPPING=1")
        assert await cloud.program.stop() == 0
        await supervisor.told("STOPPING=1")


async def test_a_control_plane_that_does_not_listen_is_not_ready(tmp_path: Path, supervisor: Supervisor) -> None:
    async with control_plane(tmp_path) as cloud:
        env = cloud.env | {"NOTIFY_SOCKET": supervisor.address}
        async with Program("control-plane", "serve", env=env) as second:
            assert await second.exited() != 0
        assert supervisor.count("READY=1") == 0


async def test_a_database_that_hangs_stops_the_feeding(tmp_path: Path, supervisor: Supervisor) -> None:
    watched = {"NOTIFY_SOCKET": supervisor.address, "WATCHDOG_USEC": "400000"}
    async with control_plane(tmp_path, **watched) as cloud:
        await supervisor.told("WATCHDOG=1", times=3)
        try:
            with stopped(threads(cloud.program.pid)):
                await supervisor.told("STATUS=not making progress: the database has not answered for 5 s")
                fed = supervisor.count("WATCHDOG=1")
                await supervisor.told("STATUS=not making progress: the database has not answered for 5 s", times=2)
                assert supervisor.count("WATCHDOG=1") == fed
        except PermissionError:
            pytest.skip("threads cannot be traced here")
        await supervisor.told("WATCHDOG=1", times=fed + 2)
        assert supervisor.count(f"STATUS=listening at {cloud.api.url}") == 2


async def test_the_encryption_keys_come_from_the_credentials_directory(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as cloud:
        sealed = {"PresenceId": cloud.presence_id, "Uri": "http://h/", "Event": "NewPatchRequest", "Global": True}
        await cloud.api.call("POST", "Webhooks", sealed | {"AuthorizationHeader": "Bearer secret"})
        assert await cloud.program.stop() == 0
        credentials = tmp_path / "credentials"
        credentials.mkdir()
        (tmp_path / ENCRYPTION_KEYS).rename(credentials / ENCRYPTION_KEYS)
        code, _, err = await run("control-plane", "serve", env=cloud.env)
        assert (code, "the database holds 1 secrets" in err) == (78, True)
        cloud.env["CREDENTIALS_DIRECTORY"] = str(credentials)
        await cloud.start_again()
        assert "cannot be" not in cloud.program.text()


async def test_a_supervisor_that_does_not_listen_stops_nothing(tmp_path: Path) -> None:
    async with ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path, NOTIFY_SOCKET=str(tmp_path / "nobody"))
        async with Program("run", env=env) as agent:
            await cloud.ready()
            assert await agent.stop() == 0


async def test_the_key_comes_from_the_credentials_directory(tmp_path: Path) -> None:
    async with ScriptedControlPlane() as cloud:
        (tmp_path / "presence.key").write_text(cloud.key)
        env = agent_env(cloud.url, "", tmp_path, CREDENTIALS_DIRECTORY=str(tmp_path))
        del env["PRESENCE_CONTROL_PLANE__KEY"]
        async with Program("run", env=env):
            await cloud.ready()
