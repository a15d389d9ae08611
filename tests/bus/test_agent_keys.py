"""The agent's key and certificate: made by a child, installed whole or not at all, used by a small resident process."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from real_bus import DOMAIN, PATIENCE_S, A, B, connection, open_fleet

from ringfence.agent.enrol.keys import IDENTITY, NEXT_KEY, Grant, Identity, context, describe, install, request
from ringfence.agent.enrol.keys_child import described, installed, requested
from ringfence.bus.jetstream import JetStreamBus, options_for_agent
from ringfence.controller.identity.ca import Authority, csr_of, new_key
from ringfence.core.errors import InputError


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path / "ca.json", trust_domain=DOMAIN, now=datetime.now(UTC))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "agent"


def grant_for(authority: Authority, csr: bytes, uuid: UUID = A, *, ago: timedelta = timedelta()) -> Grant:
    issued = authority.issue_svid(csr, uuid, now=datetime.now(UTC) - ago)
    return Grant(issued.certificate.decode(), authority.bundle.decode())


async def enrolled(home: Path, authority: Authority) -> Identity:
    return await install(home, grant_for(authority, await request(home)), is_enrolment=True)


def test_an_agent_enrols(home: Path, authority: Authority) -> None:
    """A request is answered with a certificate that is then in force, with everything for its owner alone."""

    async def story() -> None:
        assert await describe(home) is None
        identity = await enrolled(home, authority)

        assert (identity.uuid, identity.trust_domain) == (A, DOMAIN)
        assert await describe(home) == identity
        assert [path.name for path in home.iterdir()] == [IDENTITY]
        assert (home / IDENTITY).stat().st_mode & 0o777 == 0o600
        assert home.stat().st_mode & 0o777 == 0o700
        assert len(identity.secret) == 32

    asyncio.run(story())


def test_a_request_says_nothing_but_its_key(home: Path) -> None:
    """No name of the host or of anybody leaves with the request."""
    csr = x509.load_pem_x509_csr(asyncio.run(request(home)))

    assert csr.is_signature_valid
    assert len(list(csr.subject)) == 0
    assert len(list(csr.extensions)) == 0


def test_a_renewal_changes_key_and_certificate_together(home: Path, authority: Authority) -> None:
    """The new pair replaces the old in one step; until then the old one is in force."""

    async def story() -> None:
        first = await enrolled(home, authority)
        csr = await request(home)
        assert await describe(home) == first
        second = await install(home, grant_for(authority, csr))

        assert second.serial != first.serial
        assert second.secret != first.secret
        context(home)

    asyncio.run(story())


def test_a_request_is_for_the_same_key_until_a_grant_for_it_is_installed(home: Path, authority: Authority) -> None:
    """Asked again after a lost answer, a host asks for the key it asked for before: another one would be a clone's."""

    def key(csr: bytes) -> bytes:
        der, spki = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        return x509.load_pem_x509_csr(csr).public_key().public_bytes(der, spki)

    first, second = requested(home), requested(home)
    installed(home, grant_for(authority, first), datetime.now(UTC), is_enrolment=True)
    (home / NEXT_KEY).write_bytes(b"torn")
    (home / NEXT_KEY).chmod(0o600)

    assert key(first) == key(second) != key(requested(home))


def test_what_does_not_fit_is_refused_and_changes_nothing(home: Path, tmp_path: Path, authority: Authority) -> None:
    """A certificate of another key, another authority, another workload, another time, or none at all is refused, and
    the identity in force stays, byte for byte."""
    now = datetime.now(UTC)
    before = installed(home, grant_for(authority, requested(home)), now, is_enrolment=True)
    content = (home / IDENTITY).read_bytes()
    stranger = Authority.open(tmp_path / "stranger.json", trust_domain=DOMAIN, now=now)
    elsewhere = Authority.open(tmp_path / "elsewhere.json", trust_domain="other.test", now=now)
    csr = requested(home)
    good = grant_for(authority, csr)
    bad = {
        "another key": grant_for(authority, csr_of(new_key())),
        "another authority": Grant(grant_for(stranger, csr).certificate, good.bundle),
        "another workload": grant_for(authority, csr, B),
        "another domain": grant_for(elsewhere, csr),
        "expired": grant_for(authority, csr, ago=timedelta(days=2)),
        "not yet": grant_for(authority, csr, ago=timedelta(days=-2)),
        "nothing": Grant("", good.bundle),
        "no roots": Grant(good.certificate, ""),
    }
    codes = {}
    for why, grant in bad.items():
        with pytest.raises(InputError) as caught:
            installed(home, grant, now, is_enrolment=False)
        codes[why] = caught.value.code

    assert codes == dict.fromkeys(bad, "grant-refused")
    assert (home / IDENTITY).read_bytes() == content
    assert described(home) == before
    assert installed(home, good, now, is_enrolment=False).uuid == A, "the request is open still"


def test_a_refusal_in_the_child_is_an_error_here(home: Path, authority: Authority) -> None:
    """What the child refuses arrives with its code."""

    async def story() -> None:
        await request(home)
        with pytest.raises(InputError) as caught:
            await install(home, grant_for(authority, csr_of(new_key())), is_enrolment=True)
        assert caught.value.code == "grant-refused"
        assert caught.value.help

    asyncio.run(story())


def test_a_grant_without_a_request_is_refused(home: Path, authority: Authority) -> None:
    """A certificate for which there is no key is not installed."""
    csr = requested(home)
    (home / NEXT_KEY).unlink()

    with pytest.raises(InputError) as caught:
        installed(home, grant_for(authority, csr), datetime.now(UTC), is_enrolment=True)

    assert caught.value.code == "grant-refused"
    assert not (home / IDENTITY).exists()


def test_renewal_is_due_at_half_life() -> None:
    """A certificate is renewed at half of its life, at once when that is past, and is expired at its end."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    identity = Identity(A, DOMAIN, "1", begin, begin + timedelta(hours=24), b"")

    assert identity.renew_at == begin + timedelta(hours=12)
    assert identity.renew_in(begin + timedelta(hours=2)) == timedelta(hours=10)
    assert identity.renew_in(begin + timedelta(hours=20)) == timedelta()
    assert not identity.is_expired(begin + timedelta(hours=23))
    assert identity.is_expired(begin + timedelta(hours=24))


def test_a_host_that_is_not_enrolled_says_so(home: Path) -> None:
    """Without an identity there is no connection, and the error says what to do."""
    with pytest.raises(InputError) as caught:
        context(home)

    assert caught.value.code == "identity-missing"


@pytest.mark.parametrize(("cut", "mode", "code"), [(100, 0o600, "identity-damaged"), (None, 0o640, "secret-exposed")])
def test_a_bad_identity_is_said(home: Path, authority: Authority, cut: int | None, mode: int, code: str) -> None:
    """A file that was cut, or that others may read, is an error with a code, from the child and from the resident."""
    installed(home, grant_for(authority, requested(home)), datetime.now(UTC), is_enrolment=True)
    path = home / IDENTITY
    path.write_bytes(path.read_bytes()[:cut])
    path.chmod(mode)

    for use in (context, described):
        with pytest.raises(InputError) as caught:
            use(home)
        assert caught.value.code == code


def test_an_enrolled_agent_enters_the_bus(tmp_path: Path, home: Path) -> None:
    """From request to connection: the identity that was installed opens the real bus, strictly verified both ways."""

    async def story() -> None:
        async with open_fleet(tmp_path) as (fleet, _):
            identity = await enrolled(home, fleet.authority)
            options = options_for_agent(str(identity.uuid), [fleet.url], lambda: context(home), identity.secret)
            async with connection(JetStreamBus(options)) as agent:
                await agent.keep(f"rf.keep.{A}.events", b"hello", id="1")

    asyncio.run(story())


def test_tls_is_strict(home: Path, authority: Authority) -> None:
    """TLS 1.3, names checked, only the roots that were given."""
    asyncio.run(asyncio.wait_for(enrolled(home, authority), PATIENCE_S))
    made = context(home)

    assert made.minimum_version == ssl.TLSVersion.TLSv1_3
    assert made.check_hostname
    assert made.verify_mode == ssl.CERT_REQUIRED
    assert made.verify_flags & ssl.VerifyFlags.VERIFY_X509_STRICT
    assert len(made.get_ca_certs()) == 1


def test_the_resident_agent_stays_small() -> None:
    """Keys, bus and messages together import neither `cryptography` nor anything of the controller."""
    program = (
        "import sys, ringfence.agent.enrol.keys, ringfence.bus.jetstream, ringfence.wire.envelope\n"
        "big = ('cryptography', 'nkeys', 'sqlalchemy', 'duckdb', 'pyarrow', 'litestar', 'ringfence.controller')\n"
        "print([name for name in big if name in sys.modules])\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    ).stdout

    assert said.strip() == "[]"
