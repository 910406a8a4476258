"""The commands as a person runs them: output, exit codes, errors in one line."""

import json
import os
import signal
from pathlib import Path

import pytest

from presence import __version__
from tests.support.processes import Program
from tests.support.system import run
from tests.support.target import Target, head, status

ALLOW = {"PRESENCE_EGRESS__ALLOW": '["127.0.0.0/8"]'}
QUICK = ALLOW | {"PRESENCE_RETRY__INITIAL": "0.01", "PRESENCE_RETRY__MAXIMUM": "0.02"}


async def test_version() -> None:
    assert await run("--version") == (0, f"presence, version {__version__}\n", "")


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("demo",),
        ("run",),
        ("test-fire",),
        ("control-plane",),
        *((("control-plane", c)) for c in ("init", "serve", "migrate")),
    ],
    ids=lambda command: " ".join(command) or "presence",
)
async def test_every_command_has_help_with_an_example(command: tuple[str, ...]) -> None:
    code, out, _ = await run(*command, "--help")
    assert code == 0
    assert "Example:" in out or "Example: " in out


async def test_fire_delivers() -> None:
    async with Target() as target:
        code, out, err = await run("test-fire", target.url(), "--subject-id", "a/b", env=ALLOW)
        assert (code, err) == (0, "")
        assert "204" in out
        assert "succeeded" in out
        assert head(target.requests[0])[0] == "GET /ScanEnded/a%2Fb HTTP/1.1"


async def test_fire_as_json_is_one_document_with_every_attempt(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-a-file\n")
    async with Target(status(503, 204)) as target:
        arguments = ["--subject-id", "1", "--json", "--header", "X-One=1", "--header", f"X-Two=@{tmp_path / 'token'}"]
        code, out, _ = await run("test-fire", target.url(), *arguments, env=QUICK)
        document = json.loads(out)
        assert (code, document["state"]) == (0, "succeeded")
        assert [attempt["status"] for attempt in document["attempts"]] == [503, 204]
        headers = head(target.requests[1])[1]
        assert (headers["x-one"], headers["x-two"]) == ("1", "from-a-file")
        assert headers["webhook-id"] == head(target.requests[0])[1]["webhook-id"]


async def test_fire_gives_up_with_exit_code_1() -> None:
    async with Target() as target:
        closed = target.port
    code, out, _ = await run("test-fire", f"http://127.0.0.1:{closed}/", "--subject-id", "1", env=QUICK)
    assert code == 1
    assert out.count("connection_refused") == 3


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1/{SubjectId}", "http://169.254.169.254/latest/{SubjectId}"])
async def test_fire_refused_by_the_policy_is_exit_code_3(uri: str) -> None:
    code, out, _ = await run("test-fire", uri, "--subject-id", "1")
    assert (code, "refused" in out) == (3, True)
    code, out, _ = await run("test-fire", uri, "--subject-id", "1", "--dry-run", "--json")
    assert (code, json.loads(out)["sent"]) == (3, False)


async def test_dry_run_explains_and_sends_nothing() -> None:
    async with Target() as target:
        code, out, _ = await run("test-fire", target.url(), "--subject-id", "x", "--dry-run", env=ALLOW)
        assert code == 0
        assert f"GET {target.url('/ScanEnded/x')}" in out
        assert "allow rule 127.0.0.0/8" in out
        assert target.connections == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["http://h/{Subject}", "--subject-id", "1"], "{Subject} is unknown"),
        (["http://h/{SubjectId", "--subject-id", "1"], "brace"),
        (["http://{SubjectId}/", "--subject-id", "1"], "host or port"),
        (["ftp://h/", "--subject-id", "1"], "scheme"),
        (["http://h/{SubjectId}", "--subject-id", ".."], "change the path"),
        (["http://h/{SubjectId}", "--subject-id", ""], "empty"),
        (["http://h/"], "--subject-id"),
        (["http://h/", "--subject-id", "1", "--header", "X Y=1"], "header name"),
    ],
)
async def test_fire_with_bad_input_is_exit_code_2(arguments: list[str], expected: str) -> None:
    code, out, err = await run("test-fire", *arguments)
    assert (code, out) == (2, "")
    assert expected in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "env", "expected"),
    [
        (("run",), {}, "control_plane.url is not set"),
        (("run", "--config", "/nowhere.toml"), {}, "/nowhere.toml: there is no such file"),
        (("run",), {"PRESENCE_CONTROL_PLANE__URL": "ws://cloud.example.com"}, "not encrypted"),
        (("run",), {"PRESENCE_NOPE": "1"}, "PRESENCE_NOPE"),
        (("control-plane", "serve"), {"PRESENCE_CP_NOPE": "1"}, "PRESENCE_CP_NOPE"),
        (("control-plane", "serve", "--config", "/nowhere.toml"), {}, "/nowhere.toml"),
    ],
)
async def test_a_configuration_error_is_one_line_and_exit_code_78(
    arguments: tuple[str, ...], env: dict[str, str], expected: str
) -> None:
    code, out, err = await run(*arguments, env=env)
    assert (code, out) == (78, "")
    assert expected in err
    assert len(err.splitlines()) == 1


async def test_serving_an_uninitialised_database_says_what_to_run(tmp_path: Path) -> None:
    env = {"PRESENCE_CP_DATABASE__URL": f"sqlite:///{tmp_path / 'none.db'}", "PRESENCE_CP_SERVER__PORT": "0"}
    code, _, err = await run("control-plane", "serve", env=env)
    assert code == 78
    assert "control-plane init" in err


async def test_the_demo_shows_the_whole_way() -> None:
    code, out, err = await run("demo")
    assert code == 0, err
    for step in ("event", "201", "dispatched", "accepted", "request", "succeeded"):
        assert f"  {step} " in out
    assert "GET /ScanEnded/9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b HTTP/1.1" in out
    assert out.rstrip().splitlines()[-1].startswith("delivered: ")


async def test_the_demo_as_json_is_one_document() -> None:
    code, out, _ = await run("demo", "--json")
    document = json.loads(out)
    assert (code, document["delivered"], document["delivery"]["State"]) == (0, True, "succeeded")
    assert document["request"].startswith("GET /ScanEnded/9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b HTTP/1.1\r\n")


async def test_the_demo_can_be_kept_and_cleans_up_after_an_interrupt(tmp_path: Path) -> None:
    async with Program("demo", "--keep", env={"TMPDIR": str(tmp_path)}) as demo:
        await demo.said("running until Ctrl-C")
        assert len(os.listdir(tmp_path)) == 1
        demo.signal(signal.SIGINT)
        assert await demo.exited() == 0
    assert os.listdir(tmp_path) == []
    assert _processes_naming(str(tmp_path)) == []


def _processes_naming(text: str) -> list[str]:
    """Command lines of running processes whose environment names the text."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if text in (process / "environ").read_text(errors="replace"):
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found
