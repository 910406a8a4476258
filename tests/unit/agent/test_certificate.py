"""What certificates say of themselves, read from their bytes."""

import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from presence.agent.certificate import read_certificate

BEGINS = datetime(2024, 2, 29, 12, 30, 1, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())


def der(issuer: list[tuple[x509.ObjectIdentifier, str]], begins: datetime = BEGINS, days: int = 10) -> bytes:
    name = x509.Name([x509.NameAttribute(kind, text) for kind, text in issuer])
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(begins).not_valid_after(begins + timedelta(days=days))
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("issuer", "name"),
    [
        ([(NameOID.ORGANIZATION_NAME, "Corp"), (NameOID.COMMON_NAME, "Corp Inspection CA")], "Corp Inspection CA"),
        ([(NameOID.ORGANIZATIONAL_UNIT_NAME, "Unit"), (NameOID.ORGANIZATION_NAME, "Corp")], "Corp"),
        ([(NameOID.ORGANIZATIONAL_UNIT_NAME, "Unit")], "Unit"),
        ([(NameOID.COMMON_NAME, "Prüfstelle 検査")], "Prüfstelle 検査"),
        ([(NameOID.COMMON_NAME, "two\nlines\x1b[31m")], "two?lines?[31m"),
        ([(NameOID.COMMON_NAME, "x" * 64)], "x" * 64),
        ([(NameOID.COUNTRY_NAME, "DE")], "an authority without a name"),
        ([], "an authority without a name"),
    ],
)
def test_the_issuer_is_named(issuer: list[tuple[x509.ObjectIdentifier, str]], name: str) -> None:
    assert read_certificate(der(issuer)).issuer == name


@pytest.mark.parametrize("begins", [BEGINS, datetime(1999, 1, 1, tzinfo=UTC), datetime(2051, 5, 5, tzinfo=UTC)])
def test_the_validity_is_read_in_both_forms_of_time(begins: datetime) -> None:
    found = read_certificate(der([], begins))
    assert (found.not_before, found.not_after) == (begins, begins + timedelta(days=10))


def test_a_certificate_of_another_maker_is_read() -> None:
    leaf = trustme.CA(organization_name="Corp").issue_cert("x.example.com")
    found = read_certificate(ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode()))
    assert found.issuer == "Corp"
    assert found.not_before < datetime.now(UTC) < found.not_after


VALID = der([(NameOID.COMMON_NAME, "Corp")])


@given(st.binary(max_size=300))
def test_what_is_none_is_refused(junk: bytes) -> None:
    with pytest.raises(ValueError, match="not a certificate"):
        read_certificate(junk)


@given(st.integers(0, len(VALID) - 1), st.binary(min_size=1, max_size=4))
def test_a_damaged_one_gives_facts_or_a_refusal_and_nothing_else(at: int, junk: bytes) -> None:
    with suppress(ValueError):
        found = read_certificate(VALID[:at] + junk + VALID[at + len(junk) :])
        assert found.issuer.isprintable()
        assert len(found.issuer) <= 80


@given(st.integers(0, len(VALID) - 1))
def test_one_that_is_cut_off_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="not a certificate"):
        read_certificate(VALID[:length])
