"""Trades a one-time token for the presence's key, and keeps that in a file.

The nonce makes it repeatable: it is kept beside the key from before the question until the key is on the disk, so that
whoever asks again after a lost answer, with the same token and nonce, is given the same key.
"""

import json
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from pydantic import ValidationError

from presence.agent.ends import EXPECTED
from presence.agent.failures import classify
from presence.agent.inquiry import Answer, inquire
from presence.agent.names import Resolver
from presence.agent.opening import Opening
from presence.agent.settings import ControlPlane
from presence.clock import Clock
from presence.errors import ConfigurationError, KeyRefused, Unreachable

PATH = "/api/v4/Presences/Enroll"
NONCE_BYTES = 32
LONGEST_TOKEN = 1024


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What the control plane gave. `text`: the key file's content."""

    presence_id: str
    presence_name: str
    expires_at: str
    text: str = field(repr=False)


def checked_token(text: str) -> str:
    """The token without the line's end. Raises PresenceError, without the text."""
    token = text.strip()
    if not token or len(token) > LONGEST_TOKEN or not (token.isascii() and token.isprintable()) or " " in token:
        raise KeyRefused("this is no enrolment token; it is one line, as the control plane showed it")
    return token


def at(settings: ControlPlane, url: str | None) -> ControlPlane:
    """The settings of the link for the control plane at that URL. Raises ConfigurationError."""
    if url is None:
        settings.address()
        return settings
    try:
        return ControlPlane.model_validate(settings.model_dump() | {"url": url})
    except ValidationError as error:
        what = "; ".join(fault["msg"].removeprefix("Value error, ") for fault in error.errors(include_input=False))
        raise ConfigurationError(f"--control-plane: {what}; for example https://presence.example.com") from None


def require_absent(key_file: Path) -> None:
    """Raises ConfigurationError if there is a file already."""
    if key_file.exists() or key_file.is_symlink():
        raise ConfigurationError(f"{key_file}: there is a key already; choose another --key-file, or add --force")


async def enrol(settings: ControlPlane, token: str, key_file: Path, clock: Clock, *, force: bool) -> Enrolled:
    """Asks for the key and writes the file: whole, with mode 0600, on the disk when this returns.

    Raises ConfigurationError where nothing can be written, Unreachable, KeyRefused.
    """
    if not force:
        require_absent(key_file)
    nonce_file = key_file.with_name(f"{key_file.name}.enrolling")
    nonce = _nonce(nonce_file, token)
    enrolled = _read(await _ask(settings, token, nonce, clock))
    _write(key_file, enrolled.text, force=force)
    nonce_file.unlink(missing_ok=True)
    return enrolled


async def _ask(settings: ControlPlane, token: str, nonce: str, clock: Clock) -> Answer:
    resolver = Resolver()
    opening = Opening(settings, resolver, clock, None)
    try:
        return await inquire(opening, settings, PATH, {"Token": token, "Nonce": nonce})
    except ConfigurationError:
        raise
    except EXPECTED as error:
        failure = classify(error, opening.step, opening.place)
        raise Unreachable(f"the control plane was not reached ({failure.cause.value}): {failure.reason}") from None
    finally:
        resolver.close()


def _read(answer: Answer) -> Enrolled:
    """What the answer says. Raises Unreachable or KeyRefused."""
    try:
        said = json.loads(answer.body)
    except ValueError:
        said = None
    match answer.status, said:
        case 200, {"PresenceId": str(identity), "PresenceName": str(name), "Key": str(key), "ExpiresAt": str(until)}:
            if key and key.isascii() and key.isprintable():
                return Enrolled(identity, name, until, json.dumps(said, indent=2) + "\n")
        case 400 | 401 | 403 | 409 | 410, {"Key": str(), "Message": str(message)}:
            raise KeyRefused(f"the control plane refuses the token: {_plain(message)}")
        case 429 | 500 | 502 | 503 | 504, _:
            raise Unreachable(f"the control plane cannot answer now (status {answer.status}); try again, the same way")
    what = f"no control plane that enrols answers there (status {answer.status})"
    raise Unreachable(f"{what}; is the URL right, and does a proxy or a login page stand before it?")


def _plain(message: str) -> str:
    """One line for a person, whoever wrote it."""
    return "".join(letter if letter.isprintable() else " " for letter in message)[:300]


def _nonce(file: Path, token: str) -> str:
    """The nonce of this token's enrolment: the one that was begun, else a new one, which is on the disk then."""
    digest = sha256(token.encode()).hexdigest()
    with suppress(OSError, ValueError, KeyError, TypeError):
        begun = json.loads(file.read_text(encoding="ascii"))
        if begun["TokenSha256"] == digest:
            return str(begun["Nonce"])
    nonce = secrets.token_urlsafe(NONCE_BYTES)
    _write(file, json.dumps({"TokenSha256": digest, "Nonce": nonce}), force=True)
    return nonce


def _write(file: Path, text: str, *, force: bool) -> None:
    """Replaces the file, or makes it where it must not exist yet. Raises ConfigurationError."""
    draft = file.with_name(f"{file.name}.new")
    try:
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(descriptor)
        if force:
            draft.replace(file)
        else:
            os.link(draft, file)
            draft.unlink()
        directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except FileExistsError:
        require_absent(file)
        raise
    except OSError as error:
        what = f"{file}: cannot be written: {error.strerror}"
        raise ConfigurationError(f"{what}; choose a --key-file in a directory that you can write to") from None
