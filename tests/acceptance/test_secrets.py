"""A planted secret goes to the target and is found nowhere else; the keys that seal it are lost and exchanged."""

import base64
import secrets
import sqlite3
from pathlib import Path
from typing import Any

from tests.support.processes import Program
from tests.support.system import Cloud, control_plane, output, run
from tests.support.target import Target, head

CANARY = "planted-3f9c61e7"


async def planted(cloud: Cloud, uri: str, **fields: object) -> dict[str, Any]:
    body = {"PresenceId": cloud.presence_id, "Uri": uri, "Event": "ScanExecutionCompleted", "Global": True}
    made: dict[str, Any] = await cloud.api.call("POST", "Webhooks", body | fields)
    return made


def written(directory: Path) -> bytes:
    """Every byte that the control plane has on the disk."""
    return b"".join(file.read_bytes() for file in directory.iterdir() if file.is_file())


async def test_a_planted_secret_is_seen_by_the_target_only(tmp_path: Path) -> None:
    cloud_directory, agent_directory = tmp_path / "cloud", tmp_path / "agent"
    cloud_directory.mkdir()
    agent_directory.mkdir()
    said: list[str] = []
    async with Target() as target, control_plane(cloud_directory, PRESENCE_CP_LOG__LEVEL="debug") as cloud:
        made = await planted(cloud, target.url(), AuthorizationHeader=f"Bearer {CANARY}")
        said.append(str(made))
        async with Program("run", env=cloud.agent_env(agent_directory)) as agent:
            (delivery,) = await cloud.api.event()
            said.append(str(await cloud.api.ended(delivery)))
            (request,) = await target.received(1)
            assert head(request)[1]["authorization"] == f"Bearer {CANARY}"
            for path in ("Webhooks", "Audits", "Deliveries", "Presences", "EffectiveAccess?host=127.0.0.1"):
                said.append(await cloud.api.answer("GET", path))
            for method, path, body in (
                ("PUT", f"Webhooks/{made['Id']}", {"AuthorizationHeader": f"{CANARY}\r\nX: y"}),
                ("PUT", f"Webhooks/{made['Id']}", {"AuthorizationHeader": CANARY * 400}),
                ("PUT", f"Webhooks/{made['Id']}", {"AuthorizationHeader": CANARY, "Uri": 7}),
                ("PUT", f"Webhooks/{made['Id']}", {"AuthorizationHeader": f"Basic {CANARY}"}),
                ("POST", "Webhooks", {"AuthorizationHeader": [CANARY]}),
            ):
                said.append(await cloud.api.answer(method, path, body))
            said += [(Path("/proc") / str(program.pid) / name).read_bytes().decode()
                     for program in (agent, cloud.program) for name in ("cmdline", "environ")]  # fmt: skip
            assert await agent.stop() == 0
        assert CANARY.encode() not in written(cloud_directory)
        assert await cloud.program.stop() == 0
    said += [agent.text(), cloud.program.text()]
    assert CANARY.encode() not in written(cloud_directory)
    assert not [text for text in said if CANARY in text]


def line(key_id: str) -> str:
    return f"{key_id}:{base64.b64encode(secrets.token_bytes(32)).decode()}\n"


def sealed_with(directory: Path) -> set[str]:
    """The ids of the keys that seal what is in the database."""
    with sqlite3.connect(directory / "control-plane.db") as database:
        rows = database.execute("SELECT authorization FROM webhook WHERE authorization IS NOT NULL").fetchall()
    database.close()
    return {row[0].partition(":")[0] for row in rows}


async def test_without_its_keys_it_does_not_start_and_with_others_only_what_they_sealed_waits(tmp_path: Path) -> None:
    keys = tmp_path / "encryption.keys"
    async with Target() as target, control_plane(tmp_path) as cloud:
        sealed = await planted(cloud, target.url("/sealed"), AuthorizationHeader=f"Bearer {CANARY}")
        await planted(cloud, target.url("/plain"))
        assert await cloud.program.stop() == 0
        kept = keys.read_text()
        keys.unlink()
        code, _, err = await run("control-plane", "serve", env=cloud.env)
        assert code == 78
        assert str(keys) in err
        assert "holds 1 secrets" in err
        code, _, err = await run("control-plane", "migrate", env=cloud.env)
        assert (code, str(keys) in err) == (78, True)
        keys.write_text(line("other"))
        keys.chmod(0o600)
        await cloud.start_again()
        await cloud.program.said("a webhook's AuthorizationHeader cannot be opened", webhook=sealed["Id"])
        async with Program("run", env=cloud.agent_env(tmp_path)):
            ids = await cloud.api.event()
            (request,) = await target.received(1)
            assert head(request)[0].startswith("GET /plain")
            found = {(await cloud.api.delivery(id_))["WebhookId"]: id_ for id_ in ids}
            held = await cloud.api.delivery(found[sealed["Id"]])
            assert (held["State"], held["Reason"]) == ("held", "webhook_paused")
            shown = {item["Id"]: item for item in (await cloud.api.call("GET", "Webhooks"))["Items"]}
            assert shown[sealed["Id"]]["PausedReason"] == "authorization_unreadable"
            keys.write_text(kept)
            assert await cloud.stop_and_restart() == 0
            await cloud.api.call("POST", f"Webhooks/{sealed['Id']}/Resume")
            assert (await cloud.api.ended(held["Id"]))["State"] == "succeeded"
            (_, request) = await target.received(2)
            assert head(request)[1]["authorization"] == f"Bearer {CANARY}"


async def test_the_key_is_exchanged_while_the_control_plane_serves(tmp_path: Path) -> None:
    keys = tmp_path / "encryption.keys"
    async with Target() as target, control_plane(tmp_path) as cloud:
        for number in range(3):
            await planted(cloud, target.url(f"/{number}"), AuthorizationHeader=f"Bearer {CANARY}{number}")
        (old_id,) = sealed_with(tmp_path)
        old = keys.read_text()
        keys.write_text(line("new") + old)
        assert await cloud.stop_and_restart() == 0
        _, _, err = await run("control-plane", "reseal", env=cloud.env)
        assert "3 of 3 secrets encrypted anew" in err
        assert sealed_with(tmp_path) == {"new"}
        assert old_id != "new"
        _, _, err = await run("control-plane", "reseal", env=cloud.env)
        assert "0 of 3 secrets encrypted anew" in err
        keys.write_text(keys.read_text().partition("\n")[0] + "\n")
        assert await cloud.stop_and_restart() == 0
        async with Program("run", env=cloud.agent_env(tmp_path)):
            await cloud.api.event()
            requests = await target.received(3)
        assert {head(request)[1]["authorization"] for request in requests} == {f"Bearer {CANARY}{n}" for n in range(3)}
        keys.write_text(line("new"))
        code, _, err = await run("control-plane", "reseal", env=cloud.env)
        assert code == 1
        assert "AuthorizationHeader of 3 webhooks cannot be decrypted" in err
    assert CANARY not in await output("control-plane", "who-can-reach", "127.0.0.1", env=cloud.env)
