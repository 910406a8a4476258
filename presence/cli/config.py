"""`presence config`: what the agent's settings are, and what they should be."""

import json
from pathlib import Path

import click

from presence.errors import ExitCode


@click.group("config")
def command() -> None:
    """Look at the agent's settings.

    \b
    Example:
      presence config suggest-egress
    """


@command.command("suggest-egress")
@click.option("--config", type=click.Path(path_type=Path), help="Settings file (default: /etc/presence/agent.toml).")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
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
