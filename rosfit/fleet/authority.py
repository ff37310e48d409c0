"""RosFit's own certificate authority: signs devices' requests and lists what is revoked. EC P-256, X.509."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rosfit.fleet.errors import AuthorityExistsError, NoAuthorityError, SigningRequestError
from rosfit.fleet.models import Revoked
from rosfit.kernel.clock import now
from rosfit.kernel.errors import FieldError

AUTHORITY_TTL = timedelta(days=10 * 365)
DEVICE_TTL = timedelta(days=90)
CRL_TTL = timedelta(days=30)
# A robot's clock may be a little behind ours.
CLOCK_SKEW = timedelta(minutes=5)
CSR_LIMIT_CHARS = 16_384
MIN_RSA_BITS = 2048

FOLDER = "ca"
KEY_FILE = "ca.key"
CERTIFICATE_FILE = "ca.pem"


@dataclass(frozen=True, slots=True)
class Signed:
    """A certificate in PEM form; `serial` and `fingerprint` (SHA-256 of the DER form) are hexadecimal."""

    pem: str
    serial: str
    fingerprint: str
    expires_at: datetime


class Authority:
    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self._certificate = certificate

    @classmethod
    def new(cls) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("RosFit CA")
        builder = (
            _builder(name, name, key.public_key(), AUTHORITY_TTL)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
        )
        return cls(key, builder.sign(key, hashes.SHA256()))

    @property
    def pem(self) -> str:
        return _pem(self._certificate)

    @property
    def fingerprint(self) -> str:
        return self._certificate.fingerprint(hashes.SHA256()).hex()

    @property
    def expires_at(self) -> datetime:
        return self._certificate.not_valid_after_utc

    def key_pem(self) -> str:
        return key_pem(self._key)

    def sign_request(self, csr_pem: str, device_id: str) -> Signed:
        """A client certificate for this device, whatever name the request bears. Raises SigningRequestError."""
        request = _checked_request(csr_pem)
        return self._sign(_name(device_id), request.public_key(), DEVICE_TTL, ExtendedKeyUsageOID.CLIENT_AUTH, ())

    def proven(self, certificate_pem: str, signature: bytes, signed: bytes) -> tuple[str, str] | None:
        """(serial, device_id) of a certificate of ours that is in its time and whose key made the signature."""
        try:
            certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
            certificate.verify_directly_issued_by(self._certificate)
            _verify(certificate.public_key(), signature, signed)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            return None
        if not certificate.not_valid_before_utc <= now() <= certificate.not_valid_after_utc:
            return None
        (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return f"{certificate.serial_number:x}", str(name.value)

    def sign_server(self, public_key: ec.EllipticCurvePublicKey, names: Sequence[str], ttl: timedelta) -> Signed:
        return self._sign(_name(names[0]), public_key, ttl, ExtendedKeyUsageOID.SERVER_AUTH, names)

    def _sign(
        self, subject: x509.Name, public_key: object, ttl: timedelta, usage: x509.ObjectIdentifier, names: Sequence[str]
    ) -> Signed:
        builder = (
            _builder(subject, self._certificate.subject, public_key, ttl)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        if names:
            builder = builder.add_extension(alternative_names(names), critical=False)
        return _signed(builder.sign(self._key, hashes.SHA256()))

    def revocation_list(self, revoked: Iterable[Revoked], made_at: datetime | None = None) -> str:
        """The signed list (CRL) as PEM; valid for a month, and made anew far more often."""
        since = made_at or now()
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(since)
            .next_update(since + CRL_TTL)
            .add_extension(x509.CRLNumber(int(since.timestamp())), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        for one in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(int(one.serial, 16))
            builder = builder.add_revoked_certificate(entry.revocation_date(one.revoked_at).build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


class AuthorityFiles:
    """Key and certificate of the authority in `{data_dir}/ca`; only their owner can read the key."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / FOLDER

    def create(self) -> Authority:
        """Raises AuthorityExistsError: with a new key every certificate given out would be worthless."""
        if (self.folder / KEY_FILE).exists():
            raise AuthorityExistsError(
                f"{self.folder / KEY_FILE} is there already, and every certificate depends on it. To begin anew, "
                "move the folder away; each robot then needs a new certificate"
            )
        authority = Authority.new()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_new(self.folder / KEY_FILE, authority.key_pem())
        _write_new(self.folder / CERTIFICATE_FILE, authority.pem)
        return authority

    def load(self) -> Authority | None:
        """None when there is none yet."""
        try:
            key = serialization.load_pem_private_key((self.folder / KEY_FILE).read_bytes(), None)
            certificate = x509.load_pem_x509_certificate((self.folder / CERTIFICATE_FILE).read_bytes())
        except FileNotFoundError:
            return None
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return Authority(key, certificate)

    def require(self) -> Authority:
        """Raises NoAuthorityError."""
        authority = self.load()
        if authority is None:
            raise NoAuthorityError("Make one with `rosfit ca init` on the machine that runs RosFit")
        return authority


def self_signed(key: ec.EllipticCurvePrivateKey, names: Sequence[str], ttl: timedelta) -> Signed:
    """A server's certificate that vouches for itself, to be pinned by its fingerprint."""
    name = _name(names[0])
    builder = (
        _builder(name, name, key.public_key(), ttl)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(alternative_names(names), critical=False)
    )
    return _signed(builder.sign(key, hashes.SHA256()))


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def alternative_names(names: Iterable[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_general_name(name) for name in names])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _checked_request(csr_pem: str) -> x509.CertificateSigningRequest:
    if len(csr_pem) > CSR_LIMIT_CHARS:
        raise _bad_request(f"longer than {CSR_LIMIT_CHARS} characters")
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode())
        sound = request.is_signature_valid
        key = request.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise _bad_request("not a PKCS #10 request in PEM form (-----BEGIN CERTIFICATE REQUEST-----)") from error
    if not sound:
        raise _bad_request("its signature does not fit its key")
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        raise _bad_request(f"an RSA key of {key.key_size} bits; at least {MIN_RSA_BITS}, or EC P-256")
    if not isinstance(key, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey)):
        raise _bad_request("a key that is neither EC, RSA nor Ed25519")
    return request


def _bad_request(why: str) -> SigningRequestError:
    return SigningRequestError(
        "Make one with: openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=robot "
        "-keyout robot.key -out robot.csr",
        errors=(FieldError("csr", why),),
    )


def _verify(key: object, signature: bytes, signed: bytes) -> None:
    """SHA-256 with EC or RSA (PKCS #1 v1.5), or Ed25519, as `openssl dgst` makes it. Raises InvalidSignature."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
    elif isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    elif isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signature, signed)
    else:
        raise InvalidSignature


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _builder(subject: x509.Name, issuer: x509.Name, public_key: object, ttl: timedelta) -> x509.CertificateBuilder:
    at = now()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)  # type: ignore[arg-type]
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - CLOCK_SKEW)
        .not_valid_after(at + ttl)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)  # type: ignore[arg-type]
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _signed(certificate: x509.Certificate) -> Signed:
    return Signed(
        _pem(certificate),
        f"{certificate.serial_number:x}",
        certificate.fingerprint(hashes.SHA256()).hex(),
        certificate.not_valid_after_utc,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _write_new(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
