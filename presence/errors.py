"""The tree of exceptions, with the exit code or the close code that each one means.

Expected results are values (`presence.domain.outcome`); an exception means a broken contract or
an input that cannot be used. Each is mapped to the outside once, at the boundary: the command
line prints its text as one line and exits with `exit_code`; the websocket closes with `close_code`.
"""

import errno
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the command line; 69, 77 and 78 as in BSD's sysexits.h, 69 and 77 of one-shot commands only."""

    SUCCESS = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    UNREACHABLE = 69
    KEY_REFUSED = 77
    CONFIGURATION = 78


class CloseCode(IntEnum):
    """Websocket close codes (RFC 6455 section 7.4; 4000 to 4999 are private use) that the protocol gives."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    INVALID_PAYLOAD = 1007
    TOO_BIG = 1009
    SERVICE_RESTART = 1012
    KEY_REVOKED = 4401
    CANARY_MISSED = 4408
    SUPERSEDED = 4409
    VERSION_UNSUPPORTED = 4426


class PresenceError(Exception):
    """What went wrong, where, and what to do; the text is shown to a person as it is."""

    exit_code = ExitCode.FAILED


class ConfigurationError(PresenceError):
    """A setting, a settings file or an environment variable cannot be used."""

    exit_code = ExitCode.CONFIGURATION


class AddressUnavailable(PresenceError):
    """An address cannot be listened at now: another program does, or the host has no such address. That may pass."""

    GROUNDS = (errno.EADDRINUSE, errno.EADDRNOTAVAIL)


class Unreachable(PresenceError):
    """The control plane cannot be reached, or what is reached is none."""

    exit_code = ExitCode.UNREACHABLE


class KeyRefused(PresenceError):
    """The control plane does not accept the key, or the token that it is asked for with."""

    exit_code = ExitCode.KEY_REFUSED


class JournalError(PresenceError):
    """The journal cannot be opened or used."""


class DatabaseError(PresenceError):
    """The control plane's database cannot be opened or used as it is."""

    exit_code = ExitCode.CONFIGURATION


class DatabaseUnavailable(DatabaseError):
    """The database cannot be reached now: trying again later helps."""

    exit_code = ExitCode.FAILED


class ProtocolViolation(PresenceError):
    """The peer broke the protocol; the connection is closed with `close_code` and this text as the reason."""

    def __init__(self, close_code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.close_code = close_code
        self.reason = reason
