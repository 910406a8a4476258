"""The names that are known without the settings are those of the settings."""

from presence.agent.setting_names import PREFIX, SINGLE, VARIABLES
from presence.agent.settings import AgentSettings
from presence.setting_places import table_of, variables


def test_the_names_are_those_of_the_settings() -> None:
    assert {name for name, _ in variables(AgentSettings, PREFIX)} == VARIABLES
    sections = {name for name, field in AgentSettings.model_fields.items() if table_of(field.annotation)}
    assert {f"{PREFIX}{name}".upper() for name in sections} == VARIABLES - SINGLE
