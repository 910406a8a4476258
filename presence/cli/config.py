"""`presence config`: what the agent's settings are, and what they should be."""

import json
from pathlib import Path

import click

from presence.cli.daemon import CONFIG, JSON
from presence.errors import ConfigurationError, ExitCode


@click.group("config")
def command() -> None:
    """Look at the agent's settings.

    \b
    Example:
      presence config check
    """


@command.command("check")
@CONFIG
@JSON
def check(config: Path | None, as_json: bool) -> int:
    """Check the settings and the files that they name; nothing is connected to.

    All faults are told at once, each with its file and line or its variable. Exit code 78 if there are any.

    \b
    Example:
      presence config check --config /etc/presence/agent.toml
    """
    from presence.agent.control_path import settings_file
    from presence.agent.effective import faults_of_files
    from presence.agent.settings import load_settings

    has_url = True
    try:
        settings = load_settings(config)
        has_url, faults = settings.control_plane.url is not None, faults_of_files(settings, config)
    except ConfigurationError as error:
        faults = str(error).splitlines()
    if as_json:
        file = settings_file(config)
        click.echo(json.dumps({"file": str(file) if file else None, "valid": not faults, "faults": faults}))
        return ExitCode.CONFIGURATION if faults else ExitCode.SUCCESS
    if faults:
        raise ConfigurationError("\n".join(faults))
    click.echo(f"{settings_file(config) or 'no file, defaults and environment'}: nothing is wrong with the settings")
    if not has_url:
        click.echo("control_plane.url is not set: 'presence test-fire' does without, 'presence run' does not", err=True)
    return ExitCode.SUCCESS


@command.command("show")
@CONFIG
@JSON
def show(config: Path | None, as_json: bool) -> None:
    """Print the settings that count, and where each comes from. Secrets are masked.

    \b
    Example:
      presence config show
    """
    from presence.agent.effective import effective_settings
    from presence.agent.settings import load_settings

    rows = effective_settings(load_settings(config), config)
    if as_json:
        click.echo(json.dumps({row.key: {"value": row.value, "source": row.source} for row in rows}))
        return
    shown = [(row.key, "-" if row.value is None else json.dumps(row.value), row.source) for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in (0, 1)]
    for key, value, source in shown:
        click.echo(f"{key:<{widths[0]}}  {value:<{min(widths[1], 60)}}  {source}")


@command.command("schema")
@click.option("--json", is_flag=True, expose_value=False, help="Changes nothing: it is a JSON document anyway.")
def schema() -> None:
    """Print the JSON Schema of the settings file, for editors and for checks before a file is installed.

    \b
    Example:
      presence config schema > agent.schema.json
    """
    from presence.agent.settings import AgentSettings

    found = AgentSettings.model_json_schema()
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **found, "title": "Presence agent settings"}
    click.echo(json.dumps(document, indent=2))


@command.command("suggest-egress")
@CONFIG
@JSON
def suggest_egress(config: Path | None, as_json: bool) -> int:
    """Print the strictest [egress] that lets pass what was seen while mode = "observe".

    What 'deny' holds now is kept. Rules with paths are not made: narrow what is printed where you want some.

    \b
    Example:
      presence config suggest-egress --config /etc/presence/agent.toml
    """
    from presence.agent.seen import SEEN, read_seen
    from presence.agent.settings import load_settings
    from presence.domain.egress import suggest

    settings = load_settings(config)
    allow = suggest(read_seen(settings.journal.location().with_name(SEEN)))
    if as_json:
        document = {"default": "deny", "mode": "enforce", "allow": allow, "deny": settings.egress.deny}
        click.echo(json.dumps(document))
        return ExitCode.SUCCESS
    click.echo('[egress]\ndefault = "deny"\nmode = "enforce"')
    for name, rules in (("allow", allow), ("deny", settings.egress.deny)):
        lines = [f"{name} = [", *(f"    {json.dumps(rule)}," for rule in rules), "]"]
        click.echo("\n".join(lines) if rules else f"{name} = []")
    return ExitCode.SUCCESS
