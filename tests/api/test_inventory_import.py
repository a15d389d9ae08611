"""Inventory files, flow logs and the demo estate: planned, applied once, counted, bounded, and never by strangers."""

from __future__ import annotations

import asyncio
import gzip
import io
import tarfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from explored import Explored, explored
from serving import PATIENCE_S, Serving, eventually, flow_lines, refused

from ringfence.client.errors import Refused
from ringfence.controller.controller import ROOT
from ringfence.controller.intake import jobs
from ringfence.controller.publishing import changes
from ringfence.core.errors import InputError
from ringfence.wire import api, explore, intake, study

CSV = "name,addresses,kind,label:app,label:env,label:role\n"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explored]:
    with explored(tmp_path_factory.mktemp("own") / "c") as made:
        yield made


def test_an_inventory_is_planned_then_applied(own: Explored) -> None:
    """The plan names who is new and who gets other labels with what that opens; nothing happens before its digest is
    sent back; then they are there, without an enforcement point; the same file again changes nothing."""
    client = own.client.explore
    text = f"{CSV}san-1,10.7.0.1,host,storage,prod,san\ncrm-dev-web-1,,host,shop,prod,web\n"
    asked = intake.ImportInventory("w.csv", text)

    planned = client.inventory(asked)
    assert (planned.new, planned.new_count, planned.relabelled_count, planned.is_applied) == (("san-1",), 1, 1, False)
    (change,) = planned.relabelled
    assert (change.name, change.before["app"], change.after["app"]) == ("crm-dev-web-1", "crm", "shop")
    same = own.client.plan_labels(api.Relabel(("crm-dev-web-1",), change.after))
    assert (planned.diff.opened, planned.diff.closed) == (same.opened, same.closed)
    assert planned.diff.opened > 0
    assert refused(lambda: own.client.workload("san-1")) == "unknown-workload"

    stale = intake.ImportInventory("w.csv", text, apply="0" * 64)
    assert refused(lambda: client.inventory(stale)) == "plan-changed"
    done = client.inventory(intake.ImportInventory("w.csv", text, apply=planned.digest, why="from the CMDB"))
    assert done.is_applied
    san = own.client.workload("san-1")
    assert (san.origin, san.kind, san.state, san.addresses) == ("file", "host", "unmanaged", ("10.7.0.1",))
    assert own.client.workload("crm-dev-web-1").labels["app"] == "shop"
    again = client.inventory(asked)
    assert (again.new_count, again.relabelled_count, again.unchanged) == (0, 0, 2)
    actions = {entry.action for entry in own.client.audit(limit=20)}
    assert {"inventory.import", "workload.labels"} <= actions


def test_a_file_moves_the_addresses_of_its_own_workloads_only(own: Explored) -> None:
    """What an agent says of its addresses stands; a workload of a file gets the new ones."""
    client = own.client.explore
    moved = f"{CSV}nas-1,10.7.1.1,host,storage,prod,san\nshop-prod-db-1,10.7.9.9,host,shop,prod,db\n"
    first = client.inventory(intake.ImportInventory("w.csv", moved))
    client.inventory(intake.ImportInventory("w.csv", moved, apply=first.digest))
    text = moved.replace("10.7.1.1", "10.7.1.2")
    planned = client.inventory(intake.ImportInventory("w.csv", text))
    assert (planned.readdressed, planned.relabelled_count) == (1, 0)
    client.inventory(intake.ImportInventory("w.csv", text, apply=planned.digest))
    assert own.client.workload("nas-1").addresses == ("10.7.1.2",)
    assert own.client.workload("shop-prod-db-1").addresses != ("10.7.9.9",)


def test_what_one_saw_is_what_is_applied(own: Explored) -> None:
    """Two people: who looked at a plan before somebody else changed the labels, the addresses or the policies that it
    starts from is told to look again, though the file still means the same."""
    client = own.client.explore
    text = f"{CSV}crm-prod-web-1,,host,crm,stage,web\n"
    seen = client.inventory(intake.ImportInventory("w.csv", text))
    own.client.relabel(api.Relabel(("crm-prod-web-1",), {"role": "api"}, why="meanwhile"))
    apply = intake.ImportInventory("w.csv", text, apply=seen.digest, why="stale")
    assert refused(lambda: client.inventory(apply)) == "plan-changed"
    assert own.client.workload("crm-prod-web-1").labels["role"] == "api"

    moving = f"{CSV}jbod-1,10.7.3.1,host,storage,prod,san\n"
    first = client.inventory(intake.ImportInventory("w.csv", moving))
    client.inventory(intake.ImportInventory("w.csv", moving, apply=first.digest))
    third, second = (moving.replace("10.7.3.1", f"10.7.3.{n}") for n in (3, 2))
    seen = client.inventory(intake.ImportInventory("w.csv", third))
    other = client.inventory(intake.ImportInventory("w.csv", second))
    client.inventory(intake.ImportInventory("w.csv", second, apply=other.digest))
    apply = intake.ImportInventory("w.csv", third, apply=seen.digest)
    assert refused(lambda: client.inventory(apply)) == "plan-changed"
    assert own.client.workload("jbod-1").addresses == ("10.7.3.2",)


def test_a_change_in_the_moment_of_applying_is_noticed(own: Explored, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the plan was compared and before it is stored: nothing of it is applied."""
    client = own.client.explore
    text = f"{CSV}crm-prod-db-1,,host,crm,stage,db\nlate-1,10.7.4.1,host,storage,prod,san\n"
    seen = client.inventory(intake.ImportInventory("w.csv", text))
    state, known = own.served.controller.state, own.served.controller.workloads.inventory.workloads
    write = state.write

    async def overtaken(work: Any) -> Any:
        monkeypatch.setattr(state, "write", write)
        uuid = next(w.uuid for w in known if w.name == "crm-prod-db-1")
        now = datetime.now(UTC)
        await write(lambda tx: changes.relabel(tx, uuid, {"app": "crm", "env": "dev", "role": "db"}, by=ROOT, at=now))
        return await write(work)

    monkeypatch.setattr(state, "write", overtaken)
    assert refused(lambda: client.inventory(intake.ImportInventory("w.csv", text, apply=seen.digest))) == "plan-changed"
    assert refused(lambda: own.client.workload("late-1")) == "unknown-workload"


def test_labels_may_not_move_an_address(own: Explored) -> None:
    """Whoever may label workloads, of a scope or of all of the estate, gives none of them another's address."""
    text = f"{CSV}tape-1,10.7.2.1,host,storage,prod,san\n"
    planned = own.client.explore.inventory(intake.ImportInventory("w.csv", text))
    own.client.explore.inventory(intake.ImportInventory("w.csv", text, apply=planned.digest))
    text = text.replace("10.7.2.1", "10.66.6.6")
    for scope in ("app=shop", None):
        with own.served.client(own.client.grant(api.Grant("amy", ("author",), scope=scope))) as amy:
            digest = amy.explore.inventory(intake.ImportInventory("w.csv", text)).digest
            moved = intake.ImportInventory("w.csv", text, apply=digest)
            with pytest.raises(Refused, match="may not `enrol`"):
                amy.explore.inventory(moved)
    assert own.client.workload("tape-1").addresses == ("10.7.2.1",)


def test_a_file_with_faults_is_refused(own: Explored) -> None:
    """Every fault with its line; and what no format has is told."""
    client = own.client.explore
    assert refused_findings(
        lambda: client.inventory(intake.ImportInventory("w.csv", f"{CSV}x,not-an-address,host,a,b,c\n"))
    )
    assert refused_findings(lambda: client.inventory(intake.ImportInventory("w.txt", "x")))


def refused_findings(work: object) -> bool:
    from ringfence.core.errors import FindingsError

    with pytest.raises(FindingsError):
        work()  # type: ignore[operator]
    return True


def test_flow_logs_are_read_in_a_job(fresh: Serving) -> None:
    """The answer is a job; when it is done the store has every record; the same file again is not counted twice."""
    with fresh.client() as client:
        begun = client.explore.import_flows("flows.log", flow_lines(200))
        assert begun.state in ("running", "done")
        eventually(lambda: client.explore.job(begun.id).state != "running")
        done = client.explore.job(begun.id)
        assert (done.state, done.records, done.malformed) == ("done", 200, 0), done.findings
        held = fresh.controller.flows.totals().connections
        assert held == done.connections == 200
        again = client.explore.import_flows("flows.log", flow_lines(200))
        eventually(lambda: client.explore.job(again.id).state != "running")
        assert fresh.controller.flows.totals().connections == held
        assert [entry.action for entry in client.audit(action="flows.import")] == ["flows.import"] * 2
        uploads = fresh.controller.settings.directory / "uploads"
        eventually(lambda: not list(uploads.iterdir()))


def test_uploads_that_are_refused(fresh: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty ones, too large ones, names that lead elsewhere, and jobs that are not: each with its code, and nothing is
    left of them. A file of no format fails its job with a finding that does not tell where it lay."""
    monkeypatch.setattr(jobs, "MOST_UPLOAD_BYTES", 1000)
    with fresh.client() as client:
        assert refused(lambda: client.explore.import_flows("a.log", b"")) == "empty-upload"
        assert refused(lambda: client.explore.import_flows("a.log", b"x" * 2000)) == "upload-too-large"
        for name in ("../a.log", ".hidden", "a/b.log"):
            assert refused(lambda name=name: client.explore.import_flows(name, b"x")) == "bad-file-name"  # type: ignore[misc]
        assert refused(lambda: client.explore.job("nope")) == "unknown-job"
        uploads = fresh.controller.settings.directory / "uploads"
        assert not list(uploads.iterdir())
        job = client.explore.import_flows("noise.bin", b"\x00\x01nothing" * 20)
        eventually(lambda: client.explore.job(job.id).state != "running")
        failed = client.explore.job(job.id)
        assert failed.state == "failed"
        assert failed.findings
        assert all(str(uploads) not in f"{finding}" for finding in failed.findings)


def archive(files: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.type, member.size, member.linkname = kind, len(content), "elsewhere"
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def test_files_of_one_archive_are_imported_together(fresh: Serving) -> None:
    """Both ends' reports of one connection count once, where one after the other they count twice; each file is told
    by its own name, compressed or not, and one that nothing can be read of keeps the others from nothing."""
    ours = flow_lines(50)
    theirs = gzip.compress(ours.replace(b"eni-1", b"eni-2"))
    sent = archive({"eni-1/a.log": ours, "eni-2/a.log.gz": theirs, "noise.bin": b"\x00\x01nothing" * 20})
    with fresh.client() as client:
        begun = client.explore.import_flows("flows.tar", sent)
        assert [one.name for one in begun.files] == ["eni-1/a.log", "eni-2/a.log.gz", "noise.bin"]
        eventually(lambda: client.explore.job(begun.id).state != "running")
        done = client.explore.job(begun.id)
        assert (done.state, done.records, done.connections) == ("done", 100, 50), done.findings
        assert {(one.name, one.state, one.records) for one in done.files} == {
            ("eni-1/a.log", "imported", 50), ("eni-2/a.log.gz", "imported", 50), ("noise.bin", "refused", 0),
        }  # fmt: skip
        assert fresh.controller.flows.totals().connections == 50
        uploads = fresh.controller.settings.directory / "uploads"
        assert all(str(uploads) not in f"{finding}" for finding in done.findings)
        eventually(lambda: not list(uploads.iterdir()))


def test_archives_that_are_refused(fresh: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no archive, holds nothing, too many, a name twice, links or names that lead elsewhere: each with its
    code, and nothing is left of them."""
    monkeypatch.setattr(jobs, "MOST_ARCHIVED", 2)
    log = flow_lines(1)
    whole = archive({"a.log": log})
    cases = [
        (b"no archive at all" * 100, "bad-archive"),
        (whole[:600], "bad-archive"),
        (archive({}), "bad-archive"),
        (archive({"a": log, "b": log, "c": log}), "bad-archive"),
        (archive({"a": log, "./a": log}), "bad-archive"),
        (archive({"a": b""}, tarfile.SYMTYPE), "bad-archive"),
        (archive({"a": b""}, tarfile.LNKTYPE), "bad-archive"),
        (archive({"a": log, "a/b": log}), "bad-archive"),
        (archive({"../a.log": log}), "bad-file-name"),
        (archive({"/etc/a.log": log}), "bad-file-name"),
        (archive({"a/../../b.log": log}), "bad-file-name"),
        (archive({".packed": log}), "bad-file-name"),
    ]
    with fresh.client() as client:
        for content, code in cases:
            assert refused(lambda content=content: client.explore.import_flows("a.tar", content)) == code  # type: ignore[misc]
        assert not list((fresh.controller.settings.directory / "uploads").iterdir())


def test_uploads_on_their_way_count(fresh: Serving) -> None:
    """A few are taken at once, however slowly they come; what a crash left of earlier ones is gone after a start."""
    controller = fresh.controller
    left = controller.settings.directory / "uploads" / "left"
    left.mkdir(parents=True)

    async def upload(gate: asyncio.Event) -> str:
        async def content() -> AsyncIterator[bytes]:
            await gate.wait()
            yield b""

        try:
            await controller.studies.jobs.import_flows("a.log", content(), by=ROOT)
        except InputError as error:
            return error.code
        return "taken"

    async def story() -> list[str]:
        await controller.studies.start()
        gate = asyncio.Event()
        tasks = [asyncio.create_task(upload(gate)) for _ in range(jobs.MOST_WAITING + 3)]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        gate.set()
        return [await task for task in tasks]

    assert fresh.run(story()) == ["empty-upload"] * jobs.MOST_WAITING + ["too-many-jobs"] * 3
    assert not left.exists()


def test_the_demo_estate(fresh: Serving) -> None:
    """An empty controller gets workloads and traffic of the last hours, enough for a map and a recommendation; one
    that has something already refuses."""
    with fresh.client() as client:
        loaded = client.explore.demo()
        assert loaded.workloads == len(list(client.workloads())) > 10
        told = client.explore.posture()
        assert told.coverage[0].connections == fresh.controller.flows.totals().connections > 0
        rows = fresh.controller.flows.read(None, None)
        ago = (datetime.now(UTC) - datetime.fromtimestamp(int(rows.last.max()), UTC)).total_seconds()
        assert 0 <= ago < 3600 + PATIENCE_S
        shown = client.explore.map(explore.Query())
        assert len(shown.edges) > 5
        assert client.explore.recommend(study.AskRecommend()).rules
        assert refused(client.explore.demo) == "not-empty"


def test_who_may_import(fresh: Serving) -> None:
    """Somebody who may only look imports nothing."""
    with fresh.client() as client:
        token = client.grant(api.Grant("looker", ("viewer",)))
    with fresh.client(token) as looker:
        for work in (
            lambda: looker.explore.demo(),
            lambda: looker.explore.import_flows("a.log", b"x"),
            lambda: looker.explore.inventory(intake.ImportInventory("w.csv", CSV)),
        ):
            with pytest.raises(Refused) as error:
                work()
            assert error.value.code == "not-allowed"
