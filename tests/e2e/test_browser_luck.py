"""States that nobody wishes for, in a real browser: nothing there yet, far too much, a session or a role that is gone,
a reader who fell behind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from browser import Tab, open_tab
from console_cloud import Api
from running import Running, until

from headframe.base.changes import Changes
from headframe.jobs.records import ENDED, Job
from headframe.store.sql_store import SqlStore

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright.expect

MANY = 10_000


@pytest.fixture(scope="module")
def api(running: Running) -> Iterator[Api]:
    found = Api(running.url, running.key)
    yield found
    found.http.close()


@pytest.fixture
def tab(browser: Any, running: Running) -> Iterator[Tab]:
    with open_tab(browser, running.url, None) as found:
        found.sign_in(running.key)
        yield found
        found.check()


def test_an_empty_cloud_says_what_to_do_first(tab: Tab):
    for path, words in (
        ("/jobs", "headframe submit"), ("/queue", "headframe submit"), ("/usage", "headframe prices"),
        ("/usage/invoices", "headframe"), ("/admin/audit", ""),
    ):  # fmt: skip
        page = tab.go(path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        if words:
            expect(page.locator(".empty .command").first).to_contain_text(words)
        tab.axe()
        tab.fits()


def test_the_first_job_shows_by_itself(tab: Tab, api: Api):
    page = tab.go("/jobs")
    expect(page.locator(".empty")).to_be_visible()
    api.submit("first-of-all", "true")
    expect(page.get_by_role("link", name="first-of-all")).to_be_visible()


def test_a_session_that_was_ended_elsewhere_leads_back_here(browser: Any, running: Running, api: Api):
    """As one that expires does: the page learns it from its stream, within seconds."""
    with open_tab(browser, running.url, None) as tab:
        tab.expected = ("401",)
        tab.sign_in(running.key)
        page = tab.go("/jobs?sort=running")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        for session in api("GET", "/v1/sessions")["items"]:
            if session["ended_us"] is None:
                api("DELETE", f"/v1/sessions/{session['id']}")
        page.wait_for_url("**/sign-in?next=*", timeout=10_000)
        tab.axe()
        page.get_by_label("API key").fill(running.key)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/jobs?sort=running")
        tab.check()


def test_a_role_that_was_taken_away_is_told_where_it_is_missed(browser: Any, running: Running, api: Api):
    house = api("POST", "/v1/organizations", {"name": "short", "owner": "olga"})
    member = api("POST", "/v1/members", {"name": "mia", "role": "member", "organization": house["id"]})
    key = api("POST", "/v1/keys", {"name": "laptop", "member": member["id"]})["key"]
    with open_tab(browser, running.url, None) as tab:
        tab.expected = ("403",)
        tab.sign_in(key)
        page = tab.go("/jobs/new")
        page.get_by_label("Name").fill("too-late")
        page.get_by_label("Command").fill("true")
        api("PATCH", f"/v1/members/{member['id']}", {"role": "viewer"})
        page.keyboard.press("Control+Enter")
        problem = page.get_by_role("alert")
        expect(problem.first).to_contain_text("needs the right")
        expect(page.get_by_label("Name")).to_have_value("too-late")
        tab.axe()
        tab.check()


def test_a_reader_who_fell_behind_fetches_anew(tab: Tab):
    told = "retry: 60000\n\nid: 7\nevent: reset\ndata: {}\n\n"
    tab.page.route("**/v1/live?*", lambda route: route.fulfill(content_type="text/event-stream", body=told))
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))
    tab.go("/jobs")
    until(lambda: (tab.page.wait_for_timeout(50), sum("/jobs/rows" in one for one in asked) >= 2)[1])


def test_of_ten_thousand_jobs_those_in_view_exist(browser: Any, running: Running, api: Api):
    made = api.submit("seed", "true")
    until(lambda: api("GET", f"/v1/jobs/{made['id']}")["state"] == "succeeded")
    running.kill()
    store = SqlStore(f"sqlite:///{running.data / 'headframe.db'}")
    seed: Job = store.get(Job, made["id"])
    assert seed.state in ENDED
    older = (replace(seed, id=f"job_{place:016}", name=f"old-{place}", version=1) for place in range(MANY - 1))
    store.apply(Changes(tuple(older)))
    store.close()
    running.start()
    with open_tab(browser, running.url, None) as tab:
        tab.sign_in(running.key)
        page = tab.go("/jobs")
        expect(page.locator("[data-shown]")).to_have_text(re.compile("10,00[0-9] jobs"))
        rows = page.locator("tr[data-id]")
        expect(rows.first).to_contain_text("seed")
        for _ in range(40):
            page.keyboard.press("End")
            if page.get_by_text("old-0", exact=True).count():
                break
            page.wait_for_timeout(100)
        expect(page.get_by_text("old-0", exact=True)).to_be_visible()
        assert rows.count() < 120
        tab.check()
