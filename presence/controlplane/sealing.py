"""Secrets at rest: AES-256-GCM under keys in a file that is not in the database.

The file has one key on each line, `id:base64 of 32 bytes`; blank lines and those that begin with `#` do not count. The
first key seals, all open, so that keys can be exchanged: put a new one first, restart all replicas, reseal, remove
the old one. A sealed text is `id:base64 of nonce and ciphertext`, and opens in the place only that it was sealed for:
a row that is copied to another one opens nothing.
"""

import base64
import binascii
import json
import os
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from presence.errors import ConfigurationError, PresenceError

KEY_BYTES = 32
_NONCE_BYTES = 12
_LINE = re.compile(r"([A-Za-z0-9_.-]{1,64}):([A-Za-z0-9+/=]+)\Z")


class UnopenedError(PresenceError):
    """A sealed text cannot be opened: its key is not there, or it was changed or moved. Says nothing of the text."""


class Sealer:
    """Keys by id, the sealing one first. `file`: where they stand, for messages."""

    def __init__(self, keys: Mapping[str, bytes], file: Path) -> None:
        self.file = file
        self._keys = {key_id: AESGCM(key) for key_id, key in keys.items()}

    def __repr__(self) -> str:
        return f"Sealer({sorted(self._keys)})"

    @property
    def is_ready(self) -> bool:
        """Whether it has a key to seal with."""
        return bool(self._keys)

    def seal(self, text: str, place: tuple[str, ...]) -> str:
        """The text, sealed for a place: the ids of its row."""
        assert self._keys, "the caller asks is_ready"
        key_id, key = next(iter(self._keys.items()))
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return f"{key_id}:{base64.b64encode(nonce + key.encrypt(nonce, text.encode(), _bound(place))).decode()}"

    def open(self, sealed: str, place: tuple[str, ...]) -> str:
        """The text that was sealed for that place. Raises UnopenedError."""
        key_id, _, encoded = sealed.partition(":")
        key = self._keys.get(key_id)
        if key is None:
            raise UnopenedError(f"the key '{key_id[:64]}' is not in {self.file}; put it there again")
        try:
            given = base64.b64decode(encoded, validate=True)
            return key.decrypt(given[:_NONCE_BYTES], given[_NONCE_BYTES:], _bound(place)).decode()
        except (InvalidTag, binascii.Error, ValueError):
            raise UnopenedError("the stored secret is damaged or was moved; set it anew") from None

    def is_current(self, sealed: str) -> bool:
        """Whether the first key has sealed it."""
        return key_of(sealed) == next(iter(self._keys), None)


def key_of(sealed: str) -> str:
    """The id of the key that has sealed it."""
    return sealed.partition(":")[0]


def place_of(organization_id: str, webhook_id: str) -> tuple[str, ...]:
    """What the secret of a webhook is sealed for."""
    return ("webhook.authorization", organization_id, webhook_id)


def _bound(place: tuple[str, ...]) -> bytes:
    return json.dumps(place).encode()


def read_keys(file: Path) -> Sealer:
    """The keys of the file; none where there is no such file. Raises ConfigurationError."""
    try:
        mode = file.stat().st_mode
        text = file.read_text(encoding="ascii")
    except FileNotFoundError:
        return Sealer({}, file)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not ASCII text"
        raise ConfigurationError(f"{file}: the encryption keys cannot be read: {reason}") from None
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise ConfigurationError(
            f"{file}: the encryption keys are open to others (mode {stat.S_IMODE(mode):04o}); run: chmod 600 {file}"
        )
    keys: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            key_id, key = _key(line.strip(), f"{file}:{number}")
            if key_id in keys:
                raise ConfigurationError(f"{file}:{number}: the id '{key_id}' is given twice; ids must differ")
            keys[key_id] = key
    if not keys:
        raise ConfigurationError(f"{file}: holds no key; put one there, as id:base64 of {KEY_BYTES} random bytes")
    return Sealer(keys, file)


def _key(line: str, where: str) -> tuple[str, bytes]:
    shape = _LINE.match(line)
    try:
        key = base64.b64decode(shape[2], validate=True) if shape else b""
    except binascii.Error:
        key = b""
    if shape is None or len(key) != KEY_BYTES:
        raise ConfigurationError(f"{where}: is not id:base64 of {KEY_BYTES} bytes; an id has letters, digits and ._-")
    return shape[1], key


def make_keys(file: Path) -> None:
    """Makes the file with a first random key, for its owner only, on the disk when this returns.

    Does nothing where there is one already. Raises ConfigurationError.
    """
    line = f"{uuid4()}:{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}\n"
    draft = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as opened:
                opened.write(line)
                opened.flush()
                os.fsync(descriptor)
            # Never replaces: what another key has sealed would be lost.
            os.link(draft, file)
        except FileExistsError:
            return
        finally:
            draft.unlink()
        directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise ConfigurationError(f"{file}: the encryption keys cannot be written: {error.strerror}") from None
