"""Whose certificates the link believes, and which one it shows. Of the control plane's leg alone.

Made anew for each connection: a file that is replaced needs no restart. Targets have their own (`targets`).
"""

import asyncio
import socket
import ssl
from pathlib import Path

from presence.agent.certificate import Certificate, read_certificate
from presence.agent.files import NamedFiles
from presence.agent.settings import ControlPlane

_SUFFIXES = (".pem", ".crt", ".cer")


def trust(settings: ControlPlane) -> ssl.SSLContext:
    """Verifies name and chain against the system's authorities and those of the settings; TLS 1.2 at least.

    It reads files and takes some 50 ms: call it in a thread. Raises ConfigurationError.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    files = NamedFiles("control_plane")
    if settings.ca_file is not None:
        files.trust(context, "ca_file", settings.ca_file)
    if settings.ca_directory is not None:
        for file in _certificates(settings.ca_directory, files):
            files.trust(context, "ca_directory", file)
    if settings.ca_file is not None or settings.ca_directory is not None:
        # An intermediate authority, or the server's own certificate, is trusted as it stands there.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if settings.client_cert is not None:
        files.identify(context, settings.client_cert, settings.client_key)
    return context


async def shown_by(connected: socket.socket, host: str) -> Certificate | None:
    """What the server at the other end shows, whether it is believed or not; None if it cannot be read.

    For an error message only: nothing is said on the connection, which is closed then. The caller bounds it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        transport, _ = await asyncio.get_running_loop().create_connection(
            asyncio.Protocol, sock=connected, ssl=context, server_hostname=host
        )
    except BaseException:
        connected.close()
        raise
    try:
        shown = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return read_certificate(shown) if shown else None
    except ValueError:
        return None
    finally:
        transport.abort()


def _certificates(directory: Path, files: NamedFiles) -> list[Path]:
    """The certificate files of the directory, by their names' endings."""
    try:
        found = sorted(file for file in directory.iterdir() if file.suffix.lower() in _SUFFIXES)
    except OSError as error:
        what = f"cannot be read: {error.strerror}; give a directory of certificates"
        raise files.fault("ca_directory", directory, what) from None
    if not found:
        raise files.fault("ca_directory", directory, f"holds no file that ends in {', '.join(_SUFFIXES)}")
    return found
