"""The map as one self-contained HTML page: no other file, no host, no build step; it works from `file://`.

The page is `page.html` with its style, its scripts in order, and the map's JSON document put in.

INVARIANT: nothing of the estate is markup or code. The document is JSON in a data block in which `<`, `>` and `&` are
escapes; the scripts only ever set text. Should that fail, the page's Content-Security-Policy still runs no script but
ours, by hash, and loads nothing from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import html
from importlib import resources
from typing import Any

import msgspec

from ringfence.core.insight.draw.document import document
from ringfence.core.insight.draw.words import printable
from ringfence.core.insight.map import FlowMap

SCRIPTS = ("words.js", "model.js", "order.js", "layout.js", "graph.js", "view.js", "tables.js", "panel.js", "main.js")
"""In this order: each uses only what stands before it."""
MOST_MEMBERS = 200
"""Names of workloads a group carries into the page; `workloads` counts them all."""
MOST_SERVICES = 100
"""Services an edge carries into the page, worst and busiest first; the rest are summed in `more`."""


def draw_html(flow_map: FlowMap, *, title: str = "Traffic map") -> str:
    """The whole page as text."""
    style = _part("picture.css")
    script = '"use strict";\n' + "\n".join(_part(name) for name in SCRIPTS)
    parts = {
        "title": html.escape(printable(title)),
        "policy": f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; base-uri 'none'",
        "style": style,
        "document": _data_block(_page_document(flow_map)),
        "script": script,
    }
    return _fill(_part("page.html"), parts)


def _fill(page: str, parts: dict[str, str]) -> str:
    """Put each part in its `{{ place }}`, once, so that no part's own text is taken for a place."""
    out: list[str] = []
    for piece in page.split("{{ "):
        name, found, rest = piece.partition(" }}")
        out.append(parts[name] + rest if found else piece)
    return "".join(out)


def _page_document(flow_map: FlowMap) -> dict[str, Any]:
    """The JSON document with long lists cut to what a person reads, the rest summed and said."""
    page = document(flow_map)
    for group in page["groups"]:
        group["members"] = group["members"][:MOST_MEMBERS]
    for edge in page["edges"]:
        edge["more"] = _summed(edge["services"][MOST_SERVICES:])
        edge["services"] = edge["services"][:MOST_SERVICES]
    return page


def _summed(services: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The services beyond the cut, one sum a status."""
    out: dict[str, dict[str, Any]] = {}
    for service in services:
        total = out.setdefault(
            service["status"], {"status": service["status"], "services": 0, "connections": 0, "bytes": 0}
        )
        total["services"] += 1
        total["connections"] += service["connections"]
        total["bytes"] += service["bytes"]
    return list(out.values())


def _data_block(value: dict[str, Any]) -> str:
    """JSON that cannot end its own script element, nor open a comment in it (HTML standard, 4.12.1.3)."""
    text = msgspec.json.encode(value).decode()
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _part(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
