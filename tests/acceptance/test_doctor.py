"""`presence doctor` as a person runs it, beside a running agent and without one; and what it gives to support."""

import asyncio
import json
import os
import sys
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import trustme

from presence import __version__
from tests.support.control_plane import ScriptedControlPlane, fire
from tests.support.processes import Program, agent_env
from tests.support.system import control_plane, run
from tests.support.target import Target, silence
from tests.support.tls import DAY, authority_file, server_context

CANARY = "CANARY"


async def test_a_running_agent_is_not_disturbed(tmp_path: Path) -> None:
    async with Target() as target, ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path)
        async with Program("run", env=env) as agent:
            await cloud.ready()
            session, heard = cloud.session, len(cloud.heard)
            code, out, err = await run("doctor", "--json", env=env)
            document = json.loads(out)
            checks = {check["check"]: check for check in document["checks"]}
            assert (code, err, document["healthy"]) == (0, "", True), out
            assert checks["agent"]["text"].startswith(f"version {__version__} runs as process {agent.pid}, link online")
            assert "in use by an agent" in checks["journal"]["text"]
            assert cloud.session is session
            assert len(cloud.heard) == heard
            await cloud.fire(target.url())
            await target.received(1)
            assert not [line for line in agent.lines if line.get("state") == "offline"]
            code, out, _ = await run("doctor", env=env | {"PRESENCE_CONTROL_PLANE__PROXY": "http://127.0.0.1:1"})
            assert code == 1
            assert "failed   proxy: proxy 127.0.0.1:1: connection refused" in out
            assert "warning  agent's way: it goes to" in out
            assert "through no proxy, which is not the way that was checked" in out
            await run("pause", "--for", "1m", env=env)
            code, out, _ = await run("doctor", env=env)
            assert code == 0
            assert (
                "warning  pause: no attempt starts: the agent is paused\n         -> end it with 'presence resume'"
                in out
            )


async def test_the_real_control_plane_takes_the_key_and_keeps_its_session(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as cloud:
        env = cloud.agent_env(tmp_path)
        async with Program("run", env=env) as agent:
            await agent.said("link", state="online")
            code, out, _ = await run("doctor", "--json", env=env)
            checks = {check["check"]: check["verdict"] for check in json.loads(out)["checks"]}
            assert code == 0, out
            assert [checks[name] for name in ("tcp", "upgrade", "key", "clock", "agent")] == ["ok"] * 5
            assert not [line for line in agent.lines if line.get("state") == "offline"]
        env["PRESENCE_CONTROL_PLANE__KEY"] = "pk_00000000-0000-0000-0000-000000000000_revoked"
        code, out, _ = await run("doctor", env=env)
        assert code == 1
        assert "failed   key: the configured key: the key is refused (401)\n         -> make a new key" in out


async def test_what_fails_is_told_with_its_remedy(tmp_path: Path) -> None:
    env = agent_env("wss://no-such-host.invalid", "k" * 20, tmp_path)
    code, out, err = await run("doctor", env=env)
    assert (code, err) == (1, "")
    lines = out.splitlines()
    failed = [number for number, line in enumerate(lines) if line.startswith("failed ")]
    assert len(failed) == 1
    assert "no-such-host.invalid: the name does not resolve" in lines[failed[0]]
    assert lines[failed[0] + 1].strip().startswith("-> check control_plane.url")
    assert lines[-1].startswith("1 of ")
    assert "\x1b" not in out


async def test_a_clock_that_is_days_behind_is_told_though_no_certificate_is_valid_then(tmp_path: Path) -> None:
    authority = trustme.CA()
    now = datetime.now(UTC)
    certificate = authority.issue_cert("127.0.0.1", not_before=now - DAY, not_after=now + DAY)
    async with ScriptedControlPlane(tls=server_context(certificate)) as cloud:
        ca_file = authority_file(authority, tmp_path)
        env = agent_env(cloud.url, cloud.key, tmp_path, PRESENCE_CONTROL_PLANE__CA_FILE=ca_file)
        checking = await asyncio.create_subprocess_exec(
            *("faketime", "-f", "-3d", sys.executable, "-m", "presence", "doctor", "--json"),
            env=os.environ | env | {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await checking.communicate()
    failed = {check["check"]: check for check in json.loads(out)["checks"] if check["verdict"] == "failed"}
    assert (checking.returncode, set(failed)) == (1, {"tls", "clock"})
    assert "certificate of 127.0.0.1 is not valid yet (from" in failed["tls"]["text"]
    assert failed["clock"]["text"].startswith("3 days 0 h behind the control plane's clock")
    assert "NTP" in failed["tls"]["remedy"]
    assert cloud.key not in cloud.keys


async def test_no_secret_is_in_the_bundle_or_the_output(tmp_path: Path) -> None:
    """Secrets stand wherever one can: none is in what doctor and config say, however they are asked."""
    files = tmp_path / "files"
    files.mkdir()
    for name, text in (("key", f"{CANARY}-key-0123456789"), ("header", CANARY), ("proxy", f"user:{CANARY}")):
        (files / name).write_text(text)
        (files / name).chmod(0o600)
    async with Target(silence) as target, ScriptedControlPlane(key=f"{CANARY}-key-0123456789") as cloud:
        env = agent_env(cloud.url, "", tmp_path)
        del env["PRESENCE_CONTROL_PLANE__KEY"]
        env |= {
            "PRESENCE_CONTROL_PLANE__KEY_FILE": str(files / "key"),
            "PRESENCE_CONTROL_PLANE__PROXY_CREDENTIALS_FILE": str(files / "proxy"),
            "HTTP_PROXY": f"http://user:{CANARY}@127.0.0.1:1",
            "HTTPS_PROXY": f"http://user:{CANARY}@127.0.0.1:1",
            "PRESENCE_TARGETS": json.dumps(
                [
                    {"host": "127.0.0.1", "headers": {"X-One": CANARY, "X-Two": {"file": str(files / "header")}}},
                    {"host": "a.corp", "proxy": "http://127.0.0.1:1", "proxy_credentials_file": str(files / "proxy")},
                ]
            ),
        }
        async with Program("run", env=env):
            held = fire(
                f"{target.url()}?token={CANARY}",
                method="POST",
                body=json.dumps({"secret": CANARY}),
                content_type="application/json",
                authorization=f"Bearer {CANARY}",
                on_unknown="hold",
            )
            env["PRESENCE_EGRESS__METHODS"] = '["GET", "POST"]'
            await cloud.fire_all([held])
            said = [*await run("doctor", "--json", "--bundle", str(tmp_path / "running.tar.gz"), env=env)]
        said += await run("doctor", "--bundle", str(tmp_path / "alone.tar.gz"), env=env)
        said += await run("config", "show", env=env)
        said += await run("config", "show", "--json", env=env)
        said += await run("config", "check", env=env)
        said += await run("config", "check", env=env | {"PRESENCE_RETRY__INITIAL": CANARY, "PRESENCE_X": CANARY})
        env["PRESENCE_CONTROL_PLANE__URL"] = f"ws://user:{CANARY}@127.0.0.1/?token={CANARY}"
        said += await run("doctor", "--bundle", str(tmp_path / "wrong.tar.gz"), env=env)
    assert CANARY not in "".join(map(str, said))
    for name in ("running", "alone", "wrong"):
        bundle = tmp_path / f"{name}.tar.gz"
        assert bundle.stat().st_mode & 0o777 == 0o600
        with tarfile.open(bundle) as archive:
            contents = {entry.name: archive.extractfile(entry).read().decode() for entry in archive}  # type: ignore[union-attr]
        assert CANARY not in "".join(contents.values())
        documents = {path.removeprefix("presence-support/"): json.loads(text) for path, text in contents.items()}
        assert documents["version.json"]["presence"] == __version__
        assert documents["doctor.json"]
        if name == "running":
            assert documents["status.json"]["link"]["state"] == "online"
        if name != "wrong":
            assert [entry["id"] for entry in documents["deliveries.json"]["deliveries"]] == [held.id]
            assert documents["settings.json"]["settings"]["control_plane.url"]["value"] == cloud.url


async def test_a_bundle_replaces_no_file(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.tar.gz"
    bundle.write_text("mine")
    code, _, err = await run("doctor", "--bundle", str(bundle), env=agent_env("ws://127.0.0.1:1", "k" * 20, tmp_path))
    assert code == 1
    assert "exists already" in err
    assert bundle.read_text() == "mine"


async def test_an_agent_whose_settings_the_caller_does_not_have_is_told_of_in_findings(tmp_path: Path) -> None:
    async with ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, tmp_path)
        async with Program("run", env=env):
            await cloud.ready()
            without = {name: value for name, value in env.items() if not name.startswith("PRESENCE_CONTROL_PLANE__")}
            bundle = tmp_path / "bundle.tar.gz"
            code, out, err = await run("doctor", "--json", "--bundle", str(bundle), env=without)
    checks = {check["check"]: check for check in json.loads(out)["checks"]}
    assert (code, err) == (1, f"{bundle}: written, mode 0600; look into it before you send it\n")
    assert checks["configuration"]["text"].startswith("control_plane.url is not set")
    assert "link online" in checks["agent"]["text"]
    with tarfile.open(bundle) as archive:
        assert "presence-support/doctor.json" in archive.getnames()
