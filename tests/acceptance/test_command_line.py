"""The commands as a person runs them: output, exit codes, errors in one line."""

import json
import os
import signal
import tomllib
from pathlib import Path

import pytest
import trustme

from presence import __version__
from tests.support.processes import Program
from tests.support.system import run
from tests.support.target import Answer, Target, always, hang_up, head, status
from tests.support.tls import authority_file, server_context

ALLOW = {"PRESENCE_EGRESS__ALLOW": '["127.0.0.0/8"]'}
POST = ["http://h/", "--subject-id", "1", "--method", "POST", "--body", "no json"]
JSON = ["--method", "POST", "--body", '{"id": "{SubjectId}"}', "--content-type", "application/json"]
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
        ("config",),
        ("config", "suggest-egress"),
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


async def test_fire_refused_as_json_says_why() -> None:
    async with Target() as target:
        code, out, err = await run("test-fire", target.url(), "--subject-id", "1", "--json")
        document = json.loads(out)
        assert (code, err, target.connections) == (3, "", 0)
        assert (document["state"], document["reason"]) == ("refused", "denied_loopback")
        assert (document["attempts"][0]["phase"], document["attempts"][0]["hint"]) == ("policy", "add_allow_rule")


async def test_fire_shows_a_table_with_the_phases() -> None:
    async with Target(status(503, 204)) as target:
        uri = f"http://localhost:{target.port}/{{SubjectId}}"
        code, out, err = await run("test-fire", uri, "--subject-id", "1", env=QUICK)
        assert (code, err) == (0, "")
        header, first, second, end = out.splitlines()
        columns = [
            "ATTEMPT",
            "OUTCOME",
            "ADDRESS",
            "DNS",
            "CONNECT",
            "TLS",
            "WRITE",
            "FIRST-BYTE",
            "BODY",
            "TOOK",
            "MS",
        ]
        assert header.split() == columns
        assert first.split()[:3] == ["1", "503", "127.0.0.1"]
        assert first.endswith("next in 0.0 s")
        assert second.split()[:3] == ["2", "204", "127.0.0.1"]
        assert second.split()[5] == "-"  # no TLS
        assert end == "succeeded: delivered"


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (status(200), 0, "succeeded: delivered"),
        (status(404), 1, "failed: status_final (check path)"),
        (status(410), 1, "failed: gone (change webhook)"),
        (always(b"HTTP/1.1 302 X\r\nLocation: http://evil.corp/\r\nContent-Length: 0\r\n\r\n"), 1, "302 to evil.corp"),
        (hang_up, 1, "first-byte: reset"),
    ],
    ids=["200", "404", "410", "302", "FIN"],
)
async def test_the_exit_code_says_how_it_ended(answer: Answer, code: int, said: str) -> None:
    async with Target(answer) as target:
        found, out, err = await run("test-fire", target.url(), "--subject-id", "1", env=QUICK)
        assert (found, err) == (code, "")
        assert said in out


async def test_fire_makes_as_many_attempts_as_are_asked_for() -> None:
    async with Target(status(503)) as target:
        for arguments, expected in ((["--max-attempts", "1"], 1), (["--max-attempts", "4"], 4), ([], 3)):
            target.requests.clear()
            code, _, _ = await run("test-fire", target.url(), "--subject-id", "1", *arguments, env=QUICK)
            assert (code, len(target.requests)) == (1, expected)


async def test_fire_with_a_body_from_a_file_where_a_rule_allows_the_method(tmp_path: Path) -> None:
    (tmp_path / "body.json").write_text('{"patch": "{SubjectId}", "ü": 1}', encoding="utf-8")
    arguments = ["--subject-id", "42", "--method", "POST", "--body", f"@{tmp_path / 'body.json'}"]
    arguments += ["--content-type", "application/json"]
    async with Target() as target:
        code, out, _ = await run("test-fire", target.url(), *arguments, env=QUICK)
        assert (code, "no rule of [egress] allows this method" in out) == (3, True)
        allowed = QUICK | {"PRESENCE_EGRESS__ALLOW": '["POST 127.0.0.1"]'}
        code, out, _ = await run("test-fire", target.url(), *arguments, env=allowed)
        assert code == 0
        (request,) = target.requests
        assert request.endswith('\r\n\r\n{"patch": "42", "ü": 1}'.encode())
        assert head(request)[1]["content-type"] == "application/json"
    code, _, err = await run("test-fire", "http://h/", *arguments[:5], f"@{tmp_path / 'absent'}", env=QUICK)
    assert (code, "absent cannot be read: No such file" in err) == (78, True)


async def test_fire_uses_the_targets_of_the_settings_and_shows_no_secret(tmp_path: Path) -> None:
    authority = trustme.CA()
    (tmp_path / "token").write_text("canary-secret\n")
    async with Target(tls=server_context(authority.issue_cert("localhost"))) as target:
        (tmp_path / "agent.toml").write_text(f"""
            [egress]
            allow = ["127.0.0.1"]
            [[targets]]
            host = "localhost"
            headers = {{ X-Token = {{ file = "{tmp_path / "token"}" }} }}
            ca_file = "{authority_file(authority, tmp_path)}"
        """)
        uri = f"https://localhost:{target.port}/{{SubjectId}}"
        arguments = ["test-fire", uri, "--subject-id", "1", "--config", str(tmp_path / "agent.toml")]
        shown = ""
        for more in (["--dry-run"], ["--dry-run", "--json"], [], ["--json"], ["--header", "Authorization=canary-own"]):
            code, out, err = await run(*arguments, *more)
            assert (code, err) == (0, "")
            shown += out
        assert [head(request)[1]["x-token"] for request in target.requests] == ["canary-secret"] * 3
        assert head(target.requests[2])[1]["authorization"] == "canary-own"
        assert "canary" not in shown
        assert f"trusted     the system's authorities and {tmp_path / 'authority.pem'}" in shown
        assert "headers     X-Token, webhook-id, webhook-timestamp" in shown


async def test_dry_run_explains_and_sends_nothing() -> None:
    async with Target() as target:
        code, out, err = await run("test-fire", target.url(), "--subject-id", "x", "--dry-run", env=ALLOW)
        assert (code, err) == (0, "")
        assert out.splitlines() == [
            f"request     GET {target.url('/ScanEnded/x')}",
            "headers     webhook-id, webhook-timestamp",
            f"host        127.0.0.1 port {target.port}",
            "address     127.0.0.1  allowed: allow rule '127.0.0.0/8'",
            "attempts    3; longest waits between them in s: 1, 2",
            "verdict     would be sent; nothing was sent",
        ]
        assert target.connections == 0


async def test_dry_run_as_json_is_one_document() -> None:
    async with Target() as target:
        arguments = ["--subject-id", "x", "--dry-run", "--json", "--header", "X-One=canary"]
        code, out, _ = await run("test-fire", target.url(), *arguments, env=ALLOW)
        document = json.loads(out)
        assert code == 0
        assert document == {
            "method": "GET",
            "uri": target.url("/ScanEnded/x"),
            "headers": ["X-One", "webhook-id", "webhook-timestamp"],
            "body": None,
            "host": "127.0.0.1",
            "port": target.port,
            "verdicts": [{"address": "127.0.0.1", "allowed": True, "because": "allow rule '127.0.0.0/8'"}],
            "proxy": None,
            "proxy_verdicts": [],
            "trust": None,
            "longest_waits": [1.0, 2.0],
            "refused": None,
            "fault": None,
            "sent": False,
        }
        assert target.connections == 0


@pytest.mark.parametrize(
    ("uri", "code", "said"),
    [
        ("http://10.1.2.3/{SubjectId}", 0, "10.1.2.3  allowed: private address"),
        ("http://127.0.0.1/", 3, "loopback needs a rule that names it by address"),
        ("http://169.254.169.254/", 3, "169.254.169.254  refused: denied_always"),
        ("http://[::ffff:10.1.2.3]/", 3, "this address is never reached"),
        ("http://8.8.8.8/", 3, "no rule of [egress] allows it"),
        ("http://10.6.6.6/", 3, "a deny rule of [egress] matches it"),
        ("http://10.1.2.3/%2f/x", 3, "the URI has %2F"),
        ("http://nowhere.invalid/", 1, "the name does not resolve; nothing was sent"),
    ],
)
async def test_dry_run_says_what_the_policy_says(uri: str, code: int, said: str) -> None:
    env = {"PRESENCE_EGRESS__DENY": '["10.6.0.0/16", "10.1.2.3/32/private"]'}
    if "%2f" not in uri:
        env["PRESENCE_EGRESS__DENY"] = '["10.6.0.0/16"]'
    found, out, err = await run("test-fire", uri, "--subject-id", "x", "--dry-run", env=env)
    assert (found, err) == (code, "")
    assert said in out
    found, out, _ = await run("test-fire", uri, "--subject-id", "x", "--dry-run", "--json", env=env)
    assert (found, json.loads(out)["sent"]) == (code, False)


async def test_dry_run_explains_the_proxy() -> None:
    async with Target() as proxy:
        env = {
            "PRESENCE_TARGETS": json.dumps([{"host": "*.corp", "proxy": proxy.url(""), "proxy_resolves": True}]),
            "PRESENCE_EGRESS__ALLOW": '["*.corp"]',
        }
        code, out, err = await run("test-fire", "http://h.corp/", "--subject-id", "x", "--dry-run", env=env)
        assert (code, err) == (0, "")
        lines = out.splitlines()
        assert f"proxy       127.0.0.1:{proxy.port}" in lines
        assert "proxy at    127.0.0.1  allowed: configured proxy" in lines
        assert "verdict     would be sent; nothing was sent" in lines
        del env["PRESENCE_EGRESS__ALLOW"]
        code, out, _ = await run("test-fire", "http://h.corp/", "--subject-id", "x", "--dry-run", env=env)
        assert (code, "through a proxy a target needs a rule of its own" in out) == (3, True)
        assert proxy.connections == 0


async def test_fire_names_the_proxy_of_each_attempt() -> None:
    async with Target(status(502)) as proxy:
        env = QUICK | {
            "PRESENCE_TARGETS": json.dumps([{"host": "*.corp", "proxy": proxy.url(""), "proxy_resolves": True}]),
            "PRESENCE_EGRESS__ALLOW": '["*.corp"]',
        }
        _, out, _ = await run("test-fire", "http://h.corp/", "--subject-id", "x", env=env)
        assert out.count(f"through 127.0.0.1:{proxy.port}") == 3


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
        (["http://h/%2E{SubjectId}", "--subject-id", "%2e"], "path segment"),
        (["http://h/{SubjectId}", "--subject-id", "a\\b"], "backslash"),
        (["http://h/{SubjectId}", "--subject-id", "a\nb"], "U+000A"),
        (["http://h/", "--subject-id", "1", "--header", "X Y=1"], "header name"),
        (["http://h/", "--subject-id", "1", "--header", "X-Y"], "NAME=VALUE"),
        (["http://h/", "--subject-id", "1", "--header", "Host=h"], "set by the agent itself"),
        (["http://h/", "--subject-id", "1", "--header", "X=a\r\nY: b"], "characters a header cannot have"),
        (["http://h/", "--subject-id", "1", "--method", "DELETE"], "'DELETE' is not one of"),
        (["http://h/", "--subject-id", "1", "--max-attempts", "0"], "--max-attempts"),
        (["http://h/", "--subject-id", "1", "--body", "b"], "a GET has no body"),
        (["http://h/", "--subject-id", "1", "--content-type", "a/b"], "there is no body"),
        ([*POST, "--content-type", "json"], "not a media type"),
        ([*POST, "--content-type", "a/b\r\nX: y"], "not a media type"),
        ([*POST, "--content-type", "application/json"], "not JSON"),
        (["http://h/", "--subject-id", '"', *JSON], "would end its string"),
        (["http://h/", "--subject-id", "1", "--method", "PUT", "--body", "x" * 8193], "at most 8192"),
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


@pytest.mark.parametrize("more", [[], ["--json"]])
async def test_without_observations_there_is_nothing_to_suggest(tmp_path: Path, more: list[str]) -> None:
    env = {"PRESENCE_JOURNAL__PATH": str(tmp_path / "journal.db")}
    code, out, err = await run("config", "suggest-egress", *more, env=env)
    assert (code, out) == (1, "")
    (line,) = err.splitlines()
    assert f"{tmp_path / 'egress-seen.json'}: nothing was observed yet" in line
    assert 'mode = "observe"' in line
    (tmp_path / "egress-seen.json").write_text("broken")
    code, _, err = await run("config", "suggest-egress", *more, env=env)
    (line,) = err.splitlines()
    assert (code, "remove it to begin anew" in line) == (78, True)


async def test_suggested_rules_can_be_used_as_they_are(tmp_path: Path) -> None:
    sights = [
        {"scheme": "http", "host": "jenkins.corp", "port": 8080, "method": method, "address": "10.1.2.3"}
        for method in ("GET", "POST")
    ]
    sights.append({"scheme": "https", "host": "fd00::1", "port": 443, "method": "GET", "address": "fd00::1"})
    (tmp_path / "egress-seen.json").write_text(json.dumps(sights))
    env = {"PRESENCE_JOURNAL__PATH": str(tmp_path / "journal.db"), "PRESENCE_EGRESS__DENY": '["10.6.6.6"]'}
    code, out, err = await run("config", "suggest-egress", env=env)
    assert (code, err) == (0, "")
    egress = {
        "default": "deny",
        "mode": "enforce",
        "allow": ["GET,POST http://jenkins.corp:8080", "https://[fd00::1]:443"],
        "deny": ["10.6.6.6"],
    }
    assert tomllib.loads(out) == {"egress": egress}
    code, document, _ = await run("config", "suggest-egress", "--json", env=env)
    assert (code, json.loads(document)) == (0, egress)
    (tmp_path / "agent.toml").write_text(out)
    arguments = ["--subject-id", "1", "--dry-run", "--config", str(tmp_path / "agent.toml")]
    code, out, _ = await run("test-fire", "https://[fd00::1]/x", *arguments)
    assert (code, "allow rule 'https://[fd00::1]:443'" in out) == (0, True)
    code, out, _ = await run("test-fire", "https://[fd00::2]/x", *arguments)
    assert code == 3


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
