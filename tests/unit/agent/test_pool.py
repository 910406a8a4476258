"""Which connections are used again and which are not, and what TLS makes of a server."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import pytest
import trustme

from presence.agent import pool as pool_module
from presence.agent.dial import Gate, Stopped
from presence.agent.names import Resolver
from presence.agent.pool import Pool
from presence.agent.targets import Targets
from presence.agent.wire import Wire
from presence.domain.outcome import Fault, Phase, Reason, Refused, Response, TransportFailure
from tests.support.names import name_hosts
from tests.support.odd_hosts import tunnel_to
from tests.support.requests import Client, agent_settings, client, policy, progress
from tests.support.target import (
    NO_CONTENT,
    Answer,
    Target,
    always,
    closing,
    hang_up,
    in_turn,
    reset,
    status,
)
from tests.support.tls import authority_file, blocking_server, expired, not_yet_valid, server_context

RESET = TransportFailure(Phase.FIRST_BYTE, Fault.RESET, sent=True)


class Watched:
    """An answer to one request on each connection that then waits for the other side to close it."""

    def __init__(self, response: bytes = NO_CONTENT) -> None:
        self._response = response
        self.closed = asyncio.Event()

    async def __call__(self, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._response)
        await reader.read()
        self.closed.set()

    async def until_closed(self) -> Self:
        async with asyncio.timeout(20):
            await self.closed.wait()
        return self


@pytest.fixture
async def http() -> AsyncIterator[Client]:
    async with client() as http:
        yield http


class TestReuse:
    """A connection serves one request after the other."""

    async def test_one_after_the_other_needs_one_connection(self, http: Client) -> None:
        async with Target() as target:
            for _ in range(5):
                assert (await http.send(target.url("/"))).outcome == Response(204)
            assert (len(target.requests), target.connections) == (5, 1)

    async def test_at_once_needs_as_many(self, http: Client) -> None:
        async with Target() as target:
            for _ in range(2):
                await asyncio.gather(*[http.send(target.url("/")) for _ in range(4)])
            assert (len(target.requests), target.connections) == (8, 4)

    async def test_another_name_or_port_has_its_own(self, http: Client) -> None:
        async with Target() as target, Target() as other:
            for _ in range(2):
                for uri in (target.url("/"), f"http://localhost:{target.port}/", other.url("/")):
                    assert (await http.send(uri)).outcome == Response(204)
            assert (target.connections, other.connections) == (2, 1)

    async def test_a_post_uses_the_connection_of_a_get(self) -> None:
        async with client(egress={"methods": ["GET", "POST"]}) as http, Target() as target:
            await http.send(target.url("/"))
            await http.send(target.url("/"), "POST", body=b"x", repeatable=False)
            assert (len(target.requests), target.connections) == (2, 1)

    async def test_nothing_follows_a_body(self) -> None:
        """A target that did not read it would take it for the next request."""
        async with client(egress={"methods": ["GET", "POST"]}) as http, Target() as target:
            await http.send(target.url("/"))
            await http.send(target.url("/"), "POST", body=b"GET /evil HTTP/1.1\r\n\r\n", repeatable=False)
            await http.send(target.url("/"))
            assert (len(target.requests), target.connections) == (3, 2)

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
            b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            NO_CONTENT + b"leftover",
            NO_CONTENT + NO_CONTENT,
            b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        ],
        ids=["connection: close", "HTTP/1.0", "bytes after it", "two answers", "an upgrade"],
    )
    async def test_what_an_answer_does_not_leave_usable_is_closed(self, http: Client, answer: bytes) -> None:
        watched = Watched(answer)
        async with Target(watched) as target:
            await http.send(target.url("/"))
            await watched.until_closed()
            await http.send(target.url("/"))
            assert target.connections == 2

    @pytest.mark.parametrize("outcome", [hang_up, reset, closing(b"no HTTP\r\n\r\n")], ids=["FIN", "RST", "malformed"])
    async def test_a_connection_that_failed_is_not_used_again(self, http: Client, outcome: Answer) -> None:
        async with Target(in_turn(outcome, status(204))) as target:
            assert isinstance((await http.send(target.url("/"))).outcome, TransportFailure)
            assert (await http.send(target.url("/"))).outcome == Response(204)
            assert target.connections == 2


class TestStale:
    """A kept connection that the target has closed."""

    async def test_where_the_end_was_seen_a_new_one_is_opened(self, http: Client) -> None:
        async with Target(closing(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as target:
            for _ in range(3):
                sent = await http.send(target.url("/"))
                assert sent.outcome == Response(200)
            assert (len(target.requests), target.connections) == (3, 3)

    @pytest.mark.parametrize("end", [hang_up, reset], ids=["FIN", "RST"])
    async def test_a_request_that_may_be_repeated_is_sent_again_at_once(self, http: Client, end: Answer) -> None:
        async with Target(in_turn(status(204), end, status(200))) as target:
            assert not (await http.send(target.url("/"))).repeated
            sent = await http.send(target.url("/"))
            assert (sent.outcome, sent.repeated, sent.address) == (Response(200), True, "127.0.0.1")
            assert (len(target.requests), target.connections) == (3, 2)
            assert target.requests[1] == target.requests[2]
            assert sent.phases.keys() >= {Phase.DNS, Phase.CONNECT, Phase.FIRST_BYTE}

    async def test_once_and_not_more_often(self, http: Client) -> None:
        async with Target(in_turn(status(204), hang_up)) as target:
            await http.send(target.url("/"))
            sent = await http.send(target.url("/"))
            assert (sent.outcome, sent.repeated) == (RESET, True)
            assert len(target.requests) == 3

    async def test_the_repeat_takes_a_new_connection_even_if_others_are_kept(self, http: Client) -> None:
        async with Target() as target:
            await asyncio.gather(*[http.send(target.url("/")) for _ in range(3)])
            target.answer = in_turn(hang_up, status(200))
            assert (await http.send(target.url("/"))).outcome == Response(200)
            assert target.connections == 4

    async def test_a_request_that_may_not_be_repeated_is_not(self, http: Client) -> None:
        async with Target(in_turn(status(204), hang_up, status(200))) as target:
            await http.send(target.url("/"), repeatable=False)
            sent = await http.send(target.url("/"), repeatable=False)
            assert (sent.outcome, sent.repeated) == (RESET, False)
            assert len(target.requests) == 2

    async def test_a_new_connection_that_ends_is_a_failure_and_no_reason_to_repeat(self, http: Client) -> None:
        async with Target(hang_up) as target:
            sent = await http.send(target.url("/"))
            assert (sent.outcome, sent.repeated, len(target.requests)) == (RESET, False, 1)

    async def test_once_something_was_answered_nothing_is_repeated(self, http: Client) -> None:
        async with Target(in_turn(status(204), closing(b"HTTP/1.1 2"), status(200))) as target:
            await http.send(target.url("/"))
            sent = await http.send(target.url("/"))
            assert (sent.outcome, sent.repeated) == (RESET, False)
            assert len(target.requests) == 2

    async def test_what_became_of_the_first_one_stays_unknown_whatever_the_repeat_meets(self, http: Client) -> None:
        async def end(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            target._server.close()
            writer.close()

        async with Target(in_turn(status(204), end)) as target:
            await http.send(target.url("/"))
            sent = await http.send(target.url("/"))
            assert sent.outcome == TransportFailure(Phase.CONNECT, Fault.CONNECTION_REFUSED, sent=True)
            assert sent.repeated

    async def test_the_repeat_is_decided_on_and_resolved_anew(
        self, http: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = {"moved.corp": ("127.0.0.1",)}
        name_hosts(monkeypatch, names)
        async with Target(in_turn(status(204), hang_up)) as target:
            await http.send(f"http://moved.corp:{target.port}/")
            names["moved.corp"] = ("169.254.169.254",)
            sent = await http.send(f"http://moved.corp:{target.port}/")
            assert (sent.outcome, sent.repeated) == (Refused(Reason.DENIED_ALWAYS), True)


class TestIdle:
    """A connection is kept for a few seconds."""

    async def test_one_that_nobody_needs_is_closed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pool_module, "KEPT", 0.05)
        watched = Watched()
        async with client() as http, Target(watched) as target:
            await http.send(target.url("/"))
            await watched.until_closed()
            await http.send(target.url("/"))
            assert target.connections == 2

    async def test_one_that_is_used_is_kept_and_the_others_go(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pool_module, "KEPT", 0.3)
        watched = Watched()
        async with client() as http, Target() as busy, Target(watched) as idle:
            await http.send(busy.url("/"))
            await http.send(idle.url("/"))
            while not watched.closed.is_set():
                await http.send(busy.url("/"))
            assert busy.connections == 1

    async def test_the_one_that_was_used_last_is_taken_first(self, http: Client) -> None:
        async with Target() as target:
            await asyncio.gather(*[http.send(target.url("/")) for _ in range(2)])
            used = []

            async def answer(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                used.append(writer.get_extra_info("peername"))
                writer.write(NO_CONTENT)

            target.answer = answer
            for _ in range(3):
                await http.send(target.url("/"))
            assert len(set(used)) == 1

    async def test_closing_the_pool_closes_what_is_kept(self) -> None:
        watched = Watched()
        async with Target(watched) as target:
            async with client() as http:
                await http.send(target.url("/"))
            await watched.until_closed()


class TestPolicyChange:
    """Another policy is in force for everything that follows."""

    async def test_it_closes_what_is_kept(self, http: Client) -> None:
        watched = Watched()
        async with Target(watched) as target:
            await http.send(target.url("/"))
            http.http.apply(policy())
            await watched.until_closed()
            assert (await http.send(target.url("/"))).outcome == Response(204)
            assert target.connections == 2

    async def test_the_next_request_is_decided_by_it(self, http: Client) -> None:
        async with Target() as target:
            assert (await http.send(target.url("/"))).outcome == Response(204)
            http.http.apply(policy(allow=[]))
            assert (await http.send(target.url("/"))).outcome == Refused(Reason.DENIED_LOOPBACK)
            http.http.apply(policy(deny=["127.0.0.1"]))
            assert (await http.send(target.url("/"))).outcome == Refused(Reason.DENIED_BY_RULE)
            http.http.apply(policy())
            assert (await http.send(target.url("/"))).outcome == Response(204)
            assert len(target.requests) == 2
            assert not http.http.uses_paths
            http.http.apply(policy(deny=["127.0.0.1/x"]))
            assert http.http.uses_paths

    async def test_a_request_under_way_ends_and_its_connection_is_not_kept(self, http: Client) -> None:
        go, closed = asyncio.Event(), asyncio.Event()

        async def answer(_request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await go.wait()
            writer.write(NO_CONTENT)
            await reader.read()
            closed.set()

        async with Target(answer) as target:
            sending = asyncio.create_task(http.send(target.url("/")))
            await target.received(1)
            http.http.apply(policy(allow=[]))
            go.set()
            assert (await sending).outcome == Response(204)
            await closed.wait()
            assert (await http.send(target.url("/"))).outcome == Refused(Reason.DENIED_LOOPBACK)

    async def test_a_repeat_is_decided_by_the_policy_of_then(self, http: Client) -> None:
        arrived = asyncio.Event()
        go = asyncio.Event()

        async def answer(_request: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            arrived.set()
            await go.wait()
            writer.close()

        async with Target(in_turn(status(204), answer)) as target:
            await http.send(target.url("/"))
            sending = asyncio.create_task(http.send(target.url("/")))
            await arrived.wait()
            http.http.apply(policy(allow=[]))
            go.set()
            sent = await sending
            assert (sent.outcome, sent.repeated) == (Refused(Reason.DENIED_LOOPBACK), True)
            assert target.connections == 1


class TestDecisions:
    """Each use of a kept connection is decided on, for the address that it is connected to."""

    @asynccontextmanager
    async def pool(self, **egress: object) -> AsyncIterator[Pool]:
        resolver = Resolver()
        pool = Pool(Gate(policy(**egress)), resolver)
        try:
            yield pool
        finally:
            await pool.close()
            resolver.close()

    async def got(self, pool: Pool, uri: str, method: str = "GET") -> Wire:
        attempt = progress(uri, Targets(agent_settings()), method)
        attempt.ends = asyncio.get_running_loop().time() + 10
        async with asyncio.timeout(10) as attempt.deadline:
            wire = await pool.get(attempt)
            wire.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 32768, 65536)
            await wire.answer()
        pool.put(wire, attempt)
        return wire

    async def test_what_it_was_opened_for_does_not_count(self) -> None:
        egress = {"allow": ["GET 127.0.0.1"], "methods": ["GET", "POST"]}
        async with Target() as target, self.pool(**egress) as pool:
            wire = await self.got(pool, target.url("/"))
            assert await self.got(pool, target.url("/")) is wire
            with pytest.raises(Stopped) as stopped:
                await self.got(pool, target.url("/"), "POST")
            assert stopped.value.outcome == Refused(Reason.METHOD_NOT_ALLOWED)
            assert target.connections == 1
            assert await self.got(pool, target.url("/")) is not wire

    async def test_the_address_of_a_kept_connection_is_known(self) -> None:
        async with Target() as target, self.pool() as pool:
            first = await self.got(pool, f"http://localhost:{target.port}/")
            again = await self.got(pool, f"http://localhost:{target.port}/")
            assert again is first
            assert again.peer == "127.0.0.1"

    async def test_through_a_proxy_none_is_used_again(self) -> None:
        async with Target() as proxy:
            table = {"host": "*.corp", "proxy": proxy.url(""), "proxy_resolves": True}
            async with client(table, egress={"allow": ["*.corp"]}) as http:
                for _ in range(3):
                    assert (await http.send("http://h.corp/")).outcome == Response(204)
            assert (len(proxy.requests), proxy.connections) == (3, 3)

    async def test_through_a_tunnel_none_is_used_again(self, authority: trustme.CA, tmp_path: Path) -> None:
        server = server_context(authority.issue_cert("h.corp"))
        async with Target(tls=server) as target, Target(tunnel_to(target.port)) as proxy:
            table = {"host": "*.corp", "proxy": proxy.url(""), "proxy_resolves": True}
            table["ca_file"] = authority_file(authority, tmp_path)
            async with client(table, egress={"allow": ["*.corp"]}) as http:
                for _ in range(2):
                    assert (await http.send("https://h.corp/")).outcome == Response(204)
            assert (proxy.connections, target.connections) == (2, 2)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca(authority: trustme.CA, tmp_path: Path) -> dict[str, str]:
    """The table of a target whose authority is `authority`."""
    return {"host": "localhost", "ca_file": authority_file(authority, tmp_path)}


Certificate = Callable[[trustme.CA], trustme.LeafCert]


class TestTls:
    """Who the target is, is known by its certificate, whatever address it has."""

    async def test_an_authority_of_one_s_own_is_trusted_for_its_target(
        self, ca: dict[str, str], authority: trustme.CA
    ) -> None:
        server = server_context(authority.issue_cert("localhost", "127.0.0.1"))
        async with client(ca) as http, Target(tls=server) as target:
            for _ in range(2):
                sent = await http.send(f"https://localhost:{target.port}/")
                assert (sent.outcome, sent.address) == (Response(204), "127.0.0.1")
            assert target.connections == 1
            # The table is not for the address.
            sent = await http.send(target.url("/"))
            assert sent.outcome == TransportFailure(Phase.TLS, Fault.CERTIFICATE_UNTRUSTED)

    async def test_the_server_is_asked_for_by_its_name(self, ca: dict[str, str], authority: trustme.CA) -> None:
        server = server_context(authority.issue_cert("localhost"))
        asked: list[str | None] = []
        server.sni_callback = lambda _socket, name, _context: asked.append(name)
        async with client(ca) as http, Target(tls=server) as target:
            assert (await http.send(f"https://LOCALHOST:{target.port}/")).outcome == Response(204)
            assert asked == ["localhost"]

    async def test_an_address_is_verified_as_an_address(self, ca: dict[str, str], authority: trustme.CA) -> None:
        table = ca | {"host": "127.0.0.0/8"}
        async with client(table) as http:
            async with Target(tls=server_context(authority.issue_cert("127.0.0.1"))) as target:
                assert (await http.send(target.url("/"))).outcome == Response(204)
            async with Target(tls=server_context(authority.issue_cert("127.0.0.2", "localhost"))) as target:
                outcome = (await http.send(target.url("/"))).outcome
                assert outcome == TransportFailure(Phase.TLS, Fault.CERTIFICATE_OTHER_NAME)

    @pytest.mark.parametrize(
        ("certificate", "fault"),
        [
            (lambda ca: ca.issue_cert("other.corp"), Fault.CERTIFICATE_OTHER_NAME),
            (lambda ca: expired(ca, "localhost"), Fault.CERTIFICATE_EXPIRED),
            (lambda ca: not_yet_valid(ca, "localhost"), Fault.CERTIFICATE_NOT_YET_VALID),
            (lambda _: trustme.CA().issue_cert("localhost"), Fault.CERTIFICATE_UNTRUSTED),
        ],
        ids=["other name", "expired", "not yet valid", "other authority"],
    )
    async def test_a_certificate_that_is_not_accepted(
        self, ca: dict[str, str], authority: trustme.CA, certificate: Certificate, fault: Fault
    ) -> None:
        async with client(ca) as http, Target(tls=server_context(certificate(authority))) as target:
            sent = await http.send(f"https://localhost:{target.port}/")
            assert sent.outcome == TransportFailure(Phase.TLS, fault)
            assert (sent.address, target.requests) == ("127.0.0.1", [])
            assert Phase.FIRST_BYTE not in sent.phases

    async def test_a_certificate_of_nobody_s_is_untrusted_and_can_be_trusted_itself(
        self, authority: trustme.CA, tmp_path: Path
    ) -> None:
        certificate = authority.issue_cert("localhost")
        (tmp_path / "own.pem").write_bytes(certificate.cert_chain_pems[0].bytes())
        async with Target(tls=server_context(certificate)) as target:
            uri = f"https://localhost:{target.port}/"
            async with client() as http:
                outcome = (await http.send(uri)).outcome
                assert outcome == TransportFailure(Phase.TLS, Fault.CERTIFICATE_UNTRUSTED)
            async with client({"host": "localhost", "ca_file": str(tmp_path / "own.pem")}) as http:
                assert (await http.send(uri)).outcome == Response(204)

    async def test_a_client_certificate_is_shown_where_one_is_demanded(
        self, ca: dict[str, str], authority: trustme.CA, tmp_path: Path
    ) -> None:
        mine = authority.issue_cert("agent@presence.test")
        mine.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))
        server = server_context(authority.issue_cert("localhost"), clients=authority)
        async with client(ca | {"client_cert": str(tmp_path / "client.pem")}) as http, Target(tls=server) as target:
            assert (await http.send(f"https://localhost:{target.port}/")).outcome == Response(204)

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    @pytest.mark.parametrize(
        "certificate",
        [
            None,
            lambda _: trustme.CA().issue_cert("agent@presence.test"),
            lambda ca: expired(ca, "agent@presence.test"),
        ],
        ids=["none", "of another authority", "expired"],
    )
    async def test_a_client_certificate_that_is_not_accepted_fails_the_handshake(
        self,
        ca: dict[str, str],
        authority: trustme.CA,
        tmp_path: Path,
        version: ssl.TLSVersion,
        certificate: Certificate | None,
    ) -> None:
        """Also with TLS 1.3, where the server says so after the client thinks that the handshake is done."""
        server = server_context(authority.issue_cert("localhost"), clients=authority)
        server.minimum_version = server.maximum_version = version
        table = ca
        if certificate is not None:
            certificate(authority).private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "client.pem"))
            table = ca | {"client_cert": str(tmp_path / "client.pem")}
        with blocking_server(server) as (port, received):
            async with client(table) as http:
                sent = await http.send(f"https://localhost:{port}/")
                assert sent.outcome == TransportFailure(Phase.TLS, Fault.HANDSHAKE)
                assert not sent.repeated
        assert received == []

    async def test_a_server_without_tls(self, http: Client) -> None:
        async with Target(greeting=b"220 mail.corp ESMTP\r\n") as target:
            sent = await http.send(f"https://127.0.0.1:{target.port}/")
            assert sent.outcome == TransportFailure(Phase.TLS, Fault.HANDSHAKE)

    @pytest.mark.parametrize("end", [hang_up, reset], ids=["FIN", "RST"])
    async def test_a_connection_that_ends_in_the_handshake(self, http: Client, end: Answer) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            await end(b"", reader, writer)

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            sent = await http.send(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
            assert sent.outcome == TransportFailure(Phase.TLS, Fault.RESET)

    async def test_nothing_but_http_1_1_is_offered(self, ca: dict[str, str], authority: trustme.CA) -> None:
        server = server_context(authority.issue_cert("localhost"))
        server.set_alpn_protocols(["h2", "http/1.1"])
        async with client(ca) as http, Target(tls=server) as target:
            assert (await http.send(f"https://localhost:{target.port}/")).outcome == Response(204)

    async def test_a_stale_connection_is_replaced_inside_tls_too(
        self, ca: dict[str, str], authority: trustme.CA
    ) -> None:
        server = server_context(authority.issue_cert("localhost"))
        async with client(ca) as http, Target(in_turn(status(204), hang_up, status(200)), tls=server) as target:
            await http.send(f"https://localhost:{target.port}/")
            sent = await http.send(f"https://localhost:{target.port}/")
            assert (sent.outcome, sent.repeated) == (Response(200), True)

    async def test_connections_are_closed_for_good(self, ca: dict[str, str], authority: trustme.CA) -> None:
        server = server_context(authority.issue_cert("localhost"))
        async with client(ca) as http, Target(always(b"HTTP/1.1 204 X\r\nConnection: close\r\n\r\n"), tls=server) as t:
            for _ in range(3):
                assert (await http.send(f"https://localhost:{t.port}/")).outcome == Response(204)
