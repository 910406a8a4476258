"""Names, addresses and proxies: what is connected to, and what is not."""

import ipaddress
import resource
import socket
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from presence.agent.dial import DECISIONS, Dialler, Gate, Stopped, WrongPeer, bracketed, connect
from presence.agent.names import Resolver
from presence.agent.targets import Targets
from presence.domain.egress import Allowed
from presence.domain.outcome import Fault, Outcome, Phase, Reason, Refused, Response, TransportFailure
from tests.support.names import HangingNames, name_hosts
from tests.support.odd_hosts import black_hole, closed_port, tunnel_to
from tests.support.requests import Table, agent_settings, client, destination, policy, progress
from tests.support.target import (
    Answer,
    Target,
    always,
    closing,
    endless,
    hang_up,
    head,
    reset,
    silence,
    status,
)
from tests.support.tls import authority_file, server_context


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[HangingNames]:
    names = HangingNames(monkeypatch)
    yield names
    names.answer.set()


@pytest.fixture
async def resolver() -> AsyncIterator[Resolver]:
    resolver = Resolver()
    yield resolver
    resolver.close()


class TestGate:
    """The policy's answers, remembered."""

    def test_answers_as_the_policy_does_again_and_again(self) -> None:
        gate = Gate(policy(allow=["127.0.0.1", "h.corp in 10.0.0.0/8"]))
        place = destination("h.corp", 80)
        for _ in range(2):
            assert isinstance(gate.decide(place, "GET", "10.0.0.1"), Allowed)
            assert gate.decide(place, "GET", "192.168.0.1") == Refused(Reason.OTHER_NETWORK)
            assert gate.decide(place, "POST", "10.0.0.1") == Refused(Reason.METHOD_NOT_ALLOWED)
            assert gate.decide(destination("h.corp", 81), "GET", "127.0.0.1") == Refused(Reason.OTHER_NETWORK)
            assert isinstance(gate.decide(destination("127.0.0.1", 81), "GET", "127.0.0.1"), Allowed)

    def test_does_not_remember_without_end(self) -> None:
        gate = Gate(policy())
        for number in range(DECISIONS + 10):
            gate.decide(destination(f"h{number}", 80), "GET", "10.0.0.1")
        assert len(gate._known) <= DECISIONS


class TestConnect:
    """To one of the addresses that were decided on, and to no other."""

    async def open(self, resolver: Resolver, uri: str, **delivery: Any) -> tuple[str, str]:
        """Peer of the connected socket, and the address that the attempt says."""
        attempt = progress(uri, Targets(agent_settings(**delivery)))
        connected = await Dialler(Gate(policy()), resolver).open(attempt)
        with connected:
            return str(connected.getpeername()[0]), str(attempt.address)

    async def outcome(self, resolver: Resolver, uri: str, **delivery: Any) -> Outcome:
        with pytest.raises(Stopped) as stopped:
            await self.open(resolver, uri, **delivery)
        return stopped.value.outcome

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.9.8.7", "::1"])
    async def test_to_an_address(self, resolver: Resolver, host: str) -> None:
        async with Target(host=host) as target:
            found = await self.open(resolver, f"http://{bracketed(host)}:{target.port}/")
            assert found == (host, host)

    async def test_to_the_next_address_where_one_refuses_or_is_silent(
        self, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name_hosts(monkeypatch, {"h.corp": ("127.0.0.2", "127.0.0.3", "127.0.0.1")})
        with black_hole("127.0.0.3") as port:
            async with Target(port=port) as target:
                found = await self.open(resolver, f"http://h.corp:{target.port}/", connect_timeout=0.1)
                assert found == ("127.0.0.1", "127.0.0.1")

    async def test_the_failure_of_the_last_address_counts(
        self, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name_hosts(monkeypatch, {"h.corp": ("127.0.0.3", "127.0.0.2"), "i.corp": ("127.0.0.2", "127.0.0.3")})
        with black_hole("127.0.0.3") as port:
            refused = await self.outcome(resolver, f"http://h.corp:{port}/", connect_timeout=0.1)
            silent = await self.outcome(resolver, f"http://i.corp:{port}/", connect_timeout=0.1)
        assert refused == TransportFailure(Phase.CONNECT, Fault.CONNECTION_REFUSED)
        assert silent == TransportFailure(Phase.CONNECT, Fault.TIMEOUT)

    async def test_a_name_without_addresses_is_refused(
        self, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
        assert await self.outcome(resolver, "http://h.corp/") == Refused(Reason.NOT_ALLOWED)

    @pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_AGAIN, "x"), UnicodeError("x"), OSError("x")])
    async def test_a_name_that_cannot_be_resolved(
        self, resolver: Resolver, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise error

        monkeypatch.setattr(socket, "getaddrinfo", fail)
        assert await self.outcome(resolver, "http://h.corp/") == TransportFailure(Phase.DNS, Fault.NAME_UNKNOWN)

    @pytest.mark.parametrize(
        ("addresses", "reason"),
        [
            (("127.0.0.1", "169.254.169.254"), Reason.DENIED_ALWAYS),
            (("::ffff:127.0.0.1",), Reason.DENIED_ALWAYS),
            (("0.0.0.0",), Reason.DENIED_ALWAYS),
            (("8.8.8.8", "127.0.0.1"), Reason.NOT_ALLOWED),
        ],
    )
    async def test_one_address_that_is_refused_is_enough(
        self, resolver: Resolver, monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...], reason: Reason
    ) -> None:
        name_hosts(monkeypatch, {"h.corp": addresses})
        async with Target() as target:
            assert await self.outcome(resolver, f"http://h.corp:{target.port}/") == Refused(reason)
            assert target.connections == 0

    async def test_where_this_host_has_no_sockets_left_it_is_not_the_target_s_failure(self, resolver: Resolver) -> None:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        async with Target() as target:
            with socket.socket() as last:
                lowest = last.fileno()
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
            try:
                outcome = await self.outcome(resolver, target.url("/"))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert outcome == TransportFailure(Phase.CONNECT, Fault.AGENT_EXHAUSTED)

    @pytest.mark.parametrize("odd", ["0.0.0.0", "::"])
    async def test_a_socket_that_ends_up_elsewhere_is_not_used(self, odd: str) -> None:
        """The unspecified address is refused before; the kernel would connect it to loopback."""
        async with Target(host="127.0.0.1" if odd == "0.0.0.0" else "::1") as target:
            with pytest.raises(WrongPeer):
                await connect(ipaddress.ip_address(odd), target.port)
            assert target.requests == []

    async def test_it_is_resolved_once_for_each_connection(
        self, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = name_hosts(monkeypatch, {"h.corp": ("127.0.0.1",)})
        async with Target() as target:
            await self.open(resolver, f"http://h.corp:{target.port}/")
        assert asked() == ["h.corp"]


CREDENTIALS = "user:p@ss"
BASIC = f"Basic {b64encode(CREDENTIALS.encode()).decode()}"
Written = Callable[..., Table]


@pytest.fixture
def through(tmp_path: Path) -> Written:
    """The table that sends `*.corp` through a proxy, with credentials."""

    def table(proxy: Target | str, **more: Any) -> Table:
        (tmp_path / "credentials").write_text(CREDENTIALS)
        url = proxy if isinstance(proxy, str) else proxy.url("")
        found = {"host": "*.corp", "proxy": url, "proxy_credentials_file": str(tmp_path / "credentials")}
        return found | {"proxy_resolves": True} | more

    return table


CORP = {"allow": ["*.corp", "127.0.0.0/8", "::1"]}


class TestProxy:
    """A target behind a proxy: the proxy is checked and pinned, and so is what is known of the target."""

    async def test_http_is_asked_for_in_full(self, through: Written) -> None:
        async with Target() as proxy, client(through(proxy), egress=CORP) as http:
            sent = await http.send("http://H.corp:8080//a%2fb?", headers={"Authorization": "for the target"})
            assert (sent.outcome, sent.address) == (Response(204), "127.0.0.1")
            line, headers = head(proxy.requests[0])
            assert line == "GET http://H.corp:8080//a%2fb? HTTP/1.1"
            assert (headers["host"], headers["authorization"]) == ("h.corp:8080", "for the target")
            assert headers["proxy-authorization"] == BASIC

    async def test_without_credentials_none_are_sent(self) -> None:
        async with Target() as proxy:
            table = {"host": "*.corp", "proxy": proxy.url(""), "proxy_resolves": True}
            async with client(table, egress=CORP) as http:
                await http.send("http://h.corp/")
            assert "proxy-authorization" not in head(proxy.requests[0])[1]

    @pytest.mark.parametrize(("port", "authority"), [("", "h.corp:443"), (":8443", "h.corp:8443")])
    async def test_https_is_tunnelled(self, through: Written, tmp_path: Path, port: str, authority: str) -> None:
        ca = trustme.CA()
        server = server_context(ca.issue_cert("h.corp"))
        async with Target(tls=server) as target, Target(tunnel_to(target.port)) as proxy:
            table = through(proxy, ca_file=authority_file(ca, tmp_path))
            async with client(table, egress=CORP) as http:
                sent = await http.send(f"https://h.corp{port}/a")
                assert sent.outcome == Response(204)
                assert sent.phases.keys() >= {Phase.DNS, Phase.CONNECT, Phase.TLS, Phase.FIRST_BYTE}
            asked = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nProxy-Authorization: {BASIC}\r\n\r\n"
            assert proxy.requests == [asked.encode()]
            line, headers = head(target.requests[0])
            assert (line, headers["host"]) == ("GET /a HTTP/1.1", f"h.corp{port}")
            assert "proxy-authorization" not in headers

    async def test_who_is_at_the_tunnel_s_end_is_known_by_certificate(self, through: Written, tmp_path: Path) -> None:
        ca = trustme.CA()
        server = server_context(ca.issue_cert("evil.corp"))
        async with Target(tls=server) as target, Target(tunnel_to(target.port)) as proxy:
            table = through(proxy, ca_file=authority_file(ca, tmp_path))
            async with client(table, egress=CORP) as http:
                outcome = (await http.send("https://h.corp/")).outcome
                assert outcome == TransportFailure(Phase.TLS, Fault.CERTIFICATE_OTHER_NAME)
            assert target.requests == []

    async def test_an_ipv6_address_is_tunnelled_to_in_brackets(self) -> None:
        async with Target(closing(b"HTTP/1.1 403 X\r\n\r\n")) as proxy:
            table = {"host": "fd00::/8", "proxy": proxy.url("")}
            async with client(table, egress={"allow": ["fd00::/8"]}) as http:
                assert (await http.send("https://[fd00::1]/")).outcome == PROXY_REFUSED
            assert head(proxy.requests[0])[0] == "CONNECT [fd00::1]:443 HTTP/1.1"

    @pytest.mark.parametrize(
        ("answer", "fault"),
        [
            (status(407), Fault.PROXY_REFUSED),
            (status(403), Fault.PROXY_REFUSED),
            (status(502), Fault.PROXY_REFUSED),
            (closing(b"HTTP/1.1 200 OK\r\n"), Fault.PROXY_REFUSED),
            (closing(b"SSH-2.0-x\r\n\r\n"), Fault.PROXY_REFUSED),
            (always(b"HTTP/1.1 200 OK\r\n\r\nbytes of whom?"), Fault.PROXY_REFUSED),
            (endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100), Fault.PROXY_REFUSED),
            (hang_up, Fault.PROXY_REFUSED),
            (reset, Fault.RESET),
            (silence, Fault.TIMEOUT),
            (endless(b"HTTP/1.1 200 OK\r\n", b"X", pause=0.02), Fault.TIMEOUT),
        ],
        ids=[
            *("407", "403", "502", "cut", "no HTTP", "bytes after it", "endless", "FIN", "RST", "silence"),
            "byte by byte",
        ],
    )
    async def test_a_proxy_that_opens_no_tunnel(self, through: Written, answer: Answer, fault: Fault) -> None:
        async with Target(answer) as proxy, client(through(proxy, connect_timeout=0.3), egress=CORP) as http:
            sent = await http.send("https://h.corp/")
            assert sent.outcome == TransportFailure(Phase.CONNECT, fault)
            assert (sent.address, len(proxy.requests)) == ("127.0.0.1", 1)

    async def test_what_a_proxy_says_to_plain_http_is_the_answer(self, through: Written) -> None:
        async with Target(status(407)) as proxy, client(through(proxy), egress=CORP) as http:
            assert (await http.send("http://h.corp/")).outcome == Response(407)

    async def test_a_proxy_that_is_not_there(self, through: Written) -> None:
        async with client(through(f"http://127.0.0.1:{closed_port()}"), egress=CORP) as http:
            outcome = (await http.send("http://h.corp/")).outcome
            assert outcome == TransportFailure(Phase.CONNECT, Fault.CONNECTION_REFUSED)
        with black_hole() as port:
            async with client(through(f"http://127.0.0.1:{port}", connect_timeout=0.1), egress=CORP) as http:
                outcome = (await http.send("http://h.corp/")).outcome
                assert outcome == TransportFailure(Phase.CONNECT, Fault.TIMEOUT)

    async def test_a_proxy_whose_name_is_not_known(self, through: Written) -> None:
        async with client(through("http://proxy.invalid:3128"), egress=CORP) as http:
            assert (await http.send("http://h.corp/")).outcome == TransportFailure(Phase.DNS, Fault.NAME_UNKNOWN)

    @pytest.mark.parametrize(
        ("names", "egress", "resolves", "reason"),
        [
            # The default opens nothing through a proxy, and observing does not, either.
            ({"h.corp": ("10.0.0.1",)}, {"allow": []}, False, Reason.PROXY_NEEDS_RULE),
            ({"h.corp": ("10.0.0.1",)}, {"allow": []}, True, Reason.PROXY_NEEDS_RULE),
            ({}, {"allow": []}, True, Reason.PROXY_NEEDS_RULE),
            # What does not resolve here is the proxy's only if it was said to be.
            ({}, {"allow": ["*.corp"]}, False, Reason.PROXY_UNRESOLVED),
            ({}, {"allow": ["h.corp in 10.0.0.0/8"]}, True, Reason.PROXY_UNRESOLVED),
            # What resolves here is decided on here.
            ({"h.corp": ("169.254.169.254",)}, {"allow": ["*.corp"]}, True, Reason.DENIED_ALWAYS),
            ({"h.corp": ("10.0.0.1", "::ffff:10.0.0.1")}, {"allow": ["*.corp"]}, True, Reason.DENIED_ALWAYS),
            ({"h.corp": ("127.0.0.1",)}, {"allow": ["*.corp"]}, True, Reason.DENIED_LOOPBACK),
            ({"h.corp": ("10.0.0.1",)}, {"allow": ["*.corp"], "deny": ["10.0.0.0/8"]}, True, Reason.DENIED_BY_RULE),
            ({"h.corp": ("11.0.0.1",)}, {"allow": ["h.corp in 10.0.0.0/8"]}, True, Reason.OTHER_NETWORK),
        ],
    )
    async def test_the_target_is_decided_on(
        self,
        through: Written,
        monkeypatch: pytest.MonkeyPatch,
        names: dict[str, tuple[str, ...]],
        egress: Table,
        resolves: bool,
        reason: Reason,
    ) -> None:
        name_hosts(monkeypatch, {"h.corp": (), **names} if names else {})
        async with Target() as proxy, client(through(proxy, proxy_resolves=resolves), egress=egress) as http:
            for scheme in ("http", "https"):
                assert (await http.send(f"{scheme}://h.corp/")).outcome == Refused(reason)
            assert proxy.connections == 0

    async def test_a_target_that_resolves_here_and_has_a_rule_passes(
        self, through: Written, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name_hosts(monkeypatch, {"h.corp": ("10.0.0.1", "10.0.0.2")})
        async with Target() as proxy, client(through(proxy, proxy_resolves=False), egress=CORP) as http:
            assert (await http.send("http://h.corp/")).outcome == Response(204)

    async def test_a_name_server_that_is_silent_about_the_target(self, through: Written, names: HangingNames) -> None:
        async with Target() as proxy:
            async with client(through(proxy, proxy_resolves=False), egress=CORP, dns_timeout=0.1) as http:
                outcome = (await http.send("http://hanging.corp/")).outcome
                assert outcome == TransportFailure(Phase.DNS, Fault.TIMEOUT)
                assert proxy.connections == 0
            async with client(through(proxy), egress=CORP, dns_timeout=0.1) as http:
                assert (await http.send("http://hanging.corp/")).outcome == Response(204)
        names.answer.set()

    @pytest.mark.parametrize(
        ("error", "outcome"),
        [
            (socket.EAI_NONAME, Refused(Reason.PROXY_UNRESOLVED)),
            (socket.EAI_AGAIN, TransportFailure(Phase.DNS, Fault.NAME_UNKNOWN)),
        ],
        ids=["no such name", "no answer now"],
    )
    async def test_only_a_name_that_does_not_exist_is_refused_for_that(
        self, through: Written, monkeypatch: pytest.MonkeyPatch, error: int, outcome: Outcome
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise socket.gaierror(error, "x")

        monkeypatch.setattr(socket, "getaddrinfo", fail)
        async with Target() as proxy:
            async with client(through(proxy, proxy_resolves=False), egress=CORP) as http:
                assert (await http.send("http://h.corp/")).outcome == outcome
            async with client(through(proxy), egress=CORP) as http:
                assert (await http.send("http://h.corp/")).outcome == Response(204)

    @pytest.mark.parametrize(
        ("addresses", "egress", "reason"),
        [
            (("127.0.0.1",), CORP, Reason.DENIED_LOOPBACK),
            (("169.254.169.254",), CORP, Reason.DENIED_ALWAYS),
            (("10.0.0.1", "169.254.169.254"), CORP, Reason.DENIED_ALWAYS),
            (("10.0.0.1",), CORP | {"deny": ["10.0.0.0/8"]}, Reason.DENIED_BY_RULE),
            (("10.0.0.1",), CORP | {"deny": ["proxy.test"]}, Reason.DENIED_BY_RULE),
            ((), CORP, Reason.NOT_ALLOWED),
        ],
    )
    async def test_the_proxy_is_decided_on(
        self,
        through: Written,
        monkeypatch: pytest.MonkeyPatch,
        addresses: tuple[str, ...],
        egress: Table,
        reason: Reason,
    ) -> None:
        name_hosts(monkeypatch, {"proxy.test": addresses})
        async with Target() as here, client(through(f"http://proxy.test:{here.port}"), egress=egress) as http:
            assert (await http.send("http://h.corp/")).outcome == Refused(reason)
            assert here.connections == 0

    async def test_a_hanging_tunnel_is_given_up_with_the_attempt(self, through: Written) -> None:
        table = {"timeout": 0.2, "connect_timeout": 10}
        async with Target(silence) as proxy, client(through(proxy, **table), egress=CORP) as http:
            began = time.monotonic()
            outcome = (await http.send("https://h.corp/")).outcome
            assert outcome == TransportFailure(Phase.CONNECT, Fault.TIMEOUT)
            assert time.monotonic() - began < 5


PROXY_REFUSED = TransportFailure(Phase.CONNECT, Fault.PROXY_REFUSED)


def test_no_error_or_repr_shows_the_proxy_s_credentials(through: Written) -> None:
    settings = agent_settings(through("http://127.0.0.1:1"))
    options = Targets(settings).of("h.corp", 80)
    assert options.proxy is not None
    assert options.proxy.authorization == BASIC
    assert BASIC.split()[1] not in repr(options) + repr(options.proxy)


def test_brackets_are_for_ipv6() -> None:
    assert [bracketed(host) for host in ("h", "10.0.0.1", "::1")] == ["h", "10.0.0.1", "[::1]"]
