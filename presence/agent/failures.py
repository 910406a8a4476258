"""What the end of a connection, or its failure to come about, means: one table, one function.

=================================================  =========  =========================================================
failure                                            cause      next try
=================================================  =========  =========================================================
the key file cannot be read                        auth       rarely, at once when the file changes: no key, no entry
the name does not resolve, not in time             dns        backoff: resolvers come back by themselves
refused, unreachable, no answer                    tcp        backoff: so do networks
the proxy: no name, no answer, no tunnel           proxy      backoff
the proxy wants other credentials (407)            proxy      slowly: many wrong ones may lock an account; at once when
                                                              their file changes
a proxy setting that cannot be used                proxy      rarely, at once when the named file changes
not trusted, another name, expired, a bad file     tls        slowly: a person must act, and then nobody should wait
not yet valid, or expired and our clock is off     clock      slowly: validity is never relaxed, the clock must be set
plain text instead of TLS, handshake cut           tls        slowly where the address is wrong, else backoff
the server wants a certificate of ours             tls        slowly
401, 403, closed with 4401                         auth       rarely, at once when the file changes or with another key
closed with 4426 (no common version)               upgrade    rarely: an upgrade of either side helps
any other status, no websocket                     upgrade    backoff, not before Retry-After
no welcome, not reconciled, no canary, no pong     idle       backoff
go_away                                            peer       backoff, not before the delay it names
closed or cut by the peer, protocol violation      peer       backoff
the host slept or its clock was set                clock      at once: the connection only seems to live
a new key was stored                               renewal    at once, with that key
the journal cannot be written                      journal    backoff: a session begins with a number from there
=================================================  =========  =========================================================

Rarely: every 5 minutes, loudly, for ever: to enable an agent again needs no visit to its host. Slowly: after one
minute at first, up to five. Backoff: `presence.agent.backoff`.
"""

import os
import socket
import ssl
from datetime import UTC, datetime, timedelta

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus, InvalidURI

from presence.agent.certificate import Certificate
from presence.agent.ends import (
    Cause,
    CertificateRefused,
    Failure,
    GoneAway,
    Leapt,
    ProxyRefused,
    Renewed,
    Retry,
    Silent,
    Step,
)
from presence.domain.retry import parse_http_date, parse_retry_after
from presence.errors import CloseCode, ConfigurationError, JournalError, ProtocolViolation

LONGEST_OBEYED = 300.0
"""Seconds: no peer sends us away for longer."""


_NEW_KEY = "install the newest key file, or create a new key"
_CAUSES = {Step.KEY: Cause.AUTH, Step.SESSION: Cause.PEER}
_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")


def classify(error: Exception, step: Step, place: str = "") -> Failure:
    """What a failure means, by the table above. `place`: host and port that the step was about."""
    match error:
        case ConfigurationError():
            return Failure(_cause(step), str(error), Retry.RARELY if step in (Step.KEY, Step.PROXY) else Retry.SLOWLY)
        case GoneAway(message=message):
            delay = min(message.delay / 1000, LONGEST_OBEYED)
            return Failure(Cause.PEER, f"control plane says: {message.reason}", not_before=delay)
        case ProtocolViolation(reason=reason):
            return Failure(Cause.PEER, f"control plane broke the protocol: {reason}")
        case JournalError():
            return Failure(Cause.JOURNAL, str(error))
        case Silent():
            return Failure(Cause.IDLE, str(error))
        case Leapt():
            return Failure(Cause.CLOCK, f"{error}; the connection is made anew", Retry.AT_ONCE)
        case Renewed():
            return Failure(Cause.RENEWAL, "the control plane gave a new key; it is used from now on", Retry.AT_ONCE)
        case ProxyRefused(reason=reason, retry=retry):
            return Failure(Cause.PROXY, f"{place}: {reason}", retry)
        case CertificateRefused():
            return _of_certificate(error)
        case InvalidStatus(response=response):
            return _of_status(response.status_code, response.headers)
        case InvalidURI() | UnicodeError():
            return Failure(Cause.UPGRADE, "control_plane.url is no usable address", Retry.SLOWLY)
        case InvalidMessage(__cause__=EOFError()):
            hint = "is control_plane.url right, or does it want a certificate (control_plane.client_cert)?"
            return Failure(Cause.UPGRADE, f"the server hung up instead of answering; {hint}")
        case InvalidHandshake():
            return Failure(Cause.UPGRADE, f"no websocket there: {error}; is control_plane.url right?")
        case ConnectionClosed():
            return _of_close(error)
        case ssl.SSLError():
            return _of_handshake(error)
        case _:
            return _of_network(error, step, place)


def _of_network(error: Exception, step: Step, place: str) -> Failure:
    """Errors that say little themselves: the step they happened in says the rest."""
    match error:
        case socket.gaierror():
            what = f"the name does not resolve: {error.strerror}"
        case TimeoutError(errno=None):
            what = "no answer in time"
        case OSError(errno=int(number)) if number > 0:
            what = os.strerror(number).lower()
        case EOFError() | ConnectionError():
            what = "the connection was cut"
        case _:
            what = str(error) or f"the connection was cut: {type(error).__name__}"
    if step is Step.TLS:
        what += " in the TLS handshake"
    return Failure(_cause(step), f"{place}: {what}" if place else what)


def _cause(step: Step) -> Cause:
    return _CAUSES.get(step) or Cause(step.value)


def _of_status(status: int, headers: Headers) -> Failure:
    if status in (401, 403):
        return Failure(Cause.AUTH, f"the key is refused ({status}); {_NEW_KEY}", Retry.RARELY)
    reason = f"HTTP status {status} instead of a websocket"
    if status < 500 and status not in (408, 429):
        reason += "; is control_plane.url the address of a control plane?"
    return Failure(Cause.UPGRADE, reason, not_before=_retry_after(headers))


def _retry_after(headers: Headers) -> float:
    """Seconds; the longest of several, which a proxy may have added. A date is read by the answer's own clock."""
    dates = headers.get_all("Date")
    now = parse_http_date(dates[0]) if dates else None
    waits = [parse_retry_after(text, now or datetime.now(UTC)) for text in headers.get_all("Retry-After")]
    return min(max((wait / 1000 for wait in waits if wait is not None), default=0.0), LONGEST_OBEYED)


def _of_close(error: ConnectionClosed) -> Failure:
    received, sent = error.rcvd, error.sent
    if received is None:
        if sent is not None and sent.reason == "keepalive ping timeout":
            return Failure(Cause.IDLE, "no answer to a websocket ping")
        if isinstance(error.__cause__, TimeoutError):
            return Failure(Cause.IDLE, "what was sent was not acknowledged in time")
        return Failure(Cause.PEER, f"the frame was refused: {sent.reason}" if sent else "the connection was cut")
    match received.code:
        case CloseCode.KEY_REVOKED:
            return Failure(Cause.AUTH, f"the key is refused: it was replaced or revoked; {_NEW_KEY}", Retry.RARELY)
        case CloseCode.VERSION_UNSUPPORTED:
            return Failure(Cause.UPGRADE, f"no common version: {received.reason}; upgrade", Retry.RARELY)
        case CloseCode.CANARY_MISSED:
            return Failure(Cause.IDLE, "the control plane got no answer to its canaries")
        case CloseCode.SUPERSEDED:
            reason = "a newer session of the same instance took over; if this goes on, two hosts share one journal:"
            return Failure(Cause.PEER, f"{reason} delete the journal of the copy")
        case code:
            return Failure(Cause.PEER, f"closed by the control plane: {code} {received.reason}".strip())


def _of_handshake(error: ssl.SSLError) -> Failure:
    reason = error.reason or str(error)
    if reason in _NOT_TLS:
        what = "the answer is not TLS but plain text; is the port of control_plane.url right?"
        return Failure(Cause.TLS, what, Retry.SLOWLY)
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason or "BAD_CERTIFICATE" in reason:
        what = "the server refuses the handshake; it may want a certificate of this agent, or another one:"
        return Failure(Cause.TLS, f"{what} set control_plane.client_cert ({reason})", Retry.SLOWLY)
    return Failure(Cause.TLS, f"the handshake failed: {reason}")


_NOT_YET_VALID, _EXPIRED, _SELF_SIGNED, _OTHER_NAMES = 9, 10, 18, (62, 64)
"""OpenSSL's X509_V_ERR_* codes (x509_vfy.h)."""


def _of_certificate(error: CertificateRefused) -> Failure:
    shown, host = error.shown, error.host
    if error.code in (_NOT_YET_VALID, _EXPIRED):
        return _of_validity(error)
    if error.code in _OTHER_NAMES:
        reason = f"the certificate there is not for {host} ({error.message}); is control_plane.url right?"
    elif error.code == _SELF_SIGNED:
        reason = f"certificate of {host} is its own issuer and not trusted; add it with control_plane.ca_file"
    elif shown is not None:
        reason = (
            f"certificate of {host} issued by '{shown.issuer}' is not trusted: looks like TLS inspection;"
            " add its certificate with control_plane.ca_file"
        )
    else:
        reason = f"certificate of {host} is not trusted: {error.message}; add its issuer with control_plane.ca_file"
    return Failure(Cause.TLS, reason, Retry.SLOWLY)


def _of_validity(error: CertificateRefused) -> Failure:
    """Out of its time, by our clock: whose fault that is, is known where the server's clock is."""
    early, shown = error.code == _NOT_YET_VALID, error.shown
    what = f"certificate of {error.host} {'is not valid yet' if early else 'has expired'}"
    if shown is not None:
        what += f" ({'from' if early else 'until'} {shown.not_before if early else shown.not_after:%Y-%m-%d %H:%M} UTC)"
    what += f", and this host's clock says {error.now:%Y-%m-%d %H:%M} UTC"
    ours = early if error.offset is None else _would_be_valid(shown, error.now, error.offset)
    if ours:
        return Failure(Cause.CLOCK, f"{what}: set the clock (NTP)", Retry.SLOWLY)
    return Failure(Cause.TLS, f"{what}: renew the certificate, unless the clock is wrong", Retry.SLOWLY)


def _would_be_valid(shown: Certificate | None, now: datetime, offset: int) -> bool:
    try:
        true = now + timedelta(milliseconds=offset)
    except OverflowError:
        return False
    return shown is not None and shown.not_before <= true <= shown.not_after
