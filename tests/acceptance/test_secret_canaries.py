"""Secrets of every kind are planted, used, and then looked for wherever the two programs leave anything.

One run of the real control plane and the real agent, both at log level debug: enrolled, delivered, failed, refused,
held, cut off, reloaded, asked by every command. Each secret is seen to have arrived where it belongs; where it may be
seen besides that is written down in ALLOWED, by name, and it is nowhere else.
"""

import asyncio
import base64
import json
import secrets
import signal
import sqlite3
import tarfile
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from tests.support.metrics import scraped
from tests.support.processes import Program
from tests.support.recorder import Recorder
from tests.support.system import Api, Cloud, control_plane, run
from tests.support.target import NO_CONTENT, Target, always, hang_up, head, status
from tests.support.tls import authority_file, server_context

CONTENT = {"query", "body", "subject"}
"""What a webhook says, and what it was fired for: a user of the API who may see the webhook reads it there."""
ALLOWED: dict[str, set[str]] = {
    "API answers": CONTENT,
    "database": CONTENT,
    "control plane's log": {"subject"},
    "deliveries show": {"subject"},
    "heads of the link": {"key", "enrolment token", "link-proxy"},
}
PLACES = {
    *("agent's log", "control plane's log", "/metrics", "/proc/cmdline", "/proc/environ", "journal", "database"),
    *("API answers", "status", "healthcheck", "doctor", "doctor --bundle", "config show", "config check"),
    *("deliveries list", "deliveries show", "heads of the link", "frame hello", "frame report", "frame held"),
    "/status after a refused reload",
}
FIELDS = {"authorization": "authorization", "body": "body", "subject": "subject_id", "query": "uri"}
"""The canaries that a Fire frame holds, and the journal while the delivery has not ended; each in its own place."""


def canary(name: str) -> str:
    return f"canary-{name}-{secrets.token_hex(8)}"


@dataclass
class Search:
    """`secrets` by name; what was looked at, by its place."""

    secrets: dict[str, str] = field(default_factory=dict)
    found: set[tuple[str, str]] = field(default_factory=set)
    looked_at: set[str] = field(default_factory=set)

    def look(self, place: str, *texts: str | bytes) -> None:
        for text in filter(None, texts):
            self.looked_at.add(place)
            data = text if isinstance(text, bytes) else text.encode()
            for name, secret in self.secrets.items():
                if any(form in data for form in forms(secret)):
                    self.found.add((place, name))

    @property
    def leaks(self) -> set[tuple[str, str]]:
        return {(place, name) for place, name in self.found if name not in ALLOWED.get(place, ())}


def forms(secret: str) -> Iterable[bytes]:
    """As it is, and as Basic credentials have it."""
    yield secret.encode()
    yield base64.b64encode(f"user:{secret}".encode())


def written(*files: Path) -> bytes:
    return b"".join(file.read_bytes() for file in files if file.is_file())


def journal_files(directory: Path) -> tuple[Path, ...]:
    return directory / "journal.db", directory / "journal.db-wal"


def cells(directory: Path, scratch: Path) -> list[dict[str, Any]]:
    """The rows of a copy of the journal: a running agent lets nobody else open it."""
    for file in journal_files(directory):
        (scratch / file.name).write_bytes(file.read_bytes())
    with closing(sqlite3.connect(scratch / "journal.db")) as copy:
        copy.row_factory = sqlite3.Row
        return [dict(row) for row in copy.execute("SELECT * FROM delivery")]


@dataclass
class Targets:
    """Those that the webhooks lead to: behind TLS with client certificates, behind a proxy, broken, and undecided."""

    whole: Target
    proxy: Target
    broken: Target
    undecided: Target


def settings(directory: Path, cloud: Cloud, recorder: Recorder, targets: Targets, retention: float = 86_400) -> str:
    files = directory / "files"
    tables: list[tuple[str, dict[str, Any]]] = [
        ("control_plane", {
            "url": cloud.api.url.replace("http", "ws"), "key_file": str(files / "key"), "proxy": recorder.url,
            "proxy_credentials_file": str(files / "link-proxy"),
        }),
        ("egress", {"allow": ["GET,POST 127.0.0.1", "GET,POST jira.corp"]}),
        ("delivery", {"first_byte_timeout": 5.0}),
        ("retry", {"initial": 0.05, "maximum": 0.2, "max_attempts": 3}),
        ("journal", {"path": str(directory / "journal.db"), "retention": retention}),
        ("health", {"listen": ["127.0.0.1:0"]}),
        ("control", {"socket": str(directory / "control.sock")}),
        ("log", {"level": "debug"}),
        ("[targets]", {
            "host": f"https://127.0.0.1:{targets.whole.port}", "ca_file": str(files / "authority.pem"),
            "client_cert": str(files / "client.pem"), "client_key": str(files / "client.key"),
        }),
        ("targets.headers", {"X-Secret": {"file": str(files / "header")}}),
        ("[targets]", {
            "host": "jira.corp", "proxy": targets.proxy.url(""), "proxy_resolves": True,
            "proxy_credentials_file": str(files / "target-proxy"),
        }),
    ]  # fmt: skip
    return "\n".join(f"[{name}]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in table.items())
                     for name, table in tables)  # fmt: skip


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


def plant(files: Path, authority: trustme.CA) -> dict[str, str]:
    """The secrets that an administrator of the agent has in files."""
    files.mkdir()
    client = authority.issue_cert("agent.corp")
    pem = client.private_key_pem.bytes().decode()
    planted = {name: canary(name) for name in ("header", "link-proxy", "target-proxy")}
    contents = {
        "header": planted["header"],
        "link-proxy": f"user:{planted['link-proxy']}",
        "target-proxy": f"user:{planted['target-proxy']}",
        "client.key": pem,
        "client.pem": client.cert_chain_pems[0].bytes().decode(),
    }
    for name, text in contents.items():
        (files / name).write_text(text)
        (files / name).chmod(0o600)
    authority_file(authority, files)
    return planted | {"client's key": pem.splitlines()[1]}


async def keys_of(cloud: Cloud, config: Path, key_file: Path) -> dict[str, str]:
    """The API key, a bearer token, the enrolment token and the presence key that it is traded for."""
    secret = (new := await cloud.api.call("POST", "Account/ApiKey"))["KeySecret"]
    await cloud.api.login(new)
    bearer = cloud.api._http.headers["Authorization"].removeprefix("Bearer ")
    token = (await cloud.api.call("POST", f"Presences/{cloud.presence_id}/EnrollmentToken"))["Token"]
    arguments = "--token-file", "-", "--key-file", str(key_file), "--config", str(config)
    code, out, err = await run("enroll", *arguments, stdin=token)
    assert code == 0, err
    assert token not in out + err
    return {"API secret": secret, "bearer token": bearer, "enrolment token": token, "key": key_in(key_file)}


def key_in(file: Path) -> str:
    return str(json.loads(file.read_text())["Key"])


async def webhooks(cloud: Cloud, targets: Targets, planted: dict[str, str]) -> dict[str, str]:
    """Their ids, by what becomes of their deliveries."""
    query, body = f"?token={planted['query']}&id={{SubjectId}}", json.dumps({"x": planted["body"]})
    uris = {
        "delivered": targets.whole.url(f"/in/{{SubjectId}}{query}"),
        "proxied": f"http://jira.corp/{query}",
        "failed": targets.broken.url(f"/{query}"),
        "refused": f"http://169.254.169.254/{query}",
        "held": targets.undecided.url(f"/{query}"),
    }
    made = {}
    for name, uri in uris.items():
        new = {
            "PresenceId": cloud.presence_id, "Uri": uri, "Event": "ScanExecutionCompleted", "Global": True,
            "RequestMethod": "POST", "RequestBody": body, "ContentType": "application/json", "OnUnknown": "Hold",
            "AuthorizationHeader": f"Bearer {planted['authorization']}",
        }  # fmt: skip
        made[name] = (await cloud.api.call("POST", "Webhooks", new))["Id"]
    return made


async def state(api: Api, webhook: str, wanted: set[str]) -> dict[str, Any]:
    """The webhook's delivery once it is in one of these states. The log has no event to wait for: it is asked."""
    until = asyncio.get_running_loop().time() + 30
    while True:
        items = (await api.call("GET", "Deliveries"))["Items"]
        (delivery,) = [item for item in items if item["WebhookId"] == webhook]
        if delivery["State"] in wanted:
            return dict(delivery)
        assert asyncio.get_running_loop().time() < until, json.dumps(delivery)
        await asyncio.sleep(0.05)


async def look_at_the_api(search: Search, cloud: Cloud, made: dict[str, str]) -> None:
    for path in ("Webhooks", "Audits", "Deliveries", "Presences", "User", "Roles", "Apps", "Account/TenantInfo",
                 f"Presences/{cloud.presence_id}", "EffectiveAccess?host=127.0.0.1"):  # fmt: skip
        search.look("API answers", await cloud.api.answer("GET", path))
    wrong = {"AuthorizationHeader": search.secrets["authorization"], "RequestMethod": search.secrets["header"]}
    search.look("API answers", await cloud.api.answer("PUT", f"Webhooks/{made['held']}", wrong))
    search.look("API answers", await cloud.api.answer("POST", "Account/ApiKeyLogin", {"KeySecret": 7, "KeyId": "x"}))


async def look_at_the_commands(search: Search, config: Path, directory: Path) -> None:
    bundle = directory / "support.tar.gz"
    listed = await run("deliveries", "list", "--all", "--json", "--config", str(config))
    ids = [delivery["id"] for delivery in json.loads(listed[1])["deliveries"]]
    assert len(ids) == 5
    search.look("deliveries list", *map(str, listed))
    for id_ in ids:
        for more in ((), ("--json",)):
            search.look(
                "deliveries show", *map(str, await run("deliveries", "show", id_, *more, "--config", str(config)))
            )
    for place, *arguments in (
        ("deliveries list", "deliveries", "list", "--all"),
        ("config show", "config", "show"),
        ("config show", "config", "show", "--json"),
        ("config check", "config", "check"),
        ("status", "status"),
        ("status", "status", "--json"),
        ("healthcheck", "healthcheck", "--ready"),
        ("doctor", "doctor", "--bundle", str(bundle)),
    ):
        code, out, err = await run(*arguments, "--config", str(config))
        assert code == 0, (arguments, out, err)
        search.look(place, out, err)
    with tarfile.open(bundle) as archive:
        parts = [archive.extractfile(member) for member in archive]
        search.look("doctor --bundle", *(part.read() for part in parts if part is not None))


def look_at_the_frames(search: Search, recorder: Recorder) -> None:
    """Each canary of a fire in its own field and nowhere else; no other message has any."""
    said = [message for passage in recorder.passages for message in passage.messages()]
    fires = [message for message in said if message["type"] == "fire"]
    assert len(fires) == 5
    for message in said:
        rest = dict(message)
        if message["type"] == "fire":
            for name, key in FIELDS.items():
                assert search.secrets[name] in rest.pop(key)
        search.look(f"frame {message['type']}", json.dumps(rest))
    assert {"hello", "welcome", "fire", "accepted", "report", "held", "release"} <= {
        message["type"] for message in said
    }
    for passage in recorder.passages:
        search.look("heads of the link", passage.heads)


def look_at_the_journal(search: Search, directory: Path, scratch: Path) -> None:
    """While a delivery is held, its canaries are in their columns; authorizations of what has ended are nowhere."""
    rows = cells(directory, scratch)
    assert len(rows) == 5
    for row in rows:
        held = row["state"] == "held"
        for name, column in FIELDS.items():
            value = row.pop(column)
            if name != "authorization" or held:
                assert search.secrets[name] in value
            else:
                assert value is None
        search.look("journal", json.dumps(row))
    raw = written(*journal_files(directory))
    others = Search({name: secret for name, secret in search.secrets.items() if name not in FIELDS})
    others.look("journal", raw)
    search.found |= others.found


def look_at_the_processes(search: Search, *programs: Program) -> None:
    for program in programs:
        for name in ("cmdline", "environ"):
            search.look(f"/proc/{name}", (Path("/proc") / str(program.pid) / name).read_bytes())


async def erased(search: Search, names: set[str], *files: Path) -> None:
    """Returns when none of these is in the files: a file has no event to wait for."""
    async with asyncio.timeout(20):
        while True:
            raw = written(*files)
            if not any(form in raw for name in names for form in forms(search.secrets[name])):
                return
            await asyncio.sleep(0.05)


async def reloaded(agent: Program, config: Path, secret: str) -> None:
    """With other settings, and with a file where a secret stands in the wrong place."""
    append(config, "rate = 1000.0")
    agent.signal(signal.SIGHUP)
    await agent.said("settings reloaded")
    append(config, f'max_in_flight = "{secret}"')
    agent.signal(signal.SIGHUP)
    await agent.said("settings not reloaded")


async def refusal(place: str) -> str:
    """The state that the agent tells, with why it has not taken its settings."""
    async with aiohttp.ClientSession() as http, http.get(f"http://{place}/status") as answer:
        text = await answer.text()
    assert "max_in_flight" in json.loads(text)["reload"]["fault"]
    return text


def append(config: Path, line: str) -> None:
    with config.open("a") as file:
        file.write(f"{line}\n")


def arrived(search: Search, targets: Targets, recorder: Recorder) -> None:
    """Each secret was in use: what it is for has seen it."""
    planted = search.secrets
    (request,) = targets.whole.requests
    line, headers = head(request)
    assert line == f"POST /in/{planted['subject']}?token={planted['query']}&id={planted['subject']} HTTP/1.1"
    assert headers["authorization"] == f"Bearer {planted['authorization']}"
    assert headers["x-secret"] == planted["header"]
    assert json.loads(request.partition(b"\r\n\r\n")[2]) == {"x": planted["body"]}
    (request,) = targets.proxy.requests
    given = head(request)[1]["proxy-authorization"].removeprefix("Basic ")
    assert base64.b64decode(given).decode() == f"user:{planted['target-proxy']}"
    heads = b"".join(passage.heads for passage in recorder.passages)
    for name in ("key", "enrolment token"):
        assert planted[name].encode() in heads
    assert base64.b64encode(f"user:{planted['link-proxy']}".encode()) in heads
    # The client's key: the first target takes nobody without its certificate.


@pytest.mark.timeout(240)
async def test_planted_secrets_are_where_they_belong_and_nowhere_else(tmp_path: Path) -> None:
    directory, cloud_directory, scratch = (tmp_path / name for name in ("agent", "cloud", "scratch"))
    for made_one in (directory, cloud_directory, scratch):
        made_one.mkdir()
    authority, config = trustme.CA(), directory / "agent.toml"
    tls = server_context(authority.issue_cert("127.0.0.1"), clients=authority)
    search = Search(plant(directory / "files", authority))
    search.secrets |= {name: canary(name) for name in ("query", "body", "subject", "authorization", "mistake")}
    async with (
        Target(tls=tls) as whole, Target() as proxy, Target(status(404)) as broken, Target(hang_up) as undecided,
        Recorder() as recorder, control_plane(cloud_directory, PRESENCE_CP_LOG__LEVEL="debug") as cloud,
    ):  # fmt: skip
        targets = Targets(whole, proxy, broken, undecided)
        config.write_text(settings(directory, cloud, recorder, targets))
        search.secrets |= await keys_of(cloud, config, directory / "files" / "key")
        made = await webhooks(cloud, targets, search.secrets)
        async with Program("run", "--config", str(config)) as agent:
            await agent.said("link", state="online")
            await cloud.api.event(search.secrets["subject"])
            ends = {name: {"succeeded"} for name in ("delivered", "proxied")} | {
                "failed": {"failed"}, "refused": {"refused"}, "held": {"held"},
            }  # fmt: skip
            last = {name: await state(cloud.api, made[name], wanted) for name, wanted in ends.items()}
            look_at_the_journal(search, directory, scratch)
            await look_at_the_commands(search, config, directory)
            await look_at_the_api(search, cloud, made)
            await reloaded(agent, config, search.secrets["mistake"])
            place = (await agent.said("started"))["health"][0]
            search.look("/status after a refused reload", await refusal(place))
            recorder.cut()
            await agent.said("link", state="offline")
            undecided.answer = always(NO_CONTENT)
            await cloud.api.call("POST", f"Deliveries/{last['held']['Id']}/Resolve", {"Action": "Fire"})
            await state(cloud.api, made["held"], {"succeeded"})
            for url in (f"http://{place}/metrics", f"{cloud.api.url}/metrics"):
                search.look("/metrics", (await scraped(url)).text)
            look_at_the_processes(search, agent, cloud.program)
            assert await agent.stop() == 0
        look_at_the_frames(search, recorder)
        arrived(search, targets, recorder)
        assert search.secrets["authorization"].encode() not in written(*journal_files(directory))
        config.write_text(settings(directory, cloud, recorder, targets, retention=0.001))
        async with Program("run", "--config", str(config)) as again:
            await erased(search, set(search.secrets), *journal_files(directory))
            assert await again.stop() == 0
        search.look("database", written(*cloud_directory.glob("control-plane.db*")))
        assert await cloud.program.stop() == 0
        search.look("database", written(*cloud_directory.glob("control-plane.db*")))
        search.look("agent's log", agent.text(), again.text())
        search.look("control plane's log", cloud.program.text())
    assert search.leaks == set()
    # The check of the check: what is allowed was found, and every place had something to look at.
    assert {("API answers", "query"), ("deliveries show", "subject"), ("database", "body")} <= search.found
    assert search.looked_at >= PLACES
