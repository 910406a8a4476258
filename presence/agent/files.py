"""Files that settings name: certificates, keys, credentials. Every fault says which setting, which file and what to do.

What a file holds appears in no error.
"""

import base64
import ssl
from collections.abc import Iterable
from pathlib import Path

from presence.errors import ConfigurationError

MAX_FILE = 1024 * 1024
"""Bytes of such a file: a bundle of all public authorities has a quarter of it."""


def basic(credentials: str) -> str:
    """The value of a header that carries user:password (RFC 7617)."""
    return f"Basic {base64.b64encode(credentials.encode()).decode()}"


def signatures(files: Iterable[Path]) -> list[object]:
    """What differs when one of the files was changed, replaced, made or removed."""
    return [_signature(file) for file in files]


def _signature(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


class NamedFiles:
    """Reads what the keys of one section name; raises ConfigurationError. `remark` follows each key in errors."""

    def __init__(self, section: str, remark: str = "") -> None:
        self._section = section
        self._remark = remark

    def credentials(self, key: str, file: Path) -> str:
        """user:password, as the one line of the file."""
        text = self.line(key, file)
        user, colon, _ = text.partition(":")
        if not user or not colon or not text.isprintable():
            raise self.fault(key, file, "write one line, user:password, into the file")
        return text

    def trust(self, context: ssl.SSLContext, key: str, file: Path) -> None:
        """The file's certificates are believed by the context from now on."""
        self.read(key, file)
        try:
            context.load_verify_locations(file)
        except OSError:
            raise self.fault(
                key, file, "holds no certificate, or a damaged one; write it in PEM form (-----BEGIN CERTIFICATE-----)"
            ) from None

    def identify(self, context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
        """The context shows the certificate if asked; its private key is in `key`, else in the same file."""
        # What is wrong with the certificate would otherwise not be told apart from what is wrong with the key.
        self.trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "client_cert", certificate)
        place, file = ("client_key", key) if key else ("client_cert", certificate)
        if b"PRIVATE KEY-----" not in self.read(place, file):
            hint = "write it in PEM form" if key else "append it in PEM form, or give its file as client_key"
            raise self.fault(place, file, f"holds no private key; {hint}")
        encrypted = self.fault(
            place,
            file,
            "the key is encrypted, and nobody is there to type its password; decrypt it with"
            " 'openssl pkey -in ENCRYPTED -out PLAIN' and give that file mode 0600",
        )

        def refuse() -> str:
            raise encrypted

        try:
            context.load_cert_chain(certificate, key, password=refuse)
        except OSError as error:
            what = "the private key is damaged; write it anew, in PEM form"
            if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
                what = f"is not the key of the certificate in {certificate}; give the two that belong together"
            raise self.fault(place, file, what) from None

    def line(self, key: str, file: Path) -> str:
        """The text without the line's end that editors put there."""
        try:
            return self.read(key, file).decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise self.fault(key, file, "is not text; name the right file") from None

    def read(self, key: str, file: Path) -> bytes:
        """The whole file."""
        try:
            with file.open("rb") as opened:
                content = opened.read(MAX_FILE + 1)
        except FileNotFoundError:
            raise self.fault(key, file, "there is no such file; give the path of an existing one") from None
        except OSError as error:
            raise self.fault(key, file, f"cannot be read: {error.strerror}; make it readable for the agent") from None
        if len(content) > MAX_FILE:
            raise self.fault(key, file, f"is larger than {MAX_FILE} bytes; name the right file")
        return content

    def fault(self, key: str, file: Path, what: str) -> ConfigurationError:
        """The error that says so, to be raised."""
        return ConfigurationError(f"{self._section}.{key}{self._remark}: {file}: {what}")
