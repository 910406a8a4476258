"""What the daemon tells its supervisor: systemd's notification protocol (sd_notify(3)), without a library."""

import os
import socket


def notify(*lines: str) -> None:
    """Sends `READY=1`, `STATUS=...`, `STOPPING=1` to systemd, where it asked for them; else does nothing.

    Never blocks and never fails: a supervisor that does not listen must not stop a delivery.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.setblocking(False)
            channel.sendto("\n".join(lines).encode(), address)
    except OSError:
        return
