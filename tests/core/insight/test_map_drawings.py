"""The map as text: stable documents, and labels that stay text whatever they say.

To accept a changed drawing, run with `UPDATE_GOLDEN=1` and review the difference.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import map_estates as estates
import pytest
from rich.console import Console, RenderableType

from ringfence.cli.render_map import map_table, map_tree
from ringfence.core.errors import InputError
from ringfence.core.insight.draw.document import document, draw_json
from ringfence.core.insight.draw.dot import draw_dot
from ringfence.core.insight.draw.mermaid import draw_mermaid
from ringfence.core.insight.draw.words import format_bytes, printable
from ringfence.core.insight.map import FlowMap, group

GOLDEN = Path(__file__).parents[2] / "golden" / "map"
BY = ("env", "app", "role")


def drawn(story: estates.Story, by: tuple[str, ...] = BY) -> FlowMap:
    estate = story.estate()
    return group(estate.conversations, estate.inventory, by, judgement=estate.judged, rules=estate.rules)


def on_terminal(renderable: RenderableType) -> str:
    console = Console(width=180, record=True, file=open(os.devnull, "w"), color_system=None)  # noqa: SIM115  # a sink
    console.print(renderable)
    return "\n".join(line.rstrip() for line in console.export_text().splitlines()) + "\n"


DRAWINGS = {
    "shop.json": draw_json,
    "shop.mmd": draw_mermaid,
    "shop.dot": draw_dot,
    "shop.table.txt": lambda flow_map: on_terminal(map_table(flow_map)),
    "shop.tree.txt": lambda flow_map: on_terminal(map_tree(flow_map)),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_the_shop_is_drawn_as_reviewed(name: str) -> None:
    """Every text drawing of the shop is byte for byte the reviewed one."""
    text = DRAWINGS[name](drawn(estates.shop()))
    if os.environ.get("UPDATE_GOLDEN"):
        (GOLDEN / name).write_text(text, encoding="utf-8")
    assert text == (GOLDEN / name).read_text(encoding="utf-8")


def test_the_document_refers_only_to_its_own_groups() -> None:
    """Group ids are unique, and every edge's ends are among them, also for hostile labels."""
    for story in (estates.shop(), estates.company(edges=200), estates.hostile()):
        page = json.loads(draw_json(drawn(story)))
        ids = [each["id"] for each in page["groups"]]
        assert len(ids) == len(set(ids))
        assert {end for edge in page["edges"] for end in (edge["source"], edge["destination"])} <= set(ids)


def test_the_summary_adds_up() -> None:
    """Statuses split all connections and all edges without rest."""
    summary = document(drawn(estates.company(edges=300)))["summary"]
    assert sum(each["connections"] for each in summary["statuses"].values()) == summary["connections"]
    assert sum(each["edges"] for each in summary["statuses"].values()) == summary["edges"]


def test_an_empty_map_can_be_drawn() -> None:
    """Nothing to show is a drawing with nothing in it, in every form."""
    empty = drawn(estates.Story([]), ("app",))
    assert json.loads(draw_json(empty))["first"] is None
    assert draw_mermaid(empty) == "flowchart LR\n"
    assert draw_dot(empty).endswith(";\n}\n")
    assert "0 edges" in on_terminal(map_table(empty))
    assert "0 edges" in on_terminal(map_tree(empty))


MERMAID_LINES = re.compile(
    r"flowchart LR|\s*%% [a-z ]+|\s*end|"
    r"\s*subgraph c\d+\[\"(?P<container>[^\"<>]*)\"\]|"
    r"\s*g\d+\[\"(?P<node>[^\"<>]*<br/>\d+ workloads?)\"\]|\s*g\d+\(\[\"(?P<place>[^\"<>]*)\"\]\)|"
    r"\s*g\d+ -->\|\"(?P<edge>[^\"<>|]*)\"\| g\d+|"
    r"\s*linkStyle [\d,]+ stroke:#\w{6},color:#\w{6},stroke-dasharray:[\d ]+"
)


@pytest.mark.parametrize("story", [estates.shop, estates.long_labels, estates.hostile])
def test_mermaid_text_is_never_syntax(story: object) -> None:
    """Every line is one of our own few forms; in quotes stand only harmless characters and entity codes."""
    for line in draw_mermaid(drawn(story())).splitlines():  # type: ignore[operator]
        found = MERMAID_LINES.fullmatch(line)
        assert found, line
        for text in filter(None, found.groupdict().values()):
            inner = re.sub(r"#\d+;", "", text.replace("<br/>", ""))
            assert not set(inner) & set("\"'`#;[]{}<>&|\\@$%"), line


def test_mermaid_refuses_what_it_would_not_draw() -> None:
    """A chart over Mermaid's own limit is refused with the way out, not cut."""
    with pytest.raises(InputError) as caught:
        draw_mermaid(drawn(estates.company(edges=900)))
    assert caught.value.code == "map-too-large-for-mermaid"


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
@pytest.mark.parametrize("story", [estates.shop, estates.long_labels, estates.hostile])
def test_graphviz_reads_what_was_written(story: object) -> None:
    """Graphviz draws exactly our nodes and edges, and each label reads as the label it is."""
    flow_map = drawn(story())  # type: ignore[operator]
    source = draw_dot(flow_map).encode()
    image = subprocess.run(["dot", "-Tsvg"], input=source, capture_output=True, timeout=60, check=True).stdout
    root = ElementTree.fromstring(image)
    svg = "{http://www.w3.org/2000/svg}"
    kinds = [each.get("class") for each in root.iter(f"{svg}g")]
    assert (kinds.count("node"), kinds.count("edge")) == (len(flow_map.groups), len(flow_map.edges))
    texts = {(each.text or "").replace("\xa0", " ") for each in root.iter(f"{svg}text")}
    wanted = {printable(each.values[-1] or "-") if each.values else each.name for each in flow_map.groups}
    assert wanted <= texts
    assert not list(root.iter(f"{svg}script"))


@pytest.mark.parametrize("draw", [map_table, map_tree])
def test_a_terminal_gets_no_control_sequences(draw: object) -> None:
    """Escape sequences, line breaks, bidirectional overrides and Rich markup in labels are shown, not obeyed."""
    text = on_terminal(draw(drawn(estates.hostile())))  # type: ignore[operator]
    assert not set(text) & {"\x1b", "\x07", "\r", "\u202e", "\u2028"}
    assert "[bold" in text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9949, "9.9 kB"),
        (9951, "10 kB"),
        (999_600, "1.0 MB"),
        (10**18, "1000 PB"),
    ],
)
def test_bytes_read_well(size: int, text: str) -> None:
    """Powers of 1000, and no rounding up to a four-digit number."""
    assert format_bytes(size) == text
