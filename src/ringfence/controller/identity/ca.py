"""The authority: it says which key is which workload, by X.509-SVIDs that live for a day.

    Authority.open(path, trust_domain="estate.example", now=...)
    authority.issue_svid(csr, uuid, now=...)                  -> Issued
    authority.issue_server(csr, names=..., now=...)           -> Issued
    authority.add_root() -> use_newest_root() -> retire_root()   rotation, each step when everybody has heard

INVARIANT: of a request only its public key is used. A workload's certificate has exactly one URI SAN and no other name
(SPIFFE X.509-SVID, section 2), so it can never be taken for a server's; roots are confined to the trust domain by name
constraints (RFC 5280, 4.2.1.10), so that nothing they sign can name another's workloads.

It keeps no list of what it issued, and revokes nothing: the caller stores serials, and the callout asks for them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal, NamedTuple
from uuid import UUID

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ringfence.core.errors import InputError, Location
from ringfence.durable import read_secret, write_secret

SVID_LIFE: Final = timedelta(hours=24)
SERVER_LIFE: Final = timedelta(days=30)
BUS_LIFE: Final = timedelta(days=365)
"""People renew it, by a command."""
ROOT_LIFE: Final = timedelta(days=3650)
BACKDATE: Final = timedelta(minutes=5)
"""Certificates begin in the past, for hosts whose clocks are behind."""

_DOMAIN = re.compile(r"(?=.{1,200}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_HOST = re.compile(
    r"(?=.{1,253}$)(\*\.)?[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
)

Stage = Literal["announced", "issuing", "retiring"]
"""Trusted already, signing now, trusted still."""


class Issued(NamedTuple):
    """A certificate, and what the state store keeps of it."""

    certificate: bytes
    """PEM."""
    serial: str
    """Lower-case hex."""
    fingerprint: str
    """SHA-256 of the DER, lower-case hex."""
    uri: str
    not_before: datetime
    not_after: datetime


class _Root(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    certificate: str
    key: str
    stage: Stage


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is on disk. One file, so that every change of roots is one replacement."""

    trust_domain: str
    roots: tuple[_Root, ...]


class Authority:
    """The roots of one trust domain, and their keys."""

    def __init__(self, path: Path, file: _File) -> None:
        self._path = path
        self._take(file)

    @classmethod
    def open(cls, path: Path, *, trust_domain: str, now: datetime) -> Authority:
        """The authority in that file; made, if there is none.

        Raises InputError `bad-trust-domain`, `trust-domain-changed`, `ca-damaged`, `secret-exposed`.
        """
        _check_domain(trust_domain)
        content = read_secret(path)
        if content is None:
            file = _File(trust_domain, (_new_root(trust_domain, "issuing", now),))
            write_secret(path, msgspec.json.encode(file))
            return cls(path, file)
        return cls(path, _decoded(content, path, trust_domain))

    # ---- what everybody may know ------------------------------------------------------------------------------------

    @property
    def trust_domain(self) -> str:
        return self._file.trust_domain

    @property
    def bundle(self) -> bytes:
        """The trust bundle: every root, PEM, the issuing one first."""
        return b"".join(_pem(root) for root in self._roots)

    @property
    def roots(self) -> tuple[x509.Certificate, ...]:
        return self._roots

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """Of the roots, the issuing one first: what a join token pins."""
        return tuple(_fingerprint(root) for root in self._roots)

    # ---- issuing ----------------------------------------------------------------------------------------------------

    def issue_svid(self, csr: bytes, uuid: UUID, *, now: datetime, life: timedelta = SVID_LIFE) -> Issued:
        """A workload's certificate. Raises InputError `bad-csr`."""
        uri = workload_uri(self.trust_domain, uuid)
        return self._issue(_requested_key(csr), str(uuid), uri, (), now=now, life=life)

    def issue_server(self, csr: bytes, names: Sequence[str], *, now: datetime, life: timedelta = SERVER_LIFE) -> Issued:
        """The controller's own certificate, for its HTTPS and bus servers and as their client: DNS names and addresses.

        Raises InputError `bad-csr`, `bad-server-name`.
        """
        uri = controller_uri(self.trust_domain)
        return self._issue(_requested_key(csr), "controller", uri, _named(names), now=now, life=life)

    def issue_bus(self, csr: bytes, names: Sequence[str], *, now: datetime, life: timedelta = BUS_LIFE) -> Issued:
        """The certificate of a bus server that somebody else runs: never good for the controller's place. Raises as
        `issue_server`."""
        uri = f"spiffe://{self.trust_domain}/bus"
        return self._issue(_requested_key(csr), "bus", uri, _named(names), now=now, life=life)

    def _issue(
        self,
        key: ec.EllipticCurvePublicKey,
        name: str,
        uri: str,
        others: Sequence[x509.GeneralName],
        *,
        now: datetime,
        life: timedelta,
    ) -> Issued:
        root, signer = self._roots[0], self._signer
        begin, end = now - BACKDATE, min(now + life, root.not_valid_after_utc)
        if end <= now:
            raise InputError("ca-expired", "the issuing root has expired", help="rotate the roots")
        certificate = (
            _builder(_name(name), root.subject, key, begin, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri), *others]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(_authority_key(root), critical=False)
            .sign(signer, hashes.SHA256())
        )
        return _issued(certificate, uri)

    # ---- rotation ---------------------------------------------------------------------------------------------------

    def add_root(self, *, now: datetime) -> str:
        """Make a root that is trusted but does not sign yet. Returns its fingerprint."""
        root = _new_root(self.trust_domain, "announced", now)
        self._store((*self._file.roots, root))
        return _fingerprint(_load(root))

    def use_newest_root(self) -> None:
        """Sign with the announced root; the one before stays trusted. Raises InputError `no-root-announced`."""
        if all(root.stage != "announced" for root in self._file.roots):
            raise InputError("no-root-announced", "there is no new root to use", help="add one, and let agents renew")
        *before, newest = self._file.roots
        retiring = (msgspec.structs.replace(root, stage="retiring", key="") for root in before)
        self._store((*retiring, msgspec.structs.replace(newest, stage="issuing")))

    def retire_root(self, fingerprint: str) -> None:
        """Trust a root no longer. Raises InputError `root-in-use` for the one that signs, `root-unknown`."""
        found = [root for root in self._file.roots if _fingerprint(_load(root)) == fingerprint]
        if not found:
            raise InputError("root-unknown", f"no root has the fingerprint `{fingerprint}`")
        if found[0].stage == "issuing":
            raise InputError("root-in-use", "the root signs certificates", help="use a newer root first")
        self._store(tuple(root for root in self._file.roots if root is not found[0]))

    def _store(self, roots: tuple[_Root, ...]) -> None:
        file = _File(self.trust_domain, roots)
        write_secret(self._path, msgspec.json.encode(file))
        self._take(file)

    def _take(self, file: _File) -> None:
        self._file = file
        issuing = next(root for root in file.roots if root.stage == "issuing")
        others = (root for root in file.roots if root is not issuing)
        self._roots = (_load(issuing), *(_load(root) for root in others))
        self._signer = _private(issuing)


def workload_uri(trust_domain: str, uuid: UUID) -> str:
    """The SPIFFE ID of a workload."""
    return f"spiffe://{trust_domain}/workload/{uuid}"


def _named(names: Sequence[str]) -> list[x509.GeneralName]:
    if not names:
        raise InputError("bad-server-name", "a server's certificate needs a name", help="name a host or an address")
    return [_general(name) for name in names]


def controller_uri(trust_domain: str) -> str:
    return f"spiffe://{trust_domain}/controller"


def workload_of(certificate: x509.Certificate, trust_domain: str) -> UUID | None:
    """Whose certificate it is: None unless its one URI SAN names a workload of this trust domain, canonically."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    prefix = f"spiffe://{trust_domain}/workload/"
    if len(uris) != 1 or len(names) != 1 or not uris[0].startswith(prefix):
        return None
    word = uris[0].removeprefix(prefix)
    try:
        uuid = UUID(word)
    except ValueError:
        return None
    return uuid if str(uuid) == word else None


def serial_of(certificate: x509.Certificate) -> str:
    """As `Issued.serial` writes it."""
    return f"{certificate.serial_number:x}"


def is_issued_by(certificate: x509.Certificate, roots: Sequence[x509.Certificate]) -> bool:
    """Whether one of the roots signed it."""
    for root in roots:
        try:
            certificate.verify_directly_issued_by(root)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def csr_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A request that says nothing but which key it is, and proves to have it."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


# ---- requests and names ---------------------------------------------------------------------------------------------


def _requested_key(csr: bytes) -> ec.EllipticCurvePublicKey:
    """The key of a request, which its sender has proven to have."""
    try:
        request = x509.load_pem_x509_csr(csr)
        is_proven, key = request.is_signature_valid, request.public_key()
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise _bad_csr(f"cannot be read: {error}") from error
    if not is_proven:
        raise _bad_csr("is not signed by its own key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _bad_csr("has a key that is not P-256")
    return key


def _bad_csr(why: str) -> InputError:
    return InputError("bad-csr", f"the certificate request {why}", help="make a new P-256 key and request")


def _check_domain(trust_domain: str) -> None:
    if not _DOMAIN.fullmatch(trust_domain):
        raise InputError(
            "bad-trust-domain",
            f"`{trust_domain}` is no trust domain",
            help="use lower-case letters, digits, `-` and `.`, as in `estate.example`",
        )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        if not _HOST.fullmatch(name):
            raise InputError("bad-server-name", f"`{name}` is neither a DNS name nor an address") from None
        return x509.DNSName(name)


# ---- certificates ---------------------------------------------------------------------------------------------------


def _new_root(trust_domain: str, stage: Stage, now: datetime) -> _Root:
    key = new_key()
    name = _name(f"{trust_domain} {now:%Y-%m-%d} {x509.random_serial_number() % (1 << 32):08x}")
    certificate = (
        _builder(name, name, key.public_key(), now - BACKDATE, now + ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(
            x509.NameConstraints([x509.UniformResourceIdentifier(trust_domain)], excluded_subtrees=None), critical=True
        )
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")]), False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _Root(_pem(certificate).decode(), key_pem(key).decode(), stage)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )


def _name(common: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Ringfence"), x509.NameAttribute(NameOID.COMMON_NAME, common)]
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key(root: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    own = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _issued(certificate: x509.Certificate, uri: str) -> Issued:
    return Issued(
        _pem(certificate),
        serial_of(certificate),
        _fingerprint(certificate),
        uri,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


# ---- the file -------------------------------------------------------------------------------------------------------


def _load(root: _Root) -> x509.Certificate:
    return x509.load_pem_x509_certificate(root.certificate.encode())


def _private(root: _Root) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(root.key.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != _load(root).public_key():
        raise ValueError("the key is not the certificate's")
    return key


def _decoded(content: bytes, path: Path, trust_domain: str) -> _File:
    try:
        file = msgspec.json.decode(content, type=_File)
        issuing = [root for root in file.roots if root.stage == "issuing"]
        if len(issuing) != 1:
            raise ValueError(f"{len(issuing)} roots sign")
        _private(issuing[0])
        for root in file.roots:
            _load(root)
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise InputError(
            "ca-damaged",
            f"`{path}` does not hold an authority: {error}",
            help="restore it from a backup; with a new one every agent must enrol again",
            where=Location(str(path)),
        ) from error
    if file.trust_domain != trust_domain:
        raise InputError(
            "trust-domain-changed",
            f"the authority is of `{file.trust_domain}`, not of `{trust_domain}`",
            help="a trust domain is for life: set it back, or begin with a new directory",
            where=Location(str(path)),
        )
    return file
