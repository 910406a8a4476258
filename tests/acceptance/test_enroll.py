"""`presence enroll` as a person runs it."""

import asyncio
import json
import sys
from pathlib import Path

import pytest
import trustme

from tests.support.enrolment import ENROLLED, KEY, REFUSED, EnrollingServer
from tests.support.interception import InterceptingProxy
from tests.support.processes import Program, agent_env
from tests.support.system import control_plane, run
from tests.support.tls import authority_file, server_context

TOKEN = "et_CANARY-TOKEN-0123456789"


async def enroll(url: str, key: Path, *more: str, stdin: str = f"{TOKEN}\n", **env: str) -> tuple[int, str, str]:
    arguments = "enroll", "--control-plane", url, "--token-file", "-", "--key-file", str(key), *more
    code, out, err = await run(*arguments, env=env, stdin=stdin)
    assert "CANARY" not in out + err
    assert "Traceback" not in err
    return code, out, err


def names(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


async def test_a_token_becomes_a_key(tmp_path: Path) -> None:
    key = tmp_path / "presence.key"
    async with EnrollingServer((200, ENROLLED)) as server:
        code, out, err = await enroll(server.root(), key)
        assert (code, err) == (0, "")
        assert server.lines() == ["POST /api/v4/Presences/Enroll HTTP/1.1"]
        (asked,) = server.asked()
    assert asked["Token"] == TOKEN
    assert len(asked["Nonce"]) >= 43
    assert json.loads(key.read_text())["Key"] == KEY
    assert key.stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["presence.key"]
    assert "enrolled as office" in out
    assert f'key_file = "{key}"' in out
    assert f'url = "{server.root()}"' in out
    code, out, _ = await run("config", "check", env={"PRESENCE_CONTROL_PLANE__KEY_FILE": str(key)})
    assert code == 0


async def test_what_a_token_became_as_json(tmp_path: Path) -> None:
    key = tmp_path / "presence.key"
    async with EnrollingServer((200, ENROLLED)) as server:
        code, out, err = await enroll(server.root(), key, "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["settings"] == {"control_plane": {"url": server.root(), "key_file": str(key)}}
    assert (document["presence_name"], document["key_file"]) == ("office", str(key))
    assert {"presence_id", "expires_at"} <= document.keys()
    assert KEY not in out


async def test_the_token_can_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    async with EnrollingServer((200, ENROLLED)) as server:
        arguments = "--control-plane", server.root(), "--token-file", str(tmp_path / "token")
        code, _, err = await run("enroll", *arguments, "--key-file", str(tmp_path / "key"))
        assert (code, err) == (0, "")
        assert server.asked()[0]["Token"] == TOKEN


async def test_the_same_command_after_a_lost_answer_asks_with_the_same_nonce(tmp_path: Path) -> None:
    key = tmp_path / "key"
    async with EnrollingServer(None, (503, {}), (200, ENROLLED)) as server:
        code, _, err = await enroll(server.root(), key)
        assert code == 69
        assert "was not reached" in err
        assert names(tmp_path) == ["key.enrolling"]
        assert (tmp_path / "key.enrolling").stat().st_mode & 0o777 == 0o600
        assert TOKEN not in (tmp_path / "key.enrolling").read_text()
        assert (await enroll(server.root(), key))[0] == 69
        assert (await enroll(server.root(), key))[0] == 0
        assert len({asked["Nonce"] for asked in server.asked()}) == 1
    assert names(tmp_path) == ["key"]


async def test_another_token_gets_another_nonce(tmp_path: Path) -> None:
    async with EnrollingServer((401, REFUSED), (200, ENROLLED)) as server:
        code, _, err = await enroll(server.root(), tmp_path / "key")
        assert code == 77
        assert err == "presence: error: the control plane refuses the token: the token has expired\n"
        assert (await enroll(server.root(), tmp_path / "key", stdin="et_another"))[0] == 0
        assert len({asked["Nonce"] for asked in server.asked()}) == 2


async def test_an_existing_key_is_kept_unless_forced(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("old")
    async with EnrollingServer((200, ENROLLED)) as server:
        code, _, err = await enroll(server.root(), key)
        assert (code, server.requests, key.read_text()) == (78, [], "old")
        assert "--force" in err
        assert (await enroll(server.root(), key, "--force"))[0] == 0
    assert json.loads(key.read_text())["Key"] == KEY
    assert key.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("status", "said", "code"),
    [
        (400, REFUSED, 77),
        (409, REFUSED, 77),
        (404, REFUSED, 69),
        (401, b"<html>log in</html>", 69),
        (200, b"<html>welcome</html>", 69),
        (200, {"Key": KEY}, 69),
        (200, ENROLLED | {"Key": "two\nlines"}, 69),
        (302, {}, 69),
        (429, REFUSED, 69),
        (200, b"x" * 200_000, 69),
    ],
)
async def test_what_is_no_key_leaves_no_key(tmp_path: Path, status: int, said: object, code: int) -> None:
    async with EnrollingServer((status, said)) as server:
        found, out, err = await enroll(server.root(), tmp_path / "key")
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert not (tmp_path / "key").exists()


@pytest.mark.parametrize("stdin", ["", "two words", "t" * 2000, "naïve"])
async def test_what_is_no_token_is_not_sent(tmp_path: Path, stdin: str) -> None:
    async with EnrollingServer((200, ENROLLED)) as server:
        code, _, err = await enroll(server.root(), tmp_path / "key", stdin=stdin)
        assert (code, server.requests) == (77, [])
    assert "no enrolment token" in err


async def test_a_token_is_never_sent_in_clear_to_another_host(tmp_path: Path) -> None:
    code, _, err = await enroll("http://presence.example.com", tmp_path / "key")
    assert code == 78
    assert "not encrypted" in err


async def test_a_directory_that_cannot_be_written_costs_no_token(tmp_path: Path) -> None:
    async with EnrollingServer((200, ENROLLED)) as server:
        code, _, err = await enroll(server.root(), tmp_path / "missing" / "key")
        assert (code, server.requests) == (78, [])
    assert "cannot be written: No such file or directory" in err


async def test_without_a_terminal_the_token_is_not_asked_for(tmp_path: Path) -> None:
    code, _, err = await run("enroll", "--control-plane", "https://x", "--key-file", str(tmp_path / "key"))
    assert code == 2
    assert "--token-file" in err


async def test_nothing_listens(tmp_path: Path) -> None:
    async with EnrollingServer((200, ENROLLED)) as server:
        url = server.root()
    code, _, err = await enroll(url, tmp_path / "key")
    assert code == 69
    assert "connection refused" in err


async def test_it_goes_the_way_of_the_link(tmp_path: Path) -> None:
    """Through the proxy of the settings, trusting the authority of the settings, below the path of the URL."""
    inspector, authority = trustme.CA(organization_name="Corp Inspection"), trustme.CA()
    tls = server_context(authority.issue_cert("127.0.0.1"))
    async with EnrollingServer((200, ENROLLED), tls=tls) as server, InterceptingProxy(inspector) as proxy:
        settings = {"PRESENCE_CONTROL_PLANE__PROXY": proxy.url}
        url = f"{server.root()}/cloud/agent/v1"
        code, _, err = await enroll(url, tmp_path / "key", **settings)
        assert code == 69
        assert "issued by 'Corp Inspection' is not trusted: looks like TLS inspection" in err
        assert server.requests == []
        settings["PRESENCE_CONTROL_PLANE__CA_FILE"] = authority_file(inspector, tmp_path)
        code, _, err = await enroll(url, tmp_path / "key", **settings)
        assert (code, err) == (0, "")
        assert server.lines() == ["POST /cloud/api/v4/Presences/Enroll HTTP/1.1"]


async def test_with_the_real_control_plane_a_token_opens_a_session_and_nothing_a_second_time(tmp_path: Path) -> None:
    key, state = tmp_path / "presence.key", tmp_path / "state"
    async with control_plane(tmp_path) as cloud:
        made = await cloud.api.call("POST", f"Presences/{cloud.presence_id}/EnrollmentToken")
        code, out, err = await enroll(cloud.api.url, key, stdin=made["Token"])
        assert (code, err) == (0, "")
        assert f"enrolled as test ({cloud.presence_id})" in out
        env = agent_env(cloud.api.url, "", state, PRESENCE_CONTROL_PLANE__KEY_FILE=str(key))
        del env["PRESENCE_CONTROL_PLANE__KEY"]
        async with Program("run", env=env) as agent:
            await agent.said("link", state="online")
        code, _, err = await enroll(cloud.api.url, tmp_path / "another.key", stdin=made["Token"])
        assert code == 77
        assert "refuses the token" in err


async def test_a_person_is_asked_without_an_echo(tmp_path: Path) -> None:
    async with EnrollingServer((200, ENROLLED)) as server:
        words = f"{sys.executable} -m presence enroll --control-plane {server.root()} --key-file {tmp_path}/key"
        terminal = await asyncio.create_subprocess_exec(
            *("script", "--quiet", "--return", "--command", words, "/dev/null"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert terminal.stdin is not None
        assert terminal.stdout is not None
        async with asyncio.timeout(20):
            shown = await terminal.stdout.readuntil(b"Enrolment token: ")
            terminal.stdin.write(f"{TOKEN}\r".encode())
            shown += await terminal.stdout.read()
            assert await terminal.wait() == 0, shown
        assert b"CANARY" not in shown
        assert server.asked()[0]["Token"] == TOKEN
