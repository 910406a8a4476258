"""`presence doctor`: why it does not work, and what to do about it."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from presence.cli.daemon import CONFIG, JSON, NoDaemon, ask
from presence.errors import ConfigurationError, ExitCode, PresenceError

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
    for finding in _check_agent(config):
        findings.append(finding)
        if show is not None:
            show(finding)
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


def _check_agent(config: Path | None) -> Iterator["Finding"]:
    """What the running agent says of itself, if one runs, and whether it goes the way that was checked."""
    from presence.agent.checkup import WITHOUT_SETTINGS
    from presence.agent.finding import failed, ok, skipped, warning

    try:
        status = ask(config, "/status")
    except ConfigurationError:
        yield skipped("agent", WITHOUT_SETTINGS)
        return
    except NoDaemon as absent:
        yield skipped("agent", str(absent).partition("; ")[0])
        return
    except PresenceError as error:
        text, _, remedy = str(error).partition("; ")
        yield failed("agent", text, remedy)
        return
    if status["faults"]:
        yield failed("agent", "; ".join(status["faults"]), "see its log, and the other checks")
    else:
        link = status["link"]["state"]
        yield ok("agent", f"version {status['version']} runs as process {status['pid']}, link {link}")
    if status["paused"] is not None:
        yield warning("pause", "no attempt starts: the agent is paused", "end it with 'presence resume'")
    reload = status["reload"]
    if reload["fault"] is not None:
        remedy = "correct that and reload it again; until then the settings are in force that it had before"
        yield failed("reload", reload["fault"], remedy)
    if reload["restart_needed"]:
        text = f"it runs with the values from before the reload of {', '.join(reload['restart_needed'])}"
        yield warning("reload", text, "restart it; nothing that it holds is lost")
    yield from _compare(config, status["link"])


def _compare(config: Path | None, link: dict[str, Any]) -> Iterator["Finding"]:
    """A service has another environment than a person: another proxy, above all."""
    from presence.agent.finding import warning
    from presence.agent.settings import load_settings

    try:
        settings = load_settings(config).control_plane
        proxy = settings.link_proxy()
        ours = settings.address(), f"{proxy.scheme}://{proxy}" if proxy else None
    except ConfigurationError:
        return
    if ours != (link["url"], link["proxy"]):
        text = f"it goes to {link['url']} through {link['proxy'] or 'no proxy'}, which is not the way that was checked"
        remedy = "give the --config and the variables that it runs with (HTTPS_PROXY); best write all into the file"
        yield warning("agent's way", text, remedy)


def _show(finding: "Finding") -> None:
    verdict = click.style(f"{finding.verdict:<8}", fg=COLOURS[finding.verdict])
    click.echo(f"{verdict} {finding.check}: {finding.text}")
    if finding.remedy is not None:
        click.echo(f"{'':<8} -> {finding.remedy}")
