"""The agent's key and certificate, from the side of the short-lived child: what needs `cryptography`.

    python -m ringfence.agent.enrol.keys_child request DIR     makes a key, prints a certificate request
    python -m ringfence.agent.enrol.keys_child enrol|renew DIR reads a grant on stdin, checks it, puts it in force
    python -m ringfence.agent.enrol.keys_child prove DIR       reads a request on stdin, signs it with the key in force
    python -m ringfence.agent.enrol.keys_child describe DIR    prints who the installed certificate says this is

INVARIANT: nothing is put in force that was not checked, and a refusal leaves everything as it was. An error is printed
as a `keys.Failed`, with exit code 1.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ringfence.agent.enrol.keys import IDENTITY, NEXT_KEY, ROOTS_MARK, Failed, Grant, Identity, Proof, damaged
from ringfence.core.errors import InputError, RingfenceError
from ringfence.durable import read_secret, write_secret
from ringfence.wire.join import renewal_of

_ID = re.compile(r"spiffe://([a-z0-9.-]+)/workload/([0-9a-f-]{36})")


def run(arguments: Sequence[str]) -> int:
    what, directory = arguments[0], Path(arguments[1])
    try:
        sys.stdout.buffer.write(_done(what, directory))
    except RingfenceError as error:
        sys.stdout.buffer.write(msgspec.json.encode(Failed(error.code, error.message, error.help)))
        return 1
    return 0


def _done(what: str, directory: Path) -> bytes:
    if what == "request":
        return requested(directory)
    if what == "describe":
        return msgspec.json.encode(described(directory))
    if what == "prove":
        return msgspec.json.encode(proven(directory, sys.stdin.buffer.read().decode()))
    grant = msgspec.json.decode(sys.stdin.buffer.read(), type=Grant)
    return msgspec.json.encode(installed(directory, grant, datetime.now(UTC), is_enrolment=what == "enrol"))


def requested(directory: Path) -> bytes:
    """A request for the next P-256 key (RFC 2986). It says nothing but the key: who this is, the controller knows.

    The key stays the same until a grant for it is installed: an answer that was lost can be asked for again, and
    whoever asks for another key is a clone.
    """
    key = _next_key(directory)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def _next_key(directory: Path) -> ec.EllipticCurvePrivateKey:
    content = read_secret(directory / NEXT_KEY)
    if content is not None:
        with contextlib.suppress(ValueError, TypeError):
            return _key(content)
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_secret(directory / NEXT_KEY, pem)
    return key


def installed(directory: Path, grant: Grant, now: datetime, *, is_enrolment: bool) -> Identity:
    """The identity of a grant, put in force. Raises InputError `grant-refused`."""
    pem = read_secret(directory / NEXT_KEY)
    if pem is None:
        raise _refused("there is no key it could be for")
    identity = _checked(pem, grant, now)
    before = None if is_enrolment else _before(directory)
    if before and (before.uuid, before.trust_domain) != (identity.uuid, identity.trust_domain):
        raise _refused(f"it is of workload {identity.uuid}, and this is {before.uuid}")
    content = pem + grant.certificate.encode().strip() + b"\n" + ROOTS_MARK + grant.bundle.encode()
    write_secret(directory / IDENTITY, content)
    (directory / NEXT_KEY).unlink()
    return identity


def proven(directory: Path, csr: str) -> Proof:
    """A request signed with the key in force. Raises InputError `identity-missing`, `identity-damaged`."""
    path = directory / IDENTITY
    content = read_secret(path)
    if content is None:
        raise InputError("identity-missing", "this host is not enrolled", help="`ringfence agent enrol` with a token")
    try:
        certificate = x509.load_pem_x509_certificate(content.partition(ROOTS_MARK)[0])
        signature = _key(content).sign(renewal_of(csr), ec.ECDSA(hashes.SHA256()))
    except (ValueError, TypeError) as error:
        raise damaged(path, str(error)) from error
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    return Proof(pem, base64.b64encode(signature).decode())


def described(directory: Path) -> Identity:
    """Who is installed. Raises InputError `identity-damaged`, `secret-exposed`."""
    path = directory / IDENTITY
    content = read_secret(path) or b""
    try:
        own = content.partition(ROOTS_MARK)[0]
        return _identity(x509.load_pem_x509_certificate(own), _key(own))
    except (ValueError, TypeError) as error:
        raise damaged(path, str(error)) from error


def _before(directory: Path) -> Identity | None:
    return described(directory) if (directory / IDENTITY).exists() else None


def _checked(pem: bytes, grant: Grant, now: datetime) -> Identity:
    try:
        key, certificate = _key(pem), x509.load_pem_x509_certificate(grant.certificate.encode())
        roots = x509.load_pem_x509_certificates(grant.bundle.encode())
        identity = _identity(certificate, key)
    except (ValueError, TypeError) as error:
        raise _refused(f"it cannot be read: {error}") from error
    if not any(_is_issued_by(certificate, root) for root in roots):
        raise _refused("none of its roots signed the certificate")
    if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
        raise _refused(f"it is not for {now:%Y-%m-%dT%H:%M:%SZ}: compare the clocks")
    return identity


def _identity(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Identity:
    """Raises ValueError: the certificate is not of this key, or names no workload."""
    if certificate.public_key() != key.public_key():
        raise ValueError("the certificate is of another key")
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise ValueError("the certificate names nobody") from error
    found = [_ID.fullmatch(uri) for uri in names.get_values_for_type(x509.UniformResourceIdentifier)]
    if len(found) != 1 or found[0] is None:
        raise ValueError("the certificate names no workload")
    raw = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Identity(
        uuid=UUID(found[0][2]),
        trust_domain=found[0][1],
        serial=f"{certificate.serial_number:x}",
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        secret=hashlib.blake2b(raw, person=b"ringfence bus", digest_size=32).digest(),
    )


def _key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("the key is of another kind")
    return key


def _is_issued_by(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _refused(why: str) -> InputError:
    return InputError(
        "grant-refused",
        f"the certificate that the controller gave is refused: {why}",
        help="ask again; what was in force stays",
    )


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
