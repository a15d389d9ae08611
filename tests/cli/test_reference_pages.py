"""The reference pages say what the program does: made from it, or compared with it."""

from __future__ import annotations

import ast
import json
import re
import runpy
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from cli_estate import SHOP, ShopEstate, flow_log

from ringfence.cli.main import app
from ringfence.codes import AREAS
from ringfence.settings import Settings

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
DOCS = runpy.run_path(str(ROOT / "scripts" / "docs"))
CODE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@pytest.mark.parametrize("page", sorted(DOCS["PAGES"]))
def test_made_pages_are_up_to_date(page: str) -> None:
    """What scripts/docs would write is what is there."""
    assert (REFERENCE / page).read_text("utf-8") == DOCS["PAGES"][page](), "run scripts/docs"


def commands() -> dict[str, Any]:
    return {" ".join(path): command for path, command in DOCS["_commands"](typer.main.get_command(app), ())}


@pytest.mark.parametrize("name", commands())
def test_every_command_helps_with_an_example(name: str) -> None:
    """Help, an example of that very command, and the options all commands have."""
    command = commands()[name]

    assert command.help
    assert re.search(rf"Example: .*ringfence {name}", command.epilog or "")
    assert {"estate", "json", "quiet"} <= {parameter.name for parameter in command.params}


# ---- settings ------------------------------------------------------------------------------------------------------


def settings_keys(kind: Any = Settings, prefix: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(kind):
        inner = next((t for t in (field.type, *getattr(field.type, "__args__", ())) if _is_struct(t)), None)
        yield from settings_keys(inner, f"{prefix}{field.name}.") if inner else [f"{prefix}{field.name}"]


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def test_every_setting_is_documented_and_nothing_else() -> None:
    """The page's tables name exactly the keys there are."""
    told = re.findall(r"^\| `([a-z._]+)` \|", (REFERENCE / "settings.md").read_text(), re.MULTILINE)

    assert sorted(told) == sorted(settings_keys())


def test_the_settings_example_is_read(shop: ShopEstate) -> None:
    """The page's example is a valid file with every table in it."""
    (text,) = re.findall(r"```toml\n(.*?)```", (REFERENCE / "settings.md").read_text(), re.DOTALL)
    shop.write("ringfence.toml", text)

    assert shop.run("policy", "test").code == 0
    assert set(tomllib.loads(text)) == {field.name for field in msgspec.structs.fields(Settings)}


# ---- codes ---------------------------------------------------------------------------------------------------------

RAISING = re.compile(
    r".*(Finding|Error|Input|Failed)|_?(refuse|refused|refuse_at|refusal|warning|finding|add|error|note)"
)


def raised() -> dict[str, str]:
    """Code -> file, of every literal code handed to an error, a finding or a collector of them."""
    found: dict[str, str] = {}
    for path in (ROOT / "src" / "ringfence").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            for code in _codes_of(node):
                found.setdefault(code, str(path.relative_to(ROOT)))
    return found


def _codes_of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call):
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if RAISING.fullmatch(name):
            is_error = name[:1].isupper() or name == "_finding"
            for argument in node.args[: 2 if name == "_finding" else 1]:
                yield from _literal(argument, any_word=is_error)
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if (
            isinstance(target, ast.Name)
            and target.id in ("_REFUSED", "LINE_REASONS")
            and isinstance(node.value, ast.Dict)
        ):
            for value in node.value.values:
                if isinstance(value, ast.Tuple):
                    yield from _literal(value.elts[0], any_word=True)


def _literal(node: ast.expr, *, any_word: bool) -> Iterator[str]:
    code = node.value if isinstance(node, ast.Constant) else None
    if isinstance(code, str) and CODE.fullmatch(code) and (any_word or "-" in code):
        yield code


def test_every_code_the_sources_raise_is_documented() -> None:
    """No code without a meaning and advice."""
    known = {code for codes in AREAS.values() for code in codes}
    found = raised()

    assert len(found) > 150, "the search itself is broken"
    assert {code: file for code, file in found.items() if code not in known} == {}


def test_codes_say_what_to_do() -> None:
    """Every code is kebab-case and has a meaning and an advice without a full stop."""
    for codes in AREAS.values():
        for code, told in codes.items():
            assert CODE.fullmatch(code)
            assert told.meaning
            assert told.advice
            assert not told.meaning.endswith(".")
            assert not told.advice.endswith(".")


# ---- JSON ----------------------------------------------------------------------------------------------------------

EXAMPLES = dict(re.findall(r"```json ([a-z -]+)\n(.*?)```", (REFERENCE / "json.md").read_text(), re.DOTALL))
COMMANDS = {
    "error": ["explain", "web-11", "db-1", "ssh"],
    "explain": ["explain", "web-1", "db-1", "postgres"],
    "reach": ["reach", "role=api,env=prod"],
    "policy diff": ["policy", "diff", "policies", "policies"],
    "policy fmt": ["policy", "fmt", "--check"],
    "render": ["render", "nftables", "web-1"],
    "init": ["init", "--estate", "fresh"],
    "flows import": ["flows", "import", "again.log"],
}
ELSEWHERE = {"decide-error", "enforce"}
"""Examples held against the program in tests of their own."""


def test_every_command_has_a_section() -> None:
    """Each command that answers in JSON is on the page."""
    page = (REFERENCE / "json.md").read_text()
    for name in commands():
        assert re.search(rf"^## {name}\b", page, re.MULTILINE), name


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - ELSEWHERE))
def test_the_json_page_shows_the_fields_there_are(busy_shop: ShopEstate, name: str) -> None:
    """Each example has exactly the fields of a real answer, and the same types, as deep as the example goes."""
    busy_shop.write("again.log", flow_log().replace("203.0.113.7", "203.0.113.8"))
    busy_shop.write("policies/shop.yaml", SHOP)
    words = COMMANDS.get(name, name.split())
    run = busy_shop.run(*words, "--json") if "--estate" not in words else _bare(words)

    _same_shape(json.loads(EXAMPLES[name]), run.json, name)


def _bare(words: list[str]) -> Any:
    from cli_estate import run

    return run(*words, "--json")


def test_the_decide_error_on_the_page(shop: ShopEstate) -> None:
    """The fields of a refused line."""
    ran = shop.run("decide", stdin='{"source":"nobody","destination":"db-1","service":"ssh"}\n')

    _same_shape(json.loads(EXAMPLES["decide-error"]), json.loads(ran.out), "decide")


def _same_shape(shown: Any, real: Any, place: str) -> None:
    if isinstance(shown, dict) and shown:
        assert isinstance(real, dict), place
        if place != "recommend.policies":
            assert set(shown) == set(real), place
        for key in shown.keys() & real.keys():
            _same_shape(shown[key], real[key], f"{place}.{key}")
    elif isinstance(shown, list) and shown:
        assert isinstance(real, list), place
        for item in real[:3]:
            _same_shape(shown[0], item, f"{place}[]")
    elif shown is not None and real is not None:
        assert isinstance(real, type(shown)), f"{place}: {shown!r} and {real!r}"
