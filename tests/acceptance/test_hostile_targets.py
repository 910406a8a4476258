"""Targets that answer as no target should, on real sockets: the right outcome, in time, memory flat."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from presence.domain.delivery import FinalState
from presence.protocol.messages import AttemptRecord
from tests.acceptance.hostile_answers import BODIES, HEADS, NO_HTTP, RESET, Rows, gzip_bomb, told
from tests.support.control_plane import ScriptedControlPlane
from tests.support.processes import Program, agent_env
from tests.support.target import NO_CONTENT, Target, always, closing, hang_up, head, in_turn, reset, status

ONCE = {
    "PRESENCE_RETRY__MAX_ATTEMPTS": "1",
    "PRESENCE_DELIVERY__CONNECT_TIMEOUT": "0.8",
    "PRESENCE_DELIVERY__TLS_TIMEOUT": "0.8",
    "PRESENCE_DELIVERY__FIRST_BYTE_TIMEOUT": "1",
    "PRESENCE_DELIVERY__ATTEMPT_TIMEOUT": "2",
}
"""One attempt for each delivery, with short limits."""
SLACK = 1000
"""Milliseconds that a busy machine may add to a limit."""
FLAT = 30 * 1024 * 1024
"""Bytes that the agent's memory may grow by, whatever the targets send."""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@asynccontextmanager
async def running(
    directory: Path, *arguments: str, **settings: str
) -> AsyncIterator[tuple[ScriptedControlPlane, Program]]:
    async with ScriptedControlPlane() as cloud:
        env = agent_env(cloud.url, cloud.key, directory, **ONCE | settings)
        async with Program("run", *arguments, env=env) as agent:
            yield cloud, agent


async def attempt(cloud: ScriptedControlPlane, uri: str, **fields: str) -> AttemptRecord:
    """The only attempt of a delivery to that URI."""
    (delivery,) = await cloud.fire(uri, **fields)
    (report,) = await cloud.reported(delivery)
    (record,) = report.log
    assert (report.state is FinalState.SUCCEEDED) == (record.status is not None and 200 <= record.status <= 299)
    return record


@contextmanager
def flat_memory(agent: Program) -> Iterator[None]:
    """Asserts that the agent's memory, at its highest, stays within FLAT of where it began: proc(5), clear_refs."""
    Path(f"/proc/{agent.pid}/clear_refs").write_text("5")
    before = _memory(agent, "VmRSS")
    yield
    assert _memory(agent, "VmHWM") - before < FLAT


def _memory(agent: Program, figure: str) -> int:
    return int(Path(f"/proc/{agent.pid}/status").read_text().partition(f"{figure}:")[2].split()[0]) * 1024


async def wrong_outcomes(cloud: ScriptedControlPlane, rows: Rows) -> dict[str, str]:
    """Delivers to a target of each kind at once; the outcomes that are not those of the table, and the late ones."""
    async with AsyncExitStack() as stack:
        targets = [await stack.enter_async_context(Target(answer)) for answer, _ in rows.values()]
        records = await asyncio.gather(*(attempt(cloud, target.url()) for target in targets))
    return {
        name: f"{told(record)} after {record.took} ms"
        for (name, (_, right)), record in zip(rows.items(), records, strict=True)
        if told(record) not in right or record.took > 2000 + SLACK
    }


@pytest.mark.parametrize("rows", [BODIES, HEADS, NO_HTTP], ids=["bodies", "heads", "no HTTP"])
async def test_each_hostile_answer_ends_in_its_outcome_within_the_limits(tmp_path: Path, rows: Rows) -> None:
    async with running(tmp_path) as (cloud, agent):
        assert await wrong_outcomes(cloud, rows) == {}
        with flat_memory(agent):
            assert await wrong_outcomes(cloud, rows) == {}
        assert "Traceback" not in agent.text()


async def test_fifty_gzip_bombs_leave_the_memory_flat(tmp_path: Path) -> None:
    packed = gzip_bomb()
    bomb = always(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed)
    settings = {"PRESENCE_DELIVERY__MAX_RESPONSE_BYTES": "2000000"}
    async with running(tmp_path, **settings) as (cloud, agent), Target() as harmless, Target(bomb) as target:
        await attempt(cloud, harmless.url())
        with flat_memory(agent):
            deliveries = await cloud.fire(target.url(), count=50)
            assert [told(report.log[-1]) for report in await cloud.reported(*deliveries)] == ["200"] * 50
        # Read to its end: what is no longer than the limit leaves its connection to the next request.
        assert target.connections <= 8


async def test_an_endless_body_is_cut_at_its_limit_rather_than_at_the_time_limit(tmp_path: Path) -> None:
    async with running(tmp_path) as (cloud, _agent), Target(BODIES["endless body"][0]) as target:
        record = await attempt(cloud, target.url())
        assert record.status == 200
        assert record.took < 1000


async def test_an_answer_before_the_request_is_not_taken_for_one_to_it(tmp_path: Path) -> None:
    early = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    async with running(tmp_path) as (cloud, _agent), Target(status(204), greeting=early) as target:
        record = await attempt(cloud, target.url())
        assert told(record) in {"200", "204", RESET, "first-byte: malformed_response, unknown"}
        # Whatever the first one was taken for, later deliveries get answers of their own.
        target._greeting = b""
        assert [(await attempt(cloud, target.url())).status for _ in range(3)] == [204] * 3


async def test_an_answer_too_many_is_not_taken_for_the_next_one(tmp_path: Path) -> None:
    surplus = always(NO_CONTENT + b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n")
    async with running(tmp_path) as (cloud, _agent), Target(in_turn(surplus, always(NO_CONTENT))) as target:
        assert [(await attempt(cloud, target.url())).status for _ in range(3)] == [204] * 3


async def test_a_listener_that_accepts_no_more_is_a_connect_timeout(tmp_path: Path) -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filling in (first, second):
            filling.setblocking(False)
            filling.connect_ex(full.getsockname())
        async with running(tmp_path) as (cloud, _agent):
            record = await attempt(cloud, f"http://127.0.0.1:{full.getsockname()[1]}/")
            assert (told(record), record.hint) == ("connect: timeout", "host_down_or_filtered")
            assert 800 <= record.took <= 800 + SLACK


async def test_nothing_listens(tmp_path: Path) -> None:
    async with running(tmp_path) as (cloud, _agent):
        async with Target() as target:
            pass
        record = await attempt(cloud, target.url())
        assert (told(record), record.hint) == ("connect: connection_refused", "nothing_listens")


class TestAKeptConnection:
    """That its target has closed under us: the request is repeated once on a fresh one."""

    async def test_is_replaced_at_once_and_the_attempt_says_so(self, tmp_path: Path) -> None:
        answers = in_turn(always(NO_CONTENT), hang_up, always(NO_CONTENT))
        async with running(tmp_path) as (cloud, _agent), Target(answers) as target:
            assert (await attempt(cloud, target.url())).repeated is None
            record = await attempt(cloud, target.url())
            assert (told(record), record.repeated) == ("204", True)
            assert (len(target.requests), target.connections) == (3, 2)
            assert head(target.requests[1])[1]["webhook-id"] == head(target.requests[2])[1]["webhook-id"]

    @pytest.mark.parametrize("end", [hang_up, reset], ids=["FIN", "RST"])
    async def test_is_replaced_only_once(self, tmp_path: Path, end: object) -> None:
        async with running(tmp_path) as (cloud, _agent), Target(in_turn(always(NO_CONTENT), end)) as target:
            await attempt(cloud, target.url())
            record = await attempt(cloud, target.url())
            assert (told(record), record.repeated) == (RESET, True)
            assert (len(target.requests), target.connections) == (3, 2)

    async def test_is_not_replaced_once_an_answer_began(self, tmp_path: Path) -> None:
        answers = in_turn(always(NO_CONTENT), closing(b"HTTP/1.1 20"))
        async with running(tmp_path) as (cloud, _agent), Target(answers) as target:
            await attempt(cloud, target.url())
            record = await attempt(cloud, target.url())
            assert record.repeated is None
            assert len(target.requests) == 2

    async def test_is_not_replaced_where_a_person_wants_to_decide(self, tmp_path: Path) -> None:
        async with running(tmp_path) as (cloud, _agent), Target(in_turn(always(NO_CONTENT), hang_up)) as target:
            await attempt(cloud, target.url())
            await cloud.fire(target.url(), on_unknown="hold")
            await cloud.until(lambda: any(said.type == "held" for said in cloud.heard))
            assert len(target.requests) == 2

    async def test_that_was_closed_while_idle_costs_nothing(self, tmp_path: Path) -> None:
        async with running(tmp_path) as (cloud, _agent), Target(closing(NO_CONTENT)) as target:
            records = [await attempt(cloud, target.url()) for _ in range(5)]
            assert {told(record) for record in records} == {"204"}
            assert len(target.requests) - 5 == sum(bool(record.repeated) for record in records)


class TestTls:
    """Certificates that are none for this target, and handshakes that do not end."""

    @asynccontextmanager
    async def trusting(
        self, directory: Path, authority: trustme.CA
    ) -> AsyncIterator[tuple[ScriptedControlPlane, Program]]:
        authority.cert_pem.write_to_path(directory / "ca.pem")
        config = directory / "agent.toml"
        config.write_text(f'[[targets]]\nhost = "127.0.0.1"\nca_file = "{directory / "ca.pem"}"\n')
        async with running(directory, "--config", str(config)) as both:
            yield both

    async def outcome(self, directory: Path, authority: trustme.CA, certificate: trustme.LeafCert) -> AttemptRecord:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        async with self.trusting(directory, authority) as (cloud, _agent), Target(tls=context) as target:
            record = await attempt(cloud, target.url())
            assert (len(target.requests) == 1) == (record.status == 204)
            return record

    async def test_a_certificate_of_the_configured_authority_is_good(
        self, tmp_path: Path, authority: trustme.CA
    ) -> None:
        record = await self.outcome(tmp_path, authority, authority.issue_cert("127.0.0.1"))
        assert told(record) == "204"

    async def test_one_for_another_name(self, tmp_path: Path, authority: trustme.CA) -> None:
        record = await self.outcome(tmp_path, authority, authority.issue_cert("other.test", "127.0.0.2"))
        assert (told(record), record.hint) == ("tls: certificate_other_name", "certificate_for_other_name")

    async def test_one_that_has_expired(self, tmp_path: Path, authority: trustme.CA) -> None:
        now = datetime.now(UTC)
        old = authority.issue_cert("127.0.0.1", not_before=now - timedelta(9), not_after=now - timedelta(1))
        record = await self.outcome(tmp_path, authority, old)
        assert (told(record), record.hint) == ("tls: certificate_expired", "renew_certificate")

    async def test_one_that_is_not_yet_valid(self, tmp_path: Path, authority: trustme.CA) -> None:
        now = datetime.now(UTC)
        new = authority.issue_cert("127.0.0.1", not_before=now + timedelta(1), not_after=now + timedelta(9))
        record = await self.outcome(tmp_path, authority, new)
        assert (told(record), record.hint) == ("tls: certificate_not_yet_valid", "check_clock")

    async def test_one_that_nobody_vouches_for(self, tmp_path: Path, authority: trustme.CA) -> None:
        record = await self.outcome(tmp_path, authority, trustme.CA().issue_cert("127.0.0.1"))
        assert (told(record), record.hint) == ("tls: certificate_untrusted", "add_ca_file")

    async def test_a_handshake_that_never_ends(self, tmp_path: Path, authority: trustme.CA) -> None:
        async with self.trusting(tmp_path, authority) as (cloud, _agent), Target() as target:
            target.answer = status(200)
            record = await attempt(cloud, target.url().replace("http:", "https:"))
            assert told(record) == "tls: timeout"
            assert 800 <= record.took <= 800 + SLACK

    async def test_a_server_that_speaks_no_tls(self, tmp_path: Path, authority: trustme.CA) -> None:
        async with self.trusting(tmp_path, authority) as (cloud, _agent), Target(greeting=NO_CONTENT) as target:
            record = await attempt(cloud, target.url().replace("http:", "https:"))
            assert told(record) == "tls: handshake"

    async def test_a_server_that_hangs_up_in_the_handshake(self, tmp_path: Path, authority: trustme.CA) -> None:
        async with self.trusting(tmp_path, authority) as (cloud, _agent), _hanging_up() as port:
            record = await attempt(cloud, f"https://127.0.0.1:{port}/")
            assert told(record) in {"tls: reset", "tls: handshake"}


@asynccontextmanager
async def _hanging_up() -> AsyncIterator[int]:
    """A listener that ends each connection at its first byte."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
