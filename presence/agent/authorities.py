"""Whose certificates might be believed, to find out who vouches for the control plane. None of it is for the link."""

import ssl
from contextlib import suppress
from pathlib import Path

from presence.agent.certificate import Certificate, read_certificate
from presence.agent.settings import ControlPlane

ADDED = (
    Path("/usr/local/share/ca-certificates"),
    Path("/etc/pki/ca-trust/source/anchors"),
    Path("/etc/ca-certificates/trust-source/anchors"),
)
"""Where an administrator adds authorities to the system's: Debian, Red Hat, Arch."""


def the_system_s(settings: ControlPlane) -> ssl.SSLContext:
    """The system's authorities without those of the settings."""
    context = ssl.create_default_context()
    _identify(context, settings)
    return context


def added_here(settings: ControlPlane) -> ssl.SSLContext:
    """Only those that were added to the system's on this host; perhaps none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for directory in ADDED:
        for file in directory.rglob("*"):
            with suppress(OSError):
                context.load_verify_locations(file)
    _identify(context, settings)
    return context


def anyone(settings: ControlPlane) -> ssl.SSLContext:
    """Everybody: only for what is worth nothing, such as the time of day."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _identify(context, settings)
    return context


def read_from(inside: ssl.SSLObject | None) -> Certificate | None:
    """What the server shows on the connection; None without TLS, and for a certificate that cannot be read."""
    shown = inside.getpeercert(binary_form=True) if inside is not None else None
    try:
        return read_certificate(shown) if shown else None
    except ValueError:
        return None


def _identify(context: ssl.SSLContext, settings: ControlPlane) -> None:
    if settings.client_cert is not None:
        with suppress(OSError):
            context.load_cert_chain(settings.client_cert, settings.client_key, password="")
