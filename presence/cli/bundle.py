"""What support needs to know, in one file: doctor's findings, settings, versions, status and deliveries. No secrets."""

import io
import json
import os
import platform
import ssl
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from presence import __version__
from presence.agent.control_path import settings_file
from presence.agent.effective import effective_settings
from presence.agent.finding import Finding
from presence.agent.listing import journal_file
from presence.agent.settings import load_settings
from presence.cli.daemon import NoDaemon, ask
from presence.errors import ConfigurationError, PresenceError

NAME = "presence-support"
DELIVERIES = 200
LIBRARIES = ("aiohttp", "websockets", "pydantic", "pydantic-settings", "structlog", "click", "uvloop")


def write_bundle(file: Path, findings: list[Finding], config: Path | None) -> None:
    """Makes the .tar.gz, for its owner's eyes only. Raises PresenceError where it cannot."""
    parts = dict(_parts(findings, config))
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise PresenceError(f"{file}: exists already; give another name to --bundle") from None
    except OSError as error:
        raise PresenceError(f"{file}: cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as opened, tarfile.open(fileobj=opened, mode="w:gz") as archive:
        for name, document in parts.items():
            content = json.dumps(document, indent=2).encode()
            entry = tarfile.TarInfo(f"{NAME}/{name}.json")
            entry.size, entry.mode, entry.mtime = len(content), 0o600, int(time.time())
            archive.addfile(entry, io.BytesIO(content))


def _parts(findings: list[Finding], config: Path | None) -> Iterator[tuple[str, Any]]:
    yield "version", _versions()
    yield "doctor", [asdict(finding) for finding in findings]
    try:
        settings = load_settings(config)
    except ConfigurationError as error:
        yield "settings", {"faults": str(error).splitlines()}
        return
    rows = effective_settings(settings, config)
    file = settings_file(config)
    shown = {row.key: {"value": row.value, "source": row.source} for row in rows}
    yield "settings", {"file": str(file) if file else None, "settings": shown}
    yield "status", _asked(config, "/status")
    yield "deliveries", _deliveries(config, settings.journal.location())


def _versions() -> dict[str, Any]:
    libraries = {}
    for library in LIBRARIES:
        try:
            libraries[library] = version(library)
        except PackageNotFoundError:
            libraries[library] = "not installed"
    return {
        "presence": __version__,
        "python": sys.version,
        "openssl": ssl.OPENSSL_VERSION,
        "platform": platform.platform(),
        "libraries": libraries,
    }


def _asked(config: Path | None, question: str) -> dict[str, Any]:
    try:
        return ask(config, question)
    except PresenceError as error:
        return {"error": str(error)}


def _deliveries(config: Path | None, journal: Path) -> dict[str, Any]:
    """Those that came last, without credentials, bodies and queries: from the agent, else from its journal's file."""

    def of_the_agent(after: int, most: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ask(config, f"/deliveries?after={after}&most={most}&all=1")["deliveries"]
        return found

    try:
        try:
            return {"deliveries": latest(of_the_agent)}
        except NoDaemon:
            with journal_file(journal) as opened:
                return {"deliveries": latest(lambda after, most: opened.listed(after, most, None, True))}
    except PresenceError as error:
        return {"error": str(error)}


def latest(listed: Callable[[int, int], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The last DELIVERIES of what can only be listed from a number on: their greatest number is searched for."""
    below, beyond = 0, 1
    while listed(beyond, 1):
        below, beyond = beyond, 2 * beyond
    while below < beyond:
        middle = (below + beyond) // 2
        if listed(middle, 1):
            below = middle + 1
        else:
            beyond = middle
    return listed(max(0, below - DELIVERIES), DELIVERIES)
