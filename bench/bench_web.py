"""The map of 10,000 workloads, 1,000 groups and 10,000 edges in a browser: its first picture, frames while it moves.

    python -m bench.bench_web [--workloads 10000] [--edges 10000] [--quick] [--json]

Debian's Chromium, headless, WebGL by SwiftShader (there is no graphics card), the real pages of a real
controller. The first picture is measured from the moment the page is asked for to the first frame of the map, the
second time a controller is asked (the first time is printed beside it: it compiles the policies). Frames are those of
`requestAnimationFrame` while wheel and pointer events are dispatched one a frame. The limit beside it: the same loop
on a page with a canvas of the same size that is cleared and nothing else, in rounds that take turns with the map's.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, ViewportSize, sync_playwright

from bench.measure import Figure, show
from bench.web_estate import serving

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
SIZE = ViewportSize(width=1440, height=900)
FIRST_S, FRAME_S = 2.0, 0.05
ROUNDS, SETTLING = 4, 10
"""Turns of each page, and frames after a change of pages that do not count."""
LEVELS = (1, 2)
"""Applications, and roles: what is drawn at the first picture, and all 10,000 edges."""
_MAP = "[role=application]"

_MOVE = """async ([selector, kind, frames]) => {
  const host = document.querySelector(selector), rect = host.getBoundingClientRect();
  const [x, y] = [rect.left + rect.width / 2, rect.top + rect.height / 2];
  const usual = {bubbles: true, cancelable: true, clientX: x, clientY: y, pointerId: 1, button: 0};
  const event = (type) => (type === "wheel" ? WheelEvent : PointerEvent);
  const send = (type, more) => host.dispatchEvent(new (event(type))(type, {...usual, ...more}));
  host.setPointerCapture = () => undefined;
  const next = () => new Promise(requestAnimationFrame);
  const times = [];
  if (kind === "pan") send("pointerdown", {});
  await next();
  let last = performance.now();
  for (let at = 0; at < frames; at++) {
    if (kind === "pan") send("pointermove", {clientX: x + 160 * Math.sin(at / 9), clientY: y + 90 * Math.sin(at / 7)});
    else send("wheel", {deltaY: at % 60 < 30 ? -60 : 60});
    await next();
    const now = performance.now();
    times.push(now - last);
    last = now;
  }
  if (kind === "pan") send("pointerup", {});
  return times;
}"""
_EMPTY = """() => {
  document.body.innerHTML = "<div role='application'><canvas width='1180' height='700'></canvas></div>";
  const gl = document.querySelector("canvas").getContext("webgl2");
  const paint = () => {
    gl.clearColor(Math.random(), 0.5, 0.5, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    requestAnimationFrame(paint);
  };
  paint();
}"""


@contextmanager
def page_of(url: str, token: str) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), headless=True, args=list(FLAGS))
        context = browser.new_context(base_url=url, ignore_https_errors=True, viewport=SIZE, reduced_motion="reduce")
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.goto("/")
        page.get_by_label("Access token").fill(token)
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("navigation", name="Screens").wait_for()
        yield page
        browser.close()


def first_picture_s(page: Page) -> float:
    """From asking for the page to the first frame of the map."""
    page.goto("/map")
    page.wait_for_selector(f"{_MAP}[data-frames]")
    return float(page.evaluate("performance.getEntriesByName('map-first-picture')[0].startTime")) / 1000


def frames_s(page: Page, kind: str, frames: int) -> Any:
    return np.array(page.evaluate(_MOVE, [_MAP, kind, frames])) / 1000


def zoom_to(page: Page, level: int) -> dict[str, str]:
    """Zoom until boxes are open down to a level; what is drawn."""
    page.locator(_MAP).focus()
    page.keyboard.press("0")
    for _ in range(60):
        page.wait_for_timeout(300)  # it rests, and draws what is open by then
        told: dict[str, str] = page.evaluate(f"({{...document.querySelector('{_MAP}').dataset}})")
        if int(told["level"]) >= level:
            return told
        page.keyboard.press("+")
    raise SystemExit(f"the map does not open to level {level}")


def measure(url: str, token: str, frames: int) -> list[Figure]:
    with page_of(url, token) as page, page.context.new_page() as empty:
        empty.goto("/login")
        empty.evaluate(_EMPTY)
        page.bring_to_front()
        cold = first_picture_s(page)
        warm = min(first_picture_s(page) for _ in range(3))
        figures = [
            Figure("first picture", warm, target=FIRST_S),
            Figure("first picture, cold controller", cold, note="compiles policies, reads a day of flows"),
        ]
        bare = []
        for level in LEVELS:
            told = zoom_to(page, level)
            for kind in ("pan", "zoom"):
                times, limit = in_turns(page, empty, kind, frames)
                bare.append(limit)
                note = f"{told['painter']}, {told['lines']} lines of {told['edges']} edges"
                figures += _frames(f"{kind}, level {told['level']}", times, note)
        note = "cleared; in turns with the map"
        figures += _frames("the limit: an empty canvas", np.concatenate(bare), note, target=None)
    return figures


def in_turns(page: Page, empty: Page, kind: str, frames: int) -> tuple[Any, Any]:
    """Frame times of the map and of the empty canvas, a round each after the other."""
    found: tuple[list[Any], list[Any]] = [], []
    for _ in range(ROUNDS):
        for one, into in zip((page, empty), found, strict=True):
            one.bring_to_front()
            frames_s(one, kind, SETTLING)
            into.append(frames_s(one, kind, frames // ROUNDS))
    page.bring_to_front()
    return np.concatenate(found[0]), np.concatenate(found[1])


def _frames(name: str, times: Any, note: str, target: float | None = FRAME_S) -> list[Figure]:
    p50, p95 = (float(np.percentile(times, share)) for share in (50, 95))
    return [Figure(f"{name}, frame p50", p50, note=note), Figure(f"{name}, frame p95", p95, target=target)]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--workloads", type=int, default=10_000)
    options.add_argument("--edges", type=int, default=10_000)
    options.add_argument("--quick", action="store_true", help="fewer frames")
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), count=chosen.workloads, edges=chosen.edges) as (url, token),
    ):
        figures = measure(url, token, 60 if chosen.quick else 240)
    show("web", figures, as_json=chosen.json)


if __name__ == "__main__":
    main()
