"""`presence deliveries`: what the agent's journal holds."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from presence.cli.daemon import CONFIG, JSON, NoDaemon, ask
from presence.cli.table import duration, table

STATES = ("pending", "delivering", "held", "succeeded", "failed", "refused", "expired", "cancelled")
_HEAD = ("ID", "STATE", "REASON", "ATTEMPTS", "AGE", "NEXT TRY", "TARGET")


@click.group("deliveries")
def command() -> None:
    """Look at the deliveries in the agent's journal, and let held ones go.

    \b
    Example:
      presence deliveries list --state held
    """


@command.command("list")
@click.option("--state", type=click.Choice(STATES), help="Of this state only.")
@click.option("--all", "all_", is_flag=True, help="Those as well whose end the control plane has acknowledged.")
@click.option("--after", type=click.IntRange(0), default=0, help="After this number; 'seq' of --json.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many.")
@JSON
@CONFIG
def list_(state: str | None, all_: bool, after: int, limit: int, as_json: bool, config: Path | None) -> None:
    """List what the journal holds, the oldest first.

    Where no agent runs, its journal is read from the file.

    \b
    Example:
      presence deliveries list --state held
    """
    query = {"after": after, "most": limit, "all": int(all_), **({"state": state} if state else {})}
    try:
        found = ask(config, f"/deliveries?{urlencode(query)}")["deliveries"]
    except NoDaemon as absent:
        found = _from_file(config, absent).listed(after, limit, state, all_)
    if as_json:
        click.echo(json.dumps({"deliveries": found}))
        return
    for line in table(_HEAD, [_row(entry) for entry in found]):
        click.echo(line)
    if len(found) == limit:
        click.echo(f"there may be more: --after {found[-1]['seq']}", err=True)


@command.command("show")
@click.argument("delivery", metavar="ID")
@JSON
@CONFIG
def show(delivery: str, as_json: bool, config: Path | None) -> None:
    """Show one delivery and its attempts; never its credentials or body.

    \b
    Example:
      presence deliveries show 0d9a1f1e-7f0e-4a39-8a57-02a3a9f6a3c4
    """
    try:
        found = ask(config, f"/deliveries/{quote(delivery, safe='')}")
    except NoDaemon as absent:
        entry = _from_file(config, absent).shown(delivery)
        if entry is None:
            raise click.ClickException(f"the journal has no delivery {delivery}") from None
        found = entry
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, value in found.items():
        if name != "log" and value is not None:
            label, text = (name[:-2], duration(value)) if name.endswith("_s") else (name, value)
            click.echo(f"{label:<18}{text}")
    for attempt in found["log"]:
        said = ", ".join(_said(name, value) for name, value in attempt.items() if name not in ("number", "ago_s"))
        click.echo(f"attempt {attempt['number']:<10}{duration(attempt['ago_s'])} ago: {said}")


@command.command("release")
@click.argument("delivery", metavar="ID")
@JSON
@CONFIG
def release(delivery: str, as_json: bool, config: Path | None) -> None:
    """Let a held delivery go: it is attempted again, as if somebody had said Fire in the control plane.

    The target may get a second request with the same webhook-id. The control plane shows it as held until its end is
    reported.

    \b
    Example:
      presence deliveries release 0d9a1f1e-7f0e-4a39-8a57-02a3a9f6a3c4
    """
    document = ask(config, f"/deliveries/{quote(delivery, safe='')}/release", post=True)
    click.echo(json.dumps(document) if as_json else f"{delivery} is pending again")


def _from_file(config: Path | None, absent: NoDaemon) -> Any:
    from presence.agent.listing import JournalFile
    from presence.agent.settings import load_settings

    path = load_settings(config).journal.location()
    if not path.exists():
        raise absent
    click.echo(f"no agent is running here; {path} is read", err=True)
    return JournalFile(path)


def _said(name: str, value: object) -> str:
    """Of an attempt: what is a number but no status is milliseconds, what is only said where it is so is a word."""
    if value is True:
        return name
    return f"{name} {value} ms" if isinstance(value, int) and name != "status" else f"{name} {value}"


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    age, due = duration(entry["age_s"]), duration(entry["due_in_s"])
    return (
        entry["id"], entry["state"], entry["reason"] or "-", str(entry["attempts"]), age, due, entry["target"] or "-",
    )  # fmt: skip
