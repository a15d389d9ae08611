"""Whatever is handed to a command, the answer is a message with a code and help, exit 2 or 3, never a traceback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_estate import SHOP, ShopEstate, flow_log, run

from ringfence.core.errors import InputError
from ringfence.estate import Estate

UNREADABLE = "/proc/self/mem"
"""A regular file whose first byte cannot be read, whoever asks."""


def refused(shop: ShopEstate, *words: str, code: str, exit_code: int = 2) -> str:
    """Run it twice: for people and as JSON; both must tell the code and what to do. -> what people read."""
    told = shop.run(*words)
    document = shop.run(*words, "--json")

    assert (told.code, document.code) == (exit_code, exit_code), told.err or told.out
    assert f"error[{code}]" in told.err
    assert "help: " in told.err
    assert told.out == ""
    assert document.json["error"] == code
    assert document.json["findings"][0]["help"]
    assert document.json["findings"][0]["code"] == code
    return told.err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["policy", "check", "nowhere.yaml"], "missing-file"),
        (["policy", "check", UNREADABLE], "unreadable-file"),
        (["policy", "fmt", "latin1.yaml"], "not-utf8"),
        (["policy", "test", "latin1.yaml"], "not-utf8"),
        (["policy", "lint", "list.yaml"], "expected-mapping"),
        (["policy", "test", "syntax.yaml"], "yaml-syntax"),
        (["policy", "diff", "nowhere"], "missing-file"),
        (["simulate", "nowhere"], "missing-file"),
        (["explain", "web-11", "db-1", "ssh"], "unknown-endpoint"),
        (["explain", "", "db-1", "ssh"], "unknown-endpoint"),
        (["explain", "app=none", "db-1", "ssh"], "unmatched"),
        (["explain", "web-1", "db-1", "tcp/99999"], "unknown-service"),
        (["explain", "web-1", "db-1", "tcp/99999999999999999999"], "unknown-service"),
        (["explain", "web-1", "db-1", "postgers"], "unknown-service"),
        (["explain", "web-1", "db-1", "ssh", "--at", "noon"], "bad-time"),
        (["explain", "web-1", "db-1", "ssh", "--at", "0001-01-01T00:00:00+14:00"], "bad-time"),
        (["explain", "web-1", "db-1", "ssh", "--as", "panic"], "unknown-mode"),
        (["reach", "web-11"], "unknown-endpoint"),
        (["reach", "role=db", "--service", "nope"], "unknown-service"),
        (["flows", "import", "nowhere"], "flow-path-missing"),
        (["flows", "import", "empty-folder"], "flow-path-empty"),
        (["flows", "status", "--since", "yesterday"], "bad-time"),
        (["flows", "status", "--since", "99999999999999d"], "bad-time"),
        (["flows", "status", "--since", "1d", "--until", "2d"], "bad-time"),
        (["map"], "no-flows"),
        (["map", "-f", "pdf"], "unknown-format"),
        (["recommend"], "no-flows"),
        (["simulate"], "no-flows"),
        (["render", "iptables", "web-1"], "unknown-adapter"),
        (["render", "nftables", "web-11"], "unknown-workload"),
        (["render", "nftables", "printer"], "not-controlled"),
        (["enforce", "nftables", "web-11", "--plan"], "unknown-workload"),
        (["init"], "estate-exists"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_refused_with_code_and_help(shop: ShopEstate, words: list[str], code: str) -> None:
    """Bad arguments and bad files: exit 2."""
    shop.write("latin1.yaml", b"policy: caf\xe9\n")
    shop.write("list.yaml", "- policy\n")
    shop.write("syntax.yaml", "policy: [a\n")
    (shop.root / "empty-folder").mkdir()

    refused(shop, *words, code=code)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["map", "--by", "colour"], "map-by-unknown-label"),
        (["map", "-o", "flows.log/map.txt"], "unwritable-file"),
        (["map", "-o", "policies"], "unwritable-file"),
        (["map", "-o", "nowhere/map.txt"], "unwritable-file"),
        (["recommend", "--level", "galaxy"], "bad-level"),
        (["recommend", "--for", "app=nope"], "unmatched"),
        (["recommend", "--for", ""], "bad-selector"),
        (["recommend", "-o", "flows.log"], "file-system"),
        (["map", "--since", "2001-01-01", "--until", "2001-01-02"], "no-flows"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_refused_with_traffic_at_hand(busy_shop: ShopEstate, words: list[str], code: str) -> None:
    """Places that cannot be written and questions that cannot be answered: exit 2."""
    refused(busy_shop, *words, code=code)


def test_a_folder_where_a_file_is_expected(shop: ShopEstate) -> None:
    """A folder named ringfence.toml is not taken for no settings."""
    (shop.root / "ringfence.toml").mkdir()

    refused(shop, "policy", "check", code="unreadable-file")


def test_a_file_where_a_folder_is_expected(shop: ShopEstate) -> None:
    """A file named `policies` is not taken for no policies, nor `inventory` for no workloads."""
    other = ShopEstate(shop.root / "other", policies=False)
    other.write("policies", SHOP)
    refused(other, "policy", "check", code="not-a-folder")
    bare = shop.root / "bare"
    bare.mkdir()
    (bare / "inventory").write_text("")
    assert "error[not-a-folder]" in run("policy", "check", "--estate", str(bare)).err


@pytest.mark.parametrize("place", ["nowhere", "flows.log"])
def test_an_estate_that_is_none(shop: ShopEstate, place: str) -> None:
    """A directory that is not there is not looked for in its parents; a file is not its folder."""
    shop.write("flows.log", "")

    ran = run("policy", "check", "--estate", place)

    assert (ran.code, "error[no-estate]" in ran.err) == (2, True)


def test_outside_of_any_estate(tmp_path: Path) -> None:
    """Found upwards like git, and refused where there is none."""
    ran = run("policy", "check", "--estate", str(tmp_path))

    assert ran.code == 2
    assert "help: run `ringfence init` here, or name one with --estate DIR" in ran.err


def test_an_empty_estate_answers(tmp_path: Path) -> None:
    """No workload and no policy is no fault."""
    (tmp_path / "policies").mkdir()

    def of(*words: str) -> tuple[int, str]:
        ran = run(*words, "--estate", str(tmp_path))
        return ran.code, ran.out + ran.err

    assert of("policy", "check") == (0, "0 policies, 0 rules, 0 workloads: no findings\n")
    assert of("policy", "lint")[0] == 0
    assert of("policy", "fmt") == (0, "0 files changed\n")
    assert of("explain", "10.0.0.1", "10.0.0.2", "ssh")[0] == 0
    assert of("reach", "internet")[0] == 0
    assert of("flows", "status")[0] == 0
    assert of("map")[0] == 2


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("w.yaml", "- {name: x, labels: {app: a}, addresses: [10.0.0.300]}\n", "bad-address"),
        ("w.yaml", "- {name: x, lables: {app: a}, addresses: [10.0.0.3]}\n", "unknown-key"),
        ("w.yaml", b"- {name: caf\xe9}\n", "not-utf8"),
        ("w.json", '[{"name": "x", ', "yaml-syntax"),
        ("w.csv", 'name,addresses\nx,"10.0.0.3\n', "bad-csv"),
        ("w.csv", "name,adresses\nx,10.0.0.3\n", "unknown-key"),
        ("label-rules.yaml", "- {when: {cidr: nope}, set: {a: b}}\n", "bad-cidr"),
    ],
)
def test_a_bad_inventory_stops_every_question(shop: ShopEstate, name: str, text: str | bytes, code: str) -> None:
    """Nothing is decided on half an inventory; the fault has its file."""
    shop.write(f"inventory/{name}", text)

    for words in (["policy", "check"], ["explain", "web-1", "db-1", "ssh"], ["decide"]):
        ran = shop.run(*words, "--json")
        assert (ran.code, code in {f["code"] for f in ran.json["findings"]}) == (2, True), words
        assert {f["where"]["file"] for f in ran.json["findings"] if f["code"] == code} == {f"inventory/{name}"}


def test_control_sequences_in_input_do_not_reach_the_terminal(shop: ShopEstate) -> None:
    """An escape in a name or a file name is shown as a mark, wherever it is told; JSON escapes it."""
    shop.write("inventory/odd.json", '[{"name": "a\\u001b[31mb", "labels": {"app": "x"}, "addresses": ["10.8.0.1"]}]')

    told = shop.run("policy", "check")

    assert "bad-name" in told.out
    assert "\x1b" not in told.out + shop.run("explain", "\x1b]0;x\x07", "db-1", "ssh").err
    assert "a�[31mb" in told.out
    assert "\x1b" not in shop.run("policy", "check", "--json").out


def test_a_damaged_store_is_refused(shop: ShopEstate) -> None:
    """A file that is no flow store is neither overwritten nor a traceback."""
    path = shop.write(".ringfence/flows.duckdb", "not a database" * 1000)
    before = path.read_bytes()
    shop.write("flows.log", flow_log())

    for words in (["map"], ["flows", "status"], ["flows", "import", "flows.log"], ["policy", "lint"]):
        refused(shop, *words, code="flow-store-damaged")
    assert path.read_bytes() == before


def test_a_store_in_use_is_refused(busy_shop: ShopEstate) -> None:
    """One process owns the store; the second is told so."""
    held = busy_shop.root / ".ringfence" / "flows.duckdb"
    program = f"import duckdb, sys; c = duckdb.connect({str(held)!r}); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        refused(busy_shop, "map", code="flow-store-locked")
        refused(busy_shop, "flows", "status", code="flow-store-locked")
        other.communicate("")


def test_data_folder_that_is_a_file(shop: ShopEstate) -> None:
    """`.ringfence` as a file: the system's reason, no traceback."""
    shop.write(".ringfence", "")
    shop.write("flows.log", flow_log())

    refused(shop, "flows", "import", "flows.log", code="file-system")


def test_a_flow_file_that_cannot_be_read_is_told_and_the_others_are_kept(shop: ShopEstate) -> None:
    """Exit 1: one file was refused, the other imported."""
    shop.write("logs/a.log", flow_log())
    shop.write("logs/b.log", "hello world\n" * 9)

    ran = shop.run("flows", "import", "logs", "--json")

    states = {os.path.basename(f["file"]): f["state"] for f in ran.json["report"]["files"]}
    assert (ran.code, states) == (1, {"a.log": "imported", "b.log": "refused"})
    assert [f["code"] for f in ran.json["findings"]] == ["flow-format-unknown"]


@pytest.mark.parametrize(
    "words",
    [
        ["explain", "web-1"], ["explain", "a", "b", "c", "--bogus"], ["reach", "x", "--hops", "99"],
        ["reach", "x", "--hops", "many"], ["recommend", "--tight", "11"], ["flows", "prune", "--max-bytes", "-1"],
        ["nonsense"], ["policy", "nonsense"], ["flows", "import"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_usage_errors_end_with_2(words: list[str]) -> None:
    """An unknown option, command or number is a usage error on stderr."""
    ran = run(*words)

    assert (ran.code, ran.out) == (2, "")
    assert "Usage: " in ran.err


# ---- init ----------------------------------------------------------------------------------------------------------


def test_init_makes_an_estate_that_checks(tmp_path: Path) -> None:
    """A new estate is valid as it stands, and its settings example is too when every comment is taken off."""
    place = tmp_path / "new" / "estate"
    ran = run("init", "--estate", str(place), "--json")

    assert ran.code == 0
    assert all((place / name).is_file() for name in ran.json["files"])
    check = run("policy", "check", "--estate", str(place), "--json")
    assert {f["severity"] for f in check.json["findings"]} <= {"warning"}
    settings = place / "ringfence.toml"
    lines = settings.read_text().splitlines()
    live = [line.removeprefix("# ") for line in lines if re.match(r'# (\[|[\w"].* = )', line)]
    settings.write_text("\n".join(live))
    assert len(live) == 17
    check = run("policy", "check", "--estate", str(place), "--json")
    assert {f["severity"] for f in check.json["findings"]} <= {"warning"}


def test_init_leaves_an_existing_gitignore_alone(tmp_path: Path) -> None:
    """A repository becomes an estate; its .gitignore stays, and what to add is said."""
    (tmp_path / ".gitignore").write_text("mine\n")

    ran = run("init", "--estate", str(tmp_path))

    assert (ran.code, (tmp_path / ".gitignore").read_text()) == (0, "mine\n")
    assert "add `.ringfence/`" in ran.err


def test_init_into_a_file_is_refused(tmp_path: Path) -> None:
    """A file is no place for an estate."""
    (tmp_path / "f").write_text("")

    ran = run("init", "--estate", str(tmp_path / "f"))

    assert (ran.code, "error[not-a-folder]" in ran.err) == (2, True)


@pytest.mark.parametrize(("name", "code"), [("guard.YAML.bak", "not-a-policy"), ("guard", "not-a-policy")])
def test_a_file_among_the_policies_that_nobody_would_read_is_refused(tmp_path: Path, name: str, code: str) -> None:
    """What might hold somebody's forbid is never passed over in silence."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / name).write_text("policy: guard\n")

    with pytest.raises(InputError) as refused:
        Estate(tmp_path).policy_files()

    assert refused.value.code == code


@pytest.mark.parametrize(("place", "code"), [("policies", "unreadable-file"), ("inventory", "missing-file")])
def test_a_folder_that_may_not_be_listed_is_not_an_empty_one(
    shop: ShopEstate, monkeypatch: pytest.MonkeyPatch, place: str, code: str
) -> None:
    """Policies and workloads that are not read are missing without a word: a `forbid` among them, too."""
    closed = shop.root / place / "closed"
    closed.mkdir()
    listdir = os.listdir

    def guarded(folder: Path) -> list[str]:
        if folder == closed:
            raise PermissionError(13, "Permission denied", str(folder))
        return listdir(folder)

    monkeypatch.setattr(os, "listdir", guarded)
    ran = shop.run("policy", "check", "--json")

    assert (ran.code, {f["code"] for f in ran.json["findings"]}) == (2, {code})
    assert "closed" in ran.out


@pytest.mark.parametrize(("place", "code"), [("policies", "not-a-policy"), ("inventory", "missing-file")])
def test_a_link_to_a_folder_is_not_passed_over(shop: ShopEstate, tmp_path: Path, place: str, code: str) -> None:
    """It would not be read, so it is refused; a link to a file is read, and so is an estate whose folder is a link."""
    (shop.root / "elsewhere").mkdir()
    (shop.root / "elsewhere" / "more.yaml").write_text("policy: more\nowner: x\nrules: []\n")
    (shop.root / "policies" / "more.yaml").symlink_to(shop.root / "elsewhere" / "more.yaml")
    assert shop.run("policy", "check", "--json").json["policies"] == 3
    linked = shop.root / place / "linked"
    linked.symlink_to(shop.root / "elsewhere")

    ran = shop.run("policy", "check", "--json")

    assert (ran.code, {f["code"] for f in ran.json["findings"]}) == (2, {code})
    linked.unlink()
    (shop.root / place).rename(shop.root / "moved")
    (shop.root / place).symlink_to(shop.root / "moved")
    assert shop.run("policy", "check", "--json").json["policies"] == 3


def test_upper_case_suffixes_are_read_and_dangling_links_refused(tmp_path: Path) -> None:
    """`guard.YAML` is a policy; a link to nothing is an error."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "guard.YAML").write_text("policy: guard\n")
    assert [p.name for p in Estate(tmp_path).policy_files()] == ["guard.YAML"]
    (tmp_path / "policies" / "lost.yaml").symlink_to(tmp_path / "nowhere.yaml")

    with pytest.raises(InputError) as refused:
        Estate(tmp_path).policy_files()

    assert refused.value.code == "dangling-link"
