"""A browser on the real pages of a real controller: one Chromium for the session, one tab a test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, Page, Playwright, expect

Theme = Literal["light", "dark"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
_AXE = Path(__file__).parents[2] / "web/node_modules/axe-core/axe.min.js"
_PATIENCE_MS = 45_000
_SLOWER = float(os.environ.get("RINGFENCE_SLOW_BROWSER", "1"))
"""Times slower than this machine: what a test or a page takes for granted on a quick one is seen to fail."""
_SERIOUS = frozenset({"serious", "critical"})


def launch(playwright: Playwright, *, executable: str | None = CHROMIUM) -> Browser:
    expect.set_options(timeout=_PATIENCE_MS)
    return playwright.chromium.launch(executable_path=executable, headless=True, args=list(_ARGUMENTS))


@contextmanager
def tab(
    browser: Browser, url: str, *, theme: Theme = "light", width: int = 1440, height: int = 900, slower: float = _SLOWER
) -> Iterator[Page]:
    """A tab of its own session. Whatever the page logs as an error, a refused load included, fails the test."""
    context = browser.new_context(
        base_url=url, ignore_https_errors=True, color_scheme=theme, viewport={"width": width, "height": height},
        reduced_motion="reduce", timezone_id="UTC", bypass_csp=False,
    )  # fmt: skip
    page = context.new_page()
    page.set_default_timeout(_PATIENCE_MS)
    if slower > 1:
        context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": slower})
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("request", lambda asked: None if asked.url.startswith((url, "data:")) else complaints.append(asked.url))
    try:
        yield page
    finally:
        context.close()
    refusals = [said for said in complaints if "status of 4" not in said]
    assert not refusals, refusals


def log_in(page: Page, token: str, path: str = "/") -> None:
    page.goto(path)
    page.get_by_label("Access token").fill(token)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("navigation", name="Screens")).to_be_visible()


def picture(page: Page, shots: Path | None, name: str) -> None:
    """For people to look at, where they asked for pictures."""
    if shots is not None:
        page.screenshot(path=shots / f"{name}.png")


def violations(page: Page) -> list[str]:
    """What axe finds that keeps people out, as `rule: elements`."""
    page.evaluate(_AXE.read_text())
    found: dict[str, Any] = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {[node['target'] for node in one['nodes']][:5]} {one['nodes'][0]['failureSummary']}"
        for one in found["violations"]
        if one["impact"] in _SERIOUS
    ]
