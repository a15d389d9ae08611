"""The packages: built here, installed into a root of their own, and run from there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "packaging" / "systemd"

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root on Linux, to mount"),
]


def run(*command: str, **more: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=os.environ | more)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that this machine can build."""
    if not shutil.which("uv", path=_path()):
        pytest.skip("uv is not installed")
    output = tmp_path_factory.mktemp("dist")
    run(sys.executable, str(ROOT / "packaging/build"), "--output", str(output), PATH=_path())
    return output


def _path() -> str:
    return os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """This machine's files, with whatever is written kept apart (overlayfs)."""
    for name in ("upper", "work", "root"):
        (tmp_path / name).mkdir()
    mounts = f"lowerdir=/,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    mounted = subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", mounts, str(tmp_path / "root")], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no overlay can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield tmp_path / "root"
    finally:
        subprocess.run(["umount", "-l", str(tmp_path / "root")], check=True, timeout=30)


def _says_help(root: Path) -> None:
    said = run(
        "chroot",
        str(root),
        "/usr/bin/ringfence-agent",
        "--help",
        PATH=f"{Path(sys.executable).resolve().parent}:/usr/bin:/bin:/usr/sbin:/sbin",
    )
    assert "break-glass" in said


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="no dpkg on this machine")
def test_the_deb_installs_and_runs(packages: Path, root: Path) -> None:
    """dpkg puts it in place, scripts and all; the program runs with nothing but what it brought."""
    package = next(packages.glob("*.deb"))
    shutil.copy(package, root / "tmp")
    run("chroot", str(root), "dpkg", "--force-depends", "-i", f"/tmp/{package.name}")

    _says_help(root)
    assert (root / "usr/lib/systemd/system/ringfence-boot.service").exists()
    assert "ringfence-agent" in run("chroot", str(root), "dpkg", "-l", "ringfence-agent")
    run("chroot", str(root), "dpkg", "-r", "ringfence-agent")
    assert not (root / "usr/bin/ringfence-agent").exists()


def _systemd(root: Path) -> Path:
    """As if systemd ran there: what it is told stands in the file."""
    (root / "run/systemd/system").mkdir(parents=True, exist_ok=True)
    told = root / "tmp/systemctl.log"
    program = root / "usr/bin/systemctl"
    program.unlink(missing_ok=True)
    program.write_text(f'#!/bin/sh\necho "$@" >> /tmp/{told.name}\n')
    program.chmod(0o755)
    return told


def _take(told: Path) -> list[str]:
    lines = told.read_text().splitlines() if told.exists() else []
    told.unlink(missing_ok=True)
    return lines


@pytest.mark.skipif(not shutil.which("rpmbuild"), reason="no rpmbuild on this machine (scripts/setup --system)")
def test_the_rpm_installs_upgrades_and_goes(packages: Path, root: Path, tmp_path: Path) -> None:
    """rpm itself puts it in place and finds every file as it was packed; the units are enabled, an upgrade restarts the
    agent and stops nothing else, and what is erased leaves nothing. All it asks of the host is Python."""
    package = next(packages.glob("*.rpm"))
    told = _systemd(root)
    shutil.copy(package, root / "tmp")

    def rpm(*words: str) -> str:
        return run("chroot", str(root), "rpm", "--dbpath", "/var/lib/rpm-of-the-test", *words)

    needs = {line for line in run("rpm", "-qRp", str(package)).split("\n") if line and not line.startswith("rpmlib(")}
    assert {Path(line).name.rstrip("0123456789.") for line in needs if "/bin/" in line} <= {"python", "sh"}, needs
    assert "digests OK" in run("rpm", "-K", str(package))
    rpm("-i", "--nodeps", f"/tmp/{package.name}")

    _says_help(root)
    assert rpm("-V", "--nodeps", "ringfence-agent") == ""
    assert _take(told) == [
        "daemon-reload",
        "enable -q ringfence-boot.service ringfence-agent.service",
        "try-restart ringfence-agent.service",
    ]
    later = tmp_path / "later"
    run(sys.executable, str(ROOT / "packaging/build"), "rpm", "--release", "2", "--output", str(later), PATH=_path())
    shutil.copy(next(later.glob("*.rpm")), root / "tmp/later.rpm")
    rpm("-U", "--nodeps", "/tmp/later.rpm")
    assert rpm("-q", "--qf", "%{RELEASE}", "ringfence-agent") == "2"
    assert [line for line in _take(told) if "disable" in line or line.startswith("stop")] == []
    _says_help(root)

    rpm("-e", "ringfence-agent")
    assert _take(told) == ["disable -q --now ringfence-agent.service ringfence-boot.service", "daemon-reload"]
    assert not (root / "usr/bin/ringfence-agent").exists()
    assert not (root / "usr/lib/ringfence-agent").exists()


@pytest.mark.skipif(not shutil.which("rpmbuild"), reason="no rpmbuild on this machine (scripts/setup --system)")
def test_the_rpm_holds_what_the_deb_holds(packages: Path) -> None:
    """File for file, with the same modes."""
    rpm = run("rpm", "-qp", "--qf", "[%{FILEMODES:perms} %{FILENAMES}\n]", str(next(packages.glob("*.rpm"))))
    deb = run("dpkg-deb", "-c", str(next(packages.glob("*.deb"))))
    in_rpm = {(line.split()[1], line.split()[0]) for line in rpm.splitlines()}
    in_deb = {("/" + line.split()[5].removeprefix("./").rstrip("/"), line.split()[0]) for line in deb.splitlines()}

    assert {one for one in in_deb if one[1].startswith("-")} == {one for one in in_rpm if one[1].startswith("-")}


def test_the_archive_installs_without_a_network(packages: Path, root: Path, tmp_path: Path) -> None:
    """Unpacked and put in place where no network interface is."""
    with tarfile.open(next(packages.glob("*.tar.gz"))) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    script = next((tmp_path / "unpacked").glob("*/install"))
    run("unshare", "--net", str(script), str(root))

    _says_help(root)


def test_only_what_an_agent_imports_is_in_the_package(packages: Path) -> None:
    """Nothing of the controller's is on a host."""
    with tarfile.open(next(packages.glob("*.tar.gz"))) as tar:
        names = tar.getnames()

    assert any("/ringfence/agent/held/held.py" in name for name in names)
    for word in ("/ringfence/controller", "/ringfence/api", "/ringfence/cli", "/duckdb", "/sqlalchemy", "/litestar"):
        assert not any(word in name for name in names)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd on this machine")
@pytest.mark.parametrize("unit", ["ringfence-boot.service", "ringfence-agent.service"])
def test_systemd_understands_the_units(tmp_path: Path, unit: str) -> None:
    """Every directive is known, and the order has no cycle."""
    for name in ("ringfence-boot.service", "ringfence-agent.service"):
        text = (UNITS / name).read_text().replace("/usr/bin/ringfence-agent", "/bin/true")
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit)], capture_output=True, text=True, timeout=60,
        check=False, env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )  # fmt: skip

    assert "ringfence" not in done.stderr, done.stderr
