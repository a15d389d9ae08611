"""Inventory files: the three formats say the same, and every fault has its place."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from ringfence.core.errors import FindingsError
from ringfence.core.identity.inventory import Inventory
from ringfence.core.identity.workload import Lease, Mode, Workload, derived_uuid
from ringfence.core.net.address import parse_address
from ringfence.core.net.service import parse_service
from ringfence.inventory.files import load_paths, load_workloads
from ringfence.inventory.files.codes import CODES

YAML = """\
- name: web-1
  labels: {app: shop, env: prod, role: web}
  addresses: [10.0.1.5, "fd00::5", {address: 10.0.1.6, from: 2026-01-01, to: 2026-02-01T12:00:00Z, network: dmz}]
  mode: {in: enforce, out: observe}
- name: printer
  kind: unmanaged
  labels: {role: printer}
  addresses: 10.0.9.9
"""


def web_1() -> Workload:
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, 12, tzinfo=UTC)
    leases = (
        Lease(parse_address("10.0.1.5")),
        Lease(parse_address("fd00::5")),
        Lease(parse_address("10.0.1.6"), "dmz", start, end),
    )
    labels = {"app": "shop", "env": "prod", "role": "web"}
    return Workload("web-1", derived_uuid("web-1"), labels, leases, mode=Mode("enforce", "observe"))


def read(text: str, file: str = "inventory.yaml") -> tuple[Workload, ...]:
    return load_workloads(text, file).raise_if_errors().workloads


def codes(text: str, file: str = "inventory.yaml") -> list[tuple[str, int, int]]:
    return [(f.code, f.where.line, f.where.column) for f in load_workloads(text, file).findings]


def test_yaml_gives_labels_leases_kind_and_mode() -> None:
    """A YAML entry is one workload with every field it states and the documented default of the others."""
    web, printer = read(YAML)
    assert web == web_1()
    assert (printer.kind, printer.mode, printer.is_controlled) == ("device", Mode(), False)


def test_json_is_read_like_yaml() -> None:
    """The same entries as JSON, indented with tabs, are the same workloads."""
    entry = {
        "name": "web-1",
        "labels": {"app": "shop", "env": "prod", "role": "web"},
        "addresses": [
            "10.0.1.5",
            "fd00::5",
            {"address": "10.0.1.6", "from": "2026-01-01", "to": "2026-02-01T12:00:00Z", "network": "dmz"},
        ],
        "mode": {"in": "enforce", "out": "observe"},
        "kind": None,
    }
    assert read(json.dumps([entry], indent="\t"), "hosts.json") == (web_1(),)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_says_the_same_as_yaml(delimiter: str) -> None:
    """A table with any of the three delimiters, a byte-order mark and padded cells is the same inventory."""
    rows = [
        ["name", "addresses", "kind", "label:app", "label:env", "label:role", "mode:in", "mode:out"],
        ["web-1", "10.0.1.5 fd00::5", "", " shop ", "prod", "web", "enforce", "observe"],
        ["printer", "10.0.9.9", "unmanaged", "", "", "printer", "", ""],
        [],
    ]
    text = "\ufeff" + "\r\n".join(delimiter.join(row) for row in rows)
    expected = msgspec.structs.replace(web_1(), addresses=web_1().addresses[:2])
    assert read(text, "hosts.csv") == (expected, read(YAML)[1])


def test_csv_cells_hold_several_addresses_and_services() -> None:
    """Addresses and services of one cell are separated by spaces or semicolons."""
    text = (
        "name,addresses,kind,label:app,host,unit,services,network\n"
        'h1,"10.0.0.1; fd00::1 10.0.0.2",server,shop,,,,site-b\n'
        "db,,process,,h1,postgresql.service,postgres;tcp/9000-9001,\n"
    )
    host, process = read(text, "hosts.csv")
    assert [(lease.address, lease.network) for lease in host.addresses] == [
        (parse_address(a), "site-b") for a in ("10.0.0.1", "fd00::1", "10.0.0.2")
    ]
    assert process.services == parse_service("tcp/5432") | parse_service("tcp/9000-9001")


def test_a_process_takes_the_mode_and_labels_of_its_host() -> None:
    """A process without a mode has its host's; with one, its own; its labels lie over its host's."""
    text = """
- {name: db, kind: process, host: h1, unit: postgresql.service, labels: {role: db}}
- {name: ssh, kind: process, host: h1, unit: ssh.service, mode: observe}
- {name: h1, labels: {env: prod, role: host}, mode: enforce}
"""
    db, ssh, _ = workloads = read(text)
    assert (db.mode, ssh.mode) == (Mode.both("enforce"), Mode())
    assert Inventory(workloads).labels_of(db) == {"env": "prod", "role": "db"}


def test_values_stay_the_text_that_was_written() -> None:
    """YAML 1.1 truth values, octal-looking numbers and dates are label values as written."""
    (workload,) = read("- {name: a, labels: {on: yes, tier: 010, since: 2026-01-01, empty: ''}}")
    assert workload.labels == {"on": "yes", "tier": "010", "since": "2026-01-01", "empty": ""}


HOST = "- {name: h, labels: {x: y}}\n"
FAULTS = {
    "expected-list": ("name: web\n", 1, 1),
    "expected-mapping": ("- web\n", 1, 3),
    "expected-text": ("- {name: a, labels: {x: y}, kind: [host]}\n", 1, 35),
    "yaml-syntax": ("- {name: web\n", 2, 1),
    "duplicate-key": ("- {name: a, labels: {x: y}, name: b}\n", 1, 29),
    "unknown-key": ("- {name: a, label: {x: y}, labels: {x: y}}\n", 1, 13),
    "missing-key": ("- {name: a, labels: {x: y}, addresses: [{network: b}]}\n", 1, 41),
    "missing-name": ("- {labels: {x: y}}\n", 1, 3),
    "bad-name": ("- {name: internet, labels: {x: y}}\n", 1, 10),
    "duplicate-workload": ("- {name: a, labels: {x: y}}\n- {name: a, labels: {x: z}}\n", 2, 10),
    "bad-uuid": ("- {name: a, labels: {x: y}, uuid: 12}\n", 1, 35),
    "unknown-kind": ("- {name: a, labels: {x: y}, kind: hots}\n", 1, 35),
    "unknown-mode": ("- {name: a, labels: {x: y}, mode: {in: enforced}}\n", 1, 40),
    "bad-label-key": ("- {name: a, labels: {-x: y}}\n", 1, 22),
    "bad-label-value": ("- {name: a, labels: {x: y z}}\n", 1, 25),
    "bad-address": ("- {name: a, labels: {x: y}, addresses: [10.0.0.0/8]}\n", 1, 41),
    "bad-time": ("- {name: a, labels: {x: y}, addresses: [{address: 10.0.0.1, to: soon}]}\n", 1, 65),
    "backwards-lease": (
        "- {name: a, labels: {x: y}, addresses: [{address: 10.0.0.1, from: 2026-02-01, to: 2026-02-01}]}\n",
        1,
        83,
    ),
    "not-a-process": ("- {name: a, labels: {x: y}, unit: nginx.service}\n", 1, 35),
    "process-without-host": ("- {name: a, kind: process, unit: nginx.service}\n", 1, 3),
    "unknown-host": ("- {name: a, kind: process, unit: nginx.service, host: h9}\n", 1, 55),
    "process-address": (HOST + "- {name: a, kind: process, unit: u, host: h, addresses: 10.0.0.1}\n", 2, 57),
    "bad-host": ("- {name: p, labels: {x: y}, kind: device}\n- {name: a, kind: process, unit: u, host: p}\n", 2, 43),
    "bad-service": (HOST + "- {name: a, kind: process, unit: u, host: h, services: [postgers]}\n", 2, 57),
    "service-owned-twice": (
        HOST + "- {name: a, kind: process, unit: u, host: h}\n- {name: b, kind: process, unit: u, host: h}\n",
        3,
        10,
    ),
    "bad-spiffe-id": ("- {name: a, labels: {x: y}, spiffe: example.org/web}\n", 1, 37),
}  # fmt: skip


@pytest.mark.parametrize("code", FAULTS)
def test_every_error_has_its_code_and_place(code: str) -> None:
    """Each fault is one error with its code, line and column, and stops a publish."""
    text, line, column = FAULTS[code]
    assert codes(text) == [(code, line, column)]
    with pytest.raises(FindingsError) as raised:
        read(text)
    assert raised.value.code == code


CSV_FAULTS = {
    "unknown-key": ("name,adresses,label:x\na,10.0.0.1,y\n", 1, 6),
    "duplicate-key": ("name,label:x,label:x\na,y,z\n", 1, 14),
    "missing-name": ("label:x\ny\n", 2, 1),
    "bad-csv": ("name,label:x\na,y,z\n", 2, 5),
    "mode-twice": ("name,label:x,mode,mode:in\na,y,enforce,observe\n", 2, 13),
    "bad-label-value": ('name,label:x\n"a, the first",y z\n', 2, 16),
    "bad-address": ("name,addresses,label:x\na,10.0.0.1 10.0.0.300,y\n", 2, 12),
}


@pytest.mark.parametrize("code", CSV_FAULTS)
def test_every_error_of_a_table_names_its_cell(code: str) -> None:
    """A fault in a table points at the cell, or the word in it, quoted cells before it notwithstanding."""
    text, line, column = CSV_FAULTS[code]
    assert (code, line, column) in codes(text, "hosts.csv")


WARNINGS = {
    "unlabelled": ("- name: a\n", 1, 9),
    "empty-inventory": ("# nothing yet\n", 0, 0),
    "mode-without-control": ("- {name: a, labels: {x: y}, kind: device, mode: enforce}\n", 1, 49),
    "duplicate-address": ('- {name: a, labels: {x: y}, addresses: [10.0.0.1, "::ffff:10.0.0.1"]}\n', 1, 41),
    "address-conflict": (
        HOST + "- {name: a, labels: {x: y}, addresses: 10.0.0.1}\n- {name: b, labels: {x: y}, addresses: 10.0.0.1}\n",
        3,
        40,
    ),
}  # fmt: skip


@pytest.mark.parametrize("code", WARNINGS)
def test_warnings_do_not_stop_a_publish(code: str) -> None:
    """What a person should know but may leave is a warning with its place."""
    text, line, column = WARNINGS[code]
    loaded = load_workloads(text, "inventory.yaml").raise_if_errors()
    assert [(f.code, f.severity, f.where.line, f.where.column) for f in loaded.findings] == [
        (code, "warning", line, column)
    ]


def test_all_findings_come_at_once() -> None:
    """Faults of several entries and keys are reported together, in the order of the file."""
    text = "- {nmae: a, kind: hots}\n- {name: b, uuid: x, addresses: [10.0.0.999, 224.0.0.1]}\n"
    found = [code for code, _, _ in codes(text)]
    assert found == ["missing-name", "unknown-key", "unknown-kind", "bad-uuid", "bad-address", "bad-address"]


def test_help_names_the_word_that_was_meant() -> None:
    """An unknown word comes with the nearest known one."""
    found = load_workloads("- {nmae: a, kind: hots}\n", "a.yaml").findings
    helps = {f.code: f.help for f in found}
    assert (helps["unknown-key"], helps["unknown-kind"]) == ("did you mean `name`?", "did you mean `host`?")


@pytest.mark.parametrize(
    ("written", "help_"), [("10.0.0.5/24", "write `10.0.0.5`"), ("fe80::1%eth0", "write `fe80::1`")]
)
def test_an_interface_address_gets_the_address_as_help(written: str, help_: str) -> None:
    """What `ip address` prints is answered with the address alone."""
    (finding,) = load_workloads(f'- {{name: a, labels: {{x: y}}, addresses: "{written}"}}', "a.yaml").findings
    assert finding.help == help_


def test_leases_that_follow_each_other_are_no_conflict() -> None:
    """An address may pass from one workload to the next: leases are half open."""
    text = """
- {name: a, labels: {x: y}, addresses: [{address: 10.0.0.1, to: 2026-06-01}]}
- {name: b, labels: {x: y}, addresses: [{address: 10.0.0.1, from: 2026-06-01}]}
- {name: c, labels: {x: y}, addresses: [{address: 10.0.0.1, network: other}]}
"""
    assert codes(text) == []


def test_a_conflict_names_exactly_the_disputing_holders() -> None:
    """Of four holders of one address in turn, only the two whose leases overlap are named."""
    text = """
- {name: a, labels: {x: y}, addresses: [{address: 10.0.0.1, to: 2026-01-01}]}
- {name: b, labels: {x: y}, addresses: [{address: 10.0.0.1, from: 2026-01-01, to: 2026-03-01}]}
- {name: c, labels: {x: y}, addresses: [{address: 10.0.0.1, from: 2026-02-01, to: 2026-04-01}]}
- {name: d, labels: {x: y}, addresses: [{address: 10.0.0.1, from: 2026-04-01}]}
"""
    (finding,) = load_workloads(text, "a.yaml").findings
    assert finding.message == "`10.0.0.1` in network `main` is held by b, c at one time"


def test_overlapping_leases_of_one_workload_become_one() -> None:
    """A workload that lists an address for two overlapping times holds it once, for both."""
    text = """
- name: a
  labels: {x: y}
  addresses:
    - {address: 10.0.0.1, from: 2026-01-01, to: 2026-03-01}
    - {address: 10.0.0.1, from: 2026-02-01, to: 2026-04-01}
"""
    (workload,) = load_workloads(text, "a.yaml").workloads
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
    assert workload.addresses == (Lease(parse_address("10.0.0.1"), "main", start, end),)


def test_a_workload_with_an_error_is_not_half_read() -> None:
    """An entry with any error gives no workload; the others are still there to be looked at."""
    loaded = load_workloads("- {name: a, labels: {x: y z}}\n- {name: b, labels: {x: y}}\n", "a.yaml")
    assert [w.name for w in loaded.workloads] == ["b"]


def test_files_of_a_folder_are_one_inventory(tmp_path: Path) -> None:
    """Names are unique across files, and a process runs on a host that another file names."""
    (tmp_path / "hosts.csv").write_text("name,addresses,label:app\nh1,10.0.0.1,shop\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "more.yaml").write_text("- {name: db, kind: process, host: h1, unit: u}\n- {name: h1}\n")
    loaded = load_paths([tmp_path])
    assert [(f.code, Path(f.where.file).name) for f in loaded.findings] == [("duplicate-workload", "more.yaml")]
    assert [w.name for w in loaded.workloads] == ["h1", "db"]


def test_files_that_cannot_be_read_are_errors(tmp_path: Path) -> None:
    """A missing path, another encoding and an unknown suffix are each refused, never skipped."""
    (tmp_path / "a.csv").write_bytes("näme\n".encode("latin-1"))
    (tmp_path / "b.xlsx").write_bytes(b"PK")
    found = load_paths([tmp_path / "a.csv", tmp_path / "b.xlsx", tmp_path / "c.yaml"]).findings
    assert sorted(f.code for f in found) == ["missing-file", "not-utf8", "unknown-format"]


def test_the_order_of_paths_changes_nothing(tmp_path: Path) -> None:
    """Two orders of the same files give the same inventory and the same findings."""
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.yaml").write_text(f"- {{name: {name}, addresses: 10.0.0.1}}\n- {{name: x}}\n")
    paths = sorted(tmp_path.iterdir())
    assert load_paths(paths) == load_paths(paths[::-1])


def test_every_code_in_the_table_has_a_test() -> None:
    """No code is documented that nothing raises."""
    here = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [code for code in CODES if f'"{code}"' not in here] == []
