"""What was reached while `[egress] mode = "observe"`: kept in a file, so that a rule list can be made from it."""

import asyncio
import ipaddress
import json
import os
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from presence.agent.attempts import Observer
from presence.agent.deliver import destination_of
from presence.agent.entries import Claimed
from presence.domain.address import Address
from presence.domain.egress import Destination
from presence.domain.outcome import Attempt, Response
from presence.domain.retry import Step
from presence.errors import ConfigurationError, PresenceError
from presence.logs import get_logger

log = get_logger(__name__)

SEEN = "egress-seen.json"
"""Name of the file, beside the journal."""

MOST = 10_000
"""Different targets that are remembered."""


class Sight(NamedTuple):
    """A target that answered: where, how, and at which address (None: through a proxy, which knows it)."""

    scheme: str
    host: str
    port: int
    method: str
    address: str | None


class Seen:
    """An observer of attempts that passes on to `then`. `run` writes what is new to `file`."""

    def __init__(self, file: Path, then: Observer) -> None:
        self._file = file
        self._then = then
        self._sights = set(_read(file)) if file.exists() else set()
        self._new = asyncio.Event()
        self._writing = Lock()
        self._written = len(self._sights)

    def __call__(self, claimed: Claimed, attempt: Attempt, step: Step) -> None:
        if isinstance(attempt.outcome, Response):
            destination = destination_of(claimed.uri)
            address = attempt.address if attempt.proxy is None else None
            sight = Sight(destination.scheme, destination.host, destination.port, claimed.method, address)
            if sight not in self._sights and len(self._sights) < MOST:
                self._sights.add(sight)
                self._new.set()
                log.info("seen", **sight._asdict(), only_observed=attempt.observed)
        self._then(claimed, attempt, step)

    async def run(self) -> None:
        """Until it is cancelled; what is new is in the file then."""
        try:
            while True:
                await self._new.wait()
                self._new.clear()
                await asyncio.to_thread(self._write, sorted(self._sights, key=str))
        finally:
            self._write(sorted(self._sights, key=str))

    def _write(self, sights: list[Sight]) -> None:
        """One after the other, since cancelling does not end the thread that writes."""
        with self._writing:
            if len(sights) > self._written:
                self._written = len(sights)
                _write(self._file, sights)


def read_seen(file: Path) -> list[tuple[Destination, str, tuple[Address, ...]]]:
    """What the file holds, in the form that `presence.domain.egress.suggest` takes.

    Raises PresenceError where there is none, and ConfigurationError where it cannot be read.
    """
    if not file.exists():
        raise PresenceError(
            f'{file}: nothing was observed yet; set [egress] mode = "observe", let the agent deliver for a while,'
            " then ask again with the same settings"
        )
    return [(Destination(s.scheme, s.host, s.port), s.method, _addresses(s)) for s in _read(file)]


def _addresses(sight: Sight) -> tuple[Address, ...]:
    return () if sight.address is None else (ipaddress.ip_address(sight.address),)


def _read(file: Path) -> list[Sight]:
    try:
        return [_parse(entry) for entry in json.loads(file.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(f"{file}: cannot be read ({error}); remove it to begin anew") from None


def _parse(entry: dict[str, Any]) -> Sight:
    sight = Sight(**entry)
    _addresses(sight)
    if not isinstance(sight.port, int):
        raise ValueError(f"the port {sight.port!r} is no number")
    return sight


def _write(file: Path, sights: list[Sight]) -> None:
    """All or nothing: a crash leaves the old file."""
    new = file.with_suffix(".new")
    try:
        with new.open("w", encoding="utf-8") as stream:
            json.dump([sight._asdict() for sight in sights], stream, indent=0)
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(file)
    except OSError as error:
        log.error("what was seen is not kept", file=str(file), reason=error.strerror)
