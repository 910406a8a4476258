"""Where the control socket is: the light way and the settings give the same answer."""

from pathlib import Path

import pytest

from presence.agent.control_path import find_control_socket, settings_file, state_directory
from presence.agent.settings import load_settings
from presence.errors import ConfigurationError


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PRESENCE_CONFIG", "PRESENCE_CONTROL__SOCKET", "PRESENCE_JOURNAL__PATH", "RUNTIME_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    for module in ("control_path", "settings"):
        monkeypatch.setattr(f"presence.agent.{module}.DEFAULT_FILE", tmp_path / "absent.toml")
    monkeypatch.setattr("presence.agent.control_path.RUN", tmp_path / "run")


def agreed(config: Path | None = None) -> Path:
    found = find_control_socket(config)
    assert load_settings(config).control_socket() == found
    return found


def test_by_itself_it_is_in_the_state_directory_and_beside_a_journal_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert agreed() == tmp_path / "state" / "control.sock"
    monkeypatch.setenv("PRESENCE_JOURNAL__PATH", "/data/journal.db")
    assert agreed() == Path("/data/control.sock")


def test_directories_made_for_it_precede(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    assert agreed() == tmp_path / "run" / "control.sock"
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/other:/run/more")
    assert agreed() == Path("/run/other/control.sock")


def test_the_setting_precedes_all_and_the_variable_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/other")
    file = tmp_path / "agent.toml"
    file.write_text('[control]\nsocket = "/by/file.sock"\n[journal]\npath = "/x/journal.db"\n')
    assert agreed(file) == Path("/by/file.sock")
    monkeypatch.setenv("PRESENCE_CONFIG", str(file))
    assert settings_file(None) == file
    assert agreed() == Path("/by/file.sock")
    monkeypatch.setenv("PRESENCE_CONTROL__SOCKET", "/by/variable.sock")
    assert agreed() == Path("/by/variable.sock")


@pytest.mark.parametrize("text", ["not TOML", "control = 7", "[control]\nsocket = 7", "journal = []"])
def test_faults_in_the_settings_are_for_others_to_tell(tmp_path: Path, text: str) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(text)
    assert find_control_socket(file) == tmp_path / "state" / "control.sock"


@pytest.mark.parametrize("named_by", ["option", "variable"])
def test_a_file_that_was_asked_for_and_is_not_there_is_no_reason_to_ask_another_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named_by: str
) -> None:
    missing = tmp_path / "missing.toml"
    if named_by == "variable":
        monkeypatch.setenv("PRESENCE_CONFIG", str(missing))
    with pytest.raises(ConfigurationError, match=f"^{missing}: there is no such file"):
        find_control_socket(missing if named_by == "option" else None)


def test_the_variable_of_a_whole_section_counts_as_it_does_for_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('[control]\nsocket = "/by/file.sock"\n[journal]\npath = "/x/journal.db"\n')
    monkeypatch.setenv("PRESENCE_CONTROL", '{"socket": "/by/section.sock"}')
    assert agreed(file) == Path("/by/section.sock")
    monkeypatch.setenv("PRESENCE_CONTROL__SOCKET", "/by/variable.sock")
    assert agreed(file) == Path("/by/variable.sock")


def test_a_misspelt_variable_is_no_reason_to_ask_another_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRESENCE_CONTROL__SOKCET", "/by/variable.sock")
    monkeypatch.setenv("presence_control__socket", "/by/variable.sock")
    monkeypatch.setenv("PRESENCE_CP_SERVER__PORT", "1")
    with pytest.raises(ConfigurationError) as light:
        find_control_socket(None)
    with pytest.raises(ConfigurationError) as whole:
        load_settings()
    assert str(light.value) == str(whole.value)
    assert str(light.value).splitlines() == [
        "PRESENCE_CONTROL__SOKCET: no such setting; did you mean PRESENCE_CONTROL__SOCKET?",
        "presence_control__socket: variables are written in upper case; write PRESENCE_CONTROL__SOCKET",
    ]


def test_the_state_directory_is_systemds_else_the_services_if_it_may_be_written_else_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("presence.agent.control_path.STATE", tmp_path / "var")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert state_directory() == tmp_path / "state"
    monkeypatch.delenv("STATE_DIRECTORY")
    assert state_directory() == Path("/home/somebody/.local/state/presence")
    (tmp_path / "var").mkdir()
    assert state_directory() == tmp_path / "var"


def test_who_runs_no_agent_of_their_own_asks_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setattr("os.access", lambda *_: False)
    assert find_control_socket(None) == tmp_path / "run" / "control.sock"
    own = tmp_path / "state" / "control.sock"
    own.parent.mkdir()
    own.touch()
    assert find_control_socket(None) == own
    monkeypatch.setenv("PRESENCE_JOURNAL__PATH", str(tmp_path / "journal.db"))
    assert find_control_socket(None) == tmp_path / "control.sock"
