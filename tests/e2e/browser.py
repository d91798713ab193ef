"""A real Chromium at the console: one browser for all tests, a fresh context for each, and an eye on what goes wrong.

A tab fails its test when the page logs an error, asks another host for anything, or breaks its own security policy.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-default-apps",
]  # fmt: skip
WIDTHS = {"phone": (390, 844), "tablet": (768, 1024), "desk": (1440, 900)}
THEMES = ("dark", "light")
CODE_LIMIT = 40 << 10  # bytes of our own scripts and styles, packed, that one page may load


def chromium() -> str:
    """Where the browser is; "" when there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome") or ""


@contextmanager
def open_browser() -> Iterator[Browser]:
    """The browser; skips, with the reason, where there is none."""
    place = chromium()
    if not place:
        pytest.skip("chromium is not on this machine: `make setup` installs it as root")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    playwright.expect.set_options(timeout=30_000)  # a deadline, not a measure: others use this machine, too
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=place, headless=True, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Tab:
    """A page in a context of its own. `wrong` gathers what must not happen."""

    page: Page
    url: str
    wrong: list[str] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)  # bytes that came over the wire, by path
    expected: tuple[str, ...] = ()  # texts of errors that the test provokes

    def __post_init__(self) -> None:
        page, host = self.page, urlsplit(self.url).netloc

        def on_request(request: Any) -> None:
            where = urlsplit(request.url)
            if where.scheme not in ("data", "blob") and where.netloc != host:
                self.wrong.append(f"asked {request.url}")

        def on_console(message: Any) -> None:
            if message.type == "error" or "Content Security Policy" in message.text:
                self.wrong.append(f"console: {message.text} ({message.location.get('url', '')})")

        def on_response(response: Any) -> None:
            path = urlsplit(response.url).path
            if path.startswith("/static/"):
                self.sent[path] = int(response.headers.get("content-length", "0"))

        page.on("request", on_request)
        page.on("console", on_console)
        page.on("response", on_response)
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))

    def go(self, path: str) -> Page:
        """Open a page and wait until its scripts have come."""
        self.sent.clear()
        self.page.goto(self.url + path, wait_until="load")
        return self.page

    def sign_in(self, key: str) -> None:
        self.go("/sign-in")
        self.page.get_by_label("API key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(f"{self.url}/home")

    def theme(self, name: str) -> None:
        """Choose a theme as the shortcut does, from the next page on."""
        self.page.context.add_cookies([{"name": "headframe-theme", "value": name, "url": self.url}])

    def check(self) -> None:
        """Fail when anything went wrong so far."""
        found = [one for one in self.wrong if not any(part in one for part in self.expected)]
        assert not found, found

    def axe(self, *rules: str) -> None:
        """No violation of what axe can see, by WCAG 2.2 AA and its best practices; or of some rules alone."""
        from axe_playwright_python.sync_playwright import Axe

        options: dict[str, Any] = {"resultTypes": ["violations"]}
        if rules:
            options["runOnly"] = {"type": "rule", "values": list(rules)}
        found = Axe().run(self.page, options=options).response["violations"]
        told = [f"{one['id']}: {one['help']}: {[node['html'][:160] for node in one['nodes'][:4]]}" for one in found]
        assert not told, "\n".join([self.page.url, *told])

    def fits(self) -> None:
        """The page is not wider than its window, and has exactly one first heading."""
        wide = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            culprit = self.page.evaluate(
                "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
                ".slice(0, 5).map(e => e.outerHTML.slice(0, 120))"
            )
            raise AssertionError(f"{self.page.url} is {wide} px too wide: {culprit}")
        assert self.page.locator("h1").count() == 1, self.page.url
        assert self.page.title().endswith("Headframe")

    def is_small(self) -> None:
        """Its code is within the budget."""
        total = sum(self.sent.values())
        assert total <= CODE_LIMIT, f"{self.page.url} loads {total} bytes: {self.sent}"


@contextmanager
def open_tab(browser: Browser, url: str, session: dict[str, Any] | None, width: str = "desk") -> Iterator[Tab]:
    """A tab in a context of its own, signed in with the cookies of a `session` if there is one."""
    wide, high = WIDTHS[width]
    context: BrowserContext = browser.new_context(
        viewport={"width": wide, "height": high}, storage_state=session, locale="en-GB", timezone_id="UTC",  # type: ignore[arg-type]
    )  # fmt: skip
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=url)
    context.set_default_timeout(10_000)
    try:
        yield Tab(context.new_page(), url)
    finally:
        context.close()


def shots_folder() -> Path:
    """Where screenshots go: ignored by git."""
    return Path(__file__).parents[2] / "screenshots"
