"""The options of each target: which table counts, what its files hold, and TLS as it is on the wire."""

import asyncio
import base64
import json
import ssl
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from presence.agent.settings import AgentSettings
from presence.agent.targets import REMEMBERED, Targets
from presence.errors import ConfigurationError

CANARY = "CANARY-SECRET"


def targets(*tables: dict[str, Any], **delivery: Any) -> Targets:
    return Targets(AgentSettings.model_validate({"targets": tables, "delivery": delivery}))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str, str | bytes], str]:
    def write(name: str, content: str | bytes) -> str:
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return str(tmp_path / name)

    return write


Written = Callable[[str, str | bytes], str]


def pem(certificate: trustme.LeafCert) -> bytes:
    return b"".join(blob.bytes() for blob in certificate.cert_chain_pems)


def test_a_host_without_a_table_gets_what_delivery_says() -> None:
    found = targets({"host": "other.corp", "timeout": 99}, per_host=3, tls_timeout=2, attempt_timeout=20).of("h", 80)
    assert dict(found.headers) == {}
    assert (found.proxy, found.proxy_resolves, found.rate) == (None, False, None)
    assert (found.dns_timeout, found.connect_timeout, found.tls_timeout) == (5.0, 5.0, 2.0)
    assert (found.first_byte_timeout, found.timeout, found.max_in_flight) == (15.0, 20.0, 3)


def test_a_table_overrides_what_it_names_and_nothing_else() -> None:
    table = {"host": "h", "connect_timeout": 1, "max_in_flight": 2, "rate": 0.5}
    found = targets(table, per_host=3, attempt_timeout=20).of("h", 80)
    assert (found.connect_timeout, found.max_in_flight, found.rate) == (1.0, 2, 0.5)
    assert (found.timeout, found.first_byte_timeout, found.dns_timeout) == (20.0, 15.0, 5.0)


def test_a_slow_target_that_is_given_time_may_use_it_before_the_first_byte() -> None:
    found = targets({"host": "h", "timeout": 120}).of("h", 80)
    assert (found.timeout, found.first_byte_timeout) == (120.0, 120.0)


@pytest.mark.parametrize(
    ("pattern", "covered", "not_covered"),
    [
        ("jenkins.corp", [("jenkins.corp", 80), ("jenkins.corp", 443)], [("a.jenkins.corp", 80), ("corp", 80)]),
        ("JENKINS.corp", [("jenkins.corp", 80)], []),
        ("bücher.corp", [("xn--bcher-kva.corp", 80)], []),
        ("jenkins.corp:8443", [("jenkins.corp", 8443)], [("jenkins.corp", 443)]),
        ("*.corp", [("a.corp", 80), ("b.a.corp", 80)], [("corp", 80), ("acorp", 80), ("a.corp.example", 80)]),
        ("*.corp:81", [("a.corp", 81)], [("a.corp", 80)]),
        ("10.0.0.5", [("10.0.0.5", 80)], [("10.0.0.6", 80), ("h", 80), ("10.0.0.5.corp", 80)]),
        ("10.0.0.0/8:81", [("10.255.0.1", 81)], [("10.255.0.1", 80), ("11.0.0.1", 81), ("::a00:1", 81)]),
        ("fd00::/8", [("fd00::1", 80)], [("fe80::1", 80), ("10.0.0.1", 80)]),
        ("[fd00::1]:81", [("fd00::1", 81)], [("fd00::1", 80)]),
    ],
)
def test_which_hosts_a_table_covers(
    pattern: str, covered: list[tuple[str, int]], not_covered: list[tuple[str, int]]
) -> None:
    found = targets({"host": pattern, "rate": 7})
    assert [place for place in covered if found.of(*place).rate != 7] == []
    assert [place for place in not_covered if found.of(*place).rate == 7] == []


NAMES = st.sampled_from(["a.corp", "b.corp", "c.b.corp", "corp", "10.0.0.1", "10.1.0.1", "fd00::1"])
PATTERNS = st.sampled_from(
    ["a.corp", "b.corp:80", "*.corp", "*.b.corp:81", "10.0.0.0/8", "10.0.0.1:80", "0.0.0.0/0", "fd00::/8"]
)


@cache
def rate_of(pattern: str, host: str, port: int) -> float | None:
    """The number that a table alone gives the host, or None where it does not cover it."""
    return targets({"host": pattern, "rate": 1}).of(host, port).rate


@settings(max_examples=25)
@given(st.lists(PATTERNS, max_size=6), st.lists(st.tuples(NAMES, st.sampled_from([80, 81])), max_size=20))
def test_the_first_table_in_the_file_that_covers_a_host_counts(
    patterns: list[str], places: list[tuple[str, int]]
) -> None:
    together = targets(*[{"host": pattern, "rate": number + 1} for number, pattern in enumerate(patterns)])
    for place in places + places:
        covering = [number + 1 for number, pattern in enumerate(patterns) if rate_of(pattern, *place)]
        assert together.of(*place).rate == (covering[0] if covering else None)


def test_all_hosts_of_a_table_share_one_object_also_when_more_were_asked_for_than_are_remembered() -> None:
    found = targets({"host": "*.corp", "rate": 1})
    first, other = found.of("a.corp", 80), found.of("else", 80)
    for number in range(REMEMBERED + 1):
        found.of(f"h{number}.corp", 80)
    assert found.of("a.corp", 80) is first
    assert found.of("b.corp", 81) is first
    assert found.of("else", 80) is other
    assert len({first, other}) == 2


def test_header_values_come_from_the_table_and_from_files_without_the_line_end(written: Written) -> None:
    headers = {
        "X-Source": "presence",
        "Authorization": {"file": written("a", "Basic abc\n")},
        "X-Dos": {"file": written("b", "value\r\n")},
        "Cookie": {"file": written("c", "a=b; c=d")},
    }
    assert dict(targets({"host": "h", "headers": headers}).of("h", 80).headers) == {
        "X-Source": "presence",
        "Authorization": "Basic abc",
        "X-Dos": "value",
        "Cookie": "a=b; c=d",
    }


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "the value is empty"),
        ("\n", "the value is empty"),
        (f"{CANARY}\n\n", "one line of printable ASCII"),
        (f"{CANARY}\r\nX-Evil: 1", "one line of printable ASCII"),
        (f"{CANARY}\x00", "one line of printable ASCII"),
        (f"{CANARY}é", "one line of printable ASCII"),
        (f" {CANARY}", "begins or ends with a blank"),
        (CANARY * 1000, "at most 8192"),
        (CANARY.encode() + b"\xff", "is not text"),
        (b"x" * (1024 * 1024 + 1), "is larger than"),
        (None, "there is no such file"),
    ],
)
def test_a_file_that_holds_no_header_value_is_named_and_not_shown(
    written: Written, tmp_path: Path, content: str | bytes | None, expected: str
) -> None:
    file = str(tmp_path / "absent") if content is None else written("token", content)
    with pytest.raises(ConfigurationError) as caught:
        targets({"host": "a"}, {"host": "jenkins.corp", "headers": {"X-Token": {"file": file}}})
    assert str(caught.value).startswith(f"targets[1].headers.X-Token (host jenkins.corp): {file}: ")
    assert expected in str(caught.value)
    assert "CANARY" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory; make it readable for the agent"):
        targets({"host": "a", "headers": {"X-Token": {"file": str(tmp_path)}}})


def test_the_proxy_with_credentials_from_a_file(written: Written) -> None:
    table = {"host": "h", "proxy": "http://Proxy.corp:3128/", "proxy_resolves": True}
    found = targets({**table, "proxy_credentials_file": written("c", "user:pass:wörd\n")}).of("h", 80)
    assert found.proxy is not None
    assert (found.proxy.host, found.proxy.port, found.proxy_resolves) == ("proxy.corp", 3128, True)
    scheme, _, encoded = (found.proxy.authorization or "").partition(" ")
    assert (scheme, base64.b64decode(encoded).decode()) == ("Basic", "user:pass:wörd")


@pytest.mark.parametrize(
    ("url", "host"),
    [("http://10.0.0.1:3128", "10.0.0.1"), ("http://[fd00::1]:3128", "fd00::1"), ("HTTP://p:3128", "p")],
)
def test_a_proxy_without_credentials(url: str, host: str) -> None:
    proxy = targets({"host": "h", "proxy": url}).of("h", 80).proxy
    assert proxy is not None
    assert (proxy.host, proxy.port, proxy.authorization) == (host, 3128, None)


@pytest.mark.parametrize("content", ["", CANARY, f":{CANARY}", f"user:{CANARY}\nsecond"])
def test_a_bad_credentials_file_is_named_and_not_shown(written: Written, content: str) -> None:
    file = written("credentials", content)
    with pytest.raises(ConfigurationError) as caught:
        targets({"host": "h", "proxy": "http://p:3128", "proxy_credentials_file": file})
    assert str(caught.value) == (
        f"targets[0].proxy_credentials_file (host h): {file}: write one line, user:password, into the file"
    )


def test_no_repr_shows_a_secret(written: Written) -> None:
    table = {
        "host": "h",
        "headers": {"X-A": CANARY, "X-B": {"file": written("b", CANARY)}},
        "proxy": "http://p:3128",
        "proxy_credentials_file": written("c", f"{CANARY}:{CANARY}"),
    }
    found = targets(table).of("h", 80)
    assert found.headers["X-A"] == CANARY
    shown = repr(found) + repr(found.proxy) + repr(AgentSettings.model_validate({"targets": [table]}))
    shown += json.dumps(AgentSettings.model_validate({"targets": [table]}).model_dump(mode="json"))
    assert "CANARY" not in shown
    assert base64.b64encode(CANARY.encode()).decode()[:12] not in shown


@pytest.mark.parametrize("key", ["ca_file", "client_cert"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "in PEM form (-----BEGIN CERTIFICATE-----)"),
        (CANARY, "in PEM form (-----BEGIN CERTIFICATE-----)"),
        (b"\x30\x82\xff", "in PEM form (-----BEGIN CERTIFICATE-----)"),
        (b"x" * (1024 * 1024 + 1), "is larger than"),
        (None, "there is no such file; give the path of an existing one"),
    ],
)
def test_a_file_without_certificates_is_named(
    written: Written, tmp_path: Path, key: str, content: str | bytes | None, expected: str
) -> None:
    file = str(tmp_path / "absent") if content is None else written("file.pem", content)
    with pytest.raises(ConfigurationError) as caught:
        targets({"host": "h", key: file})
    assert str(caught.value).startswith(f"targets[0].{key} (host h): {file}: ")
    assert expected in str(caught.value)
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("text", ["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "é"])
def test_a_damaged_authority_is_named(written: Written, text: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^targets\[0\]\.ca_file \(host h\): .*: holds no certificate, or a damaged one"
    ):
        targets({"host": "h", "ca_file": written("ca.pem", text)})


def client(written: Written, authority: trustme.CA) -> tuple[str, str, bytes]:
    """The files of a client certificate and its key, and both as text."""
    certificate = authority.issue_cert("client@presence.test")
    chain, key = pem(certificate), certificate.private_key_pem.bytes()
    return written("client.pem", chain), written("client.key", key), chain + key


def test_the_key_of_another_certificate_is_refused(written: Written, authority: trustme.CA) -> None:
    certificate, _, _ = client(written, authority)
    other = written("other.key", authority.issue_cert("other@presence.test").private_key_pem.bytes())
    with pytest.raises(ConfigurationError) as caught:
        targets({"host": "h", "client_cert": certificate, "client_key": other})
    assert str(caught.value) == (
        f"targets[0].client_key (host h): {other}: is not the key of the certificate in {certificate};"
        " give the two that belong together"
    )


@pytest.mark.parametrize("form", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL])
def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_the_password(
    written: Written, authority: trustme.CA, form: serialization.PrivateFormat
) -> None:
    certificate, key, _ = client(written, authority)
    encrypted = serialization.load_pem_private_key(Path(key).read_bytes(), None).private_bytes(
        serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"password")
    )
    file = written("encrypted.key", encrypted)
    with pytest.raises(ConfigurationError, match=r"the key is encrypted.*openssl pkey") as caught:
        targets({"host": "h", "client_cert": certificate, "client_key": file})
    assert str(caught.value).startswith(f"targets[0].client_key (host h): {file}: ")


def test_a_certificate_alone_needs_its_key_in_the_same_file(written: Written, authority: trustme.CA) -> None:
    certificate, _, _ = client(written, authority)
    with pytest.raises(ConfigurationError, match=r"holds no private key; append it .*, or give its file as client_key"):
        targets({"host": "h", "client_cert": certificate})


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("client_key", "nothing", "holds no private key; write it in PEM form"),
        ("client_key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "damaged"),
        ("client_cert", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "damaged"),
        ("client_key", None, "there is no such file"),
    ],
)
def test_a_damaged_client_certificate_or_key_is_named(
    written: Written, authority: trustme.CA, tmp_path: Path, name: str, content: str | None, expected: str
) -> None:
    certificate, key, _ = client(written, authority)
    table = {"host": "h", "client_cert": certificate, "client_key": key}
    table[name] = str(tmp_path / "absent") if content is None else written("bad.pem", content)
    with pytest.raises(ConfigurationError, match=expected) as caught:
        targets(table)
    assert str(table[name]) in str(caught.value)


def test_tables_that_name_the_same_files_share_a_context(written: Written, authority: trustme.CA) -> None:
    file = written("ca.pem", authority.cert_pem.bytes())
    found = targets({"host": "a", "timeout": 1}, {"host": "b", "ca_file": file}, {"host": "c", "ca_file": file})
    assert found.of("a", 443).tls is found.of("else", 443).tls
    assert found.of("b", 443).tls is found.of("c", 443).tls
    assert found.of("a", 443).tls is not found.of("b", 443).tls


def test_trust_is_verified_by_name_and_chain_from_tls_1_2_on() -> None:
    context = targets().of("h", 443).tls
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.cert_store_stats() == ssl.create_default_context().cert_store_stats()


def test_an_authority_is_trusted_besides_the_system_s(written: Written, authority: trustme.CA) -> None:
    file = written("ca.pem", authority.cert_pem.bytes())
    found = targets({"host": "h", "ca_file": file})
    assert found.of("h", 443).trust == f"the system's authorities and {file}"
    assert found.of("else", 443).trust == "the system's authorities"
    context = found.of("h", 443).tls
    assert context.cert_store_stats()["x509"] == ssl.create_default_context().cert_store_stats()["x509"] + 1


async def handshake(context: ssl.SSLContext, server: ssl.SSLContext, name: str = "jenkins.test") -> dict[str, Any]:
    """What a server on a real socket saw of the client, and the protocol that was agreed on."""
    seen: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.set_result(writer.get_extra_info("peercert") or {})
        writer.write(b"x")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server) as listening:
        port = listening.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
        await reader.read()
        protocol = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        writer.close()
        return {"peer": await seen, "protocol": protocol}


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


async def test_a_target_of_a_private_authority_is_reached_by_http_1_1(written: Written, authority: trustme.CA) -> None:
    found = targets({"host": "jenkins.test", "ca_file": written("ca.pem", authority.cert_pem.bytes())})
    server = server_context(authority.issue_cert("jenkins.test"))
    assert (await handshake(found.of("jenkins.test", 443).tls, server))["protocol"] == "http/1.1"
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        await handshake(found.of("jenkins.test", 443).tls, server, "other.test")
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(found.of("other.test", 443).tls, server)


async def test_the_target_s_own_certificate_can_be_trusted_alone(written: Written, authority: trustme.CA) -> None:
    certificate = authority.issue_cert("jenkins.test")
    found = targets({"host": "h", "ca_file": written("own.pem", certificate.cert_chain_pems[0].bytes())})
    await handshake(found.of("h", 443).tls, server_context(certificate))
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(found.of("h", 443).tls, server_context(authority.issue_cert("jenkins.test")))


@pytest.mark.parametrize("together", [True, False])
async def test_the_client_certificate_is_shown(written: Written, authority: trustme.CA, together: bool) -> None:
    certificate, key, both = client(written, authority)
    table = {"host": "h", "ca_file": written("ca.pem", authority.cert_pem.bytes())}
    if together:
        table["client_cert"] = written("both.pem", both)
    else:
        table |= {"client_cert": certificate, "client_key": key}
    server = server_context(authority.issue_cert("jenkins.test"))
    server.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(server)
    seen = await handshake(targets(table).of("h", 443).tls, server)
    assert ("email", "client@presence.test") in seen["peer"]["subjectAltName"]


async def test_tls_1_1_is_refused(written: Written, authority: trustme.CA) -> None:
    found = targets({"host": "h", "ca_file": written("ca.pem", authority.cert_pem.bytes())})
    server = server_context(authority.issue_cert("jenkins.test"))
    with pytest.warns(DeprecationWarning, match="TLSv1 is deprecated"):
        server.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match=r"TLSv1_1 is deprecated"):
        server.maximum_version = ssl.TLSVersion.TLSv1_1
    server.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await handshake(found.of("h", 443).tls, server)
