"""Fixtures of the signaling tests: short delays, and a certificate."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from peer.signaling import backoff


@pytest.fixture
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients retry after 100 ms at most."""
    monkeypatch.setattr(backoff, "BACKOFF_MIN", 0.02)
    monkeypatch.setattr(backoff, "BACKOFF_MAX", 0.1)
    monkeypatch.setattr(backoff, "MAX_RESTART_DELAY", 0.05)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """PEM file with the key and the self-signed certificate of ``localhost``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path = tmp_path / "localhost.pem"
    path.write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain) + made.public_bytes(encoding)
    )
    return path
