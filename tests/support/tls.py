"""Certificates of an authority of our own, and servers that show them."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

DAY = timedelta(days=1)


def authority_file(authority: trustme.CA, directory: Path) -> str:
    """The authority's certificate as a file for `ca_file`."""
    file = directory / "authority.pem"
    file.write_bytes(authority.cert_pem.bytes())
    return str(file)


def server_context(certificate: trustme.LeafCert, clients: trustme.CA | None = None) -> ssl.SSLContext:
    """A server with that certificate; `clients`: the authority of the certificates that it demands of them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        clients.configure_trust(context)
    return context


def expired(authority: trustme.CA, name: str) -> trustme.LeafCert:
    return authority.issue_cert(name, not_before=datetime.now(UTC) - 2 * DAY, not_after=datetime.now(UTC) - DAY)


def not_yet_valid(authority: trustme.CA, name: str) -> trustme.LeafCert:
    return authority.issue_cert(name, not_before=datetime.now(UTC) + DAY, not_after=datetime.now(UTC) + 2 * DAY)
