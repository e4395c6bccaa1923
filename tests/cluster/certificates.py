"""A certificate authority for one cluster, and what it signs."""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID = timedelta(days=365)
SLOW_CLOCKS = timedelta(hours=1)
SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class Authority:
    """Writes `NAME.crt` and `NAME.key`, in PEM, into one folder: its own as `ca`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = new_key(folder / "ca.key")
        self._name = _name("lorafinetune test cluster")
        ca = _certificate(self._name, self._name, self._key)
        ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self._write("ca", ca.add_extension(SIGNS_CERTIFICATES, critical=True))

    def issue(self, name: str, group: str | None = None, hosts: Sequence[str] = ()) -> None:
        """A certificate for a server at `hosts`, and for a client that is `name` in `group`."""
        key = new_key(self._folder / f"{name}.key")
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        leaf = _certificate(_name(name, group), self._name, key)
        leaf = leaf.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        leaf = leaf.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if hosts:
            names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
            leaf = leaf.add_extension(names, critical=False)
        self._write(name, leaf)

    def _write(self, name: str, certificate: x509.CertificateBuilder) -> None:
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        signed = certificate.add_extension(signer, critical=False).sign(self._key, SHA256())
        (self._folder / f"{name}.crt").write_bytes(signed.public_bytes(Encoding.PEM))


def new_key(file: Path) -> EllipticCurvePrivateKey:
    key = generate_private_key(SECP256R1())
    file.touch(mode=0o600)
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    return key


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SLOW_CLOCKS)
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common: str, group: str | None = None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if group is not None:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    return x509.Name(parts)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
