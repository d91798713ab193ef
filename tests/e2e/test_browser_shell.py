"""The console's shell in a real browser: the way in and out, keys, the palette, what is live, and bad luck."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Tab, open_tab
from console_cloud import HOSTILE, Api, ConsoleCloud
from playwright.sync_api import expect
from running import Running


def test_one_signs_in_looks_and_signs_out_with_the_keyboard_alone(browser: Any, cloud: ConsoleCloud):
    with open_tab(browser, cloud.url, None) as tab:
        page = tab.go("/jobs")
        expect(page).to_have_url(f"{cloud.url}/sign-in?next=%2Fjobs")
        expect(page.get_by_label("API key")).to_be_focused()
        page.keyboard.type(cloud.key)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{cloud.url}/jobs")
        assert cloud.key not in page.content()
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        page.get_by_label(re.compile("^You:")).press("Enter")
        page.get_by_role("button", name="Sign out").press("Enter")
        page.wait_for_url(f"{cloud.url}/sign-in")
        expect(page.get_by_role("status")).to_have_text("You are signed out.")
        tab.go("/home")
        expect(page).to_have_url(f"{cloud.url}/sign-in?next=%2Fhome")
        tab.check()


def test_shortcuts_go_everywhere(tab: Tab):
    page = tab.go("/home")
    for key, place in (("f", "fleet"), ("j", "jobs"), ("q", "queue"), ("u", "usage"), ("a", "admin"), ("h", "home")):
        page.keyboard.press("g")
        page.keyboard.press(key)
        page.wait_for_url(re.compile(f"/{place}"))
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Shortcuts")
    expect(dialog).to_contain_text("Usage and cost")
    tab.axe()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    tab.go("/jobs")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.tagName") == "INPUT"


def test_the_palette_finds_and_acts(tab: Tab, cloud: ConsoleCloud):
    page = tab.go("/home")
    page.keyboard.press("Control+k")
    field = page.get_by_role("combobox")
    expect(field).to_be_focused()
    tab.axe()
    field.fill("trai")
    expect(page.get_by_role("option", name="train")).to_be_visible()
    page.keyboard.press("Enter")
    page.wait_for_url(f"{cloud.url}/jobs/{cloud.jobs['running']['id']}")
    page.keyboard.press("Control+k")
    page.get_by_role("combobox").fill(cloud.jobs["done"]["id"])
    expect(page.get_by_role("option", name="report")).to_be_visible()
    page.get_by_role("combobox").fill("nothing is called so")
    expect(page.get_by_role("option")).to_have_text("Nothing is called that here.")


def test_the_theme_is_kept_and_can_be_the_systems(tab: Tab):
    page = tab.go("/home")
    ground = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="light")
    assert page.evaluate(ground) == "rgb(245, 247, 250)"
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(ground) == "rgb(11, 14, 19)"
    page.keyboard.press("t")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    page.reload()
    assert page.evaluate(ground) == "rgb(245, 247, 250)"


def test_home_tells_what_happens_as_it_happens(tab: Tab, cloud: ConsoleCloud):
    page = tab.go("/home")
    failed = page.locator('[data-figure="ended-note"]')
    before = int(re.findall(r"\d+", failed.inner_text())[0])
    cloud.api.submit("breaks", "exit 9")
    expect(failed).to_contain_text(f"{before + 1} failed")
    expect(page.locator("#attention")).to_contain_text("breaks failed")


def test_hostile_names_are_text(tab: Tab, browser: Any, cloud: ConsoleCloud):
    cloud.api("POST", "/v1/keys", {"name": HOSTILE[:150]})
    page = tab.go("/admin/keys")
    expect(page.get_by_text("<script>document.title='taken'").first).to_be_visible()
    assert page.title() == "Keys · Headframe"
    assert page.locator("main script, main img").count() == 0


def test_nine_tabs_live_over_one_connection_each_while_seen(browser: Any, cloud: ConsoleCloud, session: Any):
    """Six connections are all that a browser opens to one host: hidden tabs hold none, so that the next one loads."""
    with open_tab(browser, cloud.url, session) as first:
        context = first.page.context
        for _ in range(9):
            page = context.new_page()
            page.goto(f"{cloud.url}/home")
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            # No window is in front in a headless browser: what it would tell a page that is covered.
            page.evaluate(
                "Object.defineProperty(document, 'hidden', {get: () => true, configurable: true}); "
                "document.dispatchEvent(new Event('visibilitychange'))"
            )
        page.evaluate(
            "Object.defineProperty(document, 'hidden', {get: () => false, configurable: true}); "
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
        name = "tabs"
        cloud.api.submit(name, "exit 4")
        expect(page.locator("#attention")).to_contain_text(f"{name} failed")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Running]:
    """A server that a test may kill."""
    running = Running(tmp_path)
    try:
        yield running.start()
    finally:
        running.clear()


def test_a_page_outlives_its_server(browser: Any, own: Running):
    with open_tab(browser, own.url, None) as tab:
        tab.expected = ("ERR_", "Failed to load resource")
        tab.sign_in(own.key)
        page = tab.page
        running = page.locator('[data-figure="running"]')
        expect(running).to_have_text("0")
        own.kill()
        expect(page.locator("hf-connection")).to_have_text("Reconnecting")
        own.start()
        api = Api(own.url, own.key)
        api.submit("later", "sleep 60")
        expect(running).to_have_text("1", timeout=20_000)
        expect(page.locator("hf-connection")).to_be_hidden()
        api.http.close()
        tab.check()


def test_a_revoked_key_ends_the_page_within_seconds(browser: Any, cloud: ConsoleCloud):
    made = cloud.api("POST", "/v1/keys", {"name": "short-lived"})
    with open_tab(browser, cloud.url, None) as tab:
        tab.expected = ("401",)
        tab.sign_in(made["key"])
        expect(tab.page.locator('[data-figure="running"]')).to_be_visible()
        cloud.api("DELETE", f"/v1/keys/{made['id']}")
        tab.page.wait_for_url(re.compile("/sign-in"), timeout=8_000)
        tab.check()


def test_what_is_not_there_says_so(browser: Any, cloud: ConsoleCloud, session: Any):
    with open_tab(browser, cloud.url, session) as tab:
        tab.expected = ("404",)
        page = tab.go("/jobs/job_0000000000000000")
        expect(page.get_by_role("heading", level=1)).to_have_text("Not found")
        tab.axe()
        tab.check()
