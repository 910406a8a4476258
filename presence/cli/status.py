"""`presence status`: the state of the running daemon."""

import json
from pathlib import Path
from typing import Any

import click

from presence.cli.daemon import CONFIG, JSON, ask
from presence.cli.table import duration
from presence.errors import ExitCode


@click.command("status")
@JSON
@CONFIG
def command(as_json: bool, config: Path | None) -> int:
    """Show the state of the running agent: link, journal, deliveries.

    Exit code 0 if it is connected and every stage makes progress, else 1.

    \b
    Example:
      presence status
    """
    document = ask(config, "/status")
    if as_json:
        click.echo(json.dumps(document))
    else:
        for line in as_text(document):
            click.echo(line)
    return ExitCode.SUCCESS if document["ready"] else ExitCode.FAILED


def as_text(document: dict[str, Any]) -> list[str]:
    """The document as aligned lines."""
    rows = [("agent", _agent(document)), *(("", click.style(fault, fg="red")) for fault in document["faults"])]
    if document["paused"] is not None:
        rows.append(("paused", click.style(_paused(document["paused"]["remaining_s"]), fg="yellow")))
    rows += [*_link(document["link"]), *_journal(document["journal"]), *_deliveries(document["deliveries"])]
    rows += _settings(document["config"], document["reload"])
    rows.append(("health at", ", ".join(document["listeners"]) or "-"))
    if document["log"]["dropped"]:
        lost = f"{document['log']['dropped']} lines dropped: its reader is slow"
        rows.append(("log", click.style(lost, fg="yellow")))
    return [f"{name:<14}{value}" for name, value in rows]


def _agent(document: dict[str, Any]) -> str:
    verdict = click.style("ready", fg="green") if document["ready"] else click.style("not ready", fg="red")
    up = duration(document["uptime_s"])
    return f"{verdict}   version {document['version']}, process {document['pid']}, up for {up}, {document['instance']}"


def _settings(config: str | None, reload: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("settings", config or "environment variables and defaults")]
    if reload["fault"] is not None:
        rows.append(("", click.style(f"not reloaded, the old ones are in force: {reload['fault']}", fg="red")))
    if reload["restart_needed"]:
        waiting = ", ".join(reload["restart_needed"])
        rows.append(("", click.style(f"changed in the file, in force after a restart: {waiting}", fg="yellow")))
    return rows


def _paused(remaining: float | None) -> str:
    return "no attempt starts " + (f"for {duration(remaining)}" if remaining is not None else "until 'presence resume'")


def _link(link: dict[str, Any]) -> list[tuple[str, str]]:
    through = f" through {link['proxy']}" if link["proxy"] else ""
    rows = [("link", f"{link['state']} for {duration(link['for_s'])}   {link['url']}{through}")]
    if link["canary_ago_s"] is not None:
        offset = link["clock_offset_s"]
        rows.append(("", f"last sign of life {duration(link['canary_ago_s'])} ago, clock off by {offset or 0:.1f} s"))
    failure = link["last_failure"]
    if failure is not None:
        rows.append(("last failure", f"{duration(failure['ago_s'])} ago: {failure['cause']}: {failure['reason']}"))
    return rows


def _journal(journal: dict[str, Any]) -> list[tuple[str, str]]:
    state = "writable" if journal["writable"] else click.style("NOT writable", fg="red")
    rows = [("journal", f"{state}   {journal['path']}, {journal['size_bytes'] / 1_000_000:.1f} MB")]
    if "pending" in journal:
        held = sum(journal["held"].values())
        reasons = f" ({', '.join(f'{reason}: {count}' for reason, count in journal['held'].items())})" if held else ""
        counts = f"{journal['pending']} pending, {journal['delivering']} delivering, {held} held{reasons}"
        rows.append(("", f"{counts}, {journal['unreported']} to be reported, oldest {duration(journal['oldest_s'])}"))
    return rows


def _deliveries(deliveries: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("in flight", str(deliveries["in_flight"]))]
    last = deliveries["last_success"]
    rows.append(
        ("last success", f"{duration(last['ago_s'])} ago, {last['target']}" if last else "none since the start")
    )
    for circuit in deliveries["circuits"]:
        waits = f"{circuit['waiting']} wait, next try in {duration(circuit['probe_in_s'])}"
        rows.append(("circuit", f"{click.style(circuit['state'], fg='yellow')}   {circuit['host']}: {waits}"))
    return rows
