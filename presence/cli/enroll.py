"""`presence enroll`: a one-time token becomes this agent's key."""

import asyncio
import json
import sys
from pathlib import Path

import click

from presence.cli.daemon import CONFIG, JSON
from presence.errors import ConfigurationError


@click.command("enroll")
@click.option("--control-plane", "url", metavar="URL", help="As https://presence.example.com (default: the settings').")
@click.option("--token-file", metavar="FILE", help="File with the token; - is standard input (default: a prompt).")
@click.option(
    "--key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the key goes (default: control_plane.key_file, else /etc/presence/presence.key).",
)
@click.option("--force", is_flag=True, help="Replace an existing key file.")
@JSON
@CONFIG
def command(
    url: str | None, token_file: str | None, key_file: Path | None, force: bool, as_json: bool, config: Path | None
) -> None:
    """Trade a one-time token for the presence key, and store that with mode 0600.

    The token is no argument: others could read it in the list of processes. If the answer is lost, run the same again.
    Proxy and authorities are those of the settings. Exit codes: 69 not reached, 77 refused, 78 settings or file.

    \b
    Example:
      presence enroll --control-plane https://presence.example.com --token-file token.txt
    """
    from presence import logs
    from presence.agent.enrolment import at, checked_token, enrol, require_absent
    from presence.agent.settings import DEFAULT_KEY_FILE, load_settings
    from presence.clock import SystemClock

    logs.configure("error")
    settings = load_settings(config).control_plane
    target = key_file or settings.key_file or DEFAULT_KEY_FILE
    control_plane = at(settings, url)
    if not force:
        require_absent(target)
    token = checked_token(_token(token_file))
    enrolled = asyncio.run(enrol(control_plane, token, target, SystemClock(), force=force))
    wanted = {} if settings.url == control_plane.url else {"url": str(control_plane.url)}
    wanted |= {} if target in (settings.key_file, DEFAULT_KEY_FILE) else {"key_file": str(target.absolute())}
    if as_json:
        document = {
            "presence_id": enrolled.presence_id,
            "presence_name": enrolled.presence_name,
            "expires_at": enrolled.expires_at,
            "key_file": str(target),
            "settings": {"control_plane": wanted},
        }
        click.echo(json.dumps(document))
        return
    click.echo(f"enrolled as {enrolled.presence_name} ({enrolled.presence_id}); the key expires {enrolled.expires_at}")
    click.echo(f"key written to {target}, mode 0600; keep no copy of it")
    if wanted:
        lines = [f'{key} = "{value}"' for key, value in wanted.items()]
        click.echo("\n".join(["write into the settings file:", "[control_plane]", *lines]))
    click.echo("then: presence doctor, and presence run (or: systemctl restart presence)")


def _token(file: str | None) -> str:
    """The token from the file, standard input or a hidden prompt."""
    if file is None:
        if not sys.stdin.isatty():
            raise click.UsageError("there is no terminal to ask for the token; give --token-file FILE, or - to pipe it")
        return str(click.prompt("Enrolment token", hide_input=True, err=True))
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise ConfigurationError(f"--token-file: {file} cannot be read: {reason}") from None
