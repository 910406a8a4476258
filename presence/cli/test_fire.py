"""`presence test-fire`: one delivery, shown attempt by attempt."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from presence.errors import ConfigurationError, ExitCode

if TYPE_CHECKING:
    from presence.agent.entries import Claimed, Settled
    from presence.agent.settings import AgentSettings
    from presence.agent.testfire import Explanation, Shot, Verdict
    from presence.domain.outcome import Attempt
    from presence.domain.retry import Step

ONE_SHOT_ATTEMPTS = 3
_TABLE = "{:<9}{:<34}{:<18}{:>5}{:>9}{:>5}{:>7}{:>12}{:>6}{:>9}"
_POLICY_REASONS = {
    "denied_always", "denied_by_rule", "denied_loopback", "denied_own_listener", "not_allowed", "method_not_allowed",
    "other_network", "path_ambiguous", "proxy_needs_rule", "proxy_unresolved",
}  # fmt: skip
_REMEDIES = {
    "denied_always": "this address is never reached (link-local, metadata, multicast, embedded IPv4)",
    "denied_by_rule": "a deny rule of [egress] matches it",
    "denied_loopback": 'loopback needs a rule that names it by address: [egress] allow = ["127.0.0.1"]',
    "not_allowed": "no rule of [egress] allows it: add the name, address or CIDR to allow",
    "denied_own_listener": "this is the agent's own port",
    "method_not_allowed": "no rule of [egress] allows this method; a rule can: 'POST jenkins.corp'",
    "other_network": "the rule for this name says into which network it must resolve, and it resolves elsewhere",
    "path_ambiguous": "the URI has %2F, so that a rule with a path cannot judge it: remove it from the URI",
    "proxy_needs_rule": "through a proxy a target needs a rule of its own in allow: the default is not enough",
    "proxy_unresolved": "the name does not resolve here: with proxy_resolves = true the proxy does it",
}


@click.command("test-fire")
@click.argument("uri")
@click.option("--subject-id", required=True, help="Replaces {SubjectId}.")
@click.option(
    "--method", default="GET", show_default=True, type=click.Choice(["GET", "POST", "PUT"]), help="As a webhook has it."
)
@click.option("--body", help="Body of a POST or PUT, with placeholders; @FILE reads it.")
@click.option("--content-type", help="The body's type, as application/json.")
@click.option("--header", "headers", multiple=True, metavar="K=V", help="Extra header; K=@FILE reads the value.")
@click.option("--max-attempts", type=click.IntRange(1, 1000), help="At most this many attempts (default: 3).")
@click.option("--config", type=click.Path(path_type=Path), help="Settings file (default: /etc/presence/agent.toml).")
@click.option("--dry-run", is_flag=True, help="Explain what would happen; send nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
def command(
    uri: str,
    subject_id: str,
    method: str,
    body: str | None,
    content_type: str | None,
    headers: tuple[str, ...],
    max_attempts: int | None,
    config: Path | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Send one request through the same code as the daemon, and show each attempt.

    Exit code 0: delivered; 1: failed; 2: the URI or subject cannot be used; 3: refused by the egress policy.

    \b
    Example:
      presence test-fire 'http://jenkins.corp:8080/hook/{SubjectId}' --subject-id 42 --dry-run
    """
    from presence import logs
    from presence.agent.settings import load_settings
    from presence.agent.testfire import Shot
    from presence.domain.template import PLACEHOLDERS, TemplateError, parse_template

    settings = _limited(load_settings(config), max_attempts)
    logs.configure("error", settings.log.format)
    try:
        template = parse_template(uri)
    except TemplateError as error:
        raise click.BadParameter(str(error), param_hint="URI") from None
    values = {**dict.fromkeys(PLACEHOLDERS, "x"), "SubjectId": subject_id}
    _check_subject(subject_id)
    try:
        template.expand(values)
    except TemplateError as error:
        raise click.BadParameter(f"in this URI: {error}", param_hint="--subject-id") from None
    body = _read_body(body, method, content_type, values)
    shot = Shot(uri, subject_id, method, body, content_type, _parse_headers(headers))
    return _explain(settings, shot, as_json) if dry_run else _fire(settings, shot, as_json)


def _check_subject(subject_id: str) -> None:
    from presence.domain.events import subject_fault

    fault = subject_fault(subject_id)
    if fault:
        raise click.BadParameter(fault, param_hint="--subject-id")


def _limited(settings: "AgentSettings", max_attempts: int | None) -> "AgentSettings":
    """A person waits: without a word of theirs there are at most three attempts."""
    attempts = max_attempts or min(settings.retry.max_attempts, ONE_SHOT_ATTEMPTS)
    return settings.model_copy(update={"retry": settings.retry.model_copy(update={"max_attempts": attempts})})


def _fire(settings: "AgentSettings", shot: "Shot", as_json: bool) -> int:
    from presence.agent import testfire
    from presence.domain.outcome import Phase
    from presence.domain.retry import RetryAfter

    columns = [phase for phase in Phase if phase is not Phase.POLICY]

    def show(_claimed: "Claimed", attempt: "Attempt", step: "Step") -> None:
        if as_json:
            return
        if attempt.number == 1:
            click.echo(_TABLE.format("ATTEMPT", "OUTCOME", "ADDRESS", *[phase.upper() for phase in columns], "TOOK MS"))
        phases = [str(attempt.phases.get(phase, "-")) for phase in columns]
        through = f"   through {attempt.proxy}" if attempt.proxy else ""
        again = "   sent again on a fresh connection" if attempt.repeated else ""
        then = f"   next in {step.delay / 1000:.1f} s" if isinstance(step, RetryAfter) else ""
        row = _TABLE.format(attempt.number, attempt.describe(), attempt.address or "-", *phases, attempt.took)
        click.echo(row + through + again + then)

    ended = asyncio.run(testfire.fire(settings, shot, show))
    if as_json:
        document = {"state": ended.state.value, "reason": ended.reason, "uri": shot.uri, "subject_id": shot.subject_id}
        click.echo(json.dumps({**document, "attempts": ended.log}))
    else:
        click.echo(f"{ended.state.value}: {_REMEDIES.get(ended.reason, ended.reason)}{_hint(ended)}")
    return _exit_code(ended.state.value, ended.reason)


def _explain(settings: "AgentSettings", shot: "Shot", as_json: bool) -> int:
    from presence.agent import testfire

    found = asyncio.run(testfire.explain(settings, shot))
    if as_json:
        click.echo(json.dumps({**asdict(found), "sent": False}))
    else:
        for line in _as_text(found, settings):
            click.echo(line)
    if found.refused:
        return _exit_code("refused", found.refused.value)
    return ExitCode.FAILED if found.fault else ExitCode.SUCCESS


def _as_text(found: "Explanation", settings: "AgentSettings") -> list[str]:
    lines = [f"{'request':<12}{found.method} {found.uri or '-'}"]
    if found.headers:
        lines.append(f"{'headers':<12}{', '.join(found.headers)}")
    if found.body is not None:
        lines.append(f"{'body':<12}{found.body}")
    lines.append(f"{'host':<12}{found.host} port {found.port}")
    lines += [_verdict("address", verdict) for verdict in found.verdicts]
    if found.proxy:
        lines.append(f"{'proxy':<12}{found.proxy}")
        lines += [_verdict("proxy at", verdict) for verdict in found.proxy_verdicts]
    if found.fault:
        lines.append(f"{'address':<12}none: {found.fault}")
    if found.trust:
        lines.append(f"{'trusted':<12}{found.trust}")
    waits = ", ".join(f"{wait:g}" for wait in found.longest_waits) or "none"
    lines.append(f"{'attempts':<12}{settings.retry.max_attempts}; longest waits between them in s: {waits}")
    if found.refused:
        lines.append(f"{'verdict':<12}refused: {_REMEDIES.get(found.refused.value, found.refused.value)}")
    else:
        verdict = "the name does not resolve" if found.fault else "would be sent"
        lines.append(f"{'verdict':<12}{verdict}; nothing was sent")
    return lines


def _verdict(name: str, verdict: "Verdict") -> str:
    return f"{name:<12}{verdict.address}  {'allowed' if verdict.allowed else 'refused'}: {verdict.because}"


def _hint(ended: "Settled") -> str:
    hint = ended.log[-1].get("hint") if ended.log else None
    return f" ({hint.replace('_', ' ')})" if hint and ended.reason not in _REMEDIES else ""


def _exit_code(state: str, reason: str) -> int:
    if state == "succeeded":
        return ExitCode.SUCCESS
    return ExitCode.REFUSED if reason in _POLICY_REASONS else ExitCode.FAILED


def _read_body(body: str | None, method: str, content_type: str | None, values: dict[str, str]) -> str | None:
    """The body, checked as the control plane and the agent check it."""
    from presence.domain.body import expand_body
    from presence.domain.template import TemplateError

    if body is None:
        if content_type is not None:
            raise click.BadParameter("there is no body that it could be the type of", param_hint="--content-type")
        return None
    if method == "GET":
        raise click.BadParameter("a GET has no body; add --method POST or --method PUT", param_hint="--body")
    if body.startswith("@"):
        body = _read_file("--body", body[1:])
    try:
        expand_body(body, content_type, values)
    except TemplateError as error:
        raise click.BadParameter(str(error), param_hint="--body") from None
    return body


def _read_file(option: str, name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise ConfigurationError(f"{option}: {name} cannot be read: {reason}") from None


def _parse_headers(texts: tuple[str, ...]) -> dict[str, str]:
    headers = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not _is_token(name):
            raise click.BadParameter(f"'{name}' is not NAME=VALUE with a header name", param_hint="--header")
        if name.lower() in {"host", "content-length", "transfer-encoding", "connection"}:
            raise click.BadParameter(f"'{name}' is set by the agent itself", param_hint="--header")
        if value.startswith("@"):
            value = _read_file(f"--header {name}", value[1:]).strip()
        if not (value.isascii() and value.isprintable()):
            raise click.BadParameter(
                f"the value of '{name}' has characters a header cannot have", param_hint="--header"
            )
        headers[name] = value
    return headers


def _is_token(name: str) -> bool:
    """RFC 9110 section 5.6.2."""
    return bool(name) and name.isascii() and all(c.isalnum() or c in "!#$%&'*+-.^_`|~" for c in name)
