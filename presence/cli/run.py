"""`presence run`: the agent daemon."""

from pathlib import Path

import click


@click.command("run")
@click.option("--config", type=click.Path(path_type=Path), help="Settings file (default: /etc/presence/agent.toml).")
def command(config: Path | None) -> None:
    """Run the agent until SIGTERM; a second SIGTERM stops it at once. SIGHUP reads the settings again.

    \b
    Example:
      PRESENCE_CONTROL_PLANE__URL=wss://presence.example.com \\
      PRESENCE_CONTROL_PLANE__KEY_FILE=AppScanPresence.key presence run
    """
    from presence import logs
    from presence.agent import app
    from presence.agent.settings import load_settings

    settings = load_settings(config)
    logs.configure(settings.log.level, settings.log.format)
    app.run(settings, config)
