"""`presence resume`: the end of local maintenance."""

import json
from pathlib import Path

import click

from presence.cli.daemon import CONFIG, JSON, ask


@click.command("resume")
@JSON
@CONFIG
def command(as_json: bool, config: Path | None) -> None:
    """End a pause: what has waited starts at [delivery] drain_rate.

    \b
    Example:
      presence resume
    """
    document = ask(config, "/resume", post=True)
    if as_json:
        click.echo(json.dumps(document))
    elif document["was_paused"]:
        click.echo(f"resumed; {document['waiting']} deliveries wait")
    else:
        click.echo("the agent was not paused")
