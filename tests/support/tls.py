"""Certificates of an authority of our own, and servers that show them."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


@contextmanager
def blocking_server(context: ssl.SSLContext) -> Iterator[tuple[int, list[bytes]]]:
    """A server in a thread that says the alert when a handshake fails, as asyncio's does not. Its port, and what it
    got inside of TLS.
    """
    received: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            inside = context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
            with inside, suppress(ConnectionError):
                try:
                    inside.do_handshake()
                    received.append(inside.recv(65536))
                except ssl.SSLError:
                    # Closed with something unread, it would end with RST, which may overtake the alert.
                    while socket.socket.recv(inside, 65536):
                        pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve)
        serving.start()
        try:
            yield listener.getsockname()[1], received
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # wakes the thread, which closing would not
            serving.join()
