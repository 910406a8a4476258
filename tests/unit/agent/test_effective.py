"""The settings as they count on this host, and every fault of the files that they name."""

from pathlib import Path

import pytest

from presence.agent.effective import effective_settings, faults_of_files, stored_key
from presence.agent.settings import AgentSettings, load_settings
from presence.configuration import MASK, Setting


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("presence.agent.settings.DEFAULT_KEY_FILE", tmp_path / "default.key")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))


def rows(file: Path) -> dict[str, Setting]:
    return {row.key: row for row in effective_settings(load_settings(file), file)}


def settings(tmp_path: Path, text: str) -> AgentSettings:
    (tmp_path / "agent.toml").write_text(text)
    return load_settings(tmp_path / "agent.toml")


def test_what_is_found_is_shown_with_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "agent.toml"
    file.write_text("[[targets]]\nhost = 'a'\nheaders = { X = 'CANARY', Y = { file = '/y' } }\n")
    found = rows(file)
    assert found["control_plane.key_file"].value is None
    assert found["journal.path"] == ("journal.path", str(tmp_path / "state" / "journal.db"), "default")
    assert found["control.socket"].value == str(tmp_path / "run" / "control.sock")
    assert found["targets[0].headers"].value == {"X": MASK, "Y": {"file": "/y"}}
    (tmp_path / "presence.key").write_text("CANARY")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert rows(file)["control_plane.key_file"][1:] == (
        str(tmp_path / "presence.key"),
        "systemd's credential presence.key",
    )
    assert "CANARY" not in str(rows(file))


def test_every_option_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text("")
    expected = {
        f"{section}.{key}"
        for section, field in AgentSettings.model_fields.items()
        if section != "targets"
        for key in field.default.__class__.model_fields
    }
    assert set(rows(file)) == expected


def test_each_file_that_is_no_good_is_named(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    found = faults_of_files(
        settings(
            tmp_path,
            "[control_plane]\nurl = 'wss://h'\nkey_file = '/no/key'\nca_file = '/no/ca'\n"
            "proxy = 'http://p:1'\nproxy_credentials_file = '/no/proxy'\n"
            "[[targets]]\nhost = 'a'\nca_file = '/no/a'\n[[targets]]\nhost = 'b'\n"
            "[[targets]]\nhost = 'c'\nheaders = { X = { file = '/no/c' } }\n",
        ),
        file,
    )
    assert [": ".join(fault.split(": ")[:3]) for fault in found] == [
        f"{file}:4: control_plane.ca_file: /no/ca",
        f"{file}:3: control_plane.key_file: /no/key",
        f"{file}:6: control_plane.proxy_credentials_file: /no/proxy",
        f"{file}:9: targets[0].ca_file (host a): /no/a",
        f"{file}:14: targets[2].headers.X (host c): /no/c",
    ]


def test_nothing_needs_to_be_set(tmp_path: Path) -> None:
    assert faults_of_files(settings(tmp_path, ""), tmp_path / "agent.toml") == []
    assert stored_key(settings(tmp_path, "[journal]\npath = '/data/j.db'\n")) == Path("/data/presence.key")
