"""Whose certificates the link believes, on real TLS connections, and how it says what is wrong."""

import asyncio
import socket
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from presence.agent.ends import Cause, Failure, Retry
from tests.support.clock import ManualClock
from tests.support.control_plane import ScriptedControlPlane
from tests.support.links import Observed, running

DAY = timedelta(days=1)
HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(organization_name="Corp Inspection CA")


def written(authority: trustme.CA, directory: Path, name: str = "authority.pem") -> Path:
    file = directory / name
    file.write_bytes(authority.cert_pem.bytes())
    return file


def served(certificate: trustme.LeafCert, clients: trustme.CA | None = None) -> ssl.SSLContext:
    """A server with that certificate; `clients`: the authority of the certificates that it demands of them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        clients.configure_trust(context)
    return context


async def failure_of(cloud: ScriptedControlPlane, clock: ManualClock | None = None, **settings: object) -> Failure:
    async with running(Observed(cloud.url, cloud.key, clock=clock, pauses=True, **settings)) as link:
        return await link.failed.get()


async def test_an_authority_in_a_file_is_trusted_besides_the_system_s(authority: trustme.CA, tmp_path: Path) -> None:
    async with (
        ScriptedControlPlane(tls=served(authority.issue_cert(HOST))) as cloud,
        running(Observed(cloud.url, cloud.key, ca_file=written(authority, tmp_path))),
    ):
        await cloud.ready()


async def test_an_authority_in_a_directory_is_trusted(authority: trustme.CA, tmp_path: Path) -> None:
    written(trustme.CA(), tmp_path, "another.crt")
    written(authority, tmp_path)
    (tmp_path / "README").write_text("not a certificate")
    async with (
        ScriptedControlPlane(tls=served(authority.issue_cert(HOST))) as cloud,
        running(Observed(cloud.url, cloud.key, ca_directory=tmp_path)),
    ):
        await cloud.ready()


async def test_the_server_s_own_certificate_can_be_trusted_alone(authority: trustme.CA, tmp_path: Path) -> None:
    certificate = authority.issue_cert(HOST)
    file = tmp_path / "server.pem"
    file.write_bytes(certificate.cert_chain_pems[0].bytes())
    async with (
        ScriptedControlPlane(tls=served(certificate)) as cloud,
        running(Observed(cloud.url, cloud.key, ca_file=file)),
    ):
        await cloud.ready()


async def test_an_untrusted_issuer_is_named_and_tried_again_slowly(authority: trustme.CA) -> None:
    async with ScriptedControlPlane(tls=served(authority.issue_cert(HOST))) as cloud:
        async with running(Observed(cloud.url, cloud.key, pauses=True)) as link:
            failure = await link.failed.get()
        assert (failure.cause, failure.retry) == (Cause.TLS, Retry.SLOWLY)
        assert failure.reason == (
            "certificate of 127.0.0.1 issued by 'Corp Inspection CA' is not trusted: looks like TLS inspection;"
            " add its certificate with control_plane.ca_file"
        )
        assert 60 <= link.waits[0] <= 120
        assert cloud.keys == []


async def test_a_file_that_is_replaced_is_read_without_a_restart(authority: trustme.CA, tmp_path: Path) -> None:
    file = written(trustme.CA(), tmp_path)
    async with (
        ScriptedControlPlane(tls=served(authority.issue_cert(HOST))) as cloud,
        running(Observed(cloud.url, cloud.key, ca_file=file, pauses=True)) as link,
    ):
        assert (await link.failed.get()).cause is Cause.TLS
        written(authority, tmp_path)
        async with asyncio.timeout(5):
            await cloud.ready()


async def test_a_certificate_for_another_name_is_refused(authority: trustme.CA, tmp_path: Path) -> None:
    async with ScriptedControlPlane(tls=served(authority.issue_cert("elsewhere.example.com"))) as cloud:
        failure = await failure_of(cloud, ca_file=written(authority, tmp_path))
        assert (failure.cause, failure.retry) == (Cause.TLS, Retry.SLOWLY)
        assert failure.reason.startswith("the certificate there is not for 127.0.0.1")


def valid(authority: trustme.CA, begins: timedelta, ends: timedelta) -> trustme.LeafCert:
    now = datetime.now(UTC)
    return authority.issue_cert(HOST, not_before=now + begins, not_after=now + ends)


async def test_a_certificate_that_is_not_valid_yet_accuses_the_clock(authority: trustme.CA, tmp_path: Path) -> None:
    async with ScriptedControlPlane(tls=served(valid(authority, DAY, 2 * DAY))) as cloud:
        failure = await failure_of(cloud, ca_file=written(authority, tmp_path))
        assert (failure.cause, failure.retry) == (Cause.CLOCK, Retry.SLOWLY)
        assert "is not valid yet (from " in failure.reason
        assert f"this host's clock says {datetime.now(UTC):%Y-%m-%d}" in failure.reason
        assert failure.reason.endswith("set the clock (NTP)")


async def test_a_certificate_that_has_expired_says_until_when(authority: trustme.CA, tmp_path: Path) -> None:
    async with ScriptedControlPlane(tls=served(valid(authority, -2 * DAY, -DAY))) as cloud:
        failure = await failure_of(cloud, ca_file=written(authority, tmp_path))
        assert (failure.cause, failure.retry) == (Cause.TLS, Retry.SLOWLY)
        assert f"has expired (until {datetime.now(UTC) - DAY:%Y-%m-%d}" in failure.reason


async def test_a_client_certificate_is_shown(authority: trustme.CA, tmp_path: Path) -> None:
    own = authority.issue_cert("agent@example.com")
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"
    certificate.write_bytes(b"".join(blob.bytes() for blob in own.cert_chain_pems))
    key.write_bytes(own.private_key_pem.bytes())
    tls = served(authority.issue_cert(HOST), clients=authority)
    async with (
        ScriptedControlPlane(tls=tls) as cloud,
        running(
            Observed(
                cloud.url, cloud.key, ca_file=written(authority, tmp_path), client_cert=certificate, client_key=key
            )
        ),
    ):
        await cloud.ready()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_that_wants_a_client_certificate_is_understood(
    authority: trustme.CA, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    context = served(authority.issue_cert(HOST), clients=authority)
    context.maximum_version = version

    def serve(listening: socket.socket) -> None:
        """One connection, as OpenSSL's own programs serve it: asyncio's server sends no alert."""
        accepted, _ = listening.accept()
        with accepted:
            with suppress(ssl.SSLError):
                context.wrap_socket(accepted.dup(), server_side=True)
            accepted.shutdown(socket.SHUT_WR)
            while accepted.recv(1024):
                pass

    with socket.create_server((HOST, 0)) as listening:
        serving = asyncio.create_task(asyncio.to_thread(serve, listening))
        url = f"wss://{HOST}:{listening.getsockname()[1]}"
        async with running(Observed(url, "key", pauses=True, ca_file=written(authority, tmp_path))) as link:
            failure = await link.failed.get()
        await serving
    assert (failure.cause, failure.retry) == (Cause.TLS, Retry.SLOWLY)
    assert "set control_plane.client_cert" in failure.reason


async def test_plain_text_on_the_port_of_tls_is_named() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(refuse, HOST, 0) as plain:
        url = f"wss://{HOST}:{plain.sockets[0].getsockname()[1]}"
        async with running(Observed(url, "key", pauses=True)) as link:
            failure = await link.failed.get()
    assert (failure.cause, failure.retry) == (Cause.TLS, Retry.SLOWLY)
    assert failure.reason == "the answer is not TLS but plain text; is the port of control_plane.url right?"


async def test_tls_on_the_port_of_plain_text_is_named(authority: trustme.CA) -> None:
    async with ScriptedControlPlane(tls=served(authority.issue_cert(HOST))) as cloud:
        async with running(Observed(cloud.url.replace("wss:", "ws:"), cloud.key)) as link:
            failure = await link.failed.get()
        assert failure.cause is Cause.UPGRADE
        assert "is control_plane.url right" in failure.reason


async def test_a_handshake_that_is_never_answered_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("presence.agent.opening.STEP_SECONDS", 0.1)

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(listen, HOST, 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        async with running(Observed(f"wss://{HOST}:{port}", "key")) as link:
            failure = await link.failed.get()
        assert (failure.cause, failure.reason) == (
            Cause.TLS,
            f"127.0.0.1:{port}: no answer in time in the TLS handshake",
        )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ca_file": "missing.pem"}, "control_plane.ca_file: {}/missing.pem: there is no such file"),
        ({"ca_file": "empty.pem"}, "control_plane.ca_file: {}/empty.pem: holds no certificate"),
        ({"ca_directory": "missing"}, "control_plane.ca_directory: {}/missing: cannot be read: No such file"),
        ({"ca_directory": "."}, "control_plane.ca_directory: {}/empty.pem: holds no certificate"),
        ({"client_cert": "missing.pem"}, "control_plane.client_cert: {}/missing.pem: there is no such file"),
    ],
)
async def test_a_file_that_is_no_good_is_named(
    settings: dict[str, str], words: str, authority: trustme.CA, tmp_path: Path
) -> None:
    (tmp_path / "empty.pem").write_text("")
    files = {name: tmp_path / file for name, file in settings.items()}
    async with ScriptedControlPlane(tls=served(authority.issue_cert(HOST))) as cloud:
        failure = await failure_of(cloud, **files)
        assert (failure.cause, failure.retry) == (Cause.TLS, Retry.SLOWLY)
        assert failure.reason.startswith(words.format(tmp_path))
