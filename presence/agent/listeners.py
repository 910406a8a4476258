"""Where this agent listens itself: sockets for its health, and by which addresses webhooks could reach them."""

import errno
import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from presence.domain.address import Address, address_of
from presence.errors import AddressUnavailable, ConfigurationError

_BACKLOG = 64
_LOCAL_V4 = re.compile(r"\|-- ([0-9.]+)\n\s+/32 host LOCAL")
_FIB, _INET6 = Path("/proc/net/fib_trie"), Path("/proc/net/if_inet6")


def split(text: str) -> tuple[str, int]:
    """Address and port of "127.0.0.1:8481" or "[::1]:8481"; raises ValueError."""
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]") if host.startswith("[") and host.endswith("]") else host
    address = address_of("127.0.0.1" if bare == "localhost" else bare)
    if not colon or address is None or (address.version == 6) != (bare != host):
        raise ValueError(f"'{text}' is no address and port; write 127.0.0.1:8481, 0.0.0.0:8481 or [::1]:8481")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError(f"'{text}' has no port from 0 to 65535 after the last colon, for example 127.0.0.1:8481")
    return str(address), int(port)


def listen(key: str, places: Iterable[str]) -> list[socket.socket]:
    """Listening sockets at these places.

    Raises AddressUnavailable or ConfigurationError; both name the setting `key` and the place.
    """
    opened: list[socket.socket] = []
    for place in places:
        host, port = split(place)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            opened.append(socket.create_server((host, port), family=family, backlog=_BACKLOG))
        except OSError as error:
            for other in opened:
                other.close()
            unusable = AddressUnavailable if error.errno in AddressUnavailable.GROUNDS else ConfigurationError
            raise unusable(f"{key}: {place}: {_what(error)}") from None
    return opened


def _what(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program listens there, perhaps another agent; stop it, or choose another port"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this host has no such address; give one of its own, or 127.0.0.1"
    return f"cannot be listened at: {error.strerror}; choose another port, or [] for none"


def place_of(listening: socket.socket) -> str:
    host, port, *_ = listening.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable_at(sockets: Sequence[socket.socket]) -> frozenset[tuple[Address, int]]:
    """All addresses and ports that lead to these sockets: for `EgressPolicy.own`."""
    own: set[tuple[Address, int]] = set()
    for listening in sockets:
        host, port, *_ = listening.getsockname()
        address = ipaddress.ip_address(host)
        own.add((address, port))
        if address.is_unspecified:
            own |= {(here, port) for here in addresses_of_this_host()}
    return frozenset(own)


def addresses_of_this_host() -> set[Address]:
    """As Linux tells them; where it does not, none."""
    found: set[Address] = set()
    with suppress(OSError):
        found |= {ipaddress.ip_address(text) for text in _LOCAL_V4.findall(_FIB.read_text())}
    with suppress(OSError):
        found |= {ipaddress.ip_address(int(line.split()[0], 16)) for line in _INET6.read_text().splitlines()}
    return found
