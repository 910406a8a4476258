"""The command line. Each command imports what it needs when it is chosen, so that `--help` stays quick."""

import importlib
import os
import sys
from typing import Any

import click

from presence import __version__
from presence.errors import ConfigurationError, ExitCode, PresenceError

COMMANDS = {
    "demo": ("presence.cli.demo", "Show the whole way on this machine: event, control plane, agent, request."),
    "run": ("presence.cli.run", "Run the agent."),
    "status": ("presence.cli.status", "Show the state of the running agent."),
    "healthcheck": ("presence.cli.healthcheck", "Exit with 0 if the running agent is healthy."),
    "deliveries": ("presence.cli.deliveries", "Look at the agent's journal; let a held delivery go."),
    "pause": ("presence.cli.pause", "Let no attempt start: local maintenance."),
    "resume": ("presence.cli.resume", "End a pause."),
    "test-fire": ("presence.cli.test_fire", "Send one request through the agent's code, and show each attempt."),
    "enroll": ("presence.cli.enroll", "Trade a one-time token for this agent's key."),
    "doctor": ("presence.cli.doctor", "Check the way to the control plane and to the targets; say what to do."),
    "config": ("presence.cli.config", "Check and show the agent's settings."),
    "control-plane": ("presence.cli.control_plane", "Set up and run the control plane."),
}


class LazyGroup(click.Group):
    """Knows its commands by name and one line of help; imports only the chosen one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="presence")
def cli() -> None:
    """Presence delivers webhooks into a private network over one outbound websocket.

    \b
    Example: see the whole way on this machine
      presence demo

    \b
    Completion of commands and options: one line in the start-up file of your shell
      bash  eval "$(_PRESENCE_COMPLETE=bash_source presence)"
      zsh   eval "$(_PRESENCE_COMPLETE=zsh_source presence)"
      fish  _PRESENCE_COMPLETE=fish_source presence | source
    """


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line. An expected error is one line on standard error and an exit code, never a traceback."""
    code = _run(arguments)
    logs = sys.modules.get("presence.logs")  # not imported for the sake of --help
    if logs is not None and not logs.close():
        # Nobody reads our standard error, and the interpreter would wait for it for ever.
        os._exit(code)
    sys.exit(code)


def _run(arguments: list[str] | None) -> int:
    try:
        result: Any = cli.main(arguments, prog_name="presence", standalone_mode=False)
        return result if isinstance(result, int) else ExitCode.SUCCESS
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except PresenceError as error:
        label = "configuration error" if isinstance(error, ConfigurationError) else "error"
        for line in str(error).splitlines():
            click.echo(f"presence: {label}: {line}", err=True)
        return error.exit_code
