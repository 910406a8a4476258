"""`presence pause`: local maintenance."""

import json
from pathlib import Path

import click

from presence.cli.daemon import CONFIG, JSON, ask
from presence.cli.table import duration, parse_duration
from presence.domain.delivery import LONGEST_PAUSE


@click.command("pause")
@click.option("--for", "length", metavar="DURATION", help="As 90s, 15m, 2h or 1d; without it: until 'presence resume'.")
@JSON
@CONFIG
def command(length: str | None, as_json: bool, config: Path | None) -> None:
    """Let no attempt start: local maintenance of the targets or the network.

    What is under way is finished. What is fired meanwhile is kept; the control plane shows that the agent is paused.
    A pause lasts through a restart of the agent. Afterwards what has waited starts at [delivery] drain_rate.

    \b
    Example:
      presence pause --for 2h
    """
    seconds = None if length is None else _seconds(length)
    document = ask(config, "/pause", {"seconds": seconds}, post=True)
    if as_json:
        click.echo(json.dumps(document))
    else:
        click.echo(f"paused {f'for {duration(seconds)}' if seconds is not None else 'until presence resume'}")


def _seconds(length: str) -> float:
    try:
        seconds = parse_duration(length)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--for") from None
    if not 0 < seconds <= LONGEST_PAUSE:
        most = f"{LONGEST_PAUSE / 86_400:g} days; without --for it lasts until 'presence resume'"
        raise click.BadParameter(f"a pause lasts more than 0 s and at most {most}", param_hint="--for")
    return seconds
