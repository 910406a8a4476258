"""One request at a time against real sockets: what is on the wire, what the outcome is, and how long it may take."""

import asyncio
import gzip
import socket
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from presence import __version__
from presence.agent.deliver import destination_of
from presence.agent.http import Request
from presence.domain.outcome import Fault, Phase, Reason, Refused, Response, TransportFailure
from tests.support.names import name_hosts
from tests.support.odd_hosts import black_hole, closed_port
from tests.support.requests import Client, client
from tests.support.target import (
    NO_CONTENT,
    Answer,
    Target,
    always,
    closing,
    endless,
    hang_up,
    head,
    in_turn,
    reset,
    silence,
    status,
)

LIMIT = 1000
AGENT = f"User-Agent: Presence/{__version__}\r\nAccept: */*\r\n"


@pytest.fixture
async def http() -> AsyncIterator[Client]:
    async with client(attempt_timeout=10, first_byte_timeout=5, max_response_bytes=LIMIT) as http:
        yield http


class TestWritten:
    """The request is what was asked for, byte for byte, and nothing else."""

    async def test_a_get(self, http: Client) -> None:
        async with Target() as target:
            sent = await http.send(target.url("/a"), headers={"webhook-id": "1", "Authorization": "Bearer s"})
            assert sent.outcome == Response(204)
            own = f"Host: 127.0.0.1:{target.port}\r\n{AGENT}webhook-id: 1\r\nAuthorization: Bearer s\r\n\r\n"
            assert target.requests == [f"GET /a HTTP/1.1\r\n{own}".encode()]

    async def test_a_header_of_the_request_replaces_the_agents_own_of_that_name(self, http: Client) -> None:
        async with Target() as target:
            await http.send(target.url("/a"), headers={"user-agent": "hook/1", "ACCEPT": "text/plain"})
            own = f"Host: 127.0.0.1:{target.port}\r\nuser-agent: hook/1\r\nACCEPT: text/plain\r\n\r\n"
            assert target.requests == [f"GET /a HTTP/1.1\r\n{own}".encode()]

    async def test_a_post_with_a_body(self, http: Client) -> None:
        async with client(egress={"methods": ["GET", "POST"]}) as http, Target() as target:
            body = '{"ü": "\n"}'.encode()
            await http.send(target.url("/a"), "POST", {"Content-Type": "application/json"}, body)
            own = (
                f"Host: 127.0.0.1:{target.port}\r\n{AGENT}Content-Type: application/json\r\nContent-Length: 11\r\n"
                "Connection: close\r\n\r\n"
            )
            assert target.requests == [f"POST /a HTTP/1.1\r\n{own}".encode() + body]

    @pytest.mark.parametrize("method", ["POST", "PUT"])
    @pytest.mark.parametrize("body", [None, b""])
    async def test_without_a_body_its_length_is_zero(self, method: str, body: bytes | None) -> None:
        async with client(egress={"methods": ["POST", "PUT"]}) as http, Target() as target:
            await http.send(target.url("/a"), method, body=body)
            line, headers = head(target.requests[0])
            assert (line, headers["content-length"]) == (f"{method} /a HTTP/1.1", "0")
            assert "transfer-encoding" not in headers

    @pytest.mark.parametrize(
        "literal",
        [
            "/%7Euser/a%2fb;c=1/d%20e?x=%41&y=a+b&z=%c3%bc/?",
            "/~user",
            "/a%2Fb",
            "/a%2fb",
            "//a",
            "/a//b/",
            "/a;b=c,d@e:f!$&'()*+",
            "/?",
            "/??",
            "/?a=%20b%2B+&&=",
            "/%41%61",
            "/%zz".replace("%zz", "%25zz"),
            "/" + "a" * 2000,
        ],
    )
    async def test_the_target_of_the_request_is_as_it_was_written(self, http: Client, literal: str) -> None:
        async with Target() as target:
            await http.send(target.url(literal))
            assert target.requests[0].startswith(f"GET {literal} HTTP/1.1\r\n".encode())

    @pytest.mark.parametrize(("path", "expected"), [("", "/"), ("?a=1", "/?a=1"), ("?", "/?"), ("/", "/")])
    async def test_an_empty_path_becomes_a_slash(self, http: Client, path: str, expected: str) -> None:
        async with Target() as target:
            await http.send(target.url(path))
            assert head(target.requests[0])[0] == f"GET {expected} HTTP/1.1"

    async def test_a_host_in_capitals_is_asked_for_in_small_letters(self, http: Client) -> None:
        async with Target() as target:
            assert (await http.send(f"HTTP://LOCALHOST:{target.port}/A")).outcome == Response(204)
            line, headers = head(target.requests[0])
            assert (line, headers["host"]) == ("GET /A HTTP/1.1", f"localhost:{target.port}")

    async def test_an_ipv6_host_is_in_brackets(self, http: Client) -> None:
        async with Target(host="::1") as target:
            sent = await http.send(f"http://[0:0::1]:{target.port}/")
            assert (sent.outcome, sent.address) == (Response(204), "::1")
            assert head(target.requests[0])[1]["host"] == f"[::1]:{target.port}"

    async def test_the_default_port_is_left_out_and_the_other_scheme_s_is_not(self) -> None:
        async with Target() as proxy:
            table = {"host": "*.corp", "proxy": proxy.url(""), "proxy_resolves": True}
            async with client(table, egress={"allow": ["*.corp"]}) as http:
                for place in ("h.corp", "h.corp:80", "h.corp:443", "h.corp:8080"):
                    assert (await http.send(f"http://{place}/")).outcome == Response(204)
        hosts = [head(request)[1]["host"] for request in proxy.requests]
        assert hosts == ["h.corp", "h.corp", "h.corp:443", "h.corp:8080"]

    @pytest.mark.parametrize("evil", ["\r\nX-Evil: 1", "\n", "\r", "\0", "\x7f", "é", "\u2028"])
    @pytest.mark.parametrize("place", ["name", "value"])
    async def test_a_header_cannot_be_ended_by_what_is_in_it(self, http: Client, evil: str, place: str) -> None:
        headers = {f"X-A{evil}": "b"} if place == "name" else {"X-A": f"b{evil}"}
        async with Target() as target:
            with pytest.raises(ValueError, match="a header has a character that ends it"):
                await http.send(target.url("/"), headers=headers)
            assert (await http.send(target.url("/"))).outcome == Response(204)
            assert len(target.requests) == 1

    async def test_nothing_of_the_environment_is_used(
        self, http: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("default login user password canary\nmachine 127.0.0.1 login user password canary\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        async with Target() as proxy, Target() as target:
            for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy"):
                monkeypatch.setenv(name, proxy.url(""))
            assert (await http.send(target.url("/"))).outcome == Response(204)
            assert (len(proxy.requests), len(target.requests)) == (0, 1)
            assert set(head(target.requests[0])[1]) == {"host", "user-agent", "accept"}

    async def test_no_cookie_is_kept_and_no_answer_adds_a_header(self, http: Client) -> None:
        answer = b"HTTP/1.1 401 X\r\nSet-Cookie: a=b; Path=/\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"
        async with Target(always(answer)) as target:
            for _ in range(2):
                await http.send(target.url("/"))
            assert target.requests[0] == target.requests[1]

    async def test_the_repr_of_a_request_shows_no_header_and_no_body(self, http: Client) -> None:
        target = destination_of("http://h/")
        options = http.targets.of("h", 80)
        request = Request("POST", "http://h/", target, {"Authorization": "Bearer canary"}, b"canary", options, False)
        assert "canary" not in repr(request)


class TestOutcome:
    """What the target answers becomes a value."""

    @pytest.mark.parametrize("code", [200, 201, 204, 299, 400, 404, 410, 500, 599, 600, 999])
    async def test_the_status_is_the_outcome(self, http: Client, code: int) -> None:
        async with Target(status(code)) as target:
            sent = await http.send(target.url("/"))
            assert sent.outcome == Response(code)
            assert (sent.address, sent.repeated, sent.observed) == ("127.0.0.1", False, False)

    @pytest.mark.parametrize("code", ["000", "099"])
    async def test_a_status_below_100_is_none(self, http: Client, code: str) -> None:
        async with Target(always(f"HTTP/1.1 {code} X\r\nContent-Length: 0\r\n\r\n".encode())) as target:
            outcome = (await http.send(target.url("/"))).outcome
            assert outcome == TransportFailure(Phase.FIRST_BYTE, Fault.MALFORMED_RESPONSE, sent=True)

    @pytest.mark.parametrize(
        ("location", "host"),
        [
            ("http://Elsewhere.corp/x", "elsewhere.corp"),
            ("https://169.254.169.254:8080/latest", "169.254.169.254"),
            ("http://user:secret@evil.corp/", "evil.corp"),
            ("//other.corp/x", "other.corp"),
            ("http://[fd00::1]:81/", "fd00::1"),
            ("/relative", "here"),
            ("", "here"),
            ("http://[half/", "unreadable"),
            ("http://a b c/", "unreadable"),
            ("http://" + "a" * 300 + "/", "unreadable"),
            ("http://ü.corp/", "unreadable"),
        ],
    )
    @pytest.mark.parametrize("code", [301, 307])
    async def test_a_redirect_is_not_followed_and_only_its_host_is_told(
        self, http: Client, code: int, location: str, host: str
    ) -> None:
        answer = f"HTTP/1.1 {code} X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        async with Target(always(answer.encode())) as target:
            assert (await http.send(target.url("/"))).outcome == Response(code, location=host)
            assert len(target.requests) == 1

    async def test_a_redirect_to_nowhere_names_no_host(self, http: Client) -> None:
        async with Target(status(304)) as target:
            assert (await http.send(target.url("/"))).outcome == Response(304)

    async def test_nobody_hears_of_a_redirect_to_another_target(self, http: Client) -> None:
        async with Target() as elsewhere:
            moved = f"HTTP/1.1 302 Found\r\nLocation: {elsewhere.url('/')}\r\nContent-Length: 0\r\n\r\n"
            async with Target(always(moved.encode())) as target:
                assert (await http.send(target.url("/"))).outcome == Response(302, location="127.0.0.1")
                assert elsewhere.connections == 0

    @pytest.mark.parametrize("code", [408, 425, 429, 500, 503])
    async def test_how_long_to_wait_in_seconds(self, http: Client, code: int) -> None:
        async with Target(always(_retry_after(code, "120"))) as target:
            assert (await http.send(target.url("/"))).outcome == Response(code, retry_after=120_000)

    async def test_how_long_to_wait_as_a_date(self, http: Client) -> None:
        then = datetime.fromtimestamp(1_790_000_000, UTC) + timedelta(seconds=90)  # the clock's time is fixed
        async with Target(always(_retry_after(503, format_datetime(then, usegmt=True)))) as target:
            assert (await http.send(target.url("/"))).outcome == Response(503, retry_after=90_000)

    async def test_a_date_is_meant_by_the_target_s_own_clock_if_it_says_its_time(self, http: Client) -> None:
        there = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)
        now, then = (format_datetime(time, usegmt=True) for time in (there, there + timedelta(seconds=30)))
        async with Target(always(_retry_after(503, then, f"Date: {now}\r\n"))) as target:
            assert (await http.send(target.url("/"))).outcome == Response(503, retry_after=30_000)
        async with Target(always(_retry_after(503, "7", "Date: nonsense\r\n"))) as target:
            assert (await http.send(target.url("/"))).outcome == Response(503, retry_after=7000)

    @pytest.mark.parametrize(("code", "text"), [(200, "5"), (404, "5"), (410, "5"), (503, "soon"), (503, "-1")])
    async def test_no_wait_is_heard_where_there_is_none_to_keep(self, http: Client, code: int, text: str) -> None:
        async with Target(always(_retry_after(code, text))) as target:
            assert (await http.send(target.url("/"))).outcome == Response(code)

    @pytest.mark.parametrize(
        "answer",
        [
            always(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + bytes(500)),
            always(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + bytes(5000)),
            closing(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nfew"),
            closing(b"HTTP/1.1 200 OK\r\n\r\nfew"),
            always(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n"),
            endless(b"HTTP/1.1 200 OK\r\n\r\n", bytes(65536)),
        ],
        ids=["within the limit", "over the limit", "too short", "without length", "broken", "endless"],
    )
    async def test_the_status_counts_whatever_the_body_does(self, http: Client, answer: Answer) -> None:
        async with Target(answer) as target:
            assert (await http.send(target.url("/"))).outcome == Response(200)

    @pytest.mark.parametrize(("length", "connections"), [(LIMIT, 1), (4_000_000, 2)])
    async def test_a_body_is_read_up_to_the_limit(self, http: Client, length: int, connections: int) -> None:
        async with Target(always(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + bytes(length))) as target:
            for _ in range(2):
                assert (await http.send(target.url("/"))).outcome == Response(200)
            assert target.connections == connections

    async def test_nothing_is_decompressed(self, http: Client) -> None:
        packed = gzip.compress(bytes(500_000))
        assert len(packed) < LIMIT
        start = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
        async with Target(always(start + packed)) as target:
            for _ in range(2):
                assert (await http.send(target.url("/"))).outcome == Response(200)
            assert target.connections == 1  # the limit was not reached

    async def test_interim_answers_are_passed_over(self, http: Client) -> None:
        async with Target(always(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 3 + NO_CONTENT)) as target:
            assert (await http.send(target.url("/"))).outcome == Response(204)

    @pytest.mark.parametrize(
        ("answer", "fault"),
        [
            (hang_up, Fault.RESET),
            (reset, Fault.RESET),
            (closing(b"HTTP/1.1 204 No Cont"), Fault.RESET),
            (always(b"no HTTP at all\r\n\r\n"), Fault.MALFORMED_RESPONSE),
            (endless(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 4096), Fault.HEADERS_TOO_LARGE),
            (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), Fault.HEADERS_TOO_LARGE),
        ],
        ids=["FIN", "RST", "cut", "no HTTP", "a head without end", "interim answers without end"],
    )
    async def test_what_keeps_the_status_from_coming(self, http: Client, answer: Answer, fault: Fault) -> None:
        async with Target(answer) as target:
            sent = await http.send(target.url("/"))
            assert sent.outcome == TransportFailure(Phase.FIRST_BYTE, fault, sent=True)
            assert (len(target.requests), sent.repeated) == (1, False)

    async def test_nobody_listens(self, http: Client) -> None:
        sent = await http.send(f"http://127.0.0.1:{closed_port()}/")
        assert sent.outcome == TransportFailure(Phase.CONNECT, Fault.CONNECTION_REFUSED)
        assert sent.address == "127.0.0.1"

    async def test_a_name_that_does_not_exist(self, http: Client) -> None:
        sent = await http.send("http://nowhere.invalid/")
        assert (sent.outcome, sent.address) == (TransportFailure(Phase.DNS, Fault.NAME_UNKNOWN), None)

    async def test_the_phases_say_what_took_how_long(self, http: Client) -> None:
        async with Target(always(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as target:
            first, second = [await http.send(f"http://localhost:{target.port}/") for _ in range(2)]
            asked = {Phase.POLICY, Phase.WRITE, Phase.FIRST_BYTE}
            assert first.phases.keys() - {Phase.BODY} == asked | {Phase.DNS, Phase.CONNECT}
            assert second.phases.keys() - {Phase.BODY} == asked
            assert all(took >= 0 for took in first.phases.values())


def _retry_after(code: int, text: str, more: str = "") -> bytes:
    return f"HTTP/1.1 {code} X\r\nRetry-After: {text}\r\n{more}Content-Length: 0\r\n\r\n".encode()


class TestPolicy:
    """What the policy refuses is not connected to."""

    @pytest.mark.parametrize(
        ("allow", "host", "reason"),
        [
            ([], "127.0.0.1", Reason.DENIED_LOOPBACK),
            ([], "localhost", Reason.DENIED_LOOPBACK),
            (["localhost"], "localhost", Reason.DENIED_LOOPBACK),
            (["0.0.0.0/0"], "169.254.169.254", Reason.DENIED_ALWAYS),
            ([], "8.8.8.8", Reason.NOT_ALLOWED),
        ],
    )
    async def test_it_stops_the_request_before_a_connection(self, allow: list[str], host: str, reason: Reason) -> None:
        async with client(egress={"allow": allow}) as http, Target() as target:
            sent = await http.send(f"http://{host}:{target.port}/")
            assert (sent.outcome, sent.address, target.connections) == (Refused(reason), None, 0)

    async def test_a_name_is_refused_for_any_of_its_addresses(
        self, http: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name_hosts(monkeypatch, {"both.corp": ("127.0.0.1", "169.254.169.254")})
        async with Target() as target:
            assert (await http.send(f"http://both.corp:{target.port}/")).outcome == Refused(Reason.DENIED_ALWAYS)
            assert target.connections == 0

    async def test_a_name_is_allowed_by_the_address_it_resolves_to(self, http: Client) -> None:
        async with Target() as target:
            assert (await http.send(f"http://localhost:{target.port}/")).outcome == Response(204)

    async def test_the_method_is_decided_on_also_on_a_kept_connection(self, http: Client) -> None:
        async with Target() as target:
            assert (await http.send(target.url("/"))).outcome == Response(204)
            assert (await http.send(target.url("/"), "POST")).outcome == Refused(Reason.METHOD_NOT_ALLOWED)
            assert len(target.requests) == 1

    async def test_whether_paths_matter_is_told(self) -> None:
        async with client() as http, client(egress={"deny": ["127.0.0.1/private"]}) as other:
            assert (http.http.uses_paths, other.http.uses_paths) == (False, True)


class TestLimits:
    """Every attempt ends within its limits, in the phase that took too long."""

    async def test_the_name_server_is_silent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answered = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(20) and [])
        async with client(dns_timeout=0.1) as http:
            sent = await http.send("http://h.corp/")
            assert (sent.outcome, sent.address) == (TransportFailure(Phase.DNS, Fault.TIMEOUT), None)
            assert sent.phases[Phase.DNS] >= 90
            answered.set()

    async def test_the_host_is_silent(self) -> None:
        with black_hole() as port:
            async with client(connect_timeout=0.1) as http:
                sent = await http.send(f"http://127.0.0.1:{port}/")
                assert sent.outcome == TransportFailure(Phase.CONNECT, Fault.TIMEOUT)
                assert sent.phases[Phase.CONNECT] >= 90
                assert Phase.FIRST_BYTE not in sent.phases

    async def test_the_tls_handshake_is_not_answered(self) -> None:
        async with client(tls_timeout=0.1) as http, Target(silence) as target:
            sent = await http.send(f"https://127.0.0.1:{target.port}/")
            assert sent.outcome == TransportFailure(Phase.TLS, Fault.TIMEOUT)
            assert sent.phases[Phase.TLS] >= 90

    @pytest.mark.parametrize(
        "answer", [silence, endless(b"HTTP/1.1 200 OK\r\nX: ", b"x", pause=0.02)], ids=["silence", "byte by byte"]
    )
    async def test_the_answer_does_not_come(self, answer: Answer) -> None:
        async with client(first_byte_timeout=0.2) as http, Target(answer) as target:
            sent = await http.send(target.url("/"))
            assert sent.outcome == TransportFailure(Phase.FIRST_BYTE, Fault.TIMEOUT, sent=True)
            assert sent.phases[Phase.FIRST_BYTE] >= 190

    async def test_the_answer_does_not_come_on_a_kept_connection(self) -> None:
        async with client(first_byte_timeout=0.2) as http, Target(in_turn(status(204), silence)) as target:
            assert (await http.send(target.url("/"))).outcome == Response(204)
            sent = await http.send(target.url("/"))
            assert sent.outcome == TransportFailure(Phase.FIRST_BYTE, Fault.TIMEOUT, sent=True)
            assert (sent.repeated, len(target.requests)) == (False, 2)

    async def test_the_request_is_not_taken(self) -> None:
        served = asyncio.Event()

        async def deaf(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await served.wait()
            writer.transport.abort()

        async with await asyncio.start_server(deaf, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with client(egress={"methods": ["POST"]}, first_byte_timeout=0.3) as http:
                sent = await http.send(f"http://127.0.0.1:{port}/", "POST", body=bytes(64 * 1024 * 1024))
                assert sent.outcome == TransportFailure(Phase.WRITE, Fault.TIMEOUT, sent=True)
            served.set()

    async def test_the_body_does_not_end(self) -> None:
        drip = endless(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b".", pause=0.02)
        async with client(attempt_timeout=0.3) as http, Target(drip) as target:
            sent = await http.send(target.url("/"))
            assert sent.outcome == Response(200)
            assert sent.phases[Phase.BODY] >= 200

    @pytest.mark.parametrize("phase", [Phase.DNS, Phase.CONNECT, Phase.TLS, Phase.FIRST_BYTE])
    async def test_all_phases_together_have_one_limit(self, phase: Phase, monkeypatch: pytest.MonkeyPatch) -> None:
        answered = threading.Event()
        if phase is Phase.DNS:
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(20) and [])
        else:
            name_hosts(monkeypatch, {"h.corp": ("127.0.0.1", "127.0.0.1")})
        with black_hole() as nowhere:
            async with client(attempt_timeout=0.2) as http, Target(silence) as target:
                port = nowhere if phase is Phase.CONNECT else target.port
                scheme = "https" if phase is Phase.TLS else "http"
                sent = await http.send(f"{scheme}://h.corp:{port}/")
                assert sent.outcome == TransportFailure(phase, Fault.TIMEOUT, sent=phase is Phase.FIRST_BYTE)
                answered.set()

    async def test_a_request_that_is_given_up_leaves_nothing_behind(self, http: Client) -> None:
        gone = asyncio.Event()

        async def answer(_request: bytes, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            await reader.read()
            gone.set()

        async with Target(answer) as target:
            sending = asyncio.create_task(http.send(target.url("/")))
            await target.received(1)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            await gone.wait()
