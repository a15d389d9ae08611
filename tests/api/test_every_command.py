"""Every command with --json: one document on stdout, words on stderr, the exit code that is documented; wrong use, too.

A command without a case here fails: `CASES` is what it does, `WRONG` how it is used wrongly.
"""

from __future__ import annotations

import json
import logging
import re
import runpy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
import typer
from fleet import Fleet, fleet_in
from serving import SHOP, eventually
from typer.testing import CliRunner

from ringfence.cli.main import app
from ringfence.codes import AREAS
from ringfence.lab import namespaces
from ringfence.wire import api
from ringfence.wire.messages import Event

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "json.md").read_text("utf-8")
COMMANDS: dict[str, Any] = {
    " ".join(path): one
    for path, one in runpy.run_path(str(ROOT / "scripts" / "docs"))["_commands"](typer.main.get_command(app), ())
}
AT_A_CONTROLLER = [
    name for name, one in COMMANDS.items() if any("Another controller" in (p.help or "") for p in one.params)
]
KNOWN = {code for codes in AREAS.values() for code in codes}
QUESTION = '{"source":"web","destination":"db","service":"tcp/5432"}\n'
YES = ("--why", "a test", "--yes")
WIDER = SHOP.replace("tests:", "  - allow: {from: role=web, to: role=db, service: tcp/22}\ntests:")
CLOSED = "policy: shop\nowner: team-shop\nscope: app=shop\nrules: []\n"


@dataclass(frozen=True)
class Case:
    """One command line without --json, what it ends with, and what stands on stdout with --json."""

    words: str
    code: int | tuple[int, ...] = 0
    more: tuple[str, ...] = ()
    kind: Literal["document", "lines", "nothing"] = "document"
    stdin: str = ""
    error: str = ""
    """The code of the error it must end with."""


@dataclass
class Ran:
    """A case that was run."""

    case: Case
    words: list[str]
    code: int
    out: str
    err: str

    @property
    def documents(self) -> list[Any]:
        """What stands on stdout: all of it one document, or one a line."""
        if self.case.kind == "nothing":
            assert self.out == ""
            return []
        texts = [self.out] if self.case.kind == "document" else self.out.splitlines()
        return [json.loads(text) for text in texts]


CASES: dict[str, tuple[Case, ...]] = {
    "init": (Case("init --estate {tmp}/fresh"),),
    "flows import": (
        Case("flows import flows.log"), Case("flows import -", stdin="hello world\n" * 9, code=1),
        Case("flows import flows.log --fleet"), Case("flows import - --fleet", stdin="hello world\n" * 9, code=1),
    ),
    "flows status": (Case("flows status"), Case("flows status --since 7d")),
    "flows prune": (Case("flows prune --max-days 3650"),),
    "map": (Case("map"), Case("map --by role"), Case("map -o {tmp}/map.json", kind="nothing")),
    "recommend": (
        Case("recommend", code=1), Case("recommend -o {tmp}/drafts", code=1), Case("recommend --fleet", code=1),
        Case("recommend --fleet -o {tmp}/theirs", code=1),
    ),
    "policy check": (Case("policy check"), Case("policy check {tmp}/broken.yaml", code=2)),
    "policy test": (Case("policy test"),),
    "policy lint": (Case("policy lint"),),
    "policy fmt": (Case("policy fmt --check", code=1), Case("policy fmt"), Case("policy fmt --check")),
    "policy diff": (Case("policy diff policies"), Case("policy diff policies {tmp}/wider", code=1)),
    "policy schema": (Case("policy schema"),),
    "simulate": (Case("simulate"), Case("simulate --as enforce {tmp}/nothing-passes.yaml", code=1)),
    "explain": (Case("explain web db tcp/5432"), Case("explain web db ssh", 1), Case("explain web db ssh --fleet")),
    "decide": (
        Case("decide", kind="lines", stdin=QUESTION * 3),
        Case("decide --fleet", kind="lines", stdin=QUESTION + "{}\n", code=2),
    ),
    "reach": (Case("reach role=db"), Case("reach role=db --from --fleet")),
    "render": (Case("render nftables web"),),
    "enforce": (Case("enforce nftables web --plan", code=1),),
    "nats-config": (Case("nats-config {tmp}/nats-controller --server n-1.example -o {tmp}/nats"),),
    "up": (),
    "login": (Case("login {url} --ca-fingerprint {fingerprint} --token -", stdin="{token}\n"),),
    "plan": (Case("plan"),),
    "apply": (
        Case("apply --trial none", code=2, more=YES[:2], error="not-confirmed"),
        Case("apply --wait --trial none", more=YES),
        Case("apply --wait --trial none", more=YES),
    ),
    "rollout": (Case("rollout"), Case("rollout --wait")),
    "versions": (Case("versions"), Case("versions --diff 1 2", code=1), Case("versions --show 1")),
    "pull": (Case("pull"), Case("pull 1 --estate {tmp}/pulled")),
    "rollback": (Case("rollback 1 --wait --trial none", more=YES),),
    "propose": (Case("propose", more=YES[:2]),),
    "proposals": (
        Case("proposals"), Case("proposals --approve {approved}", more=YES),
        Case("proposals --reject {rejected}", more=YES),
    ),
    "label": (
        Case("label web --put tier=front --plan"), Case("label web --put tier=front", more=YES),
        Case("label web --put tier=front", more=YES), Case("label web --put role=none --plan", code=1),
    ),
    "mode": (
        Case("mode web --both enforce"), Case("mode web --in observe --plan"), Case("mode web --in observe", more=YES)
    ),
    "alerts": (  # before a quarantine, which is an alert of its own until a moment after its end
        Case("alerts", code=1), Case("alerts ack {alert}", more=YES[:2]), Case("alerts"),
        Case("alerts resolve {alert}", more=YES[:2]), Case("alerts --all"),
    ),
    "quarantine": (
        Case("quarantine web --plan"), Case("quarantine web", more=YES), Case("quarantine")
    ),
    "release": (Case("release web", more=YES),),
    "evidence": (
        Case("evidence"), Case("evidence web", more=YES[:2]), Case("evidence --get {bundle} -o {tmp}/bundle.tar.gz"),
        Case("evidence delete {bundle}", more=YES),
    ),
    "audit": (Case("audit --limit 3"), Case("audit verify")),
    "agent profile": (Case("agent profile"), Case("agent profile new --label role=new"), Case("agent profile new")),
    "agent invite": (Case("agent invite web"),),
    "agent invitations": (Case("agent invitations"), Case("agent invitations --revoke {invitation} --yes")),
    "agent list": (Case("agent list"),),
    "agent show": (Case("agent show web"),),
    "status": (Case("status"), Case("status web")),
    "agent revoke": (Case("agent revoke spare", more=YES),),
    "agent retire": (Case("agent retire spare", more=YES),),
    "agent enrol": (Case("agent enrol --token - --dir {tmp}/agent", stdin="{join}\n"),),
    "agent status": (Case("agent status --dir {tmp}/agent", code=1),),
    "agent preflight": (Case("agent preflight --dir {tmp}/agent", code=(0, 1, 3)),),
    "agent run": (Case("agent run --dir {tmp}/nobody", code=2, error="identity-missing"),),
    "agent disable": (
        Case(
            "agent disable --for 5m --why x --dir {tmp}/agent --config {tmp}/agent.toml",
            code=3, error="namespace-missing",
        ),
    ),
    "agent enable": (Case("agent enable --dir {tmp}/nobody", code=2, error="not-disabled"),),
    "agent uninstall": (Case("agent uninstall --leave nowhere", code=2, error="bad-usage"),),
    "token grant": (Case("token grant ann --role author"),),
    "token list": (Case("token list"),),
    "token revoke": (Case("token revoke {granted} --yes"),),
    "backup": (Case("backup {tmp}/backup"),),
    "restore": (Case("restore {tmp}/backup {tmp}/restored"),),
    "confirm-restore": (Case("confirm-restore --yes", code=2, error="not-restored"),),
    "lab demo": (Case("lab demo --recorded -o {tmp}/demo"),),
    "lab up": (Case("lab up nowhere -o {tmp}/lab", code=2, error="lab-world-unknown"),),
    "lab run": (Case("lab run nowhere -o {tmp}/lab", code=2, error="lab-world-unknown"),),
    "lab down": (Case("lab down"),),
    "logout": (Case("logout"),),
}  # fmt: skip
"""In the order they are run in: each finds what those before it left."""

QUESTIONS = (
    "flows status", "map", "recommend", "policy check", "policy test", "policy lint", "policy diff", "simulate",
    "explain", "reach", "render", "plan", "rollout", "versions", "audit", "agent list", "agent show", "token list",
)  # fmt: skip
"""Commands that change nothing, whoever asks."""

WRONG: dict[str, tuple[tuple[str, str], ...]] = {
    "init": (("init --estate {tmp}/file", "not-a-folder"), ("init --estate /proc", "unwritable-file")),
    "flows import": (
        ("flows import nowhere.log", "flow-path-missing"), ("flows import nowhere.log --fleet", "flow-path-missing"),
    ),
    "flows status": (("flows status --since yesterday", "bad-time"),),
    "flows prune": (("flows prune --max-days many", "bad-usage"),),
    "map": (
        ("map --by colour", "map-by-unknown-label"), ("map -o {tmp}/none/map.json", "unwritable-file"),
        ("map -f pdf", "unknown-format"),
    ),
    "recommend": (("recommend --for app=nope", "unmatched"), ("recommend --level odd", "bad-level")),
    "policy check": (("policy check nowhere", "missing-file"),),
    "policy test": (("policy test nowhere", "missing-file"), ("policy test --at soon", "bad-time")),
    "policy lint": (("policy lint nowhere", "missing-file"),),
    "policy fmt": (("policy fmt nowhere", "missing-file"),),
    "policy diff": (("policy diff nowhere", "missing-file"),),
    "policy schema": (("policy schema more", "bad-usage"),),
    "simulate": (("simulate nowhere", "missing-file"), ("simulate --as strict", "unknown-mode")),
    "explain": (
        ("explain nobody db ssh", "unknown-endpoint"), ("explain nobody db ssh --fleet", "unknown-endpoint"),
        ("explain web db ssh --draft .", "contradictory-options"), ("explain web db", "bad-usage"),
    ),
    "decide": (("decide --as strict", "unknown-mode"), ("decide --fleet --draft {tmp}/none", "no-estate")),
    "reach": (("reach nobody", "unknown-endpoint"), ("reach nobody --fleet", "unknown-endpoint")),
    "render": (("render iptables web", "unknown-adapter"), ("render nftables nobody", "unknown-workload")),
    "enforce": (("enforce nftables nobody --plan", "unknown-workload"),),
    "nats-config": (
        ("nats-config {tmp}/nats-controller", "bad-bus-url"),
        ("nats-config {tmp}/nats-controller --server n-1.example -o {tmp}/file", "file-system"),
    ),
    "up": (
        ("up {tmp}/file", "file-system"), ("up {tmp}/wrong", "bad-controller-config"),
        ("up {tmp}/x --port 99999", "bad-usage"),
    ),
    "login": (
        ("login https://x:99999 --ca-fingerprint {fingerprint} --token x", "bad-server"),
        ("login https://[x --ca-fingerprint {fingerprint} --token x", "bad-server"),
        ("login https://x..y --ca-fingerprint {fingerprint} --token x", "bad-server"),
        ("login {url} --ca-fingerprint {fingerprint} --token schlüssel", "bad-token"),
        ("login {url} --ca-fingerprint abc --token x", "bad-fingerprint"),
        ("login {url} --ca-fingerprint {other} --token x", "controller-unknown"),
        ("login {url} --ca-fingerprint {fingerprint} --token x", "token-refused"),
    ),
    "logout": (("logout https://nobody.example", "not-logged-in"),),
    "status": (("status nobody", "unknown-workload"), ("status --server https://x:99999", "not-logged-in")),
    "plan": (("plan --estate {tmp}/none", "no-estate"),),
    "apply": (
        ("apply --within soon --why x --yes", "bad-duration"), ("apply --canary role=nobody", "unmatched"),
        ("apply --estate {tmp}/none", "no-estate"), ("apply --planned another --why x --yes", "plan-changed"),
    ),
    "rollback": (("rollback 99 --why x --yes", "unknown-version"), ("rollback 1 --within soon", "bad-duration")),
    "rollout": (("rollout --within soon", "bad-duration"), ("rollout --go-on --yes", "no-rollout"),
                ("rollout --stop --yes", "no-rollout"), ("rollout --stop --go-on", "contradictory-options")),
    "versions": (("versions --show 99", "unknown-version"), ("versions --diff 1 99", "unknown-version")),
    "pull": (("pull 99", "unknown-version"), ("pull --estate {tmp}/file", "no-estate")),
    "propose": (("propose", "no-reason"),),
    "proposals": (("proposals --approve nobody", "unknown-proposal"),
                  ("proposals --reject nobody --why x", "unknown-proposal")),
    "label": (
        ("label nobody --put a=b", "unknown-workload"), ("label web --put role", "bad-label-key"),
        ("label role=nobody --put a=b", "unmatched"), ("label a! --put a=b", "bad-selector"),
    ),
    "mode": (("mode nobody --both enforce", "unknown-workload"), ("mode web --both strict", "unknown-mode")),
    "quarantine": (
        ("quarantine nobody --why x", "unknown-workload"), ("quarantine web --why x --level odd", "unknown-level"),
        ("quarantine web --why x --for soon", "bad-duration"), ("quarantine web", "no-reason"),
    ),
    "release": (("release nobody --why x", "unknown-workload"),),
    "alerts": (("alerts smash x", "bad-action"), ("alerts ack nobody --why x", "unknown-alert")),
    "audit": (("audit smash", "bad-action"), ("audit --limit 0", "bad-usage")),
    "evidence": (
        ("evidence nobody --why x", "unknown-workload"), ("evidence --get nobody", "unknown-evidence"),
        ("evidence delete nobody --why x --yes", "unknown-evidence"),
        ("evidence --get {bundle} -o {tmp}/none/bundle", "file-system"),
        ("evidence --get {bundle} -o {tmp}/file", "file-taken"),
    ),
    "backup": (("backup {tmp}/file", "file-taken"), ("backup {tmp}/none/backup", "file-system")),
    "restore": (
        ("restore nowhere {tmp}/x", "backup-unreadable"), ("restore {tmp}/file {tmp}/x", "backup-unreadable"),
    ),
    "confirm-restore": (("confirm-restore --yes", "not-restored"),),
    "agent profile": (
        ("agent profile web --label role=x", "record-exists"), ("agent profile x --mode strict", "unknown-mode"),
    ),
    "agent invite": (("agent invite nobody", "record-missing"), ("agent invite web --uses none", "bad-grant")),
    "agent invitations": (("agent invitations --revoke nobody --yes", "record-missing"),),
    "agent list": (("agent list --selector a!", "bad-selector"),),
    "agent show": (("agent show nobody", "unknown-workload"),),
    "agent revoke": (("agent revoke nobody --why x --yes", "unknown-workload"),),
    "agent retire": (("agent retire nobody --why x --yes", "unknown-workload"),),
    "agent enrol": (("agent enrol --token rfj_x --dir {tmp}/x", "bad-token"), ("agent enrol", "bad-usage")),
    "agent run": (("agent run --bogus", "bad-usage"),),
    "agent status": (
        ("agent status more", "bad-usage"), ("agent status --config {tmp}/broken.yaml", "bad-agent-config"),
    ),
    "agent preflight": (("agent preflight more", "bad-usage"),),
    "agent disable": (("agent disable --for soon --why x --dir {tmp}/x", "bad-duration"),),
    "agent enable": (("agent enable --why x", "bad-usage"),),
    "agent uninstall": (("agent uninstall", "bad-usage"),),
    "token grant": (
        ("token grant x --role king", "bad-grant"), ("token grant x --role author --for soon", "bad-duration"),
    ),
    "token revoke": (("token revoke nobody --yes", "record-missing"),),
    "token list": (("token list more", "bad-usage"),),
    "lab demo": (("lab demo --recorded -o {tmp}/file", "file-system"), ("lab demo --seconds 0", "bad-usage")),
    "lab up": (("lab up nowhere -o {tmp}/lab", "lab-world-unknown"), ("lab up -o {tmp}/file", "file-system")),
    "lab run": (("lab run --seconds 0", "bad-usage"), ("lab run -o {tmp}/file", "file-system")),
    "lab down": (("lab down more", "bad-usage"),),
}  # fmt: skip
"""How a command is used wrongly, and the code it is refused with; each ends with 2."""


class World:
    """A fleet with a history, an estate with traffic, and what both are called."""

    def __init__(self, fleet: Fleet, tmp: Path) -> None:
        self.fleet, self.tmp, self.runner = fleet, tmp, CliRunner()
        controller = fleet.served.controller
        self.known = {
            "tmp": str(tmp),
            "url": controller.settings.url,
            "fingerprint": controller.authority.fingerprints[0],
            "other": "0" * 64,
            "token": fleet.served.token,
        }
        self._write_files()
        assert self.ring(["flows", "import", "flows.log"]).exit_code == 0
        for text in (SHOP, WIDER):
            fleet.publish(text)
        fleet.hosts["spare"] = fleet._host("spare", "10.0.0.3")
        fleet.hosts["web"].say(Event(1.0, "tampering", "somebody removed a rule"))
        self.known["alert"] = eventually(lambda: [one.id for one in fleet.client.alerts()])[0]
        self.known["bundle"] = self._bundle()
        self.author = fleet.served.client(fleet.client.grant(api.Grant("author", ("author",))))

    def _write_files(self) -> None:
        uuids = {one.name: one.uuid for one in self.fleet.client.workloads()}
        hosts = (("web", "10.0.0.1"), ("db", "10.0.0.2"))
        inventory = "".join(
            f"- {{name: {name}, uuid: {uuids[name]}, mode: enforce, labels: {{app: shop, role: {name}}},"
            f" addresses: [{address}]}}\n"
            for name, address in hosts
        )
        files = {
            self.fleet.estate / "inventory" / "hosts.yaml": inventory,
            self.fleet.estate / "flows.log": _flow_log(),
            self.tmp / "wider" / "shop.yaml": WIDER,
            self.tmp / "nothing-passes.yaml": CLOSED,
            self.tmp / "broken.yaml": "policy: [a\n",
            self.tmp / "wrong" / "controller.toml": "[[",
            self.tmp / "agent.toml": 'netns = "nowhere"\n',
            self.tmp / "file": "",
        }
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def _bundle(self) -> str:
        asked = self.fleet.client.ask_evidence(api.AskEvidence("web", "incident 4711"))
        self.fleet.hosts["web"].send_evidence(b"\x1f\x8b" + b"x" * 100, asked.id)
        eventually(lambda: [one.state for one in self.fleet.client.evidence() if one.id == asked.id] == ["here"])
        return asked.id

    def named(self, text: str) -> str:
        """The text with what `{...}` is called; what is used up is made when it is asked for."""
        client = self.fleet.client
        made = {
            "approved": lambda: self._proposed(WIDER),
            "rejected": lambda: self._proposed(SHOP),
            "join": lambda: client.invite(api.Invite("web")).token,
            "invitation": lambda: (client.invite(api.Invite("web")), client.invitations()[0].id)[1],
            "granted": lambda: client.grant(api.Grant("bob", ("viewer",))).split("_")[1],
        }
        return re.sub(r"\{(\w+)\}", lambda found: self.known.get(found[1]) or made[found[1]](), text)

    def _proposed(self, text: str) -> str:
        base = self.fleet.client.versions(limit=1)[0].number
        return self.author.propose(api.Draft({"shop.yaml": text}, base, note="a test")).id

    def ring(self, words: Iterable[str], *, stdin: str = "", **env: str) -> Any:
        logger = logging.getLogger()
        handlers, level = logger.handlers[:], logger.level  # `up` takes them for its own
        done = self.runner.invoke(app, list(words), input=stdin, env=env)
        logger.handlers[:] = handlers
        logger.setLevel(level)
        return done

    def run(self, case: Case, *, is_json: bool = True) -> Ran:
        words = [*self.named(case.words).split(), *case.more, *(["--json"] if is_json else [])]
        done = self.ring(words, stdin=self.named(case.stdin))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Ran(case, words, done.exit_code, done.stdout, done.stderr)


def _flow_log() -> str:
    head = "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action"
    start = int((datetime.now(UTC) - timedelta(days=1)).timestamp())
    rows = (
        f"2 1 eni-1 10.0.0.1 10.0.0.2 {40_000 + n} 5432 6 10 1000 {start + n} {start + n + 5} ACCEPT OK"
        for n in range(9)
    )
    return "\n".join([f"{head} log-status", *rows]) + "\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    tmp = tmp_path_factory.mktemp("every")
    with fleet_in(tmp) as fleet, pytest.MonkeyPatch.context() as patch:
        patch.setattr(namespaces, "running", lambda: ())  # other people's labs stay up
        patch.setattr(namespaces, "sweep", list)
        yield World(fleet, tmp)


@pytest.fixture(scope="module")
def ran(world: World) -> dict[str, list[Ran]]:
    """Every case, in the order of `CASES`."""
    done = {name: [world.run(case) for case in cases] for name, cases in CASES.items()}
    world.run(CASES["login"][0])  # the last of them logged out
    return done


# ---- used wrongly ----------------------------------------------------------------------------------------------------


def refusal(done: Any, code: str, exit_code: int = 2) -> None:
    """One JSON document on stdout that tells the code, what is wrong and what to do; no traceback anywhere."""
    assert isinstance(done.exception, SystemExit | None), done.exception
    document = json.loads(done.stdout)
    (*_, last) = document["findings"]
    assert (document["error"], done.exit_code) == (code, exit_code), document
    assert last["message"]
    assert document["findings"][0]["help"]
    assert document["error"] in KNOWN
    assert "Traceback" not in done.stderr
    assert "error[" not in done.stderr


def test_every_command_has_its_cases() -> None:
    """What it does, and how it is used wrongly."""
    assert set(CASES) == set(COMMANDS)
    assert set(WRONG) == set(COMMANDS)


@pytest.mark.parametrize(
    ("words", "code"), [pytest.param(*one, id=one[0]) for name in COMMANDS for one in WRONG.get(name, ())]
)
def test_used_wrongly(world: World, words: str, code: str) -> None:
    """An unknown name, a selector that is none, a place that cannot be written: exit 2 and the code, in JSON and in
    words."""
    named = world.named(words).split()
    refusal(world.ring([*named, "--json"]), code)
    told = world.ring(named)

    assert (told.exit_code, told.stdout) == (2, "")
    assert f"error[{code}]" in told.stderr or (code == "bad-usage" and "rror: " in told.stderr)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_is_told_as_json(world: World, name: str) -> None:
    """Also where the command line cannot be read at all."""
    refusal(world.ring([*name.split(), "--no-such-option", "--json"]), "bad-usage")


@pytest.mark.parametrize("words", ["nonsense", "polcy check", "policy nonsense", "policy", "token", "--nonsense"])
def test_an_unknown_command_is_told_as_json(world: World, words: str) -> None:
    """At the root and in a family."""
    refusal(world.ring([*words.split(), "--json"]), "bad-usage")


@pytest.mark.parametrize("name", AT_A_CONTROLLER)
def test_a_controller_that_cannot_be_asked(world: World, name: str) -> None:
    """Not there: 3. It refuses the token, or nobody is logged in there: 2. Nothing is changed, nothing else is said."""
    case = CASES[name][0]
    words = [*world.named(case.words).split(), *case.more, "--json"]
    (world.tmp / "ca.pem").write_text(world.fleet.served.ca)
    known = {"RINGFENCE_CA": str(world.tmp / "ca.pem"), "RINGFENCE_TOKEN": "rf_000000000000_x"}

    refusal(
        world.ring([*words, "--server", "https://localhost:1"], stdin=case.stdin, **known), "controller-unreachable", 3
    )
    refusal(world.ring([*words, "--server", world.known["url"]], stdin=case.stdin, **known), "token-refused")
    refusal(world.ring([*words, "--server", "https://elsewhere.example"], stdin=case.stdin), "not-logged-in")


# ---- used rightly ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_json_is_all_there_is_on_stdout(ran: dict[str, list[Ran]], name: str) -> None:
    """One document, or one a line; the exit code that is documented; an error by its code."""
    for one in ran[name]:
        codes = one.case.code if isinstance(one.case.code, tuple) else (one.case.code,)
        assert one.code in codes, (one.words, one.out, one.err)
        for document in one.documents:
            error = document.get("error", "") if isinstance(document, dict) else ""
            if one.case.kind == "document" and one.code != 3:
                assert error == one.case.error, (one.words, document)
        assert "Traceback" not in one.err


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"policy schema"}))
def test_every_field_is_documented(ran: dict[str, list[Ran]], name: str) -> None:
    """The keys of each answer stand in docs/reference/json.md, in the section of the command."""
    told = told_in(name)
    for one in ran[name]:
        for document in one.documents:
            first = document[0] if isinstance(document, list) and document else document
            assert set(first or ()) <= told | {"error", "findings", "message", "help", "line"}, one.words


def told_in(name: str, *, depth: int = 2) -> set[str]:
    """The words in backticks and the keys of the example in a section, and in those it refers to."""
    found = re.search(rf"^## {name}( --plan)?\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    if found is None:
        return set()
    words = set(re.findall(r"`([^`]+)`", found[2].replace("```", ""))) | set(re.findall(r'"([a-z_]+)":', found[2]))
    others = [other for word in words if (other := word.partition(" --")[0]) in COMMANDS and other != name]
    if not depth:
        return words
    return words.union(*(told_in(other, depth=depth - 1) for other in others))


@pytest.mark.parametrize("name", QUESTIONS)
def test_people_get_the_same_exit_code(world: World, name: str) -> None:
    """Without --json the answer is text and the code is the same."""
    for case in CASES[name]:
        if case.kind != "document" or case.more:
            continue
        told, document = world.run(case, is_json=False), world.run(case)
        assert told.code == document.code, case
        assert told.out.strip()
        with pytest.raises(json.JSONDecodeError):
            json.loads(told.out)
