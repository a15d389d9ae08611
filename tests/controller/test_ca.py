"""The authority: what it issues, what it refuses, and how its roots change."""

from __future__ import annotations

import json
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from ringfence.controller.identity.ca import (
    Authority,
    Issued,
    csr_of,
    is_issued_by,
    key_pem,
    new_key,
    serial_of,
    workload_of,
    workload_uri,
)
from ringfence.core.errors import InputError

DOMAIN = "estate.test"
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
A = UUID("aaaaaaaa-0000-4000-8000-000000000001")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path / "ca.json", trust_domain=DOMAIN, now=NOW)


def read(issued: Issued) -> x509.Certificate:
    return x509.load_pem_x509_certificate(issued.certificate)


def names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def test_an_svid_is_as_spiffe_has_it(authority: Authority) -> None:
    """SPIFFE X.509-SVID: one URI SAN and no other name, no CA, digital signature alone and critical, both TLS roles."""
    issued = authority.issue_svid(csr_of(new_key()), A, now=NOW)
    certificate = read(issued)
    extensions = certificate.extensions
    usage = extensions.get_extension_for_class(x509.KeyUsage)

    assert list(names(certificate)) == [x509.UniformResourceIdentifier(f"spiffe://{DOMAIN}/workload/{A}")]
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert not usage.value.crl_sign
    assert set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.SERVER_AUTH,
    }
    assert issued.uri == workload_uri(DOMAIN, A)
    assert workload_of(certificate, DOMAIN) == A


def test_an_svid_lives_a_day_and_begins_in_the_past(authority: Authority) -> None:
    """24 hours from now, and a few minutes back for hosts whose clocks are behind."""
    issued = authority.issue_svid(csr_of(new_key()), A, now=NOW)

    assert issued.not_after == NOW + timedelta(hours=24)
    assert NOW - timedelta(minutes=10) < issued.not_before < NOW


def test_no_certificate_outlives_its_root(authority: Authority) -> None:
    """Near the end of the root its certificates are cut; after it there are none."""
    end = authority.roots[0].not_valid_after_utc

    assert authority.issue_svid(csr_of(new_key()), A, now=end - timedelta(hours=1)).not_after == end
    with pytest.raises(InputError) as caught:
        authority.issue_svid(csr_of(new_key()), A, now=end)
    assert caught.value.code == "ca-expired"


def test_what_is_stored_is_what_the_certificate_says(authority: Authority) -> None:
    """Serial and fingerprint for the state store are those of the certificate, and every serial is another."""
    issued = [authority.issue_svid(csr_of(new_key()), A, now=NOW) for _ in range(20)]

    assert [serial_of(read(i)) for i in issued] == [i.serial for i in issued]
    assert [read(i).fingerprint(hashes.SHA256()).hex() for i in issued] == [i.fingerprint for i in issued]
    assert len({i.serial for i in issued}) == 20


def signed(key: object) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM)  # type: ignore[arg-type]


def tampered() -> bytes:
    """A request that carries another's key: its sender cannot have signed with it."""
    own, other = new_key(), new_key()
    der = x509.load_pem_x509_csr(csr_of(own)).public_bytes(serialization.Encoding.DER)
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    swapped = der.replace(own.public_key().public_bytes(*form), other.public_key().public_bytes(*form))
    request = x509.load_der_x509_csr(swapped)
    assert not request.is_signature_valid
    return request.public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    "csr",
    [
        b"",
        b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        signed(ec.generate_private_key(ec.SECP384R1())),
        signed(ed25519.Ed25519PrivateKey.generate()),
        signed(rsa.generate_private_key(65537, 2048)),
        tampered(),
    ],
    ids=["empty", "garbage", "P-384", "Ed25519", "RSA", "of another's key"],
)
def test_only_a_proven_p256_key_is_certified(authority: Authority, csr: bytes) -> None:
    """Requests that are malformed, of another kind of key, or of a key their sender does not have are refused."""
    with pytest.raises(InputError) as caught:
        authority.issue_svid(csr, A, now=NOW)

    assert caught.value.code == "bad-csr"


def test_a_server_is_named_by_hosts_and_addresses(authority: Authority) -> None:
    """Names become DNS SANs, addresses IP SANs, beside the controller's identity; and it names no workload."""
    issued = authority.issue_server(csr_of(new_key()), ["ringfence.test", "10.0.0.1", "fd00::1"], now=NOW)
    found = names(read(issued))

    assert found.get_values_for_type(x509.DNSName) == ["ringfence.test"]
    assert [str(a) for a in found.get_values_for_type(x509.IPAddress)] == ["10.0.0.1", "fd00::1"]
    assert found.get_values_for_type(x509.UniformResourceIdentifier) == [f"spiffe://{DOMAIN}/controller"]
    assert workload_of(read(issued), DOMAIN) is None


@pytest.mark.parametrize("name", ["", "a b", "-a", "a..b", "spiffe://x", "a/b", "1.2.3.4/8", "é.test"])
def test_a_server_name_is_a_name(authority: Authority, name: str) -> None:
    """What is neither a DNS name nor an address is refused."""
    with pytest.raises(InputError) as caught:
        authority.issue_server(csr_of(new_key()), [name], now=NOW)

    assert caught.value.code == "bad-server-name"


def test_a_server_without_a_name_is_refused(authority: Authority) -> None:
    """No names is an error, not a certificate for nothing."""
    with pytest.raises(InputError) as caught:
        authority.issue_server(csr_of(new_key()), [], now=NOW)

    assert caught.value.code == "bad-server-name"


@pytest.mark.parametrize("domain", ["", "Estate.test", "a_b", "a/b", "a..b", "-a", "a:1", "a" * 300])
def test_a_trust_domain_is_a_name(tmp_path: Path, domain: str) -> None:
    """A trust domain that a name constraint could not hold is refused."""
    with pytest.raises(InputError) as caught:
        Authority.open(tmp_path / "ca.json", trust_domain=domain, now=NOW)

    assert caught.value.code == "bad-trust-domain"


def test_openssl_believes_the_chain(tmp_path: Path) -> None:
    """OpenSSL verifies workload and server certificates in both roles, strictly, and by the server's name."""
    now = datetime.now(UTC)
    authority = Authority.open(tmp_path / "ca.json", trust_domain=DOMAIN, now=now)
    (tmp_path / "roots.pem").write_bytes(authority.bundle)
    (tmp_path / "svid.pem").write_bytes(authority.issue_svid(csr_of(new_key()), A, now=now).certificate)
    server = authority.issue_server(csr_of(new_key()), ["ringfence.test", "10.0.0.1"], now=now)
    (tmp_path / "server.pem").write_bytes(server.certificate)

    def verify(file: str, *more: str) -> bool:
        command = ["openssl", "verify", "-x509_strict", "-CAfile", tmp_path / "roots.pem", *more, tmp_path / file]
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0

    assert verify("svid.pem", "-purpose", "sslclient")
    assert verify("svid.pem", "-purpose", "sslserver")
    assert verify("server.pem", "-purpose", "sslserver", "-verify_hostname", "ringfence.test")
    assert verify("server.pem", "-purpose", "sslserver", "-verify_ip", "10.0.0.1")
    assert not verify("svid.pem", "-verify_hostname", "ringfence.test")


def forged(authority: Authority, name: str, *, is_ca: bool = False) -> x509.Certificate:
    """What somebody with the root's key could sign."""
    root, key, now = authority.roots[0], new_key(), datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")]))
        .issuer_name(root.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .sign(authority._signer, hashes.SHA256())
    )


def test_a_root_cannot_name_another_domains_workloads(tmp_path: Path) -> None:
    """Name constraints: who trusts this root believes it about its own trust domain only."""
    authority = Authority.open(tmp_path / "ca.json", trust_domain=DOMAIN, now=datetime.now(UTC))
    (tmp_path / "roots.pem").write_bytes(authority.bundle)

    def is_believed(name: str) -> bool:
        pem = forged(authority, name).public_bytes(serialization.Encoding.PEM)
        (tmp_path / "leaf.pem").write_bytes(pem)
        command = ["openssl", "verify", "-CAfile", tmp_path / "roots.pem", tmp_path / "leaf.pem"]
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0

    assert is_believed(workload_uri(DOMAIN, A))
    assert not is_believed(workload_uri("other.test", A))


@pytest.mark.parametrize(
    "uri",
    [
        f"spiffe://other.test/workload/{A}",
        f"spiffe://{DOMAIN}/controller",
        f"spiffe://{DOMAIN}/workload/",
        f"spiffe://{DOMAIN}/workload/{A}/x",
        f"spiffe://{DOMAIN}/workload/{str(A).upper()}",
        f"spiffe://{DOMAIN}/workload/{{{A}}}",
        f"spiffe://{DOMAIN}/workload/{A.hex}",
        f"spiffe://{DOMAIN}/workload/urn:uuid:{A}",
        f"spiffe://{DOMAIN}/workload/*",
        f"https://{DOMAIN}/workload/{A}",
    ],
)
def test_a_workload_is_named_in_one_way_only(authority: Authority, uri: str) -> None:
    """Everything but the canonical SPIFFE ID names nobody."""
    assert workload_of(forged(authority, uri), DOMAIN) is None


def test_the_authority_is_the_same_after_a_restart(tmp_path: Path, authority: Authority) -> None:
    """Opened again, it is the authority it was: one root, readable by its owner alone."""
    again = Authority.open(tmp_path / "ca.json", trust_domain=DOMAIN, now=NOW + timedelta(days=1))

    assert again.bundle == authority.bundle
    assert again.fingerprints == authority.fingerprints
    assert (tmp_path / "ca.json").stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [tmp_path / "ca.json"]
    assert is_issued_by(read(again.issue_svid(csr_of(new_key()), A, now=NOW)), authority.roots)


def test_a_damaged_authority_is_not_replaced(tmp_path: Path, authority: Authority) -> None:
    """A file that cannot be used is an error, and stays as it is: a new authority would lock every agent out."""
    path = tmp_path / "ca.json"
    good = path.read_bytes()
    document = json.loads(good)
    document["roots"][0]["key"] = key_pem(new_key()).decode()
    for bad in (good[:-10], b"", b"{}", json.dumps(document).encode()):
        path.write_bytes(bad)
        with pytest.raises(InputError) as caught:
            Authority.open(path, trust_domain=DOMAIN, now=NOW)
        assert caught.value.code == "ca-damaged"
        assert path.read_bytes() == bad


def test_a_secret_others_may_read_is_refused(tmp_path: Path, authority: Authority) -> None:
    """A key file with wider rights is not used in silence."""
    (tmp_path / "ca.json").chmod(0o644)

    with pytest.raises(InputError) as caught:
        Authority.open(tmp_path / "ca.json", trust_domain=DOMAIN, now=NOW)

    assert caught.value.code == "secret-exposed"


def test_a_trust_domain_is_for_life(tmp_path: Path, authority: Authority) -> None:
    """Opened under another trust domain the authority refuses."""
    with pytest.raises(InputError) as caught:
        Authority.open(tmp_path / "ca.json", trust_domain="other.test", now=NOW)

    assert caught.value.code == "trust-domain-changed"


def test_roots_change_without_a_gap(tmp_path: Path, authority: Authority) -> None:
    """Announced, used, retired: at every step what was issued before is trusted by who has heard of the step before;
    each step is there after a restart."""

    def reopened() -> Authority:
        return Authority.open(tmp_path / "ca.json", trust_domain=DOMAIN, now=NOW)

    def issued(by: Authority) -> x509.Certificate:
        return read(by.issue_svid(csr_of(new_key()), A, now=NOW))

    old_root, old = authority.fingerprints[0], issued(authority)
    new_root = authority.add_root(now=NOW)
    announced = reopened()
    assert announced.fingerprints == (old_root, new_root)
    assert is_issued_by(issued(announced), announced.roots[:1]), "the old one signs still"

    announced.use_newest_root()
    used = reopened()
    new = issued(used)
    assert used.fingerprints == (new_root, old_root)
    assert is_issued_by(new, used.roots[:1])
    assert not is_issued_by(new, authority.roots[:1])
    assert is_issued_by(new, announced.roots)
    assert is_issued_by(old, used.roots)
    assert used.bundle.count(b"BEGIN CERTIFICATE") == 2

    used.retire_root(old_root)
    retired = reopened()
    assert retired.fingerprints == (new_root,)
    assert not is_issued_by(old, retired.roots)
    assert is_issued_by(new, retired.roots)


def test_a_step_out_of_turn_is_refused(authority: Authority) -> None:
    """No root is used that was not announced, none retired that signs or that does not exist."""
    codes = []
    for step in (
        authority.use_newest_root,
        lambda: authority.retire_root(authority.fingerprints[0]),
        lambda: authority.retire_root("00"),
    ):
        with pytest.raises(InputError) as caught:
            step()
        codes.append(caught.value.code)

    assert codes == ["no-root-announced", "root-in-use", "root-unknown"]


def test_a_retired_roots_key_is_forgotten(tmp_path: Path, authority: Authority) -> None:
    """A root that signs no more keeps no key on disk that could be stolen."""
    authority.add_root(now=NOW)
    authority.use_newest_root()
    roots = json.loads((tmp_path / "ca.json").read_bytes())["roots"]

    assert [(root["stage"], bool(root["key"])) for root in roots] == [("retiring", False), ("issuing", True)]


def test_two_roots_are_one_bundle_for_tls(authority: Authority) -> None:
    """Python's TLS takes the bundle with both roots at once."""
    authority.add_root(now=NOW)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority.bundle.decode())

    assert len(context.get_ca_certs()) == 2
