"""The map as a page: self-contained, harmless whatever the labels say, readable, and drawn without an error."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from collections import Counter
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from urllib.parse import urlencode

import map_estates as estates
import pytest

from ringfence.cli.picture import MOST_SERVICES, SCRIPTS, draw_html
from ringfence.core.insight.draw.words import printable
from ringfence.core.insight.map import FlowMap, group

BY = ("env", "app", "role")
PARTS = Path(__import__("ringfence.cli.picture", fromlist=["picture"]).__file__ or "").parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to draw the page with")


def drawn(story: estates.Story | estates.Estate, by: tuple[str, ...] = BY) -> FlowMap:
    estate = story.estate() if isinstance(story, estates.Story) else story
    return group(estate.conversations, estate.inventory, by, judgement=estate.judged, rules=estate.rules)


class Tag(NamedTuple):
    name: str
    attributes: dict[str, str]


class Page(HTMLParser):
    """Every start tag, and the text inside each element by name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[Tag] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(Tag(tag, {key: value or "" for key, value in attrs}))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)

    def with_class(self, name: str) -> list[Tag]:
        return [tag for tag in self.tags if name in tag.attributes.get("class", "").split()]


def test_the_page_refers_to_nothing_outside_itself() -> None:
    """No address of any host but the SVG namespace's name, and no element or rule that loads something."""
    text = draw_html(drawn(estates.shop()))
    assert set(re.findall(r"(?:https?:)?//[a-z][\w.-]+\.[a-z]{2,}[\w/]*", text)) == {"http://www.w3.org/2000/svg"}
    page = Page(text)
    assert not {tag.name for tag in page.tags} & {"link", "img", "iframe", "object", "embed", "base", "form"}
    assert {tag.attributes["href"] for tag in page.tags if "href" in tag.attributes} == {"#stage"}
    assert not [tag for tag in page.tags if "src" in tag.attributes]
    assert "url(" not in "".join(page.texts["style"])
    assert "@import" not in "".join(page.texts["style"])


def test_the_page_allows_no_script_but_its_own() -> None:
    """The policy names the style and the script by hash, and loads nothing."""
    page = Page(draw_html(drawn(estates.hostile())))
    policy = next(tag.attributes["content"] for tag in page.tags if tag.attributes.get("http-equiv"))
    script, style = page.texts["script"][-1], page.texts["style"][0]
    hashes = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in (script, style)]
    assert policy == (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; base-uri 'none'"
    )


def test_hostile_labels_add_no_element() -> None:
    """Whatever labels, names and rules say, the page has the elements of its template and no other."""
    tame = Page(draw_html(drawn(estates.shop()), title="Map"))
    hostile = Page(draw_html(drawn(estates.hostile()), title="</title><script>alert(1)</script>"))
    assert [tag.name for tag in tame.tags] == [tag.name for tag in hostile.tags]
    assert hostile.texts["title"] == ["</title><script>alert(1)</script>"]


def test_the_page_carries_the_document_unharmed() -> None:
    """The data block reads back as the map's document, every hostile text included."""
    flow_map = drawn(estates.hostile())
    block = Page(draw_html(flow_map)).texts["script"][0]
    values = {value for each in json.loads(block)["groups"] for value in each["labels"].values()}
    assert values == set(estates.HOSTILE)
    assert not set(block) & set("<>&\u2028\u2029")


def test_the_page_does_not_depend_on_order() -> None:
    """The same estate in another order is the same page, byte for byte."""
    assert draw_html(drawn(estates.shop())) == draw_html(drawn(estates.shop().shuffled(3)))


def test_what_is_cut_from_the_page_is_summed() -> None:
    """Of an edge with very many services the page lists the first and sums the rest; nothing vanishes."""
    story = estates.Story([estates.workload("a", "10.0.0.1", app="x"), estates.workload("b", "10.0.0.2", app="y")])
    for port in range(20000, 20000 + MOST_SERVICES + 40):
        story.flow("a", "b", f"tcp/{port}", connections=1, verdict="would-block", reason="default")
    (edge,) = json.loads(Page(draw_html(drawn(story, ("app",)))).texts["script"][0])["edges"]
    assert len(edge["services"]) == MOST_SERVICES
    assert [(rest["status"], rest["services"], rest["connections"]) for rest in edge["more"]] == [
        ("would-block", 40, 40)
    ]


def test_scripts_only_set_text() -> None:
    """No script makes markup or code out of a string."""
    for name in SCRIPTS:
        text = (PARTS / name).read_text(encoding="utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc", text
        ), name
        assert not re.search(r"\bfetch\(|XMLHttpRequest|WebSocket|sendBeacon|\bimport\(", text), name


def test_every_part_of_the_page_is_used() -> None:
    """No script lies beside the page without being in it."""
    assert sorted(path.name for path in PARTS.glob("*.js")) == sorted(SCRIPTS)


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


TEXT_ON = [
    *((ink, back) for ink in ("ink", "ink-soft") for back in ("page", "card", "raised")),
    *(
        (ink, back)
        for ink in ("allowed", "no-policy", "would-block", "blocked")
        for back in ("page", "card", f"{ink}-back")
    ),
    ("accent", "accent-back"),
    ("accent", "card"),
    ("card", "no-policy"),
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(scheme: str) -> None:
    """Every pair of text and background reaches WCAG AA, 4.5 to 1, in light and in dark."""
    found = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\);", (PARTS / "picture.css").read_text())
    colours = {name: (light if scheme == "light" else dark) for name, light, dark in found}
    poor = {pair: round(contrast(colours[pair[0]], colours[pair[1]]), 2) for pair in TEXT_ON}
    assert {pair: ratio for pair, ratio in poor.items() if ratio < 4.5} == {}


QUIET = (
    "--disable-quic",
    "--no-first-run",
    "--disable-component-update",
    "--disable-background-networking",
    "--disable-sync",
)
"""A browser that talks to nobody."""


@cache
def browse(story: str, fragment: str = "") -> Page:
    """A story's page as Chromium has it after its scripts ran. Fails on any error or refusal the console shows."""
    with TemporaryDirectory(prefix="ringfence-picture-") as folder:
        return _browse(Path(folder), draw_html(drawn(getattr(estates, story)())), fragment)


def _browse(folder: Path, text: str, fragment: str) -> Page:
    assert CHROMIUM is not None
    file = folder / "map.html"
    file.write_text(text, encoding="utf-8")
    switches = ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1600,1000", "--virtual-time-budget=4000")
    output = (f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--dump-dom")
    command = [CHROMIUM, *switches, *QUIET, *output, f"{file.as_uri()}{fragment}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert said == []
    return Page(done.stdout)


class Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float


def nodes_of(page: Page) -> dict[str, Box]:
    """Node id -> its card's box, from the dumped SVG."""
    out: dict[str, Box] = {}
    for at, tag in enumerate(page.tags):
        if "node" in tag.attributes.get("class", "").split() and tag.name == "g":
            x, y = map(float, re.findall(r"-?[\d.]+", tag.attributes["transform"]))
            card = next(each for each in page.tags[at:] if each.attributes.get("class") == "card")
            out[tag.attributes["data-box"]] = Box(
                x, y, x + float(card.attributes["width"]), y + float(card.attributes["height"])
            )
    return out


def frames_of(page: Page) -> dict[str, Box]:
    out: dict[str, Box] = {}
    for tag, rect in zip(page.tags, page.tags[1:], strict=False):
        if "frame" in tag.attributes.get("class", "").split():
            x, y, width, height = (float(rect.attributes[key]) for key in ("x", "y", "width", "height"))
            out[tag.attributes["data-box"]] = Box(x, y, x + width, y + height)
    return out


def overlap(one: Box, other: Box) -> bool:
    return one.left < other.right and other.left < one.right and one.top < other.bottom and other.top < one.bottom


def samples(d: str) -> list[tuple[float, float]]:
    """Points along a path of M, L and C with absolute coordinates."""
    out: list[tuple[float, float]] = []
    here = (0.0, 0.0)
    for command, numbers in re.findall(r"([MLC])([^MLC]+)", d):
        values = [float(each) for each in re.findall(r"-?[\d.]+", numbers)]
        points = list(zip(values[::2], values[1::2], strict=True))
        if command == "M":
            here = points[0]
            continue
        a, (b, c, e) = here, points if command == "C" else (here, points[0], points[0])
        for step in range(1, 21):
            t = step / 20
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            out.append(tuple(sum(w * p[i] for w, p in zip(weights, (a, b, c, e), strict=True)) for i in (0, 1)))  # type: ignore[arg-type]
        here = e
    return out


COMPANY_ENVS = urlencode({"open": "\n".join(f'c:["{env}"]' for env in ("prod", "staging", "test", "dev", "shared"))})


@needs_chromium
@pytest.mark.parametrize(
    ("name", "fragment"),
    [("shop", ""), ("company", ""), ("company", f"#{COMPANY_ENVS}"), ("long_labels", ""), ("hostile", "")],
)
def test_the_map_is_drawn_cleanly(name: str, fragment: str) -> None:
    """No error; nodes apart from each other; and no line runs across a node that is not its end."""
    page = browse(name, fragment)
    nodes, frames = nodes_of(page), frames_of(page)
    boxes = list(nodes.values())
    assert len(boxes) > 5
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if overlap(a, b)]
    for box in boxes:
        for frame in frames.values():
            inside = (
                frame.left <= box.left
                and box.right <= frame.right
                and frame.top <= box.top
                and box.bottom <= frame.bottom
            )
            assert inside or not overlap(box, frame)
    crossed: Counter[str] = Counter()
    for at, tag in enumerate(page.tags):
        if "line" not in tag.attributes.get("class", "").split() or "loop" in tag.attributes["class"]:
            continue
        ends = {tag.attributes["data-source"], tag.attributes["data-target"]}
        hit = next(each for each in page.tags[at:] if each.attributes.get("class") == "hit")
        for x, y in samples(hit.attributes["d"]):
            crossed.update(
                node for node, b in nodes.items() if node not in ends and b.left < x < b.right and b.top < y < b.bottom
            )
    assert crossed == Counter()


@needs_chromium
def test_the_shop_opens_with_everything_shown() -> None:
    """A small estate starts open: every group is a node, every edge a line, and what needs a decision is listed."""
    flow_map = drawn(estates.shop())
    page = browse("shop")
    places = sum(each.kind != "workloads" for each in flow_map.groups)
    assert len(nodes_of(page)) == len(flow_map.groups) - places + 4  # internet on both sides, a subnet, multicast
    assert len(page.with_class("line")) == len(flow_map.edges)
    assert len(page.with_class("ends")) == sum(edge.status != "allowed" for edge in flow_map.edges)


@needs_chromium
def test_a_large_estate_opens_collapsed() -> None:
    """Two hundred groups start as few enough nodes and lines to read."""
    page = browse("company")
    assert len(nodes_of(page)) <= 64
    assert len(page.with_class("line")) <= 150
    assert page.with_class("closed")


@needs_chromium
def test_hostile_labels_are_shown_as_text() -> None:
    """In the drawn page every hostile label is text; no element came of it, in any view."""
    for fragment in ("", "#view=matrix", "#view=table"):
        page = browse("hostile", fragment)
        kinds = Counter(tag.name for tag in page.tags)
        assert kinds["script"] == 2
        assert kinds["img"] == 0
        shown = "".join(each for texts in page.texts.values() for each in texts)
        for label in estates.HOSTILE:
            assert printable(label) in shown


@needs_chromium
@pytest.mark.parametrize(
    ("fragment", "wanted"),
    [
        ("#view=matrix", ("from ↓", "to →")),
        ("#view=table", ("First seen", "guardrails/admin-only", "no rule", "not controlled")),
        ("#pick=edge:13", ("No rule allows it. It still passes", "If this is wanted", "service: [tcp/5432]")),
        ("#pick=box:g:env=prod,app=shop,role=db", ("env=prod,app=shop,role=db", "Incoming (5)", "db2")),
        ("#show=blocked&view=table", ("guardrails/no-staging-to-prod",)),
        ("#service=ssh&where=env=staging&view=table", ("platform/backup",)),
        (
            "#pick=edge:999&where=nokey=x&focus=nobody&open=nothing&view=none&show=",
            ("No traffic passes these filters",),
        ),
    ],
)
def test_the_address_shows_what_it_names(fragment: str, wanted: tuple[str, ...]) -> None:
    """Views, filters and what is picked are in the address; one that names nothing is not an error."""
    page = browse("shop", fragment)
    shown = "".join(text for name, texts in page.texts.items() if name not in ("script", "style") for text in texts)
    for text in wanted:
        assert text in shown
