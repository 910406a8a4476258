"""Whether the control plane can be reached and takes the key: by the link's own code, up to where a session begins.

The agent is not disturbed: the websocket is closed before Hello, so that no session begins and none is superseded.
"""

import asyncio
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from presence.agent.authorities import added_here, anyone, read_from, the_system_s
from presence.agent.certificate import Certificate
from presence.agent.effective import stored_key
from presence.agent.ends import EXPECTED, Cause, Failure, Step
from presence.agent.failures import classify
from presence.agent.finding import Finding, failed, ok, skipped, warning
from presence.agent.inquiry import inquire
from presence.agent.keys import Key, Keys
from presence.agent.link_state import CLOCK_OFF
from presence.agent.names import Resolver
from presence.agent.opening import OPENING_SECONDS, Opening, Trusting, close
from presence.agent.settings import AgentSettings, ControlPlane
from presence.agent.trust import trust
from presence.clock import Clock
from presence.domain.address import address_of
from presence.domain.retry import parse_http_date
from presence.errors import CloseCode, ConfigurationError

CLOCK_WRONG = 3_600_000
"""Milliseconds of offset from which on it is a failure: certificates of short validity seem to be out of it."""
SET_CLOCK = "set this host's clock, best by NTP: timedatectl set-ntp true"
WAY = ("proxy", "dns", "tcp", "tls")
CHECKS = (*WAY, "upgrade", "key", "clock")

_REMEDIES = {
    "dns": "check control_plane.url and this host's name servers; behind a proxy, set control_plane.proxy",
    "proxy": "check control_plane.proxy, else HTTPS_PROXY and NO_PROXY in the agent's environment",
    "tcp": "check control_plane.url; let this host connect there in the firewall, or set control_plane.proxy",
    "tls": "check control_plane.url; add the authority of your network with control_plane.ca_file",
    "upgrade": "check control_plane.url; proxies on the way must let websockets pass",
    "key": "make a new key, with 'presence enroll' or NewKey, and name its file as control_plane.key_file",
}
_CHECK_OF = {
    Cause.DNS: "dns",
    Cause.PROXY: "proxy",
    Cause.TCP: "tcp",
    Cause.TLS: "tls",
    Cause.CLOCK: "tls",
    Cause.AUTH: "key",
}


async def check_control_plane(settings: AgentSettings, clock: Clock) -> list[Finding]:
    """The findings of CHECKS."""
    if settings.control_plane.url is None:
        return _not_reached(CHECKS)
    resolver = Resolver()
    try:
        visit = _Visit(settings.control_plane, Keys(settings.control_plane, stored_key(settings)), resolver, clock)
        return await visit.run()
    finally:
        resolver.close()


@dataclass(slots=True)
class _Visit:
    """`date`: the time that the control plane's answer to the upgrade names, where there was one."""

    settings: ControlPlane
    keys: Keys
    resolver: Resolver
    clock: Clock
    date: str | None = None

    async def run(self) -> list[Finding]:
        opening = self._opening()
        try:
            certificate = await self._certificate(opening, trust)
        except EXPECTED as error:
            failure = classify(error, opening.step, opening.place)
            findings = [*self._way(opening, failure), *_not_reached(("upgrade", "key"))]
        else:
            findings = [*self._way(opening, None), await self._tls(certificate), *await self._upgrade()]
        return [*findings, await self._clock()]

    def _opening(self) -> Opening:
        return Opening(self.settings, self.resolver, self.clock, None)

    async def _certificate(self, opening: Opening, trusting: Trusting) -> Certificate | None:
        """What the control plane shows to those who believe it; None without TLS. Raises EXPECTED."""
        async with asyncio.timeout(OPENING_SECONDS):
            connected = await opening.connect(_Connected, trusting)
        try:
            inside: ssl.SSLObject | None = connected.transport.get_extra_info("ssl_object")
            return read_from(inside)
        finally:
            connected.transport.abort()

    def _way(self, opening: Opening, failure: Failure | None) -> Iterator[Finding]:
        """The steps to the control plane, up to the one that failed; TLS only if it did.

        A proxy precedes all else: it looks the name up, and makes the connection.
        """
        ended = _CHECK_OF.get(failure.cause, "tls") if failure is not None else None
        proxy = self.settings.link_proxy() if ended != "proxy" else None
        _, host, port = self.settings.endpoint()
        fine = {
            "proxy": ok("proxy", f"{proxy}, named by {proxy.origin}" if proxy else "none on the way"),
            "dns": _passed("dns", opening, Step.DNS, f"{host}: {'an address' if address_of(host) else 'resolves'}"),
            "tcp": _passed("tcp", opening, Step.TCP, f"connected to {opening.trail.get(Step.TCP)}"),
        }
        if proxy is not None:
            fine["dns"] = skipped("dns", f"{host}: the proxy looks it up")
            fine["tcp"] = _passed("tcp", opening, Step.PROXY, f"a tunnel to {host}:{port}")
        for number, check in enumerate(WAY):
            if check == ended and failure is not None:
                yield _failed(check, failure)
                yield from _not_reached(WAY[number + 1 :])
                return
            if check in fine:
                yield fine[check]

    async def _tls(self, certificate: Certificate | None) -> Finding:
        """Who vouches for the control plane."""
        if certificate is None:
            return skipped("tls", "the connection is not encrypted, as control_plane.url says")
        text = f"issued by '{certificate.issuer}', valid until {certificate.not_after:%Y-%m-%d}"
        if (self.settings.ca_file or self.settings.ca_directory) and not await self._believes(the_system_s):
            setting = "ca_file" if self.settings.ca_file else "ca_directory"
            return ok(
                "tls", f"{text}; trusted for control_plane.{setting} alone: a private authority, or TLS inspection"
            )
        if await self._believes(added_here):
            return ok("tls", f"{text}; an authority that was added to this host: a private one, or TLS inspection")
        return ok("tls", f"{text}; trusted by this system")

    async def _believes(self, trusting: Trusting) -> bool:
        try:
            await self._certificate(self._opening(), trusting)
        except EXPECTED:
            return False
        return True

    async def _upgrade(self) -> list[Finding]:
        """The websocket with the key that the agent would show, and with the other one if that is refused."""
        refused: list[str] = []
        try:
            key = self.keys.current()
        except ConfigurationError as error:
            return [*_not_reached(("upgrade",)), failed("key", str(error), _REMEDIES["key"])]
        while True:
            failure = await self._show(key)
            if failure is None or failure.cause is not Cause.AUTH:
                break
            refused.append(f"{key.origin}: {failure.reason.partition('; ')[0]}")
            other = self.keys.refuse(key)
            if other is None:
                return [ok("upgrade", "a control plane answers"), failed("key", "; ".join(refused), _REMEDIES["key"])]
            key = other
        if failure is not None:
            return [_failed("upgrade", failure), *_not_reached(("key",))]
        upgraded, accepted = ok("upgrade", "a websocket opens"), f"{key.origin} is accepted"
        if refused:
            return [upgraded, warning("key", f"{accepted}, but not {'; '.join(refused)}", "remove the other one")]
        return [upgraded, ok("key", accepted)]

    async def _show(self, key: Key) -> Failure | None:
        """Opens the websocket with the key and closes it again."""
        opening = self._opening()
        try:
            connection = await opening.run(key)
        except EXPECTED as error:
            return classify(error, opening.step, opening.place)
        finally:
            self.date = opening.date
        await close(connection, CloseCode.NORMAL)
        return None

    async def _clock(self) -> Finding:
        """How far the host's clock is from the control plane's, whose word on it needs no trust."""
        text = self.date or await self._ask_date()
        ours = self.clock.wall()
        date = parse_http_date(text) if text else None
        if date is None:
            return skipped("clock", "the control plane did not say what time it is")
        offset = int(date.timestamp() * 1000) - ours
        if abs(offset) <= CLOCK_OFF:
            return ok("clock", f"as the control plane's within {CLOCK_OFF // 1000} s")
        wrong = failed if abs(offset) >= CLOCK_WRONG else warning
        what = f"{_span(abs(offset) // 1000)} {'behind' if offset > 0 else 'ahead of'} the control plane's clock"
        return wrong("clock", what, SET_CLOCK)

    async def _ask_date(self) -> str | None:
        """What the control plane gives as the time to anyone who asks: nothing secret is said."""
        try:
            answer = await inquire(self._opening(), self.settings, "/healthz", trusting=anyone)
        except EXPECTED:
            return None
        return answer.headers.get("Date")


class _Connected(asyncio.Protocol):
    """Says nothing."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport


def _failed(check: str, failure: Failure) -> Finding:
    """The reason often has its remedy with it."""
    text, _, remedy = failure.reason.partition("; ")
    if failure.cause is Cause.CLOCK:
        return failed(check, text, SET_CLOCK)
    return failed(check, text, remedy or _REMEDIES[check])


def _passed(check: str, opening: Opening, step: Step, text: str) -> Finding:
    return ok(check, text) if opening.trail.get(step) else skipped(check, "not tried")


def _not_reached(checks: tuple[str, ...]) -> list[Finding]:
    return [skipped(check, "not reached") for check in checks]


def _span(seconds: int) -> str:
    """The header's date is that of a second that has begun: more than minutes would be untrue."""
    minutes = round(seconds / 60)
    days, hours = divmod(minutes // 60, 24)
    if days:
        return f"{days} days {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
