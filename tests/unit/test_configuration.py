"""Every fault of the settings at once, and where each effective setting comes from."""

from pathlib import Path

import pytest
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from presence.configuration import DEFAULT, MASK, Section, Setting, effective, load
from presence.errors import ConfigurationError

PREFIX = "SAMPLE_"


class Lamp(Section):
    place: str = "hall"
    secret: SecretStr | None = None
    watts: int = Field(5, ge=1)
    names: tuple[str, ...] = ()


class Room(Section):
    name: str
    address: str | None = None


class Sample(BaseSettings):
    lamp: Lamp = Lamp()
    rooms: tuple[Room, ...] = ()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sample.toml"


def loaded(config: Path | None = None) -> Sample:
    return load(Sample, prefix=PREFIX, config=config, default=Path("/nowhere"), foreign=("SAMPLE_OTHER_",))


def shown(file: Path | None = None) -> dict[str, Setting]:
    settings = loaded(file)
    rows = effective(settings, prefix=PREFIX, config=file, default=Path("/nowhere"))
    return {row.key: row for row in rows}


def faults(file: Path | None) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        loaded(file)
    return str(caught.value).splitlines()


def test_all_faults_are_told_at_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('[lamp]\nplaec = "attic"\nwatts = 0\n[[rooms]]\naddress = "here"\n[lmap]\n')
    monkeypatch.setenv("SAMPLE_LAMP__NAMES", "CANARY")
    monkeypatch.setenv("SAMPLE_LAMP__WATS", "CANARY")
    monkeypatch.setenv("SAMPLE_OTHER_THING", "not ours")
    assert faults(file) == [
        'SAMPLE_LAMP__NAMES: not JSON; write a list as ["first", "second"], or set single keys',
        "SAMPLE_LAMP__WATS: no such setting; did you mean SAMPLE_LAMP__WATTS?",
        f"{file}:3: lamp.watts: Input should be greater than or equal to 1; for example watts = 5",
        f"{file}:2: lamp.plaec: no such setting; did you mean place?",
        f"{file}:4: rooms[0].name: is missing",
        f"{file}:6: lmap: no such setting; did you mean lamp?",
    ]


def test_a_missing_file_does_not_hide_the_faults_of_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPLE_LAMP__WATTS", "many")
    assert faults(Path("/nowhere/sample.toml")) == [
        "/nowhere/sample.toml: there is no such file; give an existing one with --config",
        "SAMPLE_LAMP__WATTS: lamp.watts: Input should be a valid integer, unable to parse string as an integer;"
        " for example watts = 5",
    ]


def test_what_is_like_no_setting_gets_the_list(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    file.write_text("[lamp]\nxyz = 1\n")
    monkeypatch.setenv("SAMPLE_XYZ", "1")
    assert faults(file) == [
        "SAMPLE_XYZ: no such setting; known are SAMPLE_CONFIG, SAMPLE_LAMP__NAMES, SAMPLE_LAMP__PLACE,"
        " SAMPLE_LAMP__SECRET, SAMPLE_LAMP__WATTS, SAMPLE_ROOMS",
        f"{file}:2: lamp.xyz: no such setting; known are place, secret, watts, names",
    ]


def test_a_variable_that_is_not_in_upper_case_is_an_error_that_says_how_to_write_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("sample_lamp__watts", "7")
    monkeypatch.setenv("Sample_Lamp__Plaec", "CANARY")
    monkeypatch.setenv("sample_config", "CANARY")
    monkeypatch.setenv("sample_other_thing", "not ours")
    assert faults(None) == [
        "Sample_Lamp__Plaec: no such setting; did you mean SAMPLE_LAMP__PLACE?",
        "sample_config: variables are written in upper case; write SAMPLE_CONFIG",
        "sample_lamp__watts: variables are written in upper case; write SAMPLE_LAMP__WATTS",
    ]


def test_each_setting_has_its_source(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('[lamp]\nplace = "attic"\nnames = [\n  "a",\n]\n\n[[rooms]]\nname = "one"\n')
    monkeypatch.setenv("SAMPLE_LAMP__WATTS", "7")
    rows = shown(file)
    assert rows["lamp.place"] == ("lamp.place", "attic", f"{file}:2")
    assert rows["lamp.names"] == ("lamp.names", ["a"], f"{file}:3")
    assert rows["lamp.watts"] == ("lamp.watts", 7, "SAMPLE_LAMP__WATTS")
    assert rows["lamp.secret"] == ("lamp.secret", None, DEFAULT)
    assert rows["rooms[0].name"] == ("rooms[0].name", "one", f"{file}:8")
    assert rows["rooms[0].address"] == ("rooms[0].address", None, DEFAULT)


def test_a_variable_of_a_whole_section_is_the_source_of_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPLE_LAMP", '{"watts": 9}')
    monkeypatch.setenv("SAMPLE_ROOMS", '[{"name": "one"}]')
    rows = shown()
    assert rows["lamp.watts"].source == "SAMPLE_LAMP"
    assert rows["lamp.place"].source == DEFAULT
    assert rows["rooms[0].name"].source == "SAMPLE_ROOMS"
    assert rows["rooms[0].address"].source == DEFAULT


def test_secrets_are_masked(file: Path) -> None:
    file.write_text(
        '[lamp]\nsecret = "CANARY"\nplace = "https://CANARY:CANARY@h/p?token=CANARY&CANARY"\n'
        'names = ["http://h/?x=CANARY"]\n'
    )
    rows = shown(file)
    assert rows["lamp.secret"].value == MASK
    assert rows["lamp.place"].value == f"https://{MASK}@h/p?{MASK}"
    assert rows["lamp.names"].value == [f"http://h/?{MASK}"]
