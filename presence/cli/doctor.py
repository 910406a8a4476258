"""`presence doctor`: why it does not work, and what to do about it."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from presence.cli.daemon import CONFIG, JSON, NoDaemon, ask
from presence.errors import ExitCode, PresenceError

if TYPE_CHECKING:
    from presence.agent.finding import Finding

COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "bright_black"}


@click.command("doctor")
@CONFIG
@JSON
@click.option(
    "--bundle", type=click.Path(path_type=Path, dir_okay=False), help="Also write a .tar.gz for support; no secrets."
)
def command(config: Path | None, as_json: bool, bundle: Path | None) -> int:
    """Check everything between this agent, its control plane and its targets; say what to do where it fails.

    Nothing is changed: a running agent keeps its session, and no target gets a request. Run it as root or as
    the agent's user, with the environment that the agent has. Exit code 1 if a check failed.

    \b
    Example:
      presence doctor --config /etc/presence/agent.toml
      presence doctor --bundle presence-support.tar.gz
    """
    from presence import logs

    logs.configure("error")
    show = None if as_json else _show
    findings = asyncio.run(_check(config, show))
    findings.append(_check_agent(config))
    if show is not None:
        show(findings[-1])
    if bundle is not None:
        from presence.cli.bundle import write_bundle

        write_bundle(bundle, findings, config)
        click.echo(f"{bundle}: written, mode 0600; look into it before you send it", err=True)
    failures = sum(finding.verdict == "failed" for finding in findings)
    if as_json:
        click.echo(json.dumps({"healthy": not failures, "checks": [asdict(finding) for finding in findings]}))
    else:
        click.echo(f"{failures} of {len(findings)} checks failed" if failures else "nothing failed")
    return ExitCode.FAILED if failures else ExitCode.SUCCESS


async def _check(config: Path | None, show: Callable[["Finding"], None] | None) -> list["Finding"]:
    """All findings; each is shown as soon as it is there."""
    from presence.agent.checkup import checkup
    from presence.clock import SystemClock

    findings = []
    async for finding in checkup(config, SystemClock()):
        findings.append(finding)
        if show is not None:
            show(finding)
    return findings


def _check_agent(config: Path | None) -> "Finding":
    """What the running agent says of itself, if one runs."""
    from presence.agent.finding import failed, ok, skipped

    try:
        status = ask(config, "/status")
    except NoDaemon as absent:
        return skipped("agent", str(absent).partition("; ")[0])
    except PresenceError as error:
        text, _, remedy = str(error).partition("; ")
        return failed("agent", text, remedy)
    if status["faults"]:
        return failed("agent", "; ".join(status["faults"]), "see its log, and the other checks")
    return ok("agent", f"version {status['version']} runs as process {status['pid']}, link {status['link']['state']}")


def _show(finding: "Finding") -> None:
    verdict = click.style(f"{finding.verdict:<8}", fg=COLOURS[finding.verdict])
    click.echo(f"{verdict} {finding.check}: {finding.text}")
    if finding.remedy is not None:
        click.echo(f"{'':<8} -> {finding.remedy}")
