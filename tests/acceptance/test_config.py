"""`presence config` as a person runs it."""

import json
from pathlib import Path

from presence.agent.settings import AgentSettings
from tests.support.system import run

CONFIG = Path(__file__).parents[2] / "config" / "agent.toml"


async def test_the_shipped_file_is_right() -> None:
    right = f"{CONFIG}: nothing is wrong with the settings\n"
    code, out, err = await run("config", "check", "--config", str(CONFIG))
    assert (code, out) == (0, right)
    assert err == "control_plane.url is not set: 'presence test-fire' does without, 'presence run' does not\n"
    url = {"PRESENCE_CONTROL_PLANE__URL": "wss://presence.example.com"}
    assert await run("config", "check", "--config", str(CONFIG), env=url) == (0, right, "")


async def test_all_faults_come_at_once_with_exit_code_78(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(
        '[control_plane]\nurl = "http://presence.example.com"\nkye = "CANARY"\n\n[egress]\nmode = "CANARY"\n'
    )
    wrong = {"PRESENCE_EGRES__ALLOW": "CANARY", "PRESENCE_RETRY__INITIAL": "CANARY"}
    code, out, err = await run("config", "check", "--config", str(file), env=wrong)
    assert (code, out) == (78, "")
    begins = [
        "PRESENCE_EGRES__ALLOW: no such setting; did you mean PRESENCE_EGRESS__ALLOW?",
        f"{file}:3: control_plane.kye: no such setting; did you mean key?",
        f"{file}:6: egress.mode: Input should be 'enforce' or 'observe'; for example mode = \"enforce\"",
        "PRESENCE_RETRY__INITIAL: retry.initial: Input should be a valid number",
    ]
    lines = [line.removeprefix("presence: configuration error: ") for line in err.splitlines()]
    assert len(lines) == len(begins)
    for line, beginning in zip(lines, begins, strict=True):
        assert line.startswith(beginning)
    assert "CANARY" not in err
    code, out, err = await run("config", "check", "--json", "--config", str(file), env=wrong)
    assert (code, err) == (78, "")
    assert json.loads(out) == {"file": str(file), "valid": False, "faults": lines}


async def test_the_control_plane_settings_are_checked_likewise(tmp_path: Path) -> None:
    file = tmp_path / "control-plane.toml"
    file.write_text("[server]\nport = 8480\n")
    check = "control-plane", "check", "--config", str(file)
    assert await run(*check) == (0, f"{file}: nothing is wrong with the settings\n", "")
    code, out, err = await run(*check, "--json")
    assert (code, json.loads(out), err) == (0, {"file": str(file), "valid": True, "faults": []}, "")
    code, out, err = await run(*check, "--json", env={"presence_cp_server__port": "1"})
    assert (code, json.loads(out)["valid"], err) == (78, False, "")
    assert "write PRESENCE_CP_SERVER__PORT" in json.loads(out)["faults"][0]


async def test_files_that_are_missing_are_faults_too(tmp_path: Path) -> None:
    code, _, err = await run("config", "check", env={"PRESENCE_CONTROL_PLANE__CA_FILE": "/nowhere/ca.pem"})
    assert code == 78
    assert ": PRESENCE_CONTROL_PLANE__CA_FILE: control_plane.ca_file: /nowhere/ca.pem: there is no such file" in err
    for command in ("check", "show"):
        code, _, err = await run("config", command, "--config", "/nowhere/agent.toml")
        assert code == 78
        assert "/nowhere/agent.toml: there is no such file" in err


async def test_show_names_the_source_of_each_setting(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text("[retry]\nmax_attempts = 3\n")
    env = {"PRESENCE_LOG__LEVEL": "debug", "PRESENCE_CONTROL_PLANE__KEY": "CANARY"}
    code, out, _ = await run("config", "show", "--config", str(file), env=env)
    assert code == 0
    found = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert found["retry.max_attempts"] == ["3", f"{file}:2"]
    assert found["log.level"] == ['"debug"', "PRESENCE_LOG__LEVEL"]
    assert found["control_plane.key"] == ['"**********"', "PRESENCE_CONTROL_PLANE__KEY"]
    assert found["egress.mode"] == ['"enforce"', "default"]
    code, out, _ = await run("config", "show", "--json", "--config", str(file), env=env)
    assert json.loads(out)["retry.max_attempts"] == {"value": 3, "source": f"{file}:2"}
    assert "CANARY" not in out


async def test_the_schema_knows_every_section() -> None:
    code, out, _ = await run("config", "schema")
    assert await run("config", "schema", "--json") == (0, out, "")
    document = json.loads(out)
    assert code == 0
    assert document["$schema"].startswith("https://json-schema.org/")
    assert set(document["properties"]) == set(AgentSettings.model_fields)
    assert document["$defs"]["Egress"]["additionalProperties"] is False
