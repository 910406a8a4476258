"""`presence control-plane`: the cloud half."""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from presence.errors import ConfigurationError, ExitCode, PresenceError

CONFIG = click.option(
    "--config", type=click.Path(path_type=Path), help="Settings file (default: /etc/presence/control-plane.toml)."
)

JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")


def _control_plane(module: str = "app") -> ModuleType:
    """That module of the control plane, or a clear word that it is not installed."""
    try:
        found = importlib.import_module(f"presence.controlplane.{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("presence"):
            raise
        raise PresenceError(
            f"the control plane is not installed ({error.name} is missing); run: pip install '.[control-plane]'"
        ) from None
    return found


@click.group("control-plane")
def command() -> None:
    """Set up and run the control plane.

    \b
    Example:
      presence control-plane init --organization Example
      presence control-plane serve
    """


@command.command("init")
@click.option("--organization", required=True, help="Name of the organization to create.")
@JSON
@CONFIG
def init(organization: str, as_json: bool, config: Path | None) -> None:
    """Create the database if need be, an organization and its administrator; print the API key once.

    \b
    Example:
      presence control-plane init --organization Example
    """
    app = _control_plane()
    from presence.controlplane.settings import load_settings

    created = app.run_init(load_settings(config), organization)
    document = {
        "OrganizationId": created.organization_id,
        "KeyId": created.key_id,
        "KeySecret": created.key_secret,
    }
    if as_json:
        click.echo(json.dumps(document))
        return
    for name, value in document.items():
        click.echo(f"{name:<16}{value}")
    click.echo("Keep KeySecret now: it is stored as a hash only and cannot be shown again.", err=True)


@command.command("serve")
@CONFIG
def serve(config: Path | None) -> None:
    """Serve REST API and agents on one port until SIGTERM.

    \b
    Example:
      PRESENCE_CP_SERVER__PORT=8480 presence control-plane serve
    """
    app = _control_plane()
    from presence import logs
    from presence.controlplane.settings import load_settings

    settings = load_settings(config)
    logs.configure(settings.log.level, settings.log.format)
    app.run_serve(settings)


@command.command("check")
@JSON
@CONFIG
def check(as_json: bool, config: Path | None) -> int:
    """Check the settings; nothing is opened. All faults are told at once; exit code 78 if there are any.

    \b
    Example:
      presence control-plane check --config /etc/presence/control-plane.toml
    """
    _control_plane()
    from presence.controlplane.settings import DEFAULT_CONFIG, PREFIX, load_settings
    from presence.setting_sources import settings_file

    faults: list[str] = []
    try:
        load_settings(config)
    except ConfigurationError as error:
        if not as_json:
            raise
        faults = str(error).splitlines()
    file = settings_file(PREFIX, config, DEFAULT_CONFIG)
    if as_json:
        click.echo(json.dumps({"file": str(file) if file else None, "valid": not faults, "faults": faults}))
        return ExitCode.CONFIGURATION if faults else ExitCode.SUCCESS
    click.echo(f"{file or 'no file, defaults and environment'}: nothing is wrong with the settings")
    return ExitCode.SUCCESS


@command.command("reseal")
@CONFIG
def reseal(config: Path | None) -> None:
    """Encrypt all secrets in the database with the first key of [auth] encryption_keys_file.

    To exchange the key: put a new line first in the file, restart all servers, run this, and remove the old line.

    \b
    Example:
      presence control-plane reseal
    """
    upkeep = _control_plane("upkeep")
    from presence.controlplane.settings import load_settings

    done = upkeep.run_reseal(load_settings(config))
    click.echo(f"{done.changed} of {done.total} secrets encrypted anew", err=True)
    if done.unopened:
        raise PresenceError(
            f"AuthorizationHeader of {len(done.unopened)} webhooks cannot be decrypted, set it anew:"
            f" {', '.join(done.unopened)}"
        )


@command.command("who-can-reach")
@click.argument("host")
@JSON
@CONFIG
def who_can_reach(host: str, as_json: bool, config: Path | None) -> None:
    """Show who can cause a request to HOST (or HOST:PORT): through which webhook, role and asset group.

    Reads the database; no server needs to run. What the agents' own egress policies refuse is not considered.

    \b
    Example:
      presence control-plane who-can-reach myservice.com
    """
    upkeep = _control_plane("upkeep")
    from presence.controlplane.settings import load_settings

    found = upkeep.run_reach(load_settings(config), host)
    if as_json:
        click.echo(json.dumps({"Host": host, "Organizations": found}))
        return
    for organization in found:
        for item in organization["Items"]:
            click.echo(_described(organization["OrganizationName"], item))
    if not any(organization["Items"] for organization in found):
        click.echo("no webhook points to it", err=True)


def _described(organization: str, item: dict[str, Any]) -> str:
    """One webhook, and a line for each person."""
    level = f"asset group {item['AssetGroup']['Name']}" if item["AssetGroup"] else "organization level"
    scopes = ", ".join(f"{scope['Scope']} {scope['Name']}" for scope in item["Scopes"])
    events = "Global" if item["Global"] else scopes or "no scope: never fires"
    lines = [
        f"{item['RequestMethod']} {item['Uri']}{'' if item['PointsThere'] else ' (by now; its deliveries remain)'}",
        f"  webhook   {item['WebhookId']}{' (paused)' if item['Paused'] else ''}",
        f"  level     {organization}, {level}",
        f"  event     {item['Event']}: {events}",
        f"  presence  {item['Presence']['PresenceName']}",
        *(f"  {cause['UserName']} ({cause['RoleName']}): {', '.join(cause['Ways'])}" for cause in item["Causes"]),
    ]
    return "\n".join(lines)


@command.command("migrate")
@CONFIG
def migrate(config: Path | None) -> None:
    """Bring the database to this version's schema; make the encryption keys if there are none.

    \b
    Example:
      presence control-plane migrate --config /etc/presence/control-plane.toml
    """
    app = _control_plane()
    from presence.controlplane.settings import load_settings

    app.run_migrate(load_settings(config))
    click.echo("the database is up to date", err=True)
