"""`presence control-plane`: the cloud half."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import click

from presence.errors import PresenceError

CONFIG = click.option(
    "--config", type=click.Path(path_type=Path), help="Settings file (default: /etc/presence/control-plane.toml)."
)


def _control_plane() -> ModuleType:
    """The control plane's module, or a clear word that it is not installed."""
    try:
        app = importlib.import_module("presence.controlplane.app")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("presence"):
            raise
        raise PresenceError(
            f"the control plane is not installed ({error.name} is missing); run: pip install '.[control-plane]'"
        ) from None
    return app


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
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
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
@CONFIG
def check(config: Path | None) -> None:
    """Check the settings; nothing is opened. All faults are told at once; exit code 78 if there are any.

    \b
    Example:
      presence control-plane check --config /etc/presence/control-plane.toml
    """
    _control_plane()
    from presence.controlplane.settings import load_settings

    load_settings(config)
    click.echo("nothing is wrong with the settings")


@command.command("migrate")
@CONFIG
def migrate(config: Path | None) -> None:
    """Bring the database to this version's schema.

    \b
    Example:
      presence control-plane migrate --config /etc/presence/control-plane.toml
    """
    app = _control_plane()
    from presence.controlplane.settings import load_settings

    app.run_migrate(load_settings(config))
    click.echo("the database is up to date", err=True)
