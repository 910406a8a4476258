"""Who vouches for a server: the system, this host's administrator, or nobody, shown by real handshakes."""

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from presence.agent.authorities import added_here, anyone, read_from, the_system_s
from presence.agent.certificate import Certificate
from presence.agent.opening import Trusting
from presence.agent.settings import ControlPlane
from tests.support.tls import authority_file, server_context


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(organization_name="Corp Authority")


async def shown(authority: trustme.CA, trusting: Trusting) -> Certificate | None:
    """What a server of that authority shows to a client that trusts so. Raises SSLCertVerificationError."""

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    tls = server_context(authority.issue_cert("127.0.0.1"))
    async with await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=tls) as server:
        port = server.sockets[0].getsockname()[1]
        context = trusting(ControlPlane())
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        try:
            return read_from(writer.get_extra_info("ssl_object"))
        finally:
            writer.transport.abort()


async def test_an_authority_that_was_added_to_this_host_is_told_from_the_systems(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("presence.agent.authorities.ADDED", (tmp_path / "absent", tmp_path))
    (tmp_path / "README").write_text("no certificate")
    with pytest.raises(ssl.SSLCertVerificationError):
        await shown(authority, added_here)
    authority_file(authority, tmp_path)
    found = await shown(authority, added_here)
    assert found is not None
    assert found.issuer == "Corp Authority"


async def test_the_system_does_not_know_the_settings_authorities(authority: trustme.CA) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await shown(authority, the_system_s)


async def test_anyone_is_believed_for_the_time_of_day(authority: trustme.CA) -> None:
    assert await shown(authority, anyone) is not None


def test_without_tls_there_is_no_certificate() -> None:
    assert read_from(None) is None
