"""`presence healthcheck`: one line and an exit code, for Docker's HEALTHCHECK and the like."""

import json
from pathlib import Path

import click

from presence.cli.daemon import CONFIG, JSON, ask
from presence.errors import ExitCode, PresenceError


@click.command("healthcheck")
@click.option("--ready", is_flag=True, help="Also fail while it is not connected or its journal cannot be written.")
@JSON
@CONFIG
def command(ready: bool, as_json: bool, config: Path | None) -> int:
    """Exit with 0 if every stage of the running agent makes progress; else say why not, and exit with 1.

    Being disconnected is no failure: the agent tries again by itself, and a restart would not help.

    \b
    Example:
      presence healthcheck
    """
    verdict = ask(config, "/readyz" if ready else "/livez")
    if as_json:
        click.echo(json.dumps(verdict))
        return ExitCode.SUCCESS if verdict["ok"] else ExitCode.FAILED
    if not verdict["ok"]:
        raise PresenceError(f"{'not ready' if ready else 'unhealthy'}: {'; '.join(verdict['faults'])}")
    click.echo("ready" if ready else "healthy")
    return ExitCode.SUCCESS
